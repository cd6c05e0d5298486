"""The logs of local mode: kept for each function in files that outlive it, searched with each option, bounded by age and size."""

import json
import sqlite3
import subprocess
from datetime import datetime

import pytest

from tests.harness.endpoint import only_local
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import LocalServer, pilotlight
from tests.harness.manifests import as_yaml, function
from tests.harness.paths import PILOTLIGHT
from tests.harness.patience import PATIENCE, until

pytestmark = only_local("it is about `pilotlight local`")

SOURCE = """
import json, sys

def lambda_handler(event, context):
    for line in event.get("lines", []):
        print(line)
    for line in event.get("errors", []):
        print(line, file=sys.stderr)
    for n in range(event.get("many", 0)):
        print(n, "x" * 1000)
    if "raises" in event:
        raise ValueError(event["raises"])
    return len(event)
"""
DAY = 24 * 60 * 60 * 1_000_000


class Project:
    """A folder with a manifest, and the folder of its logs."""

    def __init__(self, folder, functions):
        self.manifest, self.folder = folder / "functions.yaml", folder / "logs"
        self.manifest.write_text(as_yaml(functions))

    def start(self, *arguments):
        server = LocalServer(self.manifest, arguments=[f"--logs={self.folder}", *arguments])
        server.invoke = invoker(lambda_client(server.endpoint))
        return server

    def run(self, name, *options, endpoint=None):
        """`pilotlight logs`, which reads from a gateway, or from the files."""
        place = f"--endpoint={endpoint}" if endpoint else "--files"
        return pilotlight("logs", name, place, f"--logs={self.folder}", *options)

    def read(self, name, *options, endpoint=None):
        done = self.run(name, *options, endpoint=endpoint)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def records(self, name, *options, endpoint=None):
        lines = self.read(name, "--output=json", *options, endpoint=endpoint).splitlines()
        return [json.loads(line) for line in lines]

    def texts(self, name, *options, endpoint=None):
        return [record["text"] for record in self.records(name, *options, endpoint=endpoint)]

    def await_files(self, name, text):
        """The store has the record, not only the gateway. Before its first record a function has no files."""
        until(
            lambda: text in self.run(name).stdout, lambda: f"{text} in the files of {name}: {self.run(name)}"
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two runs of local mode with one instance each, and a third that still runs."""
    project = Project(
        tmp_path_factory.mktemp("project"),
        [
            function("prints", SOURCE, concurrency={"reserved": 1}),
            function("other", SOURCE),
            function("quiet", SOURCE, logging={"enabled": False}),
            function("secretive", SOURCE, errors="Sanitized"),
        ],
    )
    server = project.start()
    project.ids = [
        server.invoke("prints", {"lines": ["[INFO]\t1\t2\torder 17 accepted", "ünï ☃ code"]})["RequestId"],
        server.invoke("prints", {"errors": ["[WARNING]\tlow on stock"]})["RequestId"],
    ]
    server.invoke("other", {"lines": ["of the other function"]})
    server.invoke("quiet", {"lines": ["nobody reads this"]})
    project.failed = server.invoke("secretive", {"raises": "the password is 1234"})
    server.stop()
    server = project.start()
    events = [
        {"lines": ['{"level":"ERROR","order":{"id":18,"tags":["new"]}}', "order 18 refused"]},
        {"raises": "it is broken"},
    ]
    project.ids += [server.invoke("prints", event)["RequestId"] for event in events]
    server.stop()
    project.server = project.start()
    yield project
    project.server.stop()


@pytest.fixture(params=["gateway", "files"])
def read(project, request):
    """Reads the texts of records, through the gateway and from the files alike."""
    endpoint = project.server.endpoint if request.param == "gateway" else None
    return lambda name, *options: project.texts(name, *options, endpoint=endpoint)


def test_everything_is_stored_by_default_and_outlives_local_mode(project, read):
    texts = read("prints")
    for text in ["ünï ☃ code", "[WARNING]\tlow on stock", "order 18 refused"]:
        assert texts.count(text) == 1, texts
    assert sum(text.startswith("REPORT ") for text in texts) == 4
    assert any(text.startswith("[ERROR] ValueError: it is broken\nTraceback") for text in texts)


def test_a_functions_log_is_its_own(project, read):
    assert "of the other function" in read("other") and "of the other function" not in read("prints")


def test_the_log_of_each_instance_is_read_alone_and_merged(project, read):
    records = project.records("prints")
    # Not as texts: a time ends with its last digit that is not zero.
    times = [datetime.fromisoformat(record["time"]) for record in records]
    assert times == sorted(times)
    instances = list(dict.fromkeys(record["instance"] for record in records))
    assert len(instances) == 2
    parts = [read("prints", f"--instance={instance}") for instance in instances]
    assert "ünï ☃ code" in parts[0] and "order 18 refused" in parts[1]
    assert parts[0] + parts[1] == read("prints")
    merged = project.read("prints", "--filter=order")
    assert all(instance[:8] in merged for instance in instances)


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--filter=order 17"], ["[INFO]\t1\t2\torder 17 accepted"]),
        (["--filter=order", "--filter=refused"], ["order 18 refused"]),
        (["--filter=☃"], ["ünï ☃ code"]),
        (["--filter=no such text"], []),
        (["--regex=(?i)^ORDER .*d$"], ["order 18 refused"]),
        (["--field=order.id=18"], ['{"level":"ERROR","order":{"id":18,"tags":["new"]}}']),
        (
            ["--field=order.tags.0=new", "--level=error"],
            ['{"level":"ERROR","order":{"id":18,"tags":["new"]}}'],
        ),
        (["--source=stdout", "--filter=stock"], ["[WARNING]\tlow on stock"]),
        (["--source=platform", "--filter=stock"], []),
        (["--level=WARN", "--filter=stock"], ["[WARNING]\tlow on stock"]),
        (["--limit=2", "--source=stdout"], ["[INFO]\t1\t2\torder 17 accepted", "ünï ☃ code"]),
        (
            ["--tail=2", "--filter=order"],
            ['{"level":"ERROR","order":{"id":18,"tags":["new"]}}', "order 18 refused"],
        ),
        (["--since=2999-01-01T00:00:00Z"], []),
        (["--until=2000-01-01T00:00:00Z"], []),
        (["--since=10h", "--filter=stock"], ["[WARNING]\tlow on stock"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_each_option_selects(read, options, expected):
    assert read("prints", *options) == expected


def test_a_request_id_has_all_of_its_call(project, read):
    request_id = project.ids[0]
    for options in [[request_id], [f"--request-id={request_id}"]]:
        start, one, two, end, report = read("prints", *options)
        assert start == f"START RequestId: {request_id} Version: $LATEST"
        assert (one, two) == ("[INFO]\t1\t2\torder 17 accepted", "ünï ☃ code")
        assert end == f"END RequestId: {request_id}"
        # With the phases of a cold start.
        assert report.startswith(f"REPORT RequestId: {request_id}\t") and "\tCold Start: " in report


def test_calls_are_selected_by_how_they_went(project, read):
    def calls(*options):
        texts = read("prints", *options)
        return [text.split()[2] for text in texts if text.startswith("REPORT ")]

    ids = project.ids
    assert calls("--failed") == [ids[3]]
    assert calls("--cold") == [ids[0], ids[2]]
    assert calls("--cold", "--failed") == []
    assert calls("--slow=0") == ids and calls("--slow=600000") == []
    failed = read("prints", "--failed")
    assert failed[0].startswith("START ") and any("it is broken" in text for text in failed)


def test_a_function_without_logging_leaves_nothing(project):
    done = pilotlight("logs", "quiet", "--files", f"--logs={project.folder}")
    assert done.returncode != 0 and "has no log of quiet" in done.stderr, done
    assert project.read("quiet", endpoint=project.server.endpoint) == ""
    for file in project.folder.rglob("*"):
        assert file.is_dir() or b"nobody reads this" not in file.read_bytes()


def test_what_a_caller_does_not_see_is_in_the_log(project, read):
    assert "1234" not in json.dumps(project.failed["Body"])
    assert any("the password is 1234" in text for text in read("secretive", project.failed["RequestId"]))


def test_other_users_cannot_enter_the_folder(project):
    assert project.folder.stat().st_mode & 0o077 == 0


def test_the_files_are_read_when_no_gateway_answers(project):
    # The discard port has no server.
    done = pilotlight("logs", "prints", "--endpoint=http://127.0.0.1:9", f"--logs={project.folder}")
    assert done.returncode != 0 and "does not answer" in done.stderr, "a gateway was named"
    done = subprocess.run(
        [PILOTLIGHT, "logs", "prints", "--filter=stock", f"--logs={project.folder}"],
        env={"HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if "no gateway answers" in done.stderr:
        assert "low on stock" in done.stdout and str(project.folder) in done.stderr
    else:
        # Another server of this machine has the default port.
        assert done.returncode != 0


def test_a_second_run_in_the_same_folder_says_so_and_serves(project):
    second = project.start()
    warning = second.wait_for_line(r"warning: another `pilotlight local` writes its logs to (.*?);")
    assert warning[1] == str(project.folder)
    second.invoke("other", {"lines": ["of the second run"]})
    assert "of the second run" in project.read("other", endpoint=second.endpoint)
    second.stop()
    assert "of the second run" not in project.read("other")


def test_what_was_stored_survives_a_killed_local_mode(tmp_path):
    project = Project(tmp_path, [function("prints", SOURCE)])
    server = project.start()
    server.invoke("prints", {"lines": ["before the end"]})
    project.await_files("prints", "before the end")
    server.process.kill()
    server.process.wait(PATIENCE)
    assert "before the end" in project.texts("prints")
    server = project.start()
    server.invoke("prints", {"lines": ["after it"]})
    project.await_files("prints", "after it")
    texts = project.texts("prints", endpoint=server.endpoint)
    assert texts.index("before the end") < texts.index("after it")
    server.stop()


def test_records_beyond_the_retention_are_gone(tmp_path):
    project = Project(
        tmp_path,
        [function("short", SOURCE, logging={"retention": 1}), function("long", SOURCE)],
    )
    server = project.start("--log-retention=3")
    for name in ["short", "long"]:
        server.invoke(name, {"lines": ["long ago"]})
    server.stop()
    for name in ["short", "long"]:
        assert "long ago" in project.texts(name)
        age(project.folder / "local" / name, 2 * DAY)
    # At once for readers, and at the next start for the disk.
    assert project.texts("short") == [] and "long ago" in project.texts("long")
    server = project.start("--log-retention=3")
    server.stop()
    assert not list((project.folder / "local/short").glob("*.db"))
    assert "long ago" in project.texts("long")
    age(project.folder / "local/long", 2 * DAY)
    server = project.start("--log-retention=3")
    server.stop()
    assert not list((project.folder / "local/long").glob("*.db"))


def age(folder, micros):
    """Makes the records of a function older than they are."""
    for file in sorted(folder.glob("*.db")):
        database = sqlite3.connect(file)
        with database:
            database.execute("update records set time = time - ?", (micros,))
        database.execute("pragma journal_mode=delete")
        database.close()
        file.rename(file.with_stem(str(int(file.stem) - micros)))


def test_the_oldest_records_go_when_the_files_are_too_large(tmp_path):
    project = Project(tmp_path, [function("prints", SOURCE)])
    server = project.start("--log-size=4")
    for n in range(12):
        server.invoke("prints", {"lines": [f"call {n} begins"], "many": 1000})
    server.stop()
    texts = project.texts("prints")
    assert "call 11 begins" in texts and "call 0 begins" not in texts
    size = sum(file.stat().st_size for file in (project.folder / "local/prints").glob("*.db*"))
    # 12 MB were printed; half a file may be beyond the limit until the next look.
    assert size < 6 * 1024 * 1024, size
    kept = [text for text in texts if text.startswith("call ")]
    assert kept == [f"call {n} begins" for n in range(12 - len(kept), 12)]
