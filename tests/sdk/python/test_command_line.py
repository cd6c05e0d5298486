"""The commands a person types: local with good and bad manifests, invoke, logs."""

import json
import re
import threading
import uuid

import pytest

from tests.harness.endpoint import only_local
from tests.harness.lambda_client import lambda_client
from tests.harness.local_server import LocalServer, pilotlight
from tests.harness.patience import PATIENCE, until

# A timeout longer than a test waits, so a hanging event does not end by it.
MANIFEST = """\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: { name: own }
spec:
  runtime: python3.11
  memory: 128
  timeout: 900
  code:
    inline:
      lambda_function.py: |
        import threading
        def lambda_handler(event, context):
            if event.get("hang"):
                print("hanging")
                threading.Event().wait()
            return "first"
"""


@pytest.fixture
def own_server(tmp_path):
    """A server of the test's own, on a folder that holds own.yaml."""
    (tmp_path / "own.yaml").write_text(MANIFEST)
    server = LocalServer(tmp_path)
    yield server
    if server.process.poll() is None:
        server.stop()


def answer_of(endpoint, function):
    return json.loads(lambda_client(endpoint).invoke(FunctionName=function)["Payload"].read())


def test_invoke_prints_the_answer(server):
    event = '{"a": "é"}'
    done = pilotlight("invoke", "sdk-echo", "--payload", event, "--endpoint", server.endpoint)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"a": "é"}), done.stderr


def test_invoke_prints_a_function_error_and_fails(server):
    done = pilotlight("invoke", "sdk-raises", "--payload", "{}", "--endpoint", server.endpoint)
    assert done.returncode != 0
    assert json.loads(done.stdout)["errorMessage"] == "order 42 has no lines"


def test_invoke_of_an_unknown_function_fails_with_its_name(server):
    done = pilotlight("invoke", "absent", "--payload", "{}", "--endpoint", server.endpoint)
    assert done.returncode != 0
    assert "absent" in done.stderr


@only_local("the lines are the containers', for `kubectl logs`")
def test_logs_finds_a_printed_line_under_its_request_id(server, invoke):
    token = uuid.uuid4().hex
    request_id = invoke("sdk-prints", {"lines": ["before", f"token {token}"]})["RequestId"]

    def found():
        return pilotlight(
            "logs",
            "sdk-prints",
            "--since",
            "5m",
            "--filter",
            token,
            "--endpoint",
            server.endpoint,
        )

    until(lambda: token in found().stdout, "the line is in the log")
    done = found()
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    assert f"token {token}" in line and request_id in line


@only_local("nothing prints there")
def test_the_output_of_local_has_the_lines_of_its_functions(server, invoke):
    token = uuid.uuid4().hex
    invoke("sdk-prints", {"lines": [token]})
    line = server.wait_for_line(token).string
    assert "sdk-prints" in line


@only_local("about `pilotlight local` itself")
def test_a_changed_manifest_changes_the_answer(own_server, tmp_path):
    assert answer_of(own_server.endpoint, "own") == "first"
    (tmp_path / "own.yaml").write_text(MANIFEST.replace('"first"', '"second"'))
    until(
        lambda: answer_of(own_server.endpoint, "own") == "second",
        "the changed manifest is taken up",
    )


@only_local("about `pilotlight local` itself")
def test_an_interrupt_ends_an_event_in_flight_and_every_process(own_server):
    client = lambda_client(own_server.endpoint)
    client.invoke(FunctionName="own")
    pending = background_call(client, {"hang": True})
    own_server.wait_for_line("hanging")
    own_server.stop()
    pending.join(PATIENCE)
    assert not pending.is_alive()


def background_call(client, event):
    """A call in the background, whose outcome is its caller's loss."""

    def call():
        try:
            client.invoke(FunctionName="own", Payload=json.dumps(event))
        except Exception:
            pass

    thread = threading.Thread(target=call)
    thread.start()
    return thread


@only_local("about `pilotlight local` itself")
@pytest.mark.parametrize(
    "good, bad, line, field",
    [
        ("memory: 128", "memory: 64", 6, "spec.memory"),
        ("memory: 128", "memory: lots", 6, "spec.memory"),
        ("timeout: 900", "timeout: 901", 7, "spec.timeout"),
        ("timeout: 900", "timeouts: 900", 7, "timeouts"),
        ("runtime: python3.11", "runtime: cobol", 5, "spec.runtime"),
        ("name: own", "name: Own_Function", 3, "metadata.name"),
        ("memory: 128", "keepAlive: 3601", 6, "spec.keepAlive"),
        ("memory: 128", "errors: Hidden", 6, "spec.errors"),
        ("memory: 128", "environment: { PORT: 80 }", 6, "spec.environment.PORT"),
    ],
)
def test_a_bad_field_stops_local_with_its_place_and_name(tmp_path, good, bad, line, field):
    manifest = tmp_path / "bad.yaml"
    manifest.write_text(MANIFEST.replace(good, bad))
    done = pilotlight("local", "--listen", "127.0.0.1:0", manifest)
    assert done.returncode != 0
    assert re.search(rf"bad\.yaml:{line}\b", done.stderr), done.stderr
    assert field in done.stderr, done.stderr
    assert "ready:" not in done.stdout


@only_local("about `pilotlight local` itself")
def test_two_functions_of_one_name_stop_local_with_both_places(tmp_path):
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text(MANIFEST)
    done = pilotlight("local", "--listen", "127.0.0.1:0", tmp_path)
    assert done.returncode != 0
    assert "one.yaml:3" in done.stderr and "two.yaml:3" in done.stderr and "own" in done.stderr


@only_local("about `pilotlight local` itself")
def test_a_path_that_does_not_exist_stops_local_with_its_name(tmp_path):
    done = pilotlight("local", "--listen", "127.0.0.1:0", tmp_path / "absent.yaml")
    assert done.returncode != 0
    assert "absent.yaml" in done.stderr
