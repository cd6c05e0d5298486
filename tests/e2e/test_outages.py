"""A node or the API server is lost: what callers get, and what keeps working."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.e2e.refusal import refusal
from tests.harness import release
from tests.harness.callers import account_with, call, rules, token
from tests.harness.cluster import without_api_server, without_node
from tests.harness.kubectl import get, kubectl, wait
from tests.harness.load import HANDLER, Load, assert_no_rule_is_broken
from tests.harness.patience import PATIENCE, until
from tests.harness.release import HOST, SYSTEM, await_rollout
from tests.harness.state import is_full, pods

STAYS, GOES = "node-1", "node-2"
RATE = 20  # calls a second
OUTAGE = 60 * RATE  # answers without API server


@contextmanager
def cordoned(node):
    kubectl("cordon", node)
    try:
        yield
    finally:
        kubectl("uncordon", node)


@pytest.fixture
def two_nodes():
    """All of Pilotlight on the node that stays."""
    if len(get("nodes")["items"]) < 2:
        pytest.skip("needs a second node: `cluster up --nodes 2`")
    with cordoned(GOES):
        here = get("pods", f"--field-selector=spec.nodeName={GOES}", namespace=SYSTEM)["items"]
        for pod in here:
            kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", namespace=SYSTEM)
        for component in ("gateway", "controller"):
            await_rollout(component)
        for pod in here:
            wait("delete", f"pod/{pod['metadata']['name']}", namespace=SYSTEM)


def test_a_lost_node_fails_the_calls_on_it_and_no_others(two_nodes, function, client, invoke, journal):
    name = function("e2e-node", HANDLER, concurrency={"reserved": 4})
    cold = function("e2e-node-cold", "def lambda_handler(event, context):\n    return event\n")

    def event(seconds, call):
        return {"journal": journal.address, "id": call, "seconds": seconds}

    refusals, calls = [], [f"lost-{number}" for number in range(2)]
    with ThreadPoolExecutor(4) as callers:
        with cordoned(STAYS):
            list(callers.map(lambda number: invoke(name, event(2, f"warm-{number}")), range(4)))
            assert {pod["spec"]["nodeName"] for pod in pods(name)} == {GOES}
            # None ends before its node does.
            running = [callers.submit(failure, invoke, name, event(PATIENCE, call)) for call in calls]
            until(
                lambda: set(journal.ids("began")) >= set(calls),
                lambda: f"running: {journal.ids('began')}",
            )
        with without_node(GOES.removeprefix("node-")):
            with cordoned(STAYS):
                failed = refusal(client, cold)
            # For some seconds the API server takes the node for a good one; later the pod has no node.
            causes = (f"node {GOES} does not take its pod", "nodes are available", "became ready in the time")
            assert any(cause in failed for cause in causes), failed

            for call in running:
                error = call.result(PATIENCE)
                assert error["Code"] == "ServiceException", error
                assert (
                    "was lost before it answered. The event may have taken effect; it was not "
                    "sent again." in error["Message"]
                )

            # Warm instances were there as well; who calls next gets an answer or a typed error.
            after = event(0, "after")
            assert (
                until(lambda: answer(invoke, name, after, refusals), lambda: f"no answer: {refusals}")
                == "after"
            )
            assert {error["Code"] for error in refusals} <= {"ServiceException"}, refusals
    begun = journal.ids("began")
    assert [begun.count(call) for call in calls] == [1, 1], "sent again"


def answer(invoke, name, event, refusals):
    """The answer, or `None` and one refusal more."""
    try:
        return invoke(name, event)["Body"]
    except ClientError as refused:
        refusals.append(refused.response["Error"])
    except EndpointConnectionError as refused:
        refusals.append({"Code": "EndpointConnectionError", "Message": str(refused)})


def failure(invoke, name, event):
    with pytest.raises(ClientError) as failed:
        invoke(name, event)
    return failed.value.response["Error"]


def test_warm_calls_succeed_while_the_api_server_is_down(function, warm_pool, client, invoke, journal):
    pool = warm_pool("e2e-away", size=1)
    # Both are too large for the pool.
    concurrency = {"reserved": 8, "queue": 10_000}
    warm = function("e2e-warm", HANDLER, memory=256, concurrency=concurrency)
    cold = function("e2e-cold", "def lambda_handler(event, context):\n    return event\n", memory=256)
    hostname = "import os\ndef lambda_handler(event, context):\n    return os.uname().nodename\n"
    pooled, fits = function("e2e-pooled", hostname), function("e2e-fits", hostname)
    # Callers that show nothing are served, and the others are asked.
    release.install("--set=auth.mode=optional")
    release.await_replaced()
    hosts = [gateway.removeprefix("http://") for gateway in release.gateways()]
    invokes = account_with("e2e-away", rules()["invoke"])
    with invokes as account, ThreadPoolExecutor(1) as callers:
        known, stranger = token(account), token(account)
        for host in hosts:
            until(lambda: call(pooled, known, host=host)[0] == 200, f"served by {host}")
        with Load(journal, HOST, {warm: f"steady:{RATE}"}, work=20) as load:
            load.await_successes(60)
            until(lambda: is_full(pool), lambda: kubectl("get", "warmpools,pods"))
            with without_api_server():
                refused = callers.submit(refusal, client, cold, "became ready in the time")
                # A claim asks no API server: its pod bears the pool's name.
                assert invoke(fits)["Body"].startswith(f"{pool}-")
                # Each gateway serves whom it knows, and nobody else who shows something.
                for _ in range(4):
                    assert [call(pooled, known, host=host)[0] for host in hosts] == [200] * len(hosts)
                    unknown = [call(pooled, stranger, host=host)[:2] for host in hosts]
                    assert unknown == [(500, "ServiceException")] * len(hosts)
                    load.await_successes(OUTAGE // 4)
                print(f"a cold call: {refused.result(PATIENCE)}")
            load.await_successes(RATE)
        for host in hosts:
            until(lambda: call(pooled, stranger, host=host)[0] == 200, f"the other token is served by {host}")
    assert_no_rule_is_broken(journal.folder)
    # While the parts find each other again, a call may end with a typed error. Nodes that could not report for too
    # long count as lost for some seconds, and then the Service leads nowhere.
    refusals = []
    assert (
        until(lambda: answer(invoke, cold, "warm", refusals), lambda: f"refused: {refusals[-3:]}") == "warm"
    )
    assert {error["Code"] for error in refusals} <= {"ServiceException", "EndpointConnectionError"}, refusals
    print(f"refused after the outage: {refusals}")
    fresh = function("e2e-fresh", "def lambda_handler(event, context):\n    return 'fresh'\n")
    assert invoke(fresh)["Body"] == "fresh"
