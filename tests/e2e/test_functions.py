"""From `kubectl apply` to answers, through pods."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from conftest import kubectl, pods, ready_condition, run, status, until

COUNTS = """
import time, uuid
INSTANCE, calls = uuid.uuid4().hex, 0

def lambda_handler(event, context):
    global calls
    calls += 1
    begin = time.time()
    time.sleep(event.get("seconds", 0))
    return {"instance": INSTANCE, "calls": calls, "begin": begin, "end": time.time()}
"""

FAILS = """
import os, sys, time

def lambda_handler(event, context):
    if event == "raise":
        raise ValueError("order 42 has no lines")
    if event == "exit":
        sys.exit(3)
    if event == "hang":
        time.sleep(60)
    if event == "not json":
        return object()
    if event == "memory":
        taken = [os.urandom(1 << 20) * 8 for _ in range(64)]
        time.sleep(60)
    return event
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


def test_an_applied_function_answers_and_get_tells_how_it_does(function, invoke):
    name = function("e2e-first", COUNTS)
    assert invoke(name, {})["Body"]["calls"] == 1
    assert invoke(name, {})["Body"]["calls"] == 2
    until(lambda: status(name).get("ready") == 1, 10, lambda: status(name))
    row = kubectl("get", "fn", name, "--no-headers").split()
    assert row[:5] == [name, "python3.11", "lambda_function.lambda_handler", "128", "1"]
    assert ready_condition(name)["status"] == "True"


def test_a_shell_bootstrap_answers(client):
    source = (
        "#!/bin/sh\n"
        'api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"\n'
        "while :; do\n"
        '  event=$(curl -sS -D /tmp/head "$api/next")\n'
        "  id=$(sed -n 's/\\r//; s/^lambda-runtime-aws-request-id: //Ip' /tmp/head)\n"
        '  curl -sS -o /dev/null -d "{\\"shell\\":$event}" "$api/$id/response"\n'
        "done\n"
    )
    manifest = {
        "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function",
        "metadata": {"name": "e2e-shell"},
        "spec": {"runtime": "custom", "code": {"inline": {"bootstrap": source}}},
    }
    kubectl("apply", "--filename=-", input=json.dumps(manifest))

    def answer():
        try:
            return client.invoke(FunctionName="e2e-shell", Payload=b'{"a":1}')["Payload"].read()
        except client.exceptions.ResourceNotFoundException:
            return None

    assert json.loads(until(answer, 10, lambda: "no answer")) == {"shell": {"a": 1}}
    kubectl("delete", "function", "e2e-shell")


def test_a_pod_is_confined_and_the_handler_sees_its_surroundings(function, invoke):
    name = function("e2e-context", CONTEXT, memory=192, timeout=7, environment={"WORD": WORD})
    seen = invoke(name)["Body"]
    assert 0 < seen.pop("remaining") <= 7000
    assert seen == {
        "name": name, "memory": "192", "cwd": "/var/task", "uid": 993,
        "arn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        "refused": "Read-only file system", "token": False,
        "word": WORD, "region": "us-east-1",
    }


@pytest.mark.parametrize(("event", "error"), [
    ("raise", "ValueError"),
    ("exit", "Runtime.ExitError"),
    ("hang", "Sandbox.Timedout"),
    ("not json", "Runtime.MarshalError"),
    ("memory", "Runtime.ExitError"),
])
def test_a_failure_is_the_documented_one_and_the_instance_serves_on(function, invoke, event, error):
    name = function("e2e-fails", FAILS, timeout=2)
    failed = invoke(name, event)
    assert (failed["FunctionError"], failed["Body"]["errorType"]) == ("Unhandled", error)
    assert invoke(name, "fine")["Body"] == "fine"


def test_an_unknown_function_is_not_found(client):
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="e2e-absent")


def test_ten_events_at_once_run_in_ten_pods_which_go_when_idle(function, invoke):
    name = function("e2e-ten", COUNTS, timeout=30, keepAlive=3)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: invoke(name, {"seconds": 3})["Body"], range(10)))
    assert len({answer["instance"] for answer in answers}) == 10
    assert len(pods(name)) == 10
    until(lambda: not pods(name), 30, lambda: f"left: {len(pods(name))}")


def test_one_event_at_a_time_in_each_instance_under_load(function, invoke):
    name = function("e2e-load", COUNTS, timeout=30, concurrency={"reserved": 3})
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda _: invoke(name, {"seconds": 0.05})["Body"], range(90)))
    assert len({answer["instance"] for answer in answers}) <= 3
    for instance in {answer["instance"] for answer in answers}:
        own = sorted((a["begin"], a["end"]) for a in answers if a["instance"] == instance)
        assert all(end <= begin for (_, end), (begin, _) in zip(own, own[1:]))
        calls = sorted(a["calls"] for a in answers if a["instance"] == instance)
        assert calls == list(range(1, len(calls) + 1)), "none lost, none twice"


