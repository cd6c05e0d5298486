"""What can go wrong, each fault a generator: it strikes, yields while it lasts, and mends.

`FAULTS` names them. A fault says how long it lasts and what callers may be told because of it:
everything else they are told is unexplained. `BROKEN` is a connection that broke under a call. What
the fault does to Kubernetes mends itself; `World.rest` waits for that.
"""

import contextlib
import json
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.world import API_SERVER_PORT, kill, ruled, slowed
from tests.harness.cluster import cluster
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.paths import REPOSITORY
from tests.harness.patience import until
from tests.harness.processes import PILOTLIGHT, SUPERVISOR, named, processes, running
from tests.harness.release import (
    LEASE_PORT,
    RELEASE,
    SYSTEM,
    VERSION,
    all_parts,
    await_rollout,
    install,
    parts,
    roll,
)
from tests.harness.state import POOL

BROKEN = "broken"
# It may have taken effect: the platform lost sight of it.
UNKNOWN = "ServiceException"
NOT_READY = "ResourceNotReadyException"
NOT_FOUND = "ResourceNotFoundException"
EXITED = "Runtime.ExitError"
GATEWAY_PORT = 8080
# Made by `make previous`.
PREVIOUS = REPOSITORY / "target/previous/source"


@dataclass(frozen=True)
class Fault:
    name: str
    what: str
    seconds: int
    allows: frozenset
    strike: Callable

    def inflict(self, world):
        return contextlib.contextmanager(self.strike)(world)


FAULTS: dict[str, Fault] = {}


def fault(seconds=5, allows=()):
    def add(strike):
        name = strike.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, strike.__doc__, seconds, frozenset(allows), strike)
        return strike

    return add


def delete(pod, *words, namespace=None):
    options = {"namespace": namespace} if namespace else {}
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", "--ignore-not-found", *words, **options)


def strike_process(pod, name):
    pid = named(pod, name)
    if pid:
        kill(pid)


@fault(allows=[BROKEN, UNKNOWN])
def gateway_killed(world):
    """kill -9 of a gateway"""
    strike_process(world.component("gateway"), PILOTLIGHT)
    yield


@fault(seconds=10)
def gateway_stopped(world):
    """a gateway's pod is deleted"""
    delete(world.component("gateway"), namespace=SYSTEM)
    yield


@fault(seconds=10)
def controller_killed(world):
    """kill -9 of the controller that leads"""
    strike_process(world.leader("controller"), PILOTLIGHT)
    yield


@fault(seconds=10)
def controller_stopped(world):
    """the leading controller's pod is deleted"""
    delete(world.leader("controller"), namespace=SYSTEM)
    yield


@fault(allows=[UNKNOWN])
def supervisor_killed(world):
    """kill -9 of an instance's supervisor"""
    strike_process(world.instance(), SUPERVISOR)
    yield


@fault(allows=[EXITED])
def runtime_killed(world):
    """kill -9 of an instance's runtime process"""
    for pid in runtimes(world.instance()):
        kill(pid)
    yield


@fault(allows=[EXITED])
def runtime_stopped(world):
    """SIGTERM for an instance's runtime process"""
    for pid in runtimes(world.instance()):
        kill(pid, signal.SIGTERM)
    yield


def runtimes(pod):
    supervisor, found = named(pod, SUPERVISOR), processes(pod)
    return [pid for pid, (parent, _) in found.items() if parent == supervisor]


@fault()
def supervisor_stopped(world):
    """SIGTERM for an instance's supervisor"""
    pid = named(world.instance(), SUPERVISOR)
    if pid:
        kill(pid, signal.SIGTERM)
    yield


@fault()
def pod_deleted(world):
    """an instance's pod is deleted"""
    delete(world.instance())
    yield


@fault(allows=[UNKNOWN])
def pod_deleted_by_force(world):
    """an instance's pod is deleted without a grace period"""
    delete(world.instance(), "--grace-period=0", "--force")
    yield


@fault(seconds=25, allows=[BROKEN, UNKNOWN, NOT_READY])
def node_lost(world):
    """a node loses its power and comes back"""
    cluster("node-stop", "2")
    try:
        yield
    finally:
        cluster("node-start", "2")


@fault(seconds=15, allows=[NOT_READY])
def api_server_stopped(world):
    """the API server is away"""
    cluster("apiserver-stop")
    try:
        yield
    finally:
        cluster("apiserver-start")
    world.await_kubelets()


@fault(seconds=15, allows=[NOT_READY])
def api_server_slow(world):
    """the API server runs for a tenth of each second"""
    [server] = [pid for pid, (_, name, _) in running().items() if name == "kube-apiserver"]
    script = f"while kill -STOP {server}; do sleep 0.9; kill -CONT {server}; sleep 0.1; done"
    slowing = subprocess.Popen(["sh", "-c", script])
    try:
        yield
    finally:
        slowing.terminate()
        slowing.wait()
        kill(server, signal.SIGCONT)
    world.await_kubelets()


@fault(seconds=5)
def watches_dropped(world):
    """every connection to the API server is reset, and none is let through for a while"""
    reset = [
        "OUTPUT",
        "-p",
        "tcp",
        "--dport",
        str(API_SERVER_PORT),
        "-j",
        "REJECT",
        "--reject-with",
        "tcp-reset",
    ]
    with contextlib.ExitStack() as stack:
        for component in ("controller", "gateway"):
            for pod in parts(component):
                # Before and after the Service's address is replaced.
                stack.enter_context(ruled(pod, *reset))
                stack.enter_context(ruled(pod, *reset[:4], "443", *reset[5:]))
        yield


