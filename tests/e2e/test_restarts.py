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
    leader = leading(component)
    kubectl("delete", "pod", leader, "--wait=false", namespace=SYSTEM)
    until(lambda: leading(component) not in (None, leader), 40, lambda: f"{leader} still leads")


def leading(component):
    """The pod that holds the lease."""
    leases = get("leases.coordination.k8s.io", namespace=SYSTEM)["items"]
    holders = [str(lease["spec"].get("holderIdentity")) for lease in leases]
    names = [pod["metadata"]["name"] for pod in parts(component)]
    return next((name for name in names if any(name in holder for holder in holders)), None)


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
