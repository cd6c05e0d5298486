"""Instances whose runtime process waited for its function, and instances that start a fresh one.

Owns the supervisors of test_prestart*.py and the folders that stand in for an image's. Commands, variables
and the list of what a process reads once come from `runtimes/*/runtime.toml`; the handler that reports what it
finds is functions/prestart/finds.*.
"""

import http.client
import io
import json
import re
import shutil
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import LocalServer
from tests.harness.manifests import resource
from tests.harness.paths import REPOSITORY, SUPERVISOR
from tests.harness.patience import LONGER, PATIENCE, until

FINDS = Path(__file__).parent / "functions/prestart"
PLACES = {"code": "/var/task", "opt": "/opt", "runtime": "/var/runtime"}
PLACE = re.compile(r"/var/(?:task|runtime)|/opt|/var/lang/bin/\w+")


@dataclass(frozen=True)
class Waiting:
    """A runtime whose process can wait, on this machine."""

    name: str
    folder: str
    # In the place of the one in /var/lang/bin.
    interpreter: str
    handler: str
    code: str
    # What is mapped once all is loaded.
    loaded: str
    # In /var/runtime: files of the runtime's folder under other names; the client.
    renamed: dict = field(default_factory=dict)
    client: dict = field(default_factory=dict)
    # Variables for what the runtime knows of an image without being told; places as in an image.
    variables: dict = field(default_factory=dict)

    @property
    def description(self):
        return tomllib.loads((REPOSITORY / "runtimes" / self.folder / "runtime.toml").read_text())

    @property
    def finds(self):
        return (FINDS / f"finds{Path(self.code).suffix}").read_text()

    def lay_out(self, root):
        """/var/runtime as in the image, below `root`."""
        runtime = root / "var/runtime"
        for file in (REPOSITORY / "runtimes" / self.folder).iterdir():
            target = runtime / self.renamed.get(file.name, file.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        for name, target in self.client.items():
            (runtime / name).symlink_to(target)

    def placed(self, text, root):
        """With the places of an image below `root`."""
        below = lambda place: self.interpreter if "/bin/" in place[0] else f"{root}{place[0]}"  # noqa: E731
        return PLACE.sub(below, text)

    def filled(self, setting, root):
        if isinstance(setting, list):
            return ":".join(self.filled(part, root) for part in setting)
        own = self.description["runtime"][self.name]
        return self.placed(setting.format_map({**own, **PLACES, "handler": self.handler}), root)

    def command(self, root):
        return [self.filled(word, root) for word in self.description["image"]["command"]]

    def environment(self, root):
        image = self.description["image"].get("environment", {})
        own = {**self.description.get("environment", {}), **image}
        return {
            "LAMBDA_RUNTIME_DIR": f"{root}/var/runtime",
            "LANG": "en_US.UTF-8",
            "PATH": "/usr/bin:/bin",
            "LD_LIBRARY_PATH": f"{root}/var/task:{root}/var/task/lib:{root}/opt/lib",
            "TZ": ":UTC",
            **{name: self.filled(setting, root) for name, setting in (own | self.variables).items()},
        }

    def prestart(self, root):
        described = self.description["image"]["prestart"]
        return {
            "command": [self.placed(word, root) for word in described["command"]],
            "taskRoot": f"{root}/var/task",
            # A pool's memory is its functions'.
            "environment": {**self.environment(root), "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"},
            "reads": described["reads"],
        }


def python(folder):
    code = {
        "lambda_function.py": "import os, sys, awslambdaric\n"
        "folder = os.path.dirname(os.path.dirname(awslambdaric.__file__))\n"
        "def lambda_handler(event, context): return [sys.executable, folder]\n"
    }
    interpreter, packages = asked("python3.11", code, folder)
    return Waiting(
        name="python3.11",
        folder="python",
        interpreter=interpreter,
        handler="shop.reports.handler",
        code="shop/reports.py",
        loaded="runtime_client",
        renamed={"prestart.py": "prestart/sitecustomize.py"},
        client={file.name: file for file in Path(packages).iterdir() if file.name != "__pycache__"},
        variables={"PILOTLIGHT_LAYERS": "{opt}"},
    )


def nodejs(folder, name):
    code = {"index.js": "exports.handler = async () => [process.execPath, process.env.LAMBDA_RUNTIME_DIR];\n"}
    interpreter, client = asked(name, code, folder)
    return Waiting(
        name=name,
        folder="nodejs",
        interpreter=interpreter,
        handler="shop/reports.handler",
        code="shop/reports.js",
        loaded="rapid-client.node",
        client={name: f"{client}/{name}" for name in ("client", "node_modules")},
    )


def ruby(folder):
    code = {"lambda_function.rb": "def lambda_handler(event:, context:) = RbConfig.ruby\n"}
    return Waiting(
        name="ruby3.1",
        folder="ruby",
        interpreter=asked("ruby3.1", code, folder),
        handler="shop/reports.handler",
        code="shop/reports.rb",
        loaded="stringio",
    )


RUNTIMES_THAT_WAIT = {
    "python3.11": python,
    "nodejs22": lambda folder: nodejs(folder, "nodejs22"),
    "nodejs24": lambda folder: nodejs(folder, "nodejs24"),
    "ruby3.1": ruby,
}


def asked(runtime, code, folder):
    """The environment of a function in local mode, as the function reports it."""
    manifest = resource(
        "Function", "asked", {"runtime": runtime, "memory": 256, "timeout": LONGER, "code": {"inline": code}}
    )
    (folder / "functions.yaml").write_text(json.dumps(manifest))
    server = LocalServer(folder / "functions.yaml")
    answer = invoker(lambda_client(server.endpoint))("asked", {})["Body"]
    server.stop()
    return answer


class Instance:
    """A supervisor that is claimed for a function, with or without a process that waits."""

    def __init__(self, root, runtime, waits):
        self.root, self.runtime, self.waits, self.answers = root, runtime, waits, 0
        runtime.lay_out(root)
        (root / "var/task").mkdir(parents=True)
        unclaimed = {"listen": "127.0.0.1:0", "endsWithParent": True, "root": str(root)}
        if waits:
            unclaimed["prestart"] = runtime.prestart(root)
        self.process = subprocess.Popen(
            [SUPERVISOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PILOTLIGHT_UNCLAIMED": json.dumps(unclaimed)},
        )
        self.address = self.process.stdout.readline().split("LISTENING ")[1].strip()
        if waits:
            until(self.is_waiting, "all is loaded")

    def claim(self, files=None, variables=None):
        config = {
            "listen": "127.0.0.1:0",
            "endsWithParent": True,
            "function": "finds",
            "memory": 512,
            "timeout": LONGER,
            "sanitizeErrors": False,
            "logFormat": "Text",
            "logs": True,
            "logGroup": "g",
            "logStream": "s",
            "runtime": self.runtime.name,
            "taskRoot": f"{self.root}/var/task",
            "environment": self.environment(variables or {}),
            "command": self.runtime.command(self.root),
        }
        line = json.dumps({"instance": "i1", "config": config}).encode() + b"\n"
        code = {f"var/task/{self.runtime.code}": self.runtime.finds, **(files or {})}
        self.call("/claim", line + tar(code))

    def environment(self, variables):
        own = {
            "AWS_LAMBDA_FUNCTION_NAME": "finds",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": "g",
            "AWS_LAMBDA_LOG_STREAM_NAME": "s",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_LEVEL": "INFO",
            "GREETING": "grüße",
            "TZ": "America/New_York",
            "LAMBDA_TASK_ROOT": f"{self.root}/var/task",
            "_HANDLER": self.runtime.handler,
        }
        return {**self.runtime.environment(self.root), **own, **variables}

    def child(self):
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return Path("/proc") / children[0] if children else None

    def is_waiting(self):
        """It reads the pipe that it was given, by read(2): all that it loads is loaded."""
        child = self.child()
        if not child or self.runtime.loaded not in (child / "maps").read_text():
            return False
        return any(reads_a_pipe(thread) for thread in (child / "task").iterdir())

    def switches(self):
        """How often the kernel gave a thread of the process a processor."""
        files = [(task / "status").read_text() for task in (self.child() / "task").iterdir()]
        return sum(int(count) for file in files for count in re.findall(r"ctxt_switches:\s*(\d+)", file))

    def is_the_one_that_waited(self):
        """Not one that was started for the function, in its place or besides."""
        try:
            return self.waits and b"\0GREETING=" not in (self.child() / "environ").read_bytes()
        except (OSError, TypeError):
            return False  # it has ended

    def call(self, path, body=b"", **headers):
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content

    def invoke(self, event):
        """Tries until the runtime is up."""
        self.answers += 1
        headers = {
            "pilotlight-request-id": f"r{self.answers}",
            "lambda-runtime-invoked-function-arn": "arn:aws:lambda:us-east-1:0:function:finds",
        }

        def lease():
            status, _, content = self.call("/lease", json.dumps(event).encode(), **headers)
            return None if status == 409 else content

        return json.loads(until(lease, "an answer"))

    def end(self):
        self.process.stdin.close()
        log = self.process.stdout.read().splitlines()
        self.process.wait(PATIENCE)
        return log


def reads_a_pipe(thread):
    try:
        call, descriptor, *_ = [*(thread / "syscall").read_text().split(), None]
        return call == "0" and (thread / "fd" / str(int(descriptor, 16))).readlink().name.startswith("pipe:")
    except FileNotFoundError:
        return False  # it has ended


def tar(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as packed:
        for name, file in files.items():
            entry = tarfile.TarInfo(name)
            file = file if isinstance(file, bytes) else file.encode()
            entry.size, entry.mode = len(file), 0o644
            packed.addfile(entry, io.BytesIO(file))
    return content.getvalue()


@dataclass
class Compared:
    """What a fresh process reports, and what one that waited reports."""

    fresh: object
    waited: object
    logs: list
    # The process itself, not another that it or the supervisor has started.
    same_process: bool

    @property
    def same(self):
        """Both, when they are the same."""
        assert self.fresh == self.waited
        return self.fresh


def both(start, event, then=None, **options):
    """`then`: a further event, whose answers do not matter."""
    answers, logs = [], []
    for waits in (False, True):
        instance = start(waits, **options)
        answers.append(instance.invoke(event))
        if then:
            instance.invoke(then)
        kept = instance.is_the_one_that_waited()
        logs.append(instance.end())
    return Compared(*answers, logs, kept)
