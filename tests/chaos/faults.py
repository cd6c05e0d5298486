"""All faults, each a generator: it causes the fault, yields while it lasts, and undoes it.

`FAULTS` names them; `fault.py` defines what each declares. Kubernetes itself replaces what a fault removes;
`World.rest` waits for that.

A target may disappear during a fault, since another fault or Pilotlight itself may remove it. That is normal:
the fault then has no target.
"""

import contextlib
import json
import signal
import subprocess
import threading
import tomllib

from tests.chaos import queue
from tests.chaos.fault import (
    API_SERVER,
    BROKEN,
    CONTROLLERS,
    EXITED,
    FAULTS,
    FULL,
    GATEWAYS,
    LEADING,
    NODES,
    NOT_FOUND,
    NOT_READY,
    QUEUE,
    REDELIVERY,
    REFUSED,
    UNKNOWN,
    fault,
)
from tests.chaos.world import (
    API_SERVER_PORT,
    COMPONENTS,
    FUNCTION,
    GATEWAY,
    INSTANCE,
    LEADER,
    QUEUE_SERVER,
    api_server,
    kill,
    ruled,
    slowed,
)
from tests.harness.cluster import await_kubelets, cluster
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.paths import REPOSITORY
from tests.harness.patience import until
from tests.harness.processes import NATS, PILOTLIGHT, SUPERVISOR, named, processes
from tests.harness.release import LEASE_PORT, RELEASE, SYSTEM, VERSION, all_parts, install, knows
from tests.harness.state import POOL

__all__ = ["FAULTS"]

PARTS_PORT = 8082  # where the controller follows a gateway's demand
# The earlier version, built by `make previous`.
PREVIOUS = REPOSITORY / "target/previous/source"
GOES = "2"  # the number of the node that is lost


def delete(pod, *words, namespace=None):
    options = {"namespace": namespace} if namespace else {}
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", "--ignore-not-found", *words, **options)


def has_ended(pod):
    found = kubectl("get", "pod", pod["metadata"]["name"], "--ignore-not-found", "--output=json")
    if not found:
        return True
    now = json.loads(found)
    return "deletionTimestamp" in now["metadata"] or now["status"]["phase"] in ("Succeeded", "Failed")


def strike_process(world, pod, name, how=signal.SIGKILL):
    if pid := named(pod, name):
        kill(pid, how)
    else:
        world.missed(f"{name} of {pod['metadata']['name']}")


@fault(target=GATEWAY, allows=[BROKEN, UNKNOWN, REFUSED, REDELIVERY])
def gateway_killed(world, pod):
    """kill -9 of a gateway"""
    strike_process(world, pod, PILOTLIGHT)
    yield


@fault(seconds=10, target=GATEWAY, shares=[API_SERVER])
def gateway_stopped(world, pod):
    """a gateway's pod is deleted"""
    delete(pod, namespace=SYSTEM)
    yield


@fault(seconds=10, target=LEADER, takes=[LEADING])
def controller_killed(world, pod):
    """kill -9 of the controller that leads"""
    strike_process(world, pod, PILOTLIGHT)
    yield


@fault(seconds=10, target=LEADER, takes=[LEADING], shares=[API_SERVER])
def controller_stopped(world, pod):
    """the leading controller's pod is deleted"""
    delete(pod, namespace=SYSTEM)
    yield


@fault(shares=[API_SERVER])
def certificates_renewed(world):
    """the certificate of the gateways is replaced by a new one"""
    before = certificate()
    # Without it nobody knows who has signed the certificate, so the leader signs another one.
    gone = [{"op": "remove", "path": "/data/signed.json"}]
    secret = ("secret", f"{RELEASE}-identity")
    kubectl("patch", *secret, "--type=json", f"--patch={json.dumps(gone)}", namespace=SYSTEM)
    until(lambda: certificate() != before, lambda: "no new certificate")
    yield


def certificate():
    return get("secret", f"{RELEASE}-identity", namespace=SYSTEM)["data"]["tls.crt"]


@fault(target=INSTANCE, allows=[UNKNOWN])
def supervisor_killed(world, pod):
    """kill -9 of an instance's supervisor"""
    strike_process(world, pod, SUPERVISOR)
    yield


@fault(target=INSTANCE, allows=[EXITED])
def runtime_killed(world, pod):
    """kill -9 of an instance's runtime process"""
    strike_runtimes(world, pod, signal.SIGKILL)
    yield


@fault(target=INSTANCE, allows=[EXITED])
def runtime_stopped(world, pod):
    """SIGTERM for an instance's runtime process"""
    strike_runtimes(world, pod, signal.SIGTERM)
    yield


def strike_runtimes(world, pod, how):
    supervisor, found = named(pod, SUPERVISOR), processes(pod)
    # A pod without a supervisor still has the processes of its sandbox.
    runtimes = [pid for pid, (parent, _) in found.items() if supervisor and parent == supervisor]
    for pid in runtimes:
        kill(pid, how)
    if not runtimes:
        world.missed(f"the runtime process of {pod['metadata']['name']}")


