"""Libraries that people bring to Node.js functions, unmodified and installed by npm from package.json."""

import base64
import json
import re
from pathlib import Path

import pytest

from tests.harness.endpoint import only_local
from tests.harness.patience import LONGER

pytestmark = only_local("its functions come as folders whose packages local mode installs")

FOLDER = Path(__file__).parent / "functions"


def folder(name, runtime="nodejs22", **spec):
    code = {"path": str(FOLDER / name)}
    return {"runtime": runtime, "memory": 512, "timeout": LONGER, "code": code, **spec}


FUNCTIONS = {
    "express": folder("nodejs-express", handler="lambda.handler"),
    "powertools": folder("nodejs-powertools"),
    "powertools-24": folder("nodejs-powertools", runtime="nodejs24"),
}
POWERTOOLS = pytest.mark.parametrize("name", ["powertools", "powertools-24"])
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def http(method, path, body=None, query="", **headers):
    """An event of an HTTP API, format 2.0."""
    headers = {"host": "shop.example", "content-type": "application/json", **headers}
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "shop",
            "domainName": "shop.example",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "test",
            },
            "requestId": "r1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Mar/2026:19:03:58 +0000",
            "timeEpoch": 1773342238000,
        },
        "isBase64Encoded": False,
    }
    if query:
        event["queryStringParameters"] = dict(part.split("=") for part in query.split("&"))
    return event if body is None else {**event, "body": json.dumps(body)}


def test_express_answers_an_http_api(served):
    answer = served.answer("express", http("GET", "/orders/7", query="only=price", **{"x-from": "grün"}))
    assert (answer["statusCode"], answer["headers"]["x-found"]) == (200, "yes")
    assert answer["cookies"] == ["seen=7; Path=/"]
    assert json.loads(answer["body"]) == {"id": "7", "only": "price", "from": "grün"}


def test_express_reads_a_body_and_answers_again(served):
    for order in range(2):
        answer = served.answer("express", http("POST", "/orders", {"order": order}))
        assert answer["statusCode"] == 201 and json.loads(answer["body"]) == {"made": {"order": order}}


def test_express_answers_bytes_and_its_own_errors(served):
    image = served.answer("express", http("GET", "/image"))
    assert image["isBase64Encoded"] and base64.b64decode(image["body"]) == b"\x89P\xff"
    nowhere = served.answer("express", http("GET", "/nowhere"))
    assert (nowhere["statusCode"], json.loads(nowhere["body"])) == (404, {"missing": "/nowhere"})
    fails = served.answer("express", http("GET", "/fails"))
    assert (fails["statusCode"], json.loads(fails["body"])) == (500, {"error": "no such shelf"})


def traced(served, name, event):
    """Invokes with a caller's trace and returns the JSON records in the log."""
    events = served.client.meta.events
    add = lambda request, **_: request.headers.add_header("X-Amzn-Trace-Id", TRACE)  # noqa: E731
    events.register("before-sign.lambda.Invoke", add)
    try:
        answered = served.invoke(name, event, LogType="Tail")
    finally:
        events.unregister("before-sign.lambda.Invoke", add)
    lines = [line for line in answered["Log"].splitlines() if line.startswith("{")]
    return answered, [json.loads(line) for line in lines]


@POWERTOOLS
def test_powertools_logs_counts_and_traces(served, name):
    answered, records = traced(served, name, {"amount": 3})
    assert answered["Body"] == {"traceId": "1-5759e988-bd862e3fe1be46a994272793", "traced": True}
    paid = next(record for record in records if record.get("message") == "paid")
    assert paid["amount"] == 3 and paid["service"] == "payments"
    assert paid["function_request_id"] == answered["RequestId"]
    assert (paid["function_name"], paid["function_memory_size"]) == (name, "512")
    assert paid["xray_trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"
    counted = [record for record in records if "_aws" in record and "payments" in record]
    assert [record["payments"] for record in counted] == [1]


@POWERTOOLS
def test_powertools_passes_an_error_on(served, name):
    answered, records = traced(served, name, {"amount": 4, "fails": True})
    assert answered["FunctionError"] == "Unhandled"
    assert (
        answered["Body"]["errorType"] == "RangeError"
        and "no such account" in answered["Body"]["errorMessage"]
    )
    assert any(record.get("payments") == 1 for record in records)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_library_warns(served, name):
    served.answer(name, http("GET", "/image"))
    lines = [
        line for line in served.logs(name).splitlines() if re.search("warn|deprecat|experimental", line, re.I)
    ]
    assert lines == []
