"""The cluster on this machine: the order in which its parts start, and what `down` removes.

What exists is read from the control groups (cgroup.py), never from a record: a killed run leaves
processes, and these know better than a file what is there. The one file kept, `up`, says that a
cluster was completed; without it all that is found is remains.
"""

import os
import shutil
import subprocess
from pathlib import Path

from . import api, build, certificates, cgroup, control_plane, network, node, policies
from .layout import BIN, CLIENT_KUBECONFIG, CONTROL, KUBECONFIG, LOGS, MAX_NODES, RUN, node_name
from .machine import require_root
from .progress import Failed, exclusive, stage, wait_until

CHANGE = "cluster"
COMPLETED = RUN / "up"
RESOLVER = RUN / "resolv.conf"


def up(nodes: int) -> None:
    if not 1 <= nodes <= MAX_NODES:
        raise Failed(f"--nodes is 1 to {MAX_NODES}")
    require_root()
    build.build_cluster()
    with exclusive(CHANGE):
        if not healthy():
            clear()
            bring_up(nodes)
        for number in range(len(node.numbers()) + 1, nodes + 1):
            add_node(number)


def down() -> None:
    require_root()
    with exclusive(CHANGE):
        clear()


def bring_up(nodes: int) -> None:
    numbers = range(1, nodes + 1)
    with stage("certificates, machines, etcd, API server and containerd started"):
        certificates.make_all()
        control_plane.start()
        for number in numbers:
            node.start(control_plane.control(), number)
    with stage("API server ready"):
        control_plane.wait_for_api()
    with stage("controllers, DNS, kubelets and proxies started"):
        control_plane.start_controllers()
        api.apply(policies.rights())
        for number in numbers:
            node.join(number)
        control_plane.start_proxy()
        control_plane.start_dns()
    with stage("nodes Ready"):
        for number in numbers:
            node.wait_until_ready(number)
    with stage("DNS answers, accounts exist"):
        control_plane.wait_for_dns()
        wait_for_default_account()
    RESOLVER.write_text(control_plane.RESOLVER)
    COMPLETED.touch()


def add_node(number: int) -> None:
    with stage(f"{node_name(number)} joined"):
        start_node(number)


def start_node(number: int) -> None:
    node.start(control_plane.control(), number)
    node.join(number)
    node.wait_until_ready(number)


def wait_for_default_account() -> None:
    # Pods are refused until their namespace has it.
    path = "/api/v1/namespaces/default/serviceaccounts/default"
    wait_until("the default ServiceAccount exists", lambda: api.answers(path))


def healthy() -> bool:
    if not COMPLETED.exists():
        return False
    running = {CONTROL: control_plane.COMPONENTS, **{node_name(n): node.COMPONENTS for n in node.numbers()}}
    groups = [cgroup.tracking() / machine / part for machine, parts in running.items() for part in parts]
    return all(map(cgroup.processes, groups)) and api.answers("/readyz")


def clear() -> None:
    """Ends and removes the cluster or whatever a killed run left of one."""
    if not RUN.exists() and not cgroup.remains():
        return
    with stage("down"):
        COMPLETED.unlink(missing_ok=True)
        cgroup.clear()
        if RUN.exists():
            shutil.rmtree(RUN)


def load(archives: list[Path]) -> None:
    require_up()
    for archive in archives:
        if not archive.is_file():
            raise Failed(f"{archive} is not a file")
    for number in node.numbers():
        node.load(number, archives)


def execute(command: list[str]) -> None:
    """Becomes the command, in the control machine's network and with the cluster's resolver."""
    require_up()
    # No proxy either: there is no way out to one.
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = {
        **kept,
        "KUBECONFIG": str(CLIENT_KUBECONFIG),
        "KUBECACHEDIR": str(RUN / "kubectl-cache"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    # A mount namespace of its own, so that the resolver is the command's alone.
    resolve = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    private = ["unshare", "--mount", "--", "sh", "-c", resolve, str(RESOLVER), *command]
    entered = control_plane.control().entering(private, ("net",))
    os.execvpe(entered[0], entered, environment)


def node_stop(number: int) -> None:
    require_node(number)
    with exclusive(CHANGE):
        # The wire first: processes that are killed still say goodbye to whom they are connected.
        network.cut(control_plane.control(), number)
        node.machine(number).kill()


def node_start(number: int) -> None:
    require_node(number)
    with exclusive(CHANGE):
        if not node.machine(number).runs("kubelet"):
            node.machine(number).kill()
            start_node(number)


def apiserver_stop() -> None:
    require_up()
    control_plane.control().stop(control_plane.API)


def apiserver_start() -> None:
    require_up()
    with exclusive(CHANGE):
        machine = control_plane.control()
        if not machine.runs(control_plane.API):
            control_plane.start_api_server(machine)
            control_plane.wait_for_api()
            control_plane.restart_controllers()


def logs(component: str | None) -> None:
    files = sorted(LOGS.glob("*.log"))
    if component is None:
        print(*(f"{file.name.removesuffix('.log'):32} {file}" for file in files), sep="\n")
        return
    file = LOGS / f"{component}.log"
    if file not in files:
        raise Failed(f"no component {component}; `logs` without a name lists them")
    subprocess.run(["tail", "--lines=200", str(file)], check=True)


def kubeconfig() -> Path:
    return KUBECONFIG


def require_up() -> None:
    require_root()
    if not COMPLETED.exists():
        raise Failed("the cluster is not up: run `tests/cluster/cluster up`")


def require_node(number: int) -> None:
    require_up()
    if number not in node.numbers():
        raise Failed(f"there is no node {number}; there are {node.numbers()}")
