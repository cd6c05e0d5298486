"""Brings the cluster into the state in which a run starts, whatever ran before: a killed run, another suite.

`clean` searches for leftovers instead of reading a record of them, since a killed run writes none. Processes of a run
carry its mark in their environment, and its rules of the packet filter carry a comment. It returns what
it found, so that the run can print it.
"""

import os
import shlex
import signal
from pathlib import Path

from tests.chaos import queue
from tests.chaos.guard import Guard, HarnessError
from tests.chaos.world import COMMENT, World, api_server, in_network, kill, part, sandbox
from tests.harness.cluster import cluster
from tests.harness.commands import attempt
from tests.harness.kubectl import get, kubectl
from tests.harness.processes import SUPERVISOR, running
from tests.harness.release import RELEASE, SYSTEM, VERSION, all_parts, install

# A variable of all processes that a run starts: the run's process id and its start time.
MARK = "PILOTLIGHT_CHAOS_RUN"
GATEWAYS = 2  # as the chart has it
PROBES = "probe-"  # names of pods that `await_kubelets` makes in the namespace `default`
# Objects that Pilotlight does not delete by itself with the Functions.
OWNED = "--selector=app.kubernetes.io/managed-by=pilotlight"
# The states of a helm release whose change was begun and not finished. helm refuses every other change then.
UNFINISHED = "status in (pending-install,pending-upgrade,pending-rollback)"


def mark():
    """Marks the processes that this one starts from now on."""
    os.environ[MARK] = f"{os.getpid()}:{start_time(os.getpid())}"


def start_time(pid):
    """In the kernel's ticks; None if the process does not run. Distinguishes processes with the same id."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def marked():
    """The commands, by process id, of running processes that another run started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            command = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
        except OSError:
            continue  # it has ended
        marks = [one.partition("=")[2] for one in variables if one.startswith(f"{MARK}=")]
        if marks and marks[0] != os.environ.get(MARK):
            pid, _, started = marks[0].partition(":")
            if str(start_time(pid)) == started:
                raise HarnessError(f"another run of the chaos is under way: process {pid}")
            found[int(folder.name)] = command
    return found


def end_processes(guard):
    """Ends the processes of a killed run."""
    found = marked()
    for pid, command in found.items():
        # A change of the cluster may finish, because half a change is harder to undo.
        if "tests/cluster/cluster" not in command:
            kill(pid)
    guard.until(lambda: not marked(), lambda: f"processes of an earlier run still run: {marked()}")
    return [f"process {pid}: {command[:80]}" for pid, command in found.items()]


def start_api_server(guard):
    """Continues the API server if a signal stopped it, and starts it if it was killed."""
    found = [] if part("control", "kube-apiserver") else ["the API server did not run"]
    # This starts a killed API server, but does not continue one that a signal has stopped.
    cluster("apiserver-start")
    server = api_server()
    is_stopped = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    kill(server, signal.SIGCONT)
    guard.until(
        lambda: attempt("kubectl", "get", "--raw=/readyz").returncode == 0, "the API server is not ready"
    )
    return [*found, "a signal had stopped the API server"] if is_stopped else found


def start_nodes():
    found = []
    for node in get("nodes")["items"]:
        name = node["metadata"]["name"]
        if not part(name, "kubelet"):
            found.append(f"{name} did not run")
        cluster("node-start", name.removeprefix("node-"))
        if node["spec"].get("unschedulable"):
            found.append(f"{name} was cordoned")
            kubectl("uncordon", name)
    return found


def clear_networks():
    """Removes the faults from the networks of the pods of Pilotlight."""
    found = []
    for pod in [*all_parts("controller"), *all_parts("gateway"), *all_parts("events")]:
        pid, name = sandbox(pod), pod["metadata"]["name"]
        if pid is None:
            continue
        for rule in (in_network(pid, "iptables", "--wait", "--list-rules") or "").splitlines():
            if COMMENT in rule:
                found.append(f"{name}: {rule}")
                in_network(pid, "iptables", "--wait", *shlex.split(rule.replace("-A", "-D", 1)))
        if " tbf " in f" {in_network(pid, 'tc', 'qdisc', 'show', 'dev', 'eth0')} ":
            found.append(f"{name}: a slow network")
            in_network(pid, "tc", "qdisc", "del", "dev", "eth0", "root")
    return found


