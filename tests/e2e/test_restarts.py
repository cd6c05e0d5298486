"""Steady calls while Pilotlight is restarted: none fails, none runs twice."""

import pytest

from tests.harness.kubectl import get, kubectl
from tests.harness.load import HANDLER, Load, assert_no_rule_is_broken
from tests.harness.patience import until
from tests.harness.release import HOST, SYSTEM, all_parts, leading, parts, roll

# The load does not wait for answers: while there is no gateway all calls wait, and none is refused.
CONCURRENCY = {"reserved": 8, "queue": 10_000}


def restart(component):
    before = uids(parts(component))
    roll(component)
    until(lambda: not before & uids(all_parts(component)), lambda: "the old pods have ended")
    places, nodes = [pod["spec"]["nodeName"] for pod in parts(component)], get("nodes")["items"]
    assert len(set(places)) == min(len(places), len(nodes)), f"a lost node may take all: {places}"


def change_leader(component):
    """The leader goes as a node that is drained takes it."""
    leader = until(lambda: leading(component), lambda: "nobody leads")
    name = leader["metadata"]["name"]
    kubectl("delete", "pod", name, "--wait=false", namespace=SYSTEM)
    until(lambda: leading(component), lambda: f"nobody leads after {name}")


def uids(pods):
    return {pod["metadata"]["uid"] for pod in pods}


@pytest.mark.parametrize(
    ("disturb", "component"),
    [
        (restart, "controller"),
        (restart, "gateway"),
        (change_leader, "controller"),
    ],
    ids=["controller", "gateway", "leader"],
)
def test_no_call_fails_and_none_runs_twice(function, journal, disturb, component):
    if disturb is change_leader and len(parts(component)) < 2:
        pytest.skip(f"{len(parts(component))} {component}: there is no other to lead")
    name = function("e2e-steady", HANDLER, concurrency=CONCURRENCY)
    with Load(journal, HOST, {name: "steady:40"}, work=50) as load:
        load.await_successes(100)
        disturb(component)
        # What follows meets the new one alone.
        load.await_successes(100)
    assert_no_rule_is_broken(journal.folder)