@fault(seconds=5, allows=[UNKNOWN, NOT_READY])
def gateway_cut_off_from_instances(world):
    """nothing passes between a gateway and the instances, for less than it takes to lose them"""
    with ruled(world.component("gateway"), "OUTPUT", "-p", "tcp", "--dport", str(LEASE_PORT), "-j", "DROP"):
        yield


@fault(seconds=20, allows=[UNKNOWN, NOT_READY])
def gateway_cut_off_for_long(world):
    """the same until the gateway gives the instances up"""
    yield from gateway_cut_off_from_instances(world)


@fault(seconds=15, allows=[NOT_READY])
def controller_cut_off(world):
    """nothing passes between the leading controller and the gateways"""
    with ruled(world.leader("controller"), "OUTPUT", "-p", "tcp", "--dport", str(GATEWAY_PORT), "-j", "DROP"):
        yield


@fault(seconds=10)
def packets_lost(world):
    """a gateway's network loses every twentieth packet"""
    with ruled(
        world.component("gateway"),
        "INPUT",
        "-m",
        "statistic",
        "--mode",
        "random",
        "--probability",
        "0.05",
        "-j",
        "DROP",
    ):
        yield


@fault(seconds=10)
def network_slow(world):
    """a gateway's network takes 1 Mbit/s: packets wait"""
    with slowed(world.component("gateway"), "1mbit"):
        yield


@fault(seconds=10, allows=[UNKNOWN])
def disk_full(world):
    """an instance's /tmp is filled past its bound"""
    pod = world.instance()
    pid = named(pod, SUPERVISOR)
    if pid:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/root/tmp/filled", "wb") as file:
            for _ in range(600):
                file.write(bytes(1 << 20))
    yield


@fault(seconds=5, allows=[UNKNOWN, EXITED])
def memory_short(world):
    """a process in an instance's memory group takes all that is left"""
    pod = world.instance()
    supervisor = named(pod, SUPERVISOR)
    if supervisor:
        hog = subprocess.Popen(["python3", "-c", HOG, str(supervisor)], stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            hog.kill()
            hog.wait()
    else:
        yield


HOG = """
import pathlib, sys, time
groups = pathlib.Path(f"/proc/{sys.argv[1]}/cgroup").read_text().splitlines()
group = next(line.split(":", 2) for line in groups if line.split(":")[1] in ("memory", ""))
root = pathlib.Path("/sys/fs/cgroup") / group[1]
(root / group[2].lstrip("/") / "cgroup.procs").write_text("0")
taken = []
while True:
    taken.append(bytearray(b"x" * (1 << 20)))
    time.sleep(0.005)
"""


@fault(seconds=40)
def gateways_scaled(world):
    """2 gateways become 5, then 1, then 2: functions change their owners"""
    for replicas in (5, 1, 2):
        kubectl("scale", f"deployment/{RELEASE}-gateway", f"--replicas={replicas}", namespace=SYSTEM)
        await_rollout("gateway")
        # Those that end have ended: owners are settled.
        until(
            lambda: len(all_parts("gateway")) == replicas,
            lambda: kubectl("get", "pods", "--output=wide", namespace=SYSTEM),
        )
    yield


@fault(seconds=8)
def function_updated(world):
    """a function's environment changes: all its instances are replaced"""
    name = world.function()
    revision = int(get("function", name)["spec"]["environment"]["REVISION"]) + 1
    patch = {"spec": {"environment": {"REVISION": str(revision)}}}
    kubectl("patch", "function", name, "--type=merge", f"--patch={json.dumps(patch)}")
    yield


@fault(seconds=8, allows=[NOT_FOUND, NOT_READY])
def function_deleted(world):
    """a function is deleted and made again"""
    name = world.function()
    made = get("function", name)
    kubectl("delete", "function", name)
    try:
        time.sleep(2)
    finally:
        kept = {"name": name, "labels": made["metadata"].get("labels", {})}
        apply(
            {"apiVersion": made["apiVersion"], "kind": made["kind"], "metadata": kept, "spec": made["spec"]}
        )
    yield


@fault(seconds=10)
def gateways_restarted(world):
    """the gateways' Deployment is rolled"""
    roll("gateway")
    yield


@fault(seconds=10)
def controllers_restarted(world):
    """the controllers' Deployment is rolled"""
    roll("controller")
    yield


if PREVIOUS.is_dir():

    @fault(seconds=10)
    def upgraded(world):
        """helm goes back to the version before, and upgrades again"""
        version = tomllib.loads((PREVIOUS / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        for settings in ({"chart": PREVIOUS / "charts/pilotlight", "version": version}, {}):
            install(**settings)
            # Warm instances live on, pods that wait are replaced.
            wanted = settings.get("version", VERSION)
            until(lambda: versions_that_wait() == {wanted}, lambda: kubectl("get", "pods", "--output=wide"))
        yield


def versions_that_wait():
    """Of the images of pods that no function has yet."""
    found = [pod["spec"]["containers"][0]["image"] for pod in get("pods", f"--selector={POOL}")["items"]]
    return {image.rpartition(":")[2] for image in found}
