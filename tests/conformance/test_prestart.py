"""A Python process that waited for its function is as one that was started for it.

The same handler runs under the real supervisor and the real client twice: in a process of its own,
and in one that waited unclaimed. What it finds must be the same, but for what differs between any two.
"""

import http.client
import io
import json
import os
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest
from conftest import only_local
from local_server import BINARY, REPOSITORY, LocalServer, until

pytestmark = only_local("it starts supervisors of its own")

RUNTIME = REPOSITORY / "runtimes/python"
SUPERVISOR = Path(os.environ.get("PILOTLIGHT_SUPERVISOR_BIN", BINARY.parent / "pilotlight-supervisor"))
HANDLER = "shop.reports.handler"
FINDS = (Path(__file__).parent / "functions/prestart/finds.py").read_text()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The folder of the vendor's client, as local mode installs it."""
    folder = tmp_path_factory.mktemp("client")
    manifest = {
        "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function", "metadata": {"name": "client"},
        "spec": {"runtime": "python3.11", "code": {"inline": {"lambda_function.py": (
            "import sys\ndef lambda_handler(event, context): return sys.prefix\n"
        )}}},
    }
    (folder / "functions.yaml").write_text(json.dumps(manifest))
    server = LocalServer(folder / "functions.yaml")
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"))
    connection.request("POST", "/2015-03-31/functions/client/invocations", "{}")
    prefix = json.load(connection.getresponse())
    connection.close()
    server.stop()
    return Path(prefix)


