"""A node is lost, and the API server is: what callers get, how soon, and what goes on."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError

from tests.harness.cluster import cluster
from tests.harness.kubectl import get, kubectl
from tests.harness.load import HANDLER, Load, assert_no_rule_is_broken
from tests.harness.patience import until
from tests.harness.release import HOST, SYSTEM, await_rollout
from tests.harness.state import is_full, pods

STAYS, GOES = "node-1", "node-2"
OUTAGE = 60  # seconds without API server


@contextmanager
def cordoned(node):
    kubectl("cordon", node)
    try:
        yield
    finally:
        kubectl("uncordon", node)


@contextmanager
def without_a_node():
    cluster("node-stop", GOES.removeprefix("node-"))
    try:
        yield
    finally:
        cluster("node-start", GOES.removeprefix("node-"))
        kubectl("wait", "--for=condition=Ready", f"node/{GOES}", "--timeout=90s")


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
            kubectl(
                "wait", "--for=delete", f"pod/{pod['metadata']['name']}", "--timeout=60s", namespace=SYSTEM
            )


def test_a_lost_node_costs_the_calls_on_it_and_no_more(two_nodes, function, invoke, journal):
    name = function("e2e-node", HANDLER, timeout=120, concurrency={"reserved": 4})
    cold = function("e2e-node-cold", "def lambda_handler(event, context):\n    return event\n")

    def event(seconds, call):
        return {"journal": journal.address, "id": call, "seconds": seconds}

    def served():
        before = time.monotonic()
        try:
            return invoke(name, event(0, "after"))["Body"]
        except ClientError as refused:
            refusals.append((round(time.monotonic() - before, 1), refused.response["Error"]))

    refusals, calls = [], [f"lost-{number}" for number in range(2)]
    with ThreadPoolExecutor(4) as callers:
        with cordoned(STAYS):
            list(callers.map(lambda number: invoke(name, event(2, f"warm-{number}")), range(4)))
            assert {pod["spec"]["nodeName"] for pod in pods(name)} == {GOES}
            running = [callers.submit(refusal, invoke, name, event(90, call)) for call in calls]
            until(
                lambda: set(journal.ids("began")) >= set(calls),
                lambda: f"running: {journal.ids('began')}",
            )
        with without_a_node():
            lost_at = time.monotonic()
            # The API server still takes the node for a good one.
            with cordoned(STAYS):
                error = refusal(invoke, cold, 1)
            assert error == {"Code": "ResourceNotReadyException", "Message": error["Message"]}
            assert f"node {GOES} does not take its pod" in error["Message"]
            assert time.monotonic() - lost_at < 20, "the cold call"

            for call in running:
                error = call.result(30)
                assert error["Code"] == "ServiceException", error
                assert (
                    "was lost before it answered. The event may have taken effect; it was not "
                    "sent again." in error["Message"]
                )
            print(f"told after {time.monotonic() - lost_at:.1f} s")

            # Warm instances were there as well; who calls next gets an answer or a typed error.
            assert until(served, lambda: f"no answer: {refusals}") == "after"
            print(f"served again after {time.monotonic() - lost_at:.1f} s; before: {refusals}")
            codes = {error["Code"] for _, error in refusals}
            assert codes <= {"ServiceException", "ResourceNotReadyException"}, refusals
            assert all(seconds < 20 for seconds, _ in refusals), refusals
    begun = journal.ids("began")
    assert [begun.count(call) for call in calls] == [1, 1], "sent again"


def refusal(invoke, name, event):
    with pytest.raises(ClientError) as refused:
        invoke(name, event)
    return refused.value.response["Error"]


def test_warm_calls_go_on_while_the_api_server_is_away(function, warm_pool, invoke, journal):
    pool = warm_pool("e2e-away", size=1)
    # Both are too large for the pool.
    concurrency = {"reserved": 8, "queue": 10_000}
    warm = function("e2e-warm", HANDLER, timeout=30, memory=256, concurrency=concurrency)
    cold = function("e2e-cold", "def lambda_handler(event, context):\n    return event\n", memory=256)
    pooled = function(
        "e2e-pooled", "import os\ndef lambda_handler(event, context):\n    return os.uname().nodename\n"
    )
    with ThreadPoolExecutor(1) as callers:
        with Load(journal, HOST, {warm: "steady:20"}, work=20) as load:
            load.await_successes(60)
            until(lambda: is_full(pool), lambda: kubectl("get", "warmpools,pods"))
            cluster("apiserver-stop")
            try:
                gone_at = time.monotonic()
                asked = callers.submit(refusal, invoke, cold, 1)
                # A claim asks no API server: its pod bears the pool's name.
                assert invoke(pooled)["Body"].startswith(f"{pool}-")
                until(lambda: time.monotonic() > gone_at + OUTAGE, lambda: "")
                before = load.successes()
                load.await_successes(20)
            finally:
                cluster("apiserver-start")
            load.await_successes(20)
        error = asked.result(1)
    print(f"{before} answers before its end; a cold call: {error}")
    assert error["Code"] == "ResourceNotReadyException", error
    assert "no instance came up" in error["Message"], error
    assert_no_rule_is_broken(journal.folder)
    # The kubelets are Kubernetes' own: they take up to a minute to be heard of again.
    kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=120s")
    begin, refusals = time.monotonic(), []
    # The longest pause between two starts, and a start.
    until(lambda: answers(invoke, cold, refusals), lambda: f"no cold start: {refusals}")
    print(f"cold {time.monotonic() - begin:.1f} s after the nodes; refused before: {refusals}")
    fresh = function("e2e-fresh", "def lambda_handler(event, context):\n    return 'fresh'\n")
    assert invoke(fresh)["Body"] == "fresh"


def answers(invoke, name, refusals):
    try:
        return invoke(name, "warm")["Body"]
    except ClientError as refused:
        message = refused.response["Error"]["Message"]
        if message not in refusals:
            refusals.append(message)
