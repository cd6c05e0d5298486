"""Warm pools: pods that wait for functions, and instances that are kept initialised."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness import manifests
from tests.harness.instance import counted
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.patience import until
from tests.harness.release import await_known
from tests.harness.state import POOL, is_full, is_ready, names, pods, status, waiting
from tests.harness.watch import Watch

HANDLER = """
import os, threading, uuid
from rooms import enter
instance = str(uuid.uuid4())
def lambda_handler(event, context):
    if event.get("room"):
        enter(event["room"], instance)
    if event.get("hoard"):
        hoarded = bytearray(event["hoard"] * 1024 * 1024)
        threading.Event().wait()
    return {"instance": instance, "pod": os.uname().nodename, "memory": context.memory_limit_in_mb}
"""


@pytest.fixture
def created():
    """Remembers each pod that is ever seen in the namespace."""
    with Watch("pods", form="{.metadata.name}") as watched:
        yield watched


def test_a_cold_start_claims_a_pod_that_waits_and_the_pool_is_filled_again(warm_pool, function, invoke):
    pool = warm_pool("e2e-stock", size=2)
    before = names(waiting(pool))
    name = function("e2e-claims", HANDLER)
    answer = invoke(name, {}, LogType="Tail")
    assert answer["Body"]["pod"] in before
    timing = answer["ResponseMetadata"]["HTTPHeaders"]["server-timing"]
    assert re.fullmatch(r"queue;dur=[\d.]+, claim;dur=[\d.]+, unpack;dur=[\d.]+, init;dur=[\d.]+", timing)
    # Its labels and its owner follow: it is the function's pod by now, and no other was made.
    [pod] = until(lambda: pods(name), lambda: kubectl("get", "pods", "--show-labels"))
    assert pod["metadata"]["name"] == answer["Body"]["pod"]
    [owner] = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Function", name, True)
    assert POOL not in pod["metadata"]["labels"]
    until(lambda: is_full(pool), lambda: kubectl("get", "warmpool,pods"))
    until(lambda: (status(name).get("instances"), status(name).get("ready")) == (1, 1), lambda: status(name))
    # Another event finds it warm.
    again = invoke(name, {})
    assert again["Body"] == answer["Body"]
    assert "server-timing" not in again["ResponseMetadata"]["HTTPHeaders"]


def test_the_claimed_pod_of_a_deleted_function_is_deleted(warm_pool, function, invoke):
    pool = warm_pool("e2e-leaves", size=1)
    [before] = names(waiting(pool))
    name = function("e2e-leaving", HANDLER)
    assert invoke(name, {})["Body"]["pod"] == before
    kubectl("delete", "function", name)
    until(lambda: before not in names(get("pods")["items"]), lambda: kubectl("get", "pods"))


def test_a_function_with_needs_of_its_own_gets_its_own_pod_and_its_status_says_why(
    warm_pool, function, invoke
):
    pool = warm_pool("e2e-plain", size=1, memory=128)
    before = names(waiting(pool))
    for name, spec, why in [
        ("e2e-large", {"memory": 256}, "256"),
        ("e2e-scratch", {"ephemeralStorage": 1024}, "1024"),
        (
            "e2e-tolerant",
            {"pod": {"tolerations": [{"key": "a", "operator": "Exists"}]}},
            "spec.pod.tolerations",
        ),
    ]:
        function(name, HANDLER, **spec)
        until(lambda: why in status(name).get("warmPool", ""), lambda: status(name))
        assert invoke(name, {})["Body"]["pod"] not in before
    plain = function("e2e-fits", HANDLER)
    until(lambda: status(plain).get("warmPool") == pool, lambda: status(plain))


def test_a_memory_limit_below_that_of_the_pool_is_enforced(warm_pool, function, client, invoke):
    warm_pool("e2e-roomy", size=1, memory=512)
    name = function("e2e-small", HANDLER, memory=128)
    assert invoke(name, {})["Body"]["memory"] == "128"
    # The pod follows, where the cluster can resize one that runs.
    [pod] = until(lambda: pods(name), lambda: kubectl("get", "pods", "--show-labels"))
    limit = "jsonpath={.spec.containers[0].resources.limits.memory}"
    until(
        lambda: kubectl("get", "pod", pod["metadata"]["name"], f"--output={limit}") == "160Mi",
        lambda: kubectl("get", "pods", "--output=yaml"),
    )
    answer = client.invoke(FunctionName=name, Payload=json.dumps({"hoard": 200}))
    assert answer["FunctionError"] == "Unhandled"
    assert "signal: killed" in json.loads(answer["Payload"].read())["errorMessage"]


def test_a_burst_larger_than_the_pool_uses_all_waiting_pods_and_creates_no_surplus(
    warm_pool, function, invoke, created, room
):
    pool = warm_pool("e2e-burst", size=2)
    before = names(waiting(pool))
    created.until(before.issubset)
    known = set(created.seen)
    name, event = function("e2e-bursting", HANDLER), {"room": room(size=5).address}
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda _: invoke(name, event)["Body"], range(5)))
    used = {answer["pod"] for answer in answers}
    assert before <= used, "those that wait are claimed first"
    assert len(used) <= 5
    until(lambda: is_full(pool), lambda: kubectl("get", "warmpool,pods"))
    # Three beside the pool, and two that fill it again.
    made = set(created.seen) - known
    assert len(made) <= 5, made
    created.until(used.issubset)


def test_many_functions_at_once_through_two_gateways_share_a_pool(warm_pool, function, invoke):
    pool = warm_pool("e2e-shared", size=3)
    before = names(waiting(pool))
    called = [function(f"e2e-shares-{number}", HANDLER) for number in range(6)]
    await_known(called)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda name: invoke(name, {})["Body"], called))
    assert len({answer["instance"] for answer in answers}) == 6
    used = [answer["pod"] for answer in answers]
    assert len(set(used)) == 6, "no pod serves two functions"
    assert before <= set(used)


def test_a_pool_replaces_lost_pods_and_rolls_when_it_changes(warm_pool):
    pool = warm_pool("e2e-kept", size=2)
    [lost, kept] = sorted(names(waiting(pool)))
    kubectl("delete", "pod", lost)
    until(
        lambda: is_full(pool) and lost not in names(waiting(pool)),
        lambda: kubectl("get", "warmpool,pods"),
    )
    before = names(waiting(pool))
    assert kept in before
    apply(manifests.warm_pool(pool, size=2, memory=192))
    fewest = []

    def is_rolled():
        fewest.append(sum(is_ready(pod) for pod in waiting(pool)))
        return is_full(pool) and not before & names(waiting(pool))

    until(is_rolled, lambda: kubectl("get", "warmpool,pods", "--show-labels"))
    assert min(fewest) >= 1, "some were ready all the time"


def test_a_pool_whose_pods_are_refused_says_so():
    apply(manifests.warm_pool("e2e-refused", runtime="cobol"))

    def reason():
        conditions = get("warmpool", "e2e-refused").get("status", {}).get("conditions", [])
        return next((one["reason"] for one in conditions if one["type"] == "Ready"), None)

    try:
        until(lambda: reason() == "NoImage", lambda: kubectl("get", "warmpool", "-o", "yaml"))
    finally:
        kubectl("delete", "warmpool", "e2e-refused")


def test_provisioned_instances_start_without_a_call_and_are_replaced(function, invoke):
    name = function("e2e-provisioned", HANDLER, concurrency={"provisioned": 2}, keepAlive=1)

    def ready():
        return names([pod for pod in pods(name) if is_ready(pod)])

    until(lambda: counted(name, "idle") == 2, lambda: kubectl("get", "pods"))
    answer = invoke(name, {})
    assert "server-timing" not in answer["ResponseMetadata"]["HTTPHeaders"], "no cold start"
    lost = answer["Body"]["pod"]
    kubectl("delete", "pod", lost)
    until(lambda: len(ready() - {lost}) == 2, lambda: kubectl("get", "pods"))
    function(name, HANDLER, keepAlive=1)
    until(lambda: not pods(name), lambda: kubectl("get", "pods"))
