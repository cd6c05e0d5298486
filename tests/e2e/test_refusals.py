"""A function that cannot be served: what its caller gets, and what kubectl shows."""

from tests.e2e.refusal import refusal
from tests.harness.kubectl import enforce, kubectl
from tests.harness.manifests import no_pods
from tests.harness.patience import until
from tests.harness.state import pods, ready_condition

ANSWERS = "def lambda_handler(event, context):\n    return event\n"

TAKES_MEMORY = """
import os
import threading

def lambda_handler(event, context):
    taken = [os.urandom(1 << 20) * 8 for _ in range(event["mebibytes"] // 8)]
    if event["hold"]:
        threading.Event().wait()
    return len(taken)
"""


def row(name):
    """As `kubectl get functions -o wide` prints it, by the names of its columns."""
    heads, line = kubectl("get", "functions", name, "--output=wide").splitlines()
    # The last column is the reason, which has several words.
    return dict(zip(heads.split(), line.split(), strict=False))


def events(name):
    return kubectl("describe", "function", name).partition("\nEvents:")[2]


def await_reason(name, reason):
    until(lambda: ready_condition(name).get("reason") == reason, lambda: ready_condition(name))
    condition = ready_condition(name)
    assert condition["status"] == "False", condition
    assert row(name)["REASON"] == reason
    until(lambda: reason in events(name), lambda: events(name))
    return condition["message"]


def test_a_quota_fails_the_call_and_the_status_says_so(function, client, invoke):
    name = function("e2e-quota", ANSWERS)
    enforce(no_pods("none"))
    try:
        refusal(client, name, "exceeded quota: none")
        assert "exceeded quota: none" in await_reason(name, "PodRefused")
        assert "exceeded quota: none" in events(name)
    finally:
        kubectl("delete", "resourcequota", "none")
    assert "FunctionError" not in invoke(name)
    until(lambda: ready_condition(name)["status"] == "True", lambda: ready_condition(name))
    assert row(name)["REASON"] == "Serving"


def test_a_missing_image_fails_the_call(function, client):
    name = function("e2e-image", ANSWERS, code={"image": "pilotlight.test/absent:1"})
    refusal(client, name, "ErrImagePull", "pilotlight.test/absent:1")
    until(lambda: not pods(name), lambda: f"pods that nobody waits for: {len(pods(name))}")


def test_the_status_reports_a_missing_image(function, client):
    name = function("e2e-no-image", ANSWERS, code={"image": "pilotlight.test/absent:1"})
    refusal(client, name)
    assert "pilotlight.test/absent:1" in await_reason(name, "ErrImagePull")


def test_too_much_memory_ends_the_event_and_neither_the_pod_nor_the_function(function, invoke):
    name = function("e2e-memory", TAKES_MEMORY)
    failed = invoke(name, {"mebibytes": 512, "hold": True})
    assert failed["FunctionError"] == "Unhandled"
    assert failed["Body"]["errorType"] == "Runtime.ExitError"
    [pod] = pods(name)
    assert invoke(name, {"mebibytes": 8, "hold": False})["Body"] == 1
    assert [one["metadata"]["uid"] for one in pods(name)] == [pod["metadata"]["uid"]]
    assert "Error Type: Runtime.OutOfMemory" in kubectl("logs", pod["metadata"]["name"])
    assert (ready_condition(name)["status"], row(name)["REASON"]) == ("True", "Serving")