def install_release(settings):
    """Installs the version of this commit with these settings, and the chart's number of gateways."""
    words = ("secrets", f"--selector=owner=helm,name={RELEASE},{UNFINISHED}")
    found = [
        f"helm had not finished: {secret['metadata']['name']}"
        for secret in get(*words, namespace=SYSTEM)["items"]
    ]
    kubectl("delete", *words, namespace=SYSTEM)
    pods = [pod for component in ("gateway", "controller") for pod in all_parts(component)]
    images = {pod["spec"]["containers"][0]["image"] for pod in pods}
    found += [f"another version: {image}" for image in images if not image.endswith(f":{VERSION}")]
    scaled = len(all_parts("gateway"))
    install(*settings)
    # helm compares charts, so it does not reset a number that is the same in both.
    kubectl("scale", f"deployment/{RELEASE}-gateway", f"--replicas={GATEWAYS}", namespace=SYSTEM)
    return [*found, f"{scaled} gateways"] if scaled not in (0, GATEWAYS) else found


def forget_events(guard, functions):
    """Removes the events and dead letters of an earlier run, which outlive their functions."""
    found = []
    for name in functions:
        count, dead = guard.until(lambda: queue.waiting(name), "the event queue cannot be asked")
        found += [f"{count} events of {name}"] * bool(count) + [f"{dead} dead letters of {name}"] * bool(dead)
        for purge in (queue.purge, queue.purge_dead):
            guard.until(lambda: purge(name), f"the events of {name} cannot be removed")
        # An attempt of a killed run may be under way.
        guard.until(lambda: queue.waiting(name) == (0, 0), f"events of {name} are left")
    return found


def delete_functions():
    found = get("functions,warmpools")["items"]
    kubectl("delete", "functions,warmpools", "--all")
    # The controller deletes these too, unless it has forgotten one; the earlier run has reported that.
    kubectl("delete", "pods", "--all", "--wait=false")
    kubectl("delete", "configmaps", OWNED)
    return [f"{one['kind']} {one['metadata']['name']}" for one in found]


def delete_probes():
    pods = [pod["metadata"]["name"] for pod in get("pods", namespace="default")["items"]]
    found = [name for name in pods if name.startswith(PROBES)]
    if found:
        kubectl("delete", "pods", "--ignore-not-found", *found, namespace="default")
    return [f"pod {name}" for name in found]


def left():
    """Objects and processes of Functions that still exist although no Function and no WarmPool does."""
    found = [f"pod {pod['metadata']['name']}" for pod in get("pods")["items"]]
    found += [f"config map {one['metadata']['name']}" for one in get("configmaps", OWNED)["items"]]
    leases = {one["metadata"]["name"] for one in get("leases")["items"]}
    found += [f"lease {name}" for name in leases - {"pilotlight-controller"}]
    return [*found, *(f"process {pid}, which belongs to no pod" for pid in forgotten_supervisors())]


def forgotten_supervisors():
    """Supervisors on the nodes whose pod is gone. Pods of other suites in the cluster count as well."""
    supervisors = {
        pid: groups
        for pid, (_, name, groups) in running().items()
        if name == SUPERVISOR and "/pilotlight/node-" in groups
    }
    # Pods are listed after the processes. In the other order, a pod that starts in between would seem missing.
    uids = [pod["metadata"]["uid"] for pod in get("pods", "--all-namespaces")["items"]]
    known = {name for uid in uids for name in (uid, uid.replace("-", "_"))}
    return [pid for pid, groups in supervisors.items() if not any(name in groups for name in known)]


def clean(guard: Guard, world: World, asynchronous=(), settings=()):
    """Removes all leftovers and returns what they were. `asynchronous`: functions with events. `settings`: those of the release
    in this run, which other ones would replace."""
    # The order matters. Processes of a killed run would undo later steps, all steps need the API server, pods
    # on a stopped node do not end, a release behind faulty networks does not become ready, and only a running
    # controller deletes the pods of functions.
    found = end_processes(guard)
    found += start_api_server(guard)
    found += start_nodes()
    found += clear_networks()
    queue.make_volume()
    found += install_release(settings)
    found += delete_functions()
    found += delete_probes()
    world.rest()
    found += forget_events(guard, asynchronous)
    guard.until(
        lambda: len(all_parts("gateway")) == GATEWAYS,
        lambda: kubectl("get", "pods", "--output=wide", namespace=SYSTEM),
    )
    guard.until(lambda: not left(), lambda: f"deleted functions left these: {left()}")
    return found
