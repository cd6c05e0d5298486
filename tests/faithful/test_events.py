"""Asynchronous calls in local mode: accepted by unmodified clients, run as declared, kept over a kill."""

import json

import botocore.exceptions
import pytest

from tests.harness.endpoint import only_local
from tests.harness.lambda_client import lambda_client
from tests.harness.local_server import LocalServer, pilotlight
from tests.harness.manifests import as_yaml, function
from tests.harness.patience import until

pytestmark = only_local("clusters have no queue for events yet")

# Writes a line for each attempt into the file that the event names, and then does what it says.
SOURCE = """
import json, time

def lambda_handler(event, context):
    with open(event["file"], "a") as file:
        line = {"id": context.aws_request_id, "arn": context.invoked_function_arn}
        if context.client_context:
            line["custom"] = context.client_context.custom
        print(json.dumps(line), file=file, flush=True)
    time.sleep(event.get("sleep", 0))
    if event.get("raises"):
        raise ValueError(event["raises"])
"""


class Project:
    def __init__(self, folder, **spec):
        self.folder = folder
        self.manifest = folder / "functions.yaml"
        self.manifest.write_text(as_yaml([function("works", SOURCE, timeout=600, **spec)]))
        self.options = [f"--events={folder / 'events'}"]

    def start(self, *arguments, logs="logs"):
        options = [*self.options, f"--logs={self.folder / logs}", *arguments]
        server = LocalServer(self.manifest, arguments=options)
        server.client = lambda_client(server.endpoint)
        return server

    def event(self, name, **what):
        return json.dumps({"file": str(self.folder / name), **what})

    def attempts(self, name):
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def send(server, payload, **more):
    answer = server.client.invoke(FunctionName="works", InvocationType="Event", Payload=payload, **more)
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b""
    assert "ExecutedVersion" not in answer and "FunctionError" not in answer
    return answer["ResponseMetadata"]["RequestId"]


def shown(server, *words):
    done = pilotlight("events", *words, f"--endpoint={server.endpoint}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_boto3_sends_an_event_and_the_function_gets_it_with_its_request_id(project):
    server = project.start()
    context = "eyJjdXN0b20iOiB7ImEiOiAiw7wifX0="  # {"custom": {"a": "ü"}}
    request_id = send(server, project.event("a"), ClientContext=context, Qualifier="$LATEST")
    [attempt] = until(lambda: project.attempts("a"), "the function runs")
    assert attempt["id"] == request_id and attempt["custom"] == {"a": "ü"}
    assert attempt["arn"].endswith(":function:works:$LATEST")
    assert server.client.invoke_async(FunctionName="works", InvokeArgs=project.event("b"))["Status"] == 202
    until(lambda: project.attempts("b"), "the function runs")
    until(lambda: shown(server, "works") == "no events", lambda: shown(server, "works"))
    server.stop()


def test_the_command_line_sends_shows_and_removes_events(tmp_path):
    project = Project(tmp_path, concurrency={"reserved": 1})
    server = project.start()
    sent = ["invoke", "works", "--event", f"--endpoint={server.endpoint}"]
    done = pilotlight(*sent, f"--payload={project.event('a', sleep=600)}")
    assert done.returncode == 0, done.stderr
    [attempt] = until(lambda: project.attempts("a"), "the function runs")
    assert attempt["id"] == done.stdout.strip()
    for _ in range(2):
        send(server, project.event("b"))
    assert shown(server, "works").startswith("3 events")
    assert shown(server, "purge", "works") == "2 events removed"
    assert shown(server, "works").endswith("all under way")
    server.stop()


def test_what_is_not_settled_when_local_mode_is_killed_runs_in_the_next_one(tmp_path):
    project = Project(tmp_path, concurrency={"reserved": 1})
    server = project.start()
    ids = [send(server, project.event("a", sleep=2)) for _ in range(3)]
    until(lambda: project.attempts("a"), "the first one runs")
    server.process.kill()
    server.process.wait()
    server = project.start()
    until(lambda: {one["id"] for one in project.attempts("a")} == set(ids), lambda: project.attempts("a"))
    until(lambda: shown(server, "works") == "no events", lambda: shown(server, "works"))
    ran = [one["id"] for one in project.attempts("a")]
    # The one that was under way may have run twice, and no other.
    assert len(ran) <= 4 and ran.count(ids[1]) == ran.count(ids[2]) == 1, ran
    server.stop()


def test_a_stop_gives_the_event_that_is_under_way_its_grace_period(tmp_path):
    project = Project(tmp_path, concurrency={"reserved": 1})
    server = project.start()
    ids = [send(server, project.event("a", sleep=1)) for _ in range(2)]
    until(lambda: project.attempts("a"), "the first one runs")
    server.stop()
    assert [one["id"] for one in project.attempts("a")] == ids[:1]
    server = project.start()
    until(lambda: len(project.attempts("a")) == 2, lambda: project.attempts("a"))
    until(lambda: shown(server, "works") == "no events", lambda: shown(server, "works"))
    assert [one["id"] for one in project.attempts("a")] == ids
    server.stop()


def test_a_failed_event_waits_for_its_retry(project):
    server = project.start()
    send(server, project.event("a", raises="it is broken"))
    until(lambda: "next attempt in" in shown(server, "works"), lambda: shown(server, "works"))
    assert len(project.attempts("a")) == 1
    server.stop()


def test_a_dead_letter_is_replayed_by_the_command_line(tmp_path):
    project = Project(tmp_path, **{"async": {"retries": 0}})
    server = project.start()
    request_id = send(server, project.event("a", raises="it is broken"))
    until(
        lambda: shown(server, "works").startswith("no events\n1 have failed"), lambda: shown(server, "works")
    )
    # It outlives the process.
    server.process.kill()
    server.process.wait()
    server = project.start()
    assert shown(server, "replay", "works") == "1 events are tried again"
    until(lambda: len(project.attempts("a")) == 2, lambda: project.attempts("a"))
    assert [one["id"] for one in project.attempts("a")] == [request_id] * 2
    until(lambda: "1 have failed" in shown(server, "works"), lambda: shown(server, "works"))
    assert shown(server, "purge", "works", "--dead") == "1 events removed"
    assert shown(server, "works") == "no events"
    server.stop()


def test_a_second_local_mode_on_the_same_events_refuses_them_and_runs_calls(project):
    first = project.start()
    second = project.start(logs="other-logs")
    with pytest.raises(botocore.exceptions.ClientError, match="no queue for events"):
        send(second, project.event("a"))
    answer = second.client.invoke(FunctionName="works", Payload=project.event("b"))
    assert answer["StatusCode"] == 200
    second.stop()
    send(first, project.event("c"))
    until(lambda: project.attempts("c"), "the function runs")
    first.stop()


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"maxAge": 59}, "must be between 60 and 21600 seconds"),
        ({"retries": 3}, "must be between 0 and 2 retries"),
        ({"retry": 1}, "the fields here are maxAge, retries, onSuccess, onFailure"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path, spec, error):
    project = Project(tmp_path, **{"async": spec})
    done = pilotlight("local", str(project.manifest), *project.options)
    assert done.returncode == 2 and error in done.stderr, done.stderr
    assert "spec.async" in done.stderr


def test_a_full_queue_refuses_and_says_what_to_do(project):
    server = project.start("--event-size=2")
    large = project.event("a", sleep=600, text="x" * 1_000_000)
    send(server, large)
    with pytest.raises(botocore.exceptions.ClientError, match="queue is full") as refused:
        for _ in range(3):
            send(server, large)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    server.stop()
