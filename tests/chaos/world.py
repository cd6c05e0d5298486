"""The cluster as faults see it: targets, their processes, their network, and when everything is up again.

This module runs in the cluster's client network. The nodes are namespaces of this machine, so it sees all their
processes. It kills processes by id, and only those in a pod of this release or of its functions.
"""

import os
import random
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

from tests.chaos import queue
from tests.chaos.guard import HarnessError
from tests.harness.cluster import is_taken_for_good
from tests.harness.kubectl import get, kubectl
from tests.harness.processes import processes, running
from tests.harness.release import RELEASE, SYSTEM, leading, parts
from tests.harness.state import is_ready, living

API_SERVER_PORT = 6443
# The comment of this harness's rules in the packet filter.
COMMENT = "pilotlight-chaos"

# The targets of faults.
GATEWAY = "a gateway's pod that is ready"
LEADER = "the pod of the controller that leads"
COMPONENTS = "all pods of controllers and gateways"
QUEUE_SERVER = "the pod of the event queue's server"
INSTANCE = "a function's pod that is ready"
FUNCTION = "the name of a function"


def kill(pid, how=signal.SIGKILL):
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        pass  # it has ended by itself


class World:
    """The things that faults can break, and the dice that choose among them."""

    def __init__(self, seed, functions, guard, settings=()):
        # Of the release in this run: a fault that installs another version keeps them.
        self.settings = settings
        self.random = random.Random(seed)
        self.functions = functions
        self.until, self.sleep = guard.until, guard.sleep

    def missed(self, what):
        """Reports that a fault does nothing, because its target is gone."""
        print(f"missed, as it is gone: {what}", flush=True)

    def aim(self, faults):
        """Chooses a different target for each of the faults that strike together.

        All are chosen before the first fault strikes, because a fault may stop what the choice needs.
        """
        targets = []
        for fault in faults:
            targets.append(self._choose(fault.target, targets) if fault.target else None)
        return targets

    def _choose(self, kind, taken):
        if kind == COMPONENTS:
            return [pod for component in ("controller", "gateway") for pod in parts(component)]
        if kind == LEADER:
            return self.until(
                lambda: leading("controller"), lambda: kubectl("get", "leases", "--output=yaml")
            )
        listed = {
            GATEWAY: self._gateways,
            INSTANCE: self._instances,
            FUNCTION: lambda: self.functions,
            QUEUE_SERVER: lambda: [pod for pod in parts("events") if is_ready(pod)],
        }[kind]
        names = [name_of(target) for target in taken]

        def free():
            return [one for one in listed() if name_of(one) not in names]

        # There may be no target for a moment, because instances come and go with the calls.
        return self.random.choice(self.until(free, f"there is no other target: {kind}"))

    def _gateways(self):
        return [pod for pod in parts("gateway") if is_ready(pod)]

    def _instances(self):
        listed = get("pods", "--selector=pilotlight.dev/function")["items"]
        return [pod for pod in living(listed) if is_ready(pod)]

    def await_rollout(self, component):
        """Returns once all of the Deployment's pods have its newest template and are available."""
        self.until(
            lambda: is_rolled_out(get("deployment", f"{RELEASE}-{component}", namespace=SYSTEM)),
            lambda: kubectl("get", "deployments,pods", "--output=wide", namespace=SYSTEM),
        )

    def roll(self, component):
        """Replaces the pods by a rollout of the Deployment, as an upgrade does."""
        kubectl("rollout", "restart", f"deployment/{RELEASE}-{component}", namespace=SYSTEM)
        self.await_rollout(component)

    def rest(self):
        """Returns once all nodes and all pods of Pilotlight are up again."""
        self.until(
            lambda: all(map(is_taken_for_good, get("nodes")["items"])),
            lambda: kubectl("get", "nodes", "--output=yaml"),
        )
        for component in ("controller", "gateway"):
            self.await_rollout(component)
        self.until(queue.is_usable, lambda: kubectl("get", "pods", "--output=wide", namespace=SYSTEM))


def name_of(target):
    return target["metadata"]["name"] if isinstance(target, dict) else target


def is_rolled_out(deployment):
    wanted, status = deployment["spec"]["replicas"], deployment["status"]
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    is_seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    return is_seen and counts == [wanted] * 3


def part(machine, name):
    """The process of one of the cluster's own components, if it runs. Processes of pods have other control groups."""
    found = [
        pid
        for pid, (_, known, groups) in running().items()
        if known == name and f"/pilotlight/{machine}/" in groups
    ]
    return found[0] if found else None


def api_server():
    if pid := part("control", "kube-apiserver"):
        return pid
    raise HarnessError("the API server does not run")


def sandbox(pod):
    """The pod's first process, which holds its network. None if the pod has ended."""
    return min(processes(pod), default=None)


def in_network(pid, *words):
    """The output of a command in a pod's network, or None if the network is gone with the pod."""
    done = subprocess.run(["nsenter", f"--target={pid}", "--net", *words], capture_output=True, text=True)
    if done.returncode and Path(f"/proc/{pid}/ns/net").exists():
        raise HarnessError(f"{' '.join(words)}, in the network of process {pid}: {done.stderr.strip()}")
    return None if done.returncode else done.stdout


@contextmanager
def changed(world, pod, begin, end):
    """Changes a pod's network with one command, and undoes that at the end with another."""
    pid = sandbox(pod)
    is_changed = pid is not None and in_network(pid, *begin) is not None
    if not is_changed:
        world.missed(f"the network of {pod['metadata']['name']}")
    try:
        yield
    finally:
        # The process is searched again, because another one may have its id by now.
        if is_changed and pid == sandbox(pod):
            in_network(pid, *end)


def ruled(world, pod, chain, *words):
    """Adds a rule to the packet filter of a pod's network."""
    rule = [chain, "-m", "comment", "--comment", COMMENT, *words]
    return changed(world, pod, *(["iptables", "--wait", how, *rule] for how in ("--insert", "--delete")))


def slowed(world, pod, rate):
    """Limits a pod's network to `rate`: packets wait."""
    limit = ["tbf", "rate", rate, "burst", "8k", "latency", "800ms"]
    begin, end = (["tc", "qdisc", how, "dev", "eth0", "root"] for how in ("add", "del"))
    return changed(world, pod, [*begin, *limit], end)