@fault(target=INSTANCE)
def supervisor_stopped(world, pod):
    """SIGTERM for an instance's supervisor"""
    strike_process(world, pod, SUPERVISOR, signal.SIGTERM)
    yield


@fault(target=INSTANCE, shares=[API_SERVER])
def pod_deleted(world, pod):
    """an instance's pod is deleted"""
    delete(pod)
    yield


@fault(target=INSTANCE, allows=[UNKNOWN], shares=[API_SERVER])
def pod_deleted_by_force(world, pod):
    """an instance's pod is deleted without a grace period"""
    delete(pod, "--grace-period=0", "--force")
    yield


# It shares the API server because a returning node registers there.
@fault(
    seconds=25,
    allows=[BROKEN, UNKNOWN, NOT_READY, REFUSED, REDELIVERY],
    takes=[NODES, QUEUE],
    shares=[API_SERVER],
)
def node_lost(world):
    """a node loses its power and comes back"""
    cluster("node-stop", GOES)
    try:
        yield
    finally:
        cluster("node-start", GOES)


# This fault and the next one share the nodes: at their end they wait until each node accepts a pod.
@fault(seconds=15, allows=[NOT_READY], takes=[API_SERVER], shares=[NODES])
def api_server_stopped(world):
    """the API server is away"""
    cluster("apiserver-stop")
    try:
        yield
    finally:
        cluster("apiserver-start")
    await_kubelets()


@fault(seconds=15, allows=[NOT_READY], takes=[API_SERVER], shares=[NODES])
def api_server_slow(world):
    """the API server runs for a tenth of each second"""
    server, over = api_server(), threading.Event()

    def slow():
        while not over.is_set():
            kill(server, signal.SIGSTOP)
            over.wait(0.9)
            kill(server, signal.SIGCONT)
            over.wait(0.1)

    # A daemon thread: it also ends if this process is killed, so that nothing stops the server again.
    slowing = threading.Thread(target=slow, daemon=True)
    slowing.start()
    try:
        yield
    finally:
        over.set()
        slowing.join()
    await_kubelets()


@fault(seconds=5, target=COMPONENTS)
def watches_dropped(world, pods):
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
        for pod in pods:
            # One rule for the API server's port and one for its Service's, because the address may be replaced later.
            stack.enter_context(ruled(world, pod, *reset))
            stack.enter_context(ruled(world, pod, *reset[:4], "443", *reset[5:]))
        yield


@fault(seconds=5, target=GATEWAY, allows=[UNKNOWN, NOT_READY])
def gateway_cut_off_from_instances(world, pod):
    """nothing passes between a gateway and the instances, for less than it takes to lose them"""
    with ruled(world, pod, "OUTPUT", "-p", "tcp", "--dport", str(LEASE_PORT), "-j", "DROP"):
        yield


@fault(seconds=20, target=GATEWAY, allows=[UNKNOWN, NOT_READY])
def gateway_cut_off_for_long(world, pod):
    """the same until the gateway gives the instances up"""
    yield from gateway_cut_off_from_instances(world, pod)


@fault(seconds=15, target=LEADER, allows=[NOT_READY], takes=[LEADING])
def controller_cut_off(world, pod):
    """nothing passes between the leading controller and the gateways"""
    with ruled(world, pod, "OUTPUT", "-p", "tcp", "--dport", str(PARTS_PORT), "-j", "DROP"):
        yield


@fault(seconds=10, target=GATEWAY, allows=[REFUSED, REDELIVERY])
def packets_lost(world, pod):
    """a gateway's network loses every twentieth packet"""
    every_twentieth = ["-m", "statistic", "--mode", "random", "--probability", "0.05"]
    with ruled(world, pod, "INPUT", *every_twentieth, "-j", "DROP"):
        yield


@fault(seconds=10, target=GATEWAY, allows=[REFUSED, REDELIVERY])
def network_slow(world, pod):
    """a gateway's network takes 1 Mbit/s: packets wait"""
    with slowed(world, pod, "1mbit"):
        yield


# It shares the API server, which it asks whether the pod was evicted.
@fault(seconds=10, target=INSTANCE, allows=[UNKNOWN], shares=[API_SERVER])
def disk_full(world, pod):
    """an instance's /tmp is filled past its bound"""
    if pid := named(pod, SUPERVISOR):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/root/tmp/filled", "wb") as file:
            for _ in range(600):
                file.write(bytes(1 << 20))
    else:
        world.missed(f"/tmp of {pod['metadata']['name']}")
    yield
    # The kubelet measures volumes once a minute: the fault lasts until it has evicted the pod.
    world.until(lambda: has_ended(pod), lambda: kubectl("get", "pods", "--output=wide"))


