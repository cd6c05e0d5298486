"""The Runtime API as existing clients need it: the spelling of headers, variants of HTTP, the trace of a call."""

import http.client
import json
import re

import pytest

from tests.faithful.served import bootstrap, nodejs, python
from tests.harness.endpoint import only_local

ROOT = "1-5759e988-bd862e3fe1be46a994272793"
PARENT = "53995c3f42cd8ad8"
TRACE = re.compile(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=1:[0-9a-f]{8}:0")

# Speaks HTTP itself, and answers with the bytes that it received.
OWN_HTTP = """#!/usr/bin/python3
import json, os, socket
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")

def call(head, body=b""):
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.replace("\\n", "\\r\\n").encode() + b"\\r\\n\\r\\n" + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\\r\\n\\r\\n")
    return head.decode().split("\\r\\n"), body

while True:
    lines, event = call(f"GET /2018-06-01/runtime/invocation/next %(version)s\\nHost: {host}\\nConnection: close")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    answer = json.dumps({"status": lines[0], "headers": headers, "event": json.loads(event)}).encode()
    path = f"/2018-06-01/runtime/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}/response"
    call(f"POST {path} %(version)s\\nHost: {host}\\nConnection: close\\n%(sent)s", %(body)s)
"""
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = "b'%x\\r\\n' % len(answer) + answer + b'\\r\\n0\\r\\n\\r\\n'"

# A client from tutorials, in bash and curl. It finds one header in any case, the other in the documented case.
BASH = """#!/bin/bash
set -euo pipefail
api="http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation"
while true; do
    headers=$(mktemp)
    event=$(curl -sS -LD "$headers" "$api/next")
    id=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$headers" | tr -d '[:space:]' | cut -d: -f2)
    deadline=$(grep -F Lambda-Runtime-Deadline-Ms: "$headers" | tr -d '[:space:]' | cut -d: -f2)
    curl -sS -o /dev/null "$api/$id/response" -d "{\\"event\\": $event, \\"deadline\\": $deadline}"
done
"""

# Sends a large response only when the server answers `100 Continue`.
EXPECTS = """#!/usr/bin/python3
import http.client, os, socket
api = os.environ["AWS_LAMBDA_RUNTIME_API"]
kept = http.client.HTTPConnection(api)
while True:
    kept.request("GET", "/2018-06-01/runtime/invocation/next")
    event = kept.getresponse()
    event.read()
    body = b'"' + b"x" * 2_000_000 + b'"'
    head = (f"POST /2018-06-01/runtime/invocation/{event.headers['lambda-runtime-aws-request-id']}/response "
            f"HTTP/1.1\\r\\nHost: {api}\\r\\nContent-Length: {len(body)}\\r\\nExpect: 100-continue\\r\\n\\r\\n")
    kept.sock.sendall(head.encode())
    assert kept.sock.recv(100).startswith(b"HTTP/1.1 100 Continue\\r\\n")
    kept.sock.sendall(body)
    answer = http.client.HTTPResponse(kept.sock)
    answer.begin()
    assert (answer.status, answer.read()) == (202, b'{"status":"OK"}')
"""

TRACES_PYTHON = """
import os, subprocess
def lambda_handler(event, context):
    return [os.environ["_X_AMZN_TRACE_ID"], subprocess.check_output(["printenv", "_X_AMZN_TRACE_ID"], text=True)]
"""
TRACES_NODE = (
    "export const handler = async () => [process.env._X_AMZN_TRACE_ID, process.env._X_AMZN_TRACE_ID];"
)


def own(version="HTTP/1.1", sent="Content-Length: {len(answer)}", body="answer"):
    return bootstrap(OWN_HTTP % {"version": version, "sent": sent, "body": body})


FUNCTIONS = {
    "own-http": own(),
    "old-http": own(version="HTTP/1.0"),
    "chunked": own(sent=CHUNKED, body=CHUNKS),
    "bash": bootstrap(BASH),
    "expects": bootstrap(EXPECTS),
    "traces": python(TRACES_PYTHON),
    "traces-node": nodejs(TRACES_NODE),
}


def traced(served, name, trace):
    """Calls with this header. Returns the traces that the function saw and the trace in the answer."""
    if name not in served.functions:
        pytest.skip("the cluster has no image for the runtime")
    address = served.endpoint.removeprefix("http://")
    # It may be the first call, which waits for an instance.
    for _ in range(20):
        connection = http.client.HTTPConnection(address)
        headers = {} if trace is None else {"X-Amzn-Trace-Id": trace}
        connection.request("POST", f"/2015-03-31/functions/{name}/invocations", b"{}", headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        if answer.status == 200:
            break
    assert "x-amz-function-error" not in answer.headers, body
    return [text.rstrip("\n") for text in body], answer.headers["X-Amzn-Trace-Id"]


scripts_in_python = only_local("the image of custom runtimes has no Python")


@scripts_in_python
@pytest.mark.parametrize("name", ["own-http", "old-http", "chunked"])
def test_headers_have_the_documented_spelling(served, name):
    answer = served.answer(name, {"a": 1})
    headers = answer["headers"]
    expected = {"Lambda-Runtime-Aws-Request-Id", "Lambda-Runtime-Deadline-Ms", "Lambda-Runtime-Trace-Id"}
    expected |= {"Lambda-Runtime-Invoked-Function-Arn", "Content-Type", "Content-Length", "Date"}
    assert expected <= headers.keys()
    assert headers["Content-Type"] == "application/json"
    assert answer["event"] == {"a": 1}
    assert TRACE.fullmatch(headers["Lambda-Runtime-Trace-Id"])


@scripts_in_python
def test_a_client_context_arrives_under_its_documented_name(served):
    # {"custom":{"a":1}}
    answer = served.invoke("own-http", {}, ClientContext="eyJjdXN0b20iOnsiYSI6MX19")
    context = answer["Body"]["headers"]["Lambda-Runtime-Client-Context"]
    assert json.loads(context) == {"custom": {"a": 1}}


@scripts_in_python
def test_a_client_of_http_1_0_gets_an_answer_in_http_1_0(served):
    assert served.answer("old-http", {})["status"].startswith("HTTP/1.0 200")


def test_a_bootstrap_of_bash_and_curl_answers(served):
    for n in range(3):
        answer = served.answer("bash", {"n": n})
        assert answer["event"] == {"n": n} and answer["deadline"] > 1_700_000_000_000


@scripts_in_python
def test_a_response_that_expects_100_continue_gets_it(served):
    for _ in range(2):
        assert len(served.answer("expects", {})) == 2_000_000


@pytest.mark.parametrize("name", ["traces", "traces-node"])
def test_every_call_has_a_trace_of_its_own_that_the_answer_names(served, name):
    seen = [traced(served, name, None) for _ in range(3)]
    for (own, child), answered in seen:
        assert TRACE.fullmatch(own) and own == child == answered
    assert len({answered.split(";")[0] for _, answered in seen}) == 3
    assert len({answered.split(";")[1] for _, answered in seen}) == 3


@pytest.mark.parametrize("sampled", ["0", "1"])
def test_a_callers_trace_is_continued(served, sampled):
    sent = f"Root={ROOT};Parent={PARENT};Sampled={sampled}"
    (own, child), answered = traced(served, "traces", f"{sent};Lineage=7:38a5ab94:3")
    assert own == child == answered == f"{sent};Lineage=8:{own.split(':')[1]}:0"


def test_missing_parts_of_a_callers_trace_are_added(served):
    (own, _), answered = traced(served, "traces", f"Root={ROOT}")
    assert re.fullmatch(f"Root={ROOT};Parent=[0-9a-f]{{16}};Sampled=0;Lineage=1:[0-9a-f]{{8}}:0", own)
    assert answered == own


def test_the_order_and_the_case_of_a_traces_fields_do_not_count(served):
    (own, _), _ = traced(served, "traces", f"Self=1-67891234-12456789abcdef012345678;sampled=1;root={ROOT}")
    assert re.fullmatch(f"Root={ROOT};Parent=[0-9a-f]{{16}};Sampled=1;Lineage=1:[0-9a-f]{{8}}:0", own)


@pytest.mark.parametrize(
    "sent", ["", "Root=1-5759e988", "Parent=" + PARENT, "x" * 5000, "Root=2-" + ROOT[2:]]
)
def test_an_invalid_trace_is_replaced_by_a_new_one(served, sent):
    (own, _), answered = traced(served, "traces", sent)
    assert TRACE.fullmatch(own) and answered == own
