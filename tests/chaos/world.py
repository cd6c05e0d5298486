"""The cluster as faults reach it: pods, their processes, their network.

Runs in the cluster's client network on the machine whose namespaces the nodes are: every process of
theirs is seen here. Kills by id, and only what is in a pod of this release or of its functions.
"""

import os
import random
import signal
import subprocess
from pathlib import Path

from tests.harness.cluster import await_kubelets
from tests.harness.kubectl import get, kubectl
from tests.harness.patience import until
from tests.harness.processes import processes
from tests.harness.release import await_rollout, leading, parts
from tests.harness.state import is_ready

API_SERVER_PORT = 6443


def kill(pid, how=signal.SIGKILL):
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        pass  # it has ended by itself


class World:
    """What there is to break, and the dice."""

    def __init__(self, seed, functions):
        self.random = random.Random(seed)
        self.functions = functions

    def component(self, name):
        """A pod of `controller` or `gateway` that is up."""
        return self.random.choice([pod for pod in parts(name) if is_ready(pod)])

    def leader(self, component):
        """The pod that leads, else any."""
        return leading(component) or self.component(component)

    def instances(self):
        listed = get("pods", "--selector=pilotlight.dev/function")["items"]
        return [pod for pod in listed if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def instance(self):
        """A pod that answers calls at the moment."""
        return self.random.choice(until(self.instances, lambda: kubectl("get", "pods")))

    def function(self):
        return self.random.choice(self.functions)

    def await_kubelets(self):
        await_kubelets()

    def rest(self):
        """Returns once Kubernetes has all up again that a fault may have taken."""
        until(
            lambda: all(is_ready(node) and "taints" not in node["spec"] for node in get("nodes")["items"]),
            lambda: kubectl("get", "nodes", "--output=yaml"),
        )
        for component in ("controller", "gateway"):
            await_rollout(component)


class Changed:
    """A pod's network is changed by one command and back by another, inside `with`."""

    def __init__(self, pod, begin, end):
        self.begin, self.end, self.pid = begin, end, min(processes(pod))

    def __enter__(self):
        self._run(self.begin, check=True)

    def __exit__(self, *_):
        # Its network has gone with the pod.
        if Path(f"/proc/{self.pid}/ns/net").exists():
            self._run(self.end, check=False)

    def _run(self, words, check):
        within = ["nsenter", f"--target={self.pid}", "--net"]
        subprocess.run([*within, *words], check=check, capture_output=True, text=True)


def ruled(pod, chain, *words):
    """With a rule of the packet filter."""
    return Changed(pod, *(["iptables", "--wait", how, chain, *words] for how in ("--insert", "--delete")))


def slowed(pod, rate):
    """With so many bits a second: packets wait for each other."""
    rest = ["tbf", "rate", rate, "burst", "8k", "latency", "800ms"]
    return Changed(
        pod,
        *(["tc", "qdisc", how, "dev", "eth0", "root", *words] for how, words in (("add", rest), ("del", []))),
    )
