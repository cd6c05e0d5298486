"""Steady calls while Pilotlight itself is restarted: none fails, none runs twice."""

import pytest

from load import HANDLER, Load
from release import HOST, RELEASE, SYSTEM, get, kubectl, parts, until


def restart(component):
    """As an upgrade does it: the Deployment's own way of replacing its pods."""
    before = uids(component)
    deployment = f"deployment/{RELEASE}-{component}"
    kubectl("rollout", "restart", deployment, namespace=SYSTEM)
    kubectl("rollout", "status", deployment, "--timeout=90s", namespace=SYSTEM)
    until(lambda: not before & all_uids(component), 60, lambda: "the old pods have ended")


def change_leader(component):
    """The leader goes as a node that is drained takes it."""
    leader = until(lambda: leading(component), 30, lambda: "nobody leads")
    name = leader["metadata"]["name"]
    kubectl("delete", "pod", name, "--wait=false", namespace=SYSTEM)
    until(lambda: leading(component), 40, lambda: f"nobody leads after {name}")


def leading(component):
    """The pod that holds the lease."""
    lease = get("lease", f"pilotlight-{component}")
    holder = lease["spec"].get("holderIdentity")
    return next((pod for pod in parts(component) if pod["metadata"]["name"] == holder), None)


def uids(component):
    return {pod["metadata"]["uid"] for pod in parts(component)}


def all_uids(component):
    listed = get("pods", f"--selector=app.kubernetes.io/component={component}", namespace=SYSTEM)
    return {pod["metadata"]["uid"] for pod in listed["items"]}


@pytest.mark.parametrize(("disturb", "component"), [
    (restart, "controller"), (restart, "gateway"), (change_leader, "controller"),
], ids=["controller", "gateway", "leader"])
def test_no_call_fails_and_none_runs_twice(function, journal, disturb, component):
    if disturb is change_leader and len(parts(component)) < 2:
        pytest.skip(f"{len(parts(component))} {component}: there is no other to lead")
    name = function("e2e-steady", HANDLER, timeout=30)
    with Load(HOST, name, journal) as load:
        load.await_answers(100)
        disturb(component)
        # What follows meets the new one alone.
        load.await_answers(100)
    load.assert_exact()