@fault(seconds=5, target=INSTANCE, allows=[UNKNOWN, EXITED])
def memory_short(world, pod):
    """a process in an instance's memory group takes all that is left"""
    supervisor = named(pod, SUPERVISOR)
    if not supervisor:
        world.missed(f"the memory of {pod['metadata']['name']}")
        yield
        return
    hog = subprocess.Popen(["python3", "-c", HOG, str(supervisor)], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        hog.kill()
        hog.wait()


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


@fault(seconds=40, takes=[GATEWAYS], shares=[API_SERVER, NODES])
def gateways_scaled(world):
    """2 gateways become 5, then 1, then 2: functions change their owners"""
    for replicas in (5, 1, 2):
        kubectl("scale", f"deployment/{RELEASE}-gateway", f"--replicas={replicas}", namespace=SYSTEM)
        world.await_rollout("gateway")
        # Owners change until the last stopping gateway has ended.
        world.until(
            lambda: len(all_parts("gateway")) == replicas,
            lambda: kubectl("get", "pods", "--output=wide", namespace=SYSTEM),
        )
    yield


@fault(seconds=8, target=FUNCTION, shares=[API_SERVER])
def function_updated(world, name):
    """a function's environment changes: all its instances are replaced"""
    revision = int(get("function", name)["spec"]["environment"]["REVISION"]) + 1
    patch = {"spec": {"environment": {"REVISION": str(revision)}}}
    kubectl("patch", "function", name, "--type=merge", f"--patch={json.dumps(patch)}")
    yield


@fault(seconds=8, target=FUNCTION, allows=[NOT_FOUND, NOT_READY], shares=[API_SERVER])
def function_deleted(world, name):
    """a function is deleted and made again"""
    made = get("function", name)
    kubectl("delete", "function", name)
    try:
        world.sleep(2)
    finally:
        kept = {"name": name, "labels": made["metadata"].get("labels", {})}
        apply(
            {"apiVersion": made["apiVersion"], "kind": made["kind"], "metadata": kept, "spec": made["spec"]}
        )
    yield


@fault(seconds=10, takes=[GATEWAYS], shares=[API_SERVER, NODES])
def gateways_restarted(world):
    """the gateways' Deployment is rolled"""
    world.roll("gateway")
    yield


@fault(seconds=10, takes=[CONTROLLERS], shares=[API_SERVER, NODES])
def controllers_restarted(world):
    """the controllers' Deployment is rolled"""
    world.roll("controller")
    yield


@fault(seconds=10, target=QUEUE_SERVER, allows=[REFUSED, REDELIVERY], takes=[QUEUE])
def queue_killed(world, pod):
    """kill -9 of the event queue's server"""
    strike_process(world, pod, NATS)
    yield


@fault(seconds=10, target=QUEUE_SERVER, allows=[REFUSED, REDELIVERY], takes=[QUEUE], shares=[API_SERVER])
def queue_stopped(world, pod):
    """the pod of the event queue's server is deleted, and its volume stays"""
    delete(pod, namespace=SYSTEM)
    yield


@fault(seconds=30, target=QUEUE_SERVER, allows=[REFUSED, REDELIVERY], takes=[QUEUE])
def queue_away(world, pod):
    """nothing passes between the event queue's server and the gateways"""
    with ruled(world, pod, "INPUT", "-p", "tcp", "--dport", str(queue.PORT), "-j", "DROP"):
        yield


@fault(seconds=15, allows=[FULL], takes=[QUEUE])
def queue_full(world):
    """the event queue has no room: events of another function wait in it"""
    if not queue.fill(world):
        world.missed("the room of the event queue")
    try:
        yield
    finally:
        world.until(
            lambda: queue.purge(queue.FILLER), lambda: "the events that fill the queue cannot be removed"
        )


# What an earlier version without events would leave of them is not what an upgrade is about.
if PREVIOUS.is_dir() and knows(PREVIOUS / "charts/pilotlight", "events"):
    PREVIOUS_VERSION = tomllib.loads((PREVIOUS / "Cargo.toml").read_text())["workspace"]["package"]["version"]

    @fault(
        seconds=10,
        allows=[REFUSED, REDELIVERY],
        takes=[GATEWAYS, CONTROLLERS, QUEUE],
        shares=[API_SERVER, NODES],
    )
    def upgraded(world):
        """helm goes back to the version before, and upgrades again"""
        before = {"chart": PREVIOUS / "charts/pilotlight", "version": PREVIOUS_VERSION}
        for version in (before, {}):
            install(*world.settings, **version)
            # The upgrade keeps warm instances and replaces unclaimed pods.
            wanted = version.get("version", VERSION)
            world.until(
                lambda: versions_that_wait() == {wanted}, lambda: kubectl("get", "pods", "--output=wide")
            )
        yield


def versions_that_wait():
    """The image versions of unclaimed pods."""
    found = [pod["spec"]["containers"][0]["image"] for pod in get("pods", f"--selector={POOL}")["items"]]
    return {image.rpartition(":")[2] for image in found}
