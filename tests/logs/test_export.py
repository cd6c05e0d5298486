"""Log records of local mode in a real receiver of OTLP, a VictoriaLogs, beside the files that keep them."""

import json
import re
import secrets
import subprocess
import urllib.request

import pytest

from tests.harness.addresses import free_port
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import LocalServer, pilotlight
from tests.harness.manifests import as_yaml, function
from tests.harness.metrics import read_metrics
from tests.harness.paths import PILOTLIGHT
from tests.harness.patience import PATIENCE, until
from tests.harness.victoria_logs import OTLP, VictoriaLogs, rows

SOURCE = """
import logging, os

def lambda_handler(event, context):
    print("printed", event["number"])
    logging.getLogger().error("broken %s", event["number"])
    return os.environ["_X_AMZN_TRACE_ID"]
"""
# A user and a password, as a back end of its own would want them.
AUTH = ["-httpAuth.username=pilotlight", "-httpAuth.password=secret"]
BASIC = "Basic cGlsb3RsaWdodDpzZWNyZXQ="
HEADERS = f"authorization={BASIC.replace(' ', '%20')},AccountID=7"


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    with VictoriaLogs(tmp_path_factory.mktemp("victoria"), free_port(), AUTH) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(tmp_path_factory, receiver):
    manifest = tmp_path_factory.mktemp("functions") / "functions.yaml"
    manifest.write_text(as_yaml([function("exported", SOURCE), function("away", SOURCE)]))
    server = LocalServer(
        manifest, arguments=[f"--logs-otlp={receiver.base}{OTLP}", f"--logs-otlp-headers={HEADERS}"]
    )
    server.invoke = invoker(lambda_client(server.endpoint))
    yield server
    # Its stop expects that no process is left which began after it.
    receiver.stop()
    server.stop()


def exported(receiver, name):
    """The records of a function, which lie in a tenant of their own."""
    headers = {"authorization": BASIC, "AccountID": "7"}
    return rows(receiver.base, f'"service.name":="{name}"', headers)


def stored(server, name):
    """The records that `pilotlight logs` reads, as the API has them."""
    done = pilotlight("logs", name, f"--endpoint={server.endpoint}", "--output=json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def counted(server, name):
    """The sum over all labels."""
    lines = read_metrics(server.status).splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}\b", line))


def test_each_record_arrives_once_with_its_function_its_call_and_its_trace(server, receiver):
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    request = urllib.request.Request(
        f"{server.endpoint}/2015-03-31/functions/exported/invocations",
        b'{"number": 4711}',
        {"traceparent": f"00-{trace}-{span}-01"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        request_id, seen = answer.headers["x-amzn-requestid"], json.load(answer)
    parent = re.search("Parent=([0-9a-f]{16})", seen)[1]
    ours = stored(server, "exported")
    until(
        lambda: len(exported(receiver, "exported")) >= len(ours),
        lambda: exported(receiver, "exported"),
    )
    found = exported(receiver, "exported")
    assert [row["_msg"] for row in found] == [record["text"] for record in ours]
    uids = [f"{record['instance']}/{record['sequence']}" for record in ours]
    assert [row["log.record.uid"] for row in found] == uids
    [printed] = [row for row in found if row["_msg"] == "printed 4711"]
    said = {key: printed[key] for key in ("faas.name", "faas.version", "faas.instance", "cloud.resource_id")}
    assert said == {
        "faas.name": "exported",
        "faas.version": "$LATEST",
        "faas.instance": ours[0]["instance"],
        "cloud.resource_id": "arn:aws:lambda:us-east-1:000000000000:function:exported",
    }
    assert printed["log.iostream"] == "stdout" and printed["service.namespace"] == "local"
    assert "k8s.namespace.name" not in printed
    [broken] = [row for row in found if "broken 4711" in row["_msg"]]
    assert (broken["severity_text"], broken["severity_number"]) == ("ERROR", "17"), broken
    of_call = [row for row in found if row.get("faas.invocation_id") == request_id]
    assert len(of_call) == 5, [row["_msg"] for row in of_call]
    for row in of_call:
        assert (row["trace_id"], row["span_id"]) == (trace, parent), row
    [init] = [row for row in found if row["_msg"].startswith("INIT_START")]
    assert init["pilotlight.source"] == "platform" and "trace_id" not in init


def test_while_the_receiver_is_away_calls_and_searches_go_on_and_then_everything_arrives(server, receiver):
    def call(numbers):
        for number in numbers:
            assert server.invoke("away", {"number": number})["StatusCode"] == 200

    receiver.stop()
    call(range(20))
    assert sum("printed" in record["text"] for record in stored(server, "away")) == 20
    server.wait_for_line(re.compile("the receiver of log records takes none"))
    receiver.start()
    call(range(20, 25))
    wanted = [record["text"] for record in stored(server, "away")]
    until(lambda: len(exported(receiver, "away")) == len(wanted), lambda: exported(receiver, "away"))
    assert [row["_msg"] for row in exported(receiver, "away")] == wanted
    assert counted(server, "pilotlight_log_records_not_exported_total") == 0
    everything = len(wanted) + len(stored(server, "exported"))
    until(
        lambda: counted(server, "pilotlight_log_records_exported_total") == everything,
        lambda: read_metrics(server.status),
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--logs-otlp=collector:4318"], "must be a URL of OTLP over HTTP without user and query"),
        (["--logs-otlp=http://a", "--logs-otlp-headers=key"], "must be NAME=VALUE"),
        (["--logs-otlp-headers=a=b"], "--logs-otlp <URL>"),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_start(arguments, said, tmp_path):
    done = subprocess.run(
        [PILOTLIGHT, "local", *arguments, tmp_path], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2 and said in done.stderr, done
