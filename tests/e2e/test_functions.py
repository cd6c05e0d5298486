"""From `kubectl apply` to answers, and when pods are created and deleted.

The SDK suites test the answers of the Invoke API; `serve.py` runs them against the same
release. test_refusals.py tests functions that cannot be served.
"""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from botocore.exceptions import ClientError

from tests.harness.kubectl import get, kubectl
from tests.harness.patience import until
from tests.harness.state import names, pods, ready_condition, status

COUNTS = """
import time, uuid
from rooms import enter
INSTANCE, calls = uuid.uuid4().hex, 0

def lambda_handler(event, context):
    global calls
    calls += 1
    begin = time.time()
    if event.get("room"):
        enter(event["room"], INSTANCE)
    time.sleep(event.get("seconds", 0))
    return {"instance": INSTANCE, "calls": calls, "begin": begin, "end": time.time()}
"""

WORD = "grüße $(PATH) $$ ${HOME}"

CONTEXT = """
import os

def lambda_handler(event, context):
    open("/tmp/written", "w").close()
    try:
        open("/var/task/written", "w")
    except OSError as error:
        refused = error.strerror
    return {
        "name": context.function_name, "memory": context.memory_limit_in_mb,
        "arn": context.invoked_function_arn, "remaining": context.get_remaining_time_in_millis(),
        "uid": os.getuid(), "refused": refused, "cwd": os.getcwd(),
        "token": os.path.exists("/var/run/secrets/kubernetes.io"),
        "word": os.environ["WORD"], "region": os.environ["AWS_REGION"],
    }
"""


def test_an_applied_function_answers_and_kubectl_get_shows_its_state(function, invoke):
    name = function("e2e-first", COUNTS)
    assert invoke(name, {})["Body"]["calls"] == 1
    assert invoke(name, {})["Body"]["calls"] == 2
    until(lambda: status(name).get("ready") == 1, lambda: status(name))
    row = kubectl("get", "fn", name, "--no-headers").split()
    assert row[:5] == [name, "python3.11", "lambda_function.lambda_handler", "128", "1"]
    assert ready_condition(name)["status"] == "True"


def test_a_pod_is_confined_and_the_handler_sees_its_surroundings(function, invoke):
    name = function("e2e-context", CONTEXT, memory=192, timeout=700, environment={"WORD": WORD})
    seen = invoke(name)["Body"]
    assert 0 < seen.pop("remaining") <= 700_000
    assert seen == {
        "name": name,
        "memory": "192",
        "cwd": "/var/task",
        "uid": 993,
        "arn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        "refused": "Read-only file system",
        "token": False,
        "word": WORD,
        "region": "us-east-1",
    }


def test_each_of_five_events_at_once_has_a_pod_which_ends_when_idle(function, invoke, room):
    name, together = function("e2e-five", COUNTS, keepAlive=2), room()
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(invoke, name, {"room": together.address}) for _ in range(5)]
        together.await_entered(5)
        assert len(pods(name)) == 5
        together.open()
    assert len({call.result()["Body"]["instance"] for call in calls}) == 5
    until(lambda: not pods(name), lambda: f"left: {len(pods(name))}")


def test_one_event_at_a_time_in_each_instance_under_load(function, invoke):
    name = function("e2e-load", COUNTS, concurrency={"reserved": 3})
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda _: invoke(name, {"seconds": 0.05})["Body"], range(90)))
    assert len({answer["instance"] for answer in answers}) <= 3
    for instance in {answer["instance"] for answer in answers}:
        own = sorted((a["begin"], a["end"]) for a in answers if a["instance"] == instance)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(own))
        calls = sorted(a["calls"] for a in answers if a["instance"] == instance)
        assert calls == list(range(1, len(calls) + 1)), "none lost, none twice"


def steady(client, name, stop):
    """Calls without pause until `stop`; each must succeed, as nothing is sent again."""
    answers = []
    while not stop.is_set():
        answer = client.invoke(FunctionName=name)
        body = json.load(answer["Payload"])
        assert "FunctionError" not in answer, body
        answers.append(body)
    return answers


def test_new_code_answers_and_no_call_fails_during_the_change(function, client, invoke):
    old = "def lambda_handler(event, context):\n    return 'old'\n"
    name = function("e2e-update", old)
    assert invoke(name)["Body"] == "old"
    stop = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(steady, client, name, stop) for _ in range(2)]
        try:
            function(name, old.replace("old", "new"))
            until(lambda: invoke(name)["Body"] == "new", lambda: "still the old code")
            until(lambda: len(pods(name)) <= 3, lambda: pods(name))
        finally:
            stop.set()
        answers = [answer for call in calls for answer in call.result()]
    assert set(answers) == {"old", "new"}
    assert invoke(name)["Body"] == "new"


def test_a_deleted_function_is_not_found_and_its_pods_are_deleted(function, invoke, client):
    name = function("e2e-deleted", COUNTS)
    invoke(name, {})
    kubectl("delete", "function", name)

    def is_gone():
        try:
            client.invoke(FunctionName=name)
        except client.exceptions.ResourceNotFoundException:
            return True

    until(is_gone, lambda: "still answered")
    until(lambda: not pods(name), lambda: pods(name))


def killing(pod):
    """The events about the end of the pod's containers."""
    selector = f"--field-selector=reason=Killing,involvedObject.uid={pod['metadata']['uid']}"
    return get("events", selector)["items"]


def test_a_deleted_pod_finishes_its_event(function, invoke, room):
    name, held = function("e2e-evicted", COUNTS), room()
    invoke(name, {})
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(invoke, name, {"room": held.address})
        held.await_entered(1)
        until(lambda: status(name).get("inFlight") == 1, lambda: status(name))
        [pod] = pods(name)
        kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
        # The kubelet says so when it sends SIGTERM; only gateways may ask the supervisor.
        until(lambda: killing(pod), lambda: kubectl("get", "events"))
        held.open()
        assert busy.result()["Body"]["calls"] == 2
    assert invoke(name, {})["Body"]["calls"] == 1, "in a pod of its own"


STOPS = """
import os, signal
def lambda_handler(event, context):
    if event.get("stop"):
        os.kill(os.getppid(), signal.SIGSTOP)
        while True:
            signal.pause()
    return os.uname().nodename
"""


def test_a_function_that_stops_its_supervisor_loses_its_call_and_its_pod(function, client, invoke):
    name = function("e2e-stops", STOPS, timeout=1)
    pod = invoke(name, {})["Body"]
    with pytest.raises(ClientError) as lost:
        client.invoke(FunctionName=name, Payload=b'{"stop": true}')
    assert lost.value.response["Error"]["Code"] == "ServiceException", lost.value
    # Nothing in it obeys a drain, so it ends without a grace period.
    until(lambda: pod not in names(pods(name)), lambda: kubectl("get", "pods"))
    assert invoke(name, {})["Body"] != pod