class Instance:
    """A supervisor that is claimed for a function, with or without a process that waits."""

    def __init__(self, root, client, waits, files=None, variables=None):
        self.root = root
        self.python = str(client / "bin/python")
        task = self.root / "var/task"
        task.mkdir(parents=True)
        environment = self.environment(variables or {})
        unclaimed = {"listen": "127.0.0.1:0", "endsWithParent": True, "root": str(self.root)}
        if waits:
            unclaimed["prestart"] = self.prestart(task)
        self.process = subprocess.Popen(
            [SUPERVISOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PILOTLIGHT_UNCLAIMED": json.dumps(unclaimed)},
        )
        self.address = self.process.stdout.readline().split("LISTENING ")[1].strip()
        if waits:
            until(self.is_waiting, 20, "the client is loaded")
        config = {
            "listen": "127.0.0.1:0", "endsWithParent": True, "function": "finds", "memory": 512,
            "timeout": 10, "sanitizeErrors": False, "logFormat": "Text", "logs": True, "logGroup": "g",
            "logStream": "s", "runtime": "python3.11", "taskRoot": str(task), "environment": environment,
            "command": [self.python, "-m", "awslambdaric", HANDLER],
        }
        line = json.dumps({"instance": "i1", "config": config}).encode() + b"\n"
        code = {"var/task/shop/reports.py": FINDS, **(files or {})}
        self.call("/claim", line + tar(code))
        self.answers = 0

    def image_environment(self):
        """What the description says of an image, with the folders of this test."""
        described = tomllib.loads((RUNTIME / "runtime.toml").read_text())
        path = [str(self.root / "opt/python"), str(self.root / "opt/python/lib/python3.11/site-packages")]
        return {
            "AWS_EXECUTION_ENV": described["environment"]["AWS_EXECUTION_ENV"].format(named="3.12"),
            "LANG": "en_US.UTF-8", "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(path), "TZ": ":UTC",
            "LD_LIBRARY_PATH": f"{self.root}/var/task:{self.root}/var/task/lib:{self.root}/opt/lib",
        }

    def environment(self, variables):
        own = {
            "AWS_LAMBDA_FUNCTION_NAME": "finds", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO", "GREETING": "grüße",
            "TZ": "America/New_York", "_HANDLER": HANDLER,
        }
        return {**self.image_environment(), **own, **variables}

    def prestart(self, task):
        """As the description has it, but for the places of image and client."""
        described = tomllib.loads((RUNTIME / "runtime.toml").read_text())["image"]["prestart"]
        folder = self.root / "runtime/prestart"
        folder.mkdir(parents=True)
        shutil.copy(RUNTIME / "prestart.py", folder / "sitecustomize.py")
        command = [word.replace("/var/runtime/prestart", str(folder)) for word in described["command"]]
        command = [word.replace("/var/lang/bin/python", self.python) for word in command]
        return {
            "command": command, "taskRoot": str(task), "environment": self.image_environment(),
            "reads": described["reads"],
        }

    def child(self):
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return Path("/proc") / children[0] if children else None

    def is_waiting(self):
        """It reads its standard input: all that it loads is loaded."""
        child = self.child()
        if not child or "runtime_client" not in (child / "maps").read_text():
            return False
        # read(2) of descriptor 0.
        return (child / "syscall").read_text().startswith("0 0x0 ")

    def call(self, path, body=b"", **headers):
        connection = http.client.HTTPConnection(self.address, timeout=30)
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

        return json.loads(until(lease, 20, "an answer"))

    def end(self):
        self.process.stdin.close()
        self.log = self.process.stdout.read().splitlines()
        self.process.wait(10)
        return self.log


def tar(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as packed:
        for name, file in files.items():
            entry = tarfile.TarInfo(name)
            file = file if isinstance(file, bytes) else file.encode()
            entry.size, entry.mode = len(file), 0o644
            packed.addfile(entry, io.BytesIO(file))
    return content.getvalue()


@pytest.fixture
def start(tmp_path, client):
    """One instance after the other in the same folder, so that paths are the same."""
    started = []

    def begin(waits, **options):
        root = tmp_path / "root"
        shutil.rmtree(root, ignore_errors=True)
        instance = Instance(root, client, waits, **options)
        started.append(instance)
        return instance

    yield begin
    for instance in started:
        if instance.process.poll() is None:
            instance.end()


def both(start, event, **options):
    """What a fresh process says and what one that waited says; the latter's log too."""
    found = []
    for waits in (False, True):
        instance = start(waits, **options)
        found.append(instance.invoke(event))
        log = instance.end()
    return *found, log


def was_used(log):
    return not any("is not used" in line for line in log)


def test_everything_that_a_handler_finds_is_the_same(start):
    """a process that waited finds what a fresh one finds"""
    fresh, waited, log = both(start, {"do": "find"})
    assert was_used(log) and "errorType" not in fresh, fresh
    api = [dict(found["environment"]).pop("AWS_LAMBDA_RUNTIME_API") for found in (fresh, waited)]
    for found, address in zip((fresh, waited), api):
        found["environment"] = [[name, value.replace(address, "API")] for name, value in found["environment"]]
        found["subprocess"] = found["subprocess"].replace(address, "API")
    different = {key: (fresh[key], waited[key]) for key in fresh if fresh[key] != waited[key]}
    assert not different
    assert fresh.keys() == waited.keys() and len(fresh) > 30


def test_what_is_drawn_by_lot_differs(start):
    """no two processes draw the same lots"""
    drawn = []
    for waits in (True, True, False):
        instance = start(waits)
        drawn.append(instance.invoke({"do": "draw"}))
        instance.end()
    for key in drawn[0]:
        assert len({str(one[key]) for one in drawn}) == 3, drawn


def test_what_is_not_the_same_is_known(start):
    """the kernel's view of the process's start is that of the waiting"""
    fresh, waited, _ = both(start, {"do": "kernel"})
    assert fresh["cmdline"] == [*fresh["cmdline"][:3], HANDLER]
    assert waited["cmdline"] == [*fresh["cmdline"][:3], "lambda_function.lambda_handler"]
    assert waited["environ"] != fresh["environ"]


def test_errors_and_logs_are_the_same(start):
    """an error's trace is the same, and so are log records"""
    fresh, waited, log = both(start, {"do": "fail"})
    assert was_used(log)
    assert fresh["errorType"] == "ValueError" and fresh == waited
    assert len(fresh["stackTrace"]) == 1, fresh
    fresh, waited, _ = both(start, {"do": "relative"})
    assert 0 <= waited < 5000 and 0 <= fresh < 5000


@pytest.mark.parametrize("folder", ["var/task", "opt/python"])
def test_a_module_of_the_functions_own_wins_over_the_clients(start, client, folder):
    """code and layers that hide a module of the client's do so"""
    modules = (client / "lib/python3.11/site-packages/simplejson").glob("*.py")
    files = {f"{folder}/simplejson/{module.name}": module.read_text() for module in modules}
    files[f"{folder}/simplejson/__init__.py"] += f"\nwhose = {folder!r}\n"
    fresh, waited, _ = both(start, {"do": "whose", "module": "simplejson"}, files=files)
    assert fresh == waited == folder


@pytest.mark.parametrize("files", [
    {"opt/python/late.py": "whose = 'layer'\n"},
    {"var/task/late.py": "whose = 'code'\n"},
], ids=["layer", "code"])
def test_modules_that_came_with_the_claim_are_found(start, files):
    """folders that were not there before the claim are looked in"""
    fresh, waited, log = both(start, {"do": "whose", "module": "late"}, files=files)
    assert was_used(log)
    assert fresh == waited and fresh in ("code", "layer")


@pytest.mark.parametrize("files", [
    {"opt/python/sitecustomize.py": "import builtins\nbuiltins.whose = 'layer'\n"},
], ids=["layer"])
def test_a_layers_sitecustomize_is_run(start, files):
    """a layer's sitecustomize runs before the handler"""
    fresh, waited, _ = both(start, {"do": "builtin"}, files=files)
    assert fresh == waited == "layer"


def test_a_library_that_came_with_the_claim_is_found_by_the_loader(start):
    """libraries in folders that were not there before the claim are loaded"""
    library = next(Path("/usr/lib").glob("*-linux-gnu/libz.so.1")).read_bytes()
    files = {"opt/lib/libpilotlighttest.so": library}
    fresh, waited, _ = both(start, {"do": "load", "library": "libpilotlighttest.so"}, files=files)
    assert fresh == waited == "opt/lib"


def test_a_home_with_modules_is_looked_in(start, tmp_path):
    """modules below HOME are found"""
    site = "var/task/.local/lib/python3.11/site-packages"
    options = {"files": {f"{site}/late.py": "whose = 'home'\n"}, "variables": {"HOME": str(tmp_path / "root/var/task")}}
    fresh, waited, _ = both(start, {"do": "user_site"}, **options)
    assert fresh == waited


def test_other_values_of_what_is_read_once_have_a_process_of_their_own(start):
    """a function that says how Python shall start gets a process that started so"""
    fresh, waited, log = both(start, {"do": "draw"}, variables={"PYTHONHASHSEED": "1"})
    assert not was_used(log) and "PYTHONHASHSEED" in next(line for line in log if "is not used" in line)
    assert fresh["hash"] == waited["hash"]


def test_a_waiting_process_that_is_told_nothing_ends(client, tmp_path):
    """without a function the process ends quietly"""
    folder = tmp_path / "prestart"
    folder.mkdir()
    shutil.copy(RUNTIME / "prestart.py", folder / "sitecustomize.py")
    done = subprocess.run(
        [client / "bin/python", "-m", "awslambdaric", "a.b"], stdin=subprocess.DEVNULL, capture_output=True,
        env={"PYTHONPATH": str(folder), "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}, timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
