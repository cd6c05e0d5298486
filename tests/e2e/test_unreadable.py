"""A Function with a field of a later version, as during an upgrade: the others go on, and it says why it is not read.

The definition of Functions is of the whole cluster, and each suite that installs its release applies it again. So
these tests run alone, like those of outages.
"""

import json

import pytest
from botocore.exceptions import ClientError

from tests.harness.kubectl import get, kubectl
from tests.harness.lambda_client import lambda_client
from tests.harness.patience import until
from tests.harness.release import SYSTEM, await_known, await_rollout, parts, roll
from tests.harness.state import ready_condition

ECHO = "def lambda_handler(event, context):\n    return event\n"

FIELD = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/tracing"


def change_definition(operation):
    change = json.dumps([operation])
    kubectl("patch", "crd", "functions.pilotlight.dev", "--type=json", f"--patch={change}")


@pytest.fixture
def newer_definition():
    change_definition({"op": "add", "path": FIELD, "value": {"type": "string", "maxLength": 10}})
    yield
    change_definition({"op": "remove", "path": FIELD})


def condition(name, type_):
    conditions = get("function", name).get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == type_), {})


def change(name, **spec):
    kubectl("patch", "function", name, "--type=merge", f"--patch={json.dumps({'spec': spec})}")


def answer(client, name):
    """What the function answers to 0, or the code of an error, which names the field."""
    try:
        return json.load(client.invoke(FunctionName=name, Payload=b"0")["Payload"])
    except ClientError as caught:
        error = caught.response["Error"]
        assert "spec.tracing" in error["Message"], error
        return error["Code"]


def test_a_function_with_a_field_of_a_later_version_keeps_its_last_readable_spec(
    function, client, invoke, newer_definition
):
    name, other = function("e2e-newer", ECHO), function("e2e-newer-other", ECHO)
    assert invoke(name, 1)["Body"] == 1
    change(name, tracing="Active")
    until(lambda: condition(name, "Readable").get("status") == "False", lambda: get("function", name))
    message = condition(name, "Readable")["message"]
    assert message.startswith("spec.tracing: ") and "upgrade Pilotlight" in message
    assert ready_condition(name)["status"] == "True", "its last readable spec is served"
    until(
        lambda: "NotReadable" in kubectl("describe", "function", name),
        lambda: kubectl("describe", "function", name),
    )
    assert invoke(name, 2)["Body"] == 2

    # A gateway that has read an earlier spec runs beside one that has not. Which of them owns the function, and so
    # whether a call is answered, follows from their addresses.
    [old, replaced] = parts("gateway")
    kubectl("delete", "pod", replaced["metadata"]["name"], namespace=SYSTEM)
    await_rollout("gateway")
    addresses = [pod["status"]["podIP"] for pod in parts("gateway")]
    assert old["status"]["podIP"] in addresses and len(addresses) == 2
    for address in addresses:
        at = lambda_client(f"http://{address}:8080")
        assert answer(at, other) == 0
        assert answer(at, name) in (0, "ResourceNotReadyException")

    # Processes that never could read it do without it.
    roll("gateway")
    roll("controller")
    assert invoke(other, 3)["Body"] == 3
    assert answer(client, name) == "ResourceNotReadyException"
    change(other, description="the watch goes on")
    change(name, tracing=None)
    await_known([name])
    assert invoke(name, 4)["Body"] == 4
    until(lambda: condition(name, "Readable") == {}, lambda: get("function", name))
