"""The cluster as faults reach it: pods, their processes, their network.

Runs in the cluster's client network on the machine whose namespaces the nodes are: every process of
theirs is seen here. Kills by id, and only what is in a pod of this release or of its functions.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
for place in ("tests/e2e", "tests/sdk/python"):
    sys.path.insert(0, str(REPOSITORY / place))

from release import (  # noqa: E402
    CLUSTER, FUNCTIONS, RELEASE, SYSTEM, get, is_ready, kubectl, parts, run, until,
)

PILOTLIGHT, SUPERVISOR = "pilotlight", "pilotlight-supe"  # the first 15 characters count
API_SERVER_PORT = 6443
RECOVERY = 150  # seconds, at most, until all that Kubernetes keeps is up again


def processes(pod):
    """The processes of a pod, by id: parent and name."""
    uid, found = pod["metadata"]["uid"], {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = (folder / "cgroup").read_text()
            if uid in group or uid.replace("-", "_") in group:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                found[int(folder.name)] = (int(parent), (folder / "comm").read_text().strip())
        except OSError:
            pass  # it has ended
    return found


def named(pod, name):
    """The process of a pod with this name, if it runs."""
    return next((pid for pid, (_, known) in processes(pod).items() if known == name), None)


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
        holder = get("lease", f"pilotlight-{component}")["spec"].get("holderIdentity")
        found = [pod for pod in parts(component) if pod["metadata"]["name"] == holder]
        return found[0] if found else self.component(component)

    def instances(self):
        listed = get("pods", "--selector=pilotlight.dev/function")["items"]
        return [pod for pod in listed if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def instance(self):
        """A pod that answers calls at the moment."""
        return self.random.choice(until(self.instances, 30, lambda: kubectl("get", "pods")))

    def function(self):
        return self.random.choice(self.functions)

    def rest(self):
        """Returns once Kubernetes has all up again that a fault may have taken."""
        until(lambda: all(is_ready(node) for node in get("nodes")["items"]), RECOVERY, lambda: kubectl("get", "nodes"))
        for component in ("controller", "gateway"):
            kubectl("rollout", "status", f"deployment/{RELEASE}-{component}", f"--timeout={RECOVERY}s",
                    namespace=SYSTEM, timeout=RECOVERY + 10)


def cluster(*words):
    run(CLUSTER, *words, timeout=240)


class Rule:
    """A rule of the packet filter in a pod's network, there inside `with`."""

    def __init__(self, pod, *words):
        self.words, pids = words, processes(pod)
        self.pid = min(pids) if pids else None

    def __enter__(self):
        self._change("--insert")

    def __exit__(self, *_):
        # Its network has gone with the pod.
        if self.pid and Path(f"/proc/{self.pid}/ns/net").exists():
            self._change("--delete")

    def _change(self, how):
        chain, *rest = self.words
        within = ("nsenter", f"--target={self.pid}", "--net")
        subprocess.run([*within, "iptables", "--wait", how, chain, *rest], check=how == "--insert",
                       capture_output=True, text=True)


class Slow:
    """A pod's network takes only so many bits a second, inside `with`: packets wait for each other."""

    def __init__(self, pod, rate):
        self.rate, self.pid = rate, min(processes(pod))

    def __enter__(self):
        self._change("add", "tbf", "rate", self.rate, "burst", "8k", "latency", "800ms")

    def __exit__(self, *_):
        if Path(f"/proc/{self.pid}/ns/net").exists():
            self._change("del")

    def _change(self, how, *words):
        within = ("nsenter", f"--target={self.pid}", "--net")
        subprocess.run([*within, "tc", "qdisc", how, "dev", "eth0", "root", *words], check=how == "add",
                       capture_output=True, text=True)


def wait(seconds):
    """A fault's own length."""
    time.sleep(seconds)