def test_a_full_queue_is_throttled(function, client, invoke):
    name = function("e2e-throttled", COUNTS, timeout=30, concurrency={"reserved": 1, "queue": 0})
    invoke(name, {})
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(invoke, name, {"seconds": 3})
        until(lambda: status(name).get("inFlight") == 1, 10, lambda: status(name))
        with pytest.raises(client.exceptions.TooManyRequestsException):
            client.invoke(FunctionName=name)
        assert busy.result()["StatusCode"] == 200


def steady(invoke, name, stop):
    """Calls without pause until `stop`; each must succeed."""
    answers = []
    while not stop.is_set():
        answer = invoke(name, {})
        assert "FunctionError" not in answer, answer["Body"]
        answers.append(answer["Body"])
    return answers


def test_new_code_answers_soon_and_no_call_fails_during_the_change(function, invoke):
    old = "def lambda_handler(event, context):\n    return 'old'\n"
    name = function("e2e-update", old)
    assert invoke(name)["Body"] == "old"
    stop = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(steady, invoke, name, stop) for _ in range(2)]
        try:
            function(name, old.replace("old", "new"))
            until(lambda: invoke(name)["Body"] == "new", 20, lambda: "still the old code")
            until(lambda: len(pods(name)) <= 3, 20, lambda: pods(name))
        finally:
            stop.set()
        answers = [answer for call in calls for answer in call.result()]
    assert set(answers) == {"old", "new"}
    assert invoke(name)["Body"] == "new"


def test_a_deleted_function_is_not_found_and_its_pods_go(function, invoke, client):
    name = function("e2e-deleted", COUNTS)
    invoke(name, {})
    kubectl("delete", "function", name)

    def is_gone():
        try:
            client.invoke(FunctionName=name)
        except client.exceptions.ResourceNotFoundException:
            return True

    until(is_gone, 10, lambda: "still answered")
    until(lambda: not pods(name), 20, lambda: pods(name))


def test_a_deleted_pod_finishes_its_event(function, invoke):
    name = function("e2e-evicted", COUNTS, timeout=30)
    invoke(name, {})
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(invoke, name, {"seconds": 3})
        until(lambda: status(name).get("inFlight") == 1, 10, lambda: status(name))
        kubectl("delete", "pod", pods(name)[0]["metadata"]["name"], "--wait=false")
        assert busy.result()["Body"]["calls"] == 2
    assert invoke(name, {})["Body"]["calls"] == 1, "in a pod of its own"


def test_a_missing_image_fails_the_call_with_the_reason_and_the_status_tells_it(function, client):
    name = function("e2e-image", COUNTS, code={"image": "pilotlight.test/absent:1"})
    with pytest.raises(ClientError) as refused:
        client.invoke(FunctionName=name)
    assert refused.value.response["Error"]["Code"] == "ResourceNotReadyException"
    assert "pilotlight.test/absent:1" in refused.value.response["Error"]["Message"]


def test_a_quota_fails_the_call_with_the_reason_and_the_status_tells_it(function, client):
    name = function("e2e-quota", COUNTS)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
             "spec": {"hard": {"pods": "0"}}}
    kubectl("apply", "--filename=-", input=json.dumps(quota))
    try:
        with pytest.raises(ClientError) as refused:
            client.invoke(FunctionName=name)
        assert refused.value.response["Error"]["Code"] == "ResourceNotReadyException"
        assert "exceeded quota: none" in refused.value.response["Error"]["Message"]
        until(lambda: ready_condition(name).get("reason") == "PodRefused", 10,
              lambda: ready_condition(name))
    finally:
        kubectl("delete", "resourcequota", "none")


def test_what_is_not_supported_yet_is_told_by_the_status(function):
    archive = {"archive": {"url": "https://host/a.zip", "sha256": "0" * 64}}
    name = function("e2e-archive", "", code=archive)
    until(lambda: ready_condition(name).get("reason") == "CodeNotSupported", 10,
          lambda: ready_condition(name))


@pytest.mark.parametrize("part", ["controller", "gateway"])
def test_instances_outlive_a_restart_of_the_system(function, invoke, part):
    name = function("e2e-restart", COUNTS)
    before = invoke(name, {})["Body"]["instance"]
    deployment = f"deployment/pilotlight-{part}"
    run("kubectl", "--namespace=pilotlight", "rollout", "restart", deployment)
    run("kubectl", "--namespace=pilotlight", "rollout", "status", deployment, "--timeout=60s")

    def answer():
        # The Service leads to the old gateway for a moment after it has ended.
        try:
            return invoke(name, {})["Body"]
        except Exception:
            return None

    after = until(answer, 15, lambda: "no answer")
    assert after["instance"] == before and after["calls"] >= 2
