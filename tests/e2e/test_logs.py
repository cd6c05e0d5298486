"""The logs of pods in one place: what a gateway has collected from the instances of a function.

Standard output of the pods stays as it is; these tests read through a gateway only.
"""

import json

from tests.harness.callers import ask
from tests.harness.kubectl import kubectl
from tests.harness.patience import until
from tests.harness.state import pods

PRINTS = """
import uuid
from rooms import enter
INSTANCE = uuid.uuid4().hex

def lambda_handler(event, context):
    for n in range(event["lines"]):
        print(f"{INSTANCE} {event['call']} line {n}")
    if event.get("room"):
        enter(event["room"], INSTANCE)
    return {"instance": INSTANCE, "request": context.aws_request_id}
"""


def entries(name):
    status, _, body = ask("GET", f"/pilotlight/v1/functions/{name}/logs")
    assert status == 200, body
    return [json.loads(line) for line in body.splitlines()]


def printed(name):
    return [entry for entry in entries(name) if entry["source"] == "stdout"]


def test_each_line_of_each_instance_is_found_and_survives_the_pod(function, invoke):
    name = function("e2e-logs", PRINTS)
    called = [invoke(name, {"lines": 20, "call": call})["Body"] for call in range(3)]
    found = printed(name)
    expected = [
        (body["request"], f"{body['instance']} {call} line {n}")
        for call, body in enumerate(called)
        for n in range(20)
    ]
    assert [(entry["requestId"], entry["text"]) for entry in found] == expected
    reports = [entry for entry in entries(name) if entry["text"].startswith("REPORT ")]
    assert [entry["requestId"] for entry in reports] == [body["request"] for body in called]
    assert len({(entry["instance"], entry["sequence"]) for entry in found}) == len(found)
    kubectl("delete", "pod", "--wait", pods(name)[0]["metadata"]["name"])
    assert printed(name) == found
    body = invoke(name, {"lines": 1, "call": 3})["Body"]
    until(lambda: len(printed(name)) == len(expected) + 1, lambda: printed(name))
    assert printed(name)[-1]["text"] == f"{body['instance']} 3 line 0"


def test_a_function_whose_logging_is_disabled_has_no_records(function, invoke):
    name = function("e2e-logs-off", PRINTS, logging={"enabled": False})
    invoke(name, {"lines": 5, "call": 0})
    assert entries(name) == []
