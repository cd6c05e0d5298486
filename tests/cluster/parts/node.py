"""A node: containerd, kubelet and kube-proxy in a machine of their own.

What a node keeps on disk (its /var: images, pod records) survives `stop`, as a disk survives a power
cut; everything else goes.
"""

import json
import subprocess
from pathlib import Path

from . import api, certificates, network, policies
from .layout import (
    BIN,
    DNS_SERVICE_ADDRESS,
    DOMAIN,
    IMAGES,
    MAX_NODES,
    PAUSE_IMAGE,
    PKI,
    POD_RANGE,
    RUN,
    RUNSC_SHIM,
    inside,
    node_address,
    node_name,
    node_pods,
)
from .machine import ENVIRONMENT, Machine
from .progress import Failed, wait_until

COMPONENTS = ["containerd", "kubelet", "kube-proxy", policies.COMPONENT]
CNI_PLUGINS = "/usr/lib/cni"
SOCKET = "/run/containerd/containerd.sock"


def machine(number: int) -> Machine:
    return Machine(node_name(number))


def numbers() -> list[int]:
    """The nodes that were made, whether they run now or not."""
    return [n for n in range(1, MAX_NODES + 1) if (RUN / node_name(n)).exists()]


def start(control: Machine, number: int) -> None:
    """As far as a node gets by itself; it joins once the API server answers."""
    node = machine(number)
    certificates.make_node(number)
    node.boot()
    network.connect(control, node, number)
    policies.lay_rules(node)
    write_network_config(node, number)
    node.start("containerd", [f"--config={write_containerd_config(node)}"], program="containerd")


def load(number: int, archives: list[Path]) -> None:
    node = machine(number)
    ping = ["ctr", "--timeout=10s", "version"]
    wait_until(
        f"{node.name}: containerd serves",
        lambda: node.succeeds(ping),
        lambda: node.runs("containerd"),
        node.log("containerd"),
    )
    for archive in archives:
        load_one(node, archive)


def load_one(node: Machine, archive: Path) -> None:
    # As standard input, since the node does not see every path of the host.
    with archive.open("rb") as content:
        command = node.entering(["ctr", "--namespace=k8s.io", "images", "import", "-"])
        done = subprocess.run(command, stdin=content, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{node.name}: {archive} cannot be imported: {done.stderr.strip()}")


def join(number: int) -> None:
    node = machine(number)
    policies.start(node)
    load(number, [IMAGES / "pause.tar", IMAGES / "base.tar"])
    node.start(
        "kubelet",
        [
            f"--config={write_kubelet_config(node, number)}",
            f"--hostname-override={node.name}",
            f"--kubeconfig={inside(PKI / f'{node.name}.kubeconfig')}",
            f"--node-ip={node_address(number)}",
        ],
    )
    node.start("kube-proxy", [f"--config={write_proxy_config(node, node.name)}"])


def wait_until_ready(number: int) -> None:
    node = machine(number)
    wait_until(
        f"{node.name} is Ready",
        lambda: node.name in api.ready_nodes(),
        lambda: all(node.runs(component) for component in COMPONENTS),
        node.log("kubelet"),
    )
    policies.wait_until_enforced(node)


def write_network_config(node: Machine, number: int) -> None:
    # `ptp` gives each pod a link of its own to its node: every packet of a pod is routed, so service
    # addresses are translated both ways, which a bridge within the node would need a sysctl for.
    ranges = [[{"subnet": node_pods(number)}]]
    plugins = [
        {"type": "ptp", "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    folder = node.folder / "cni"
    folder.mkdir(exist_ok=True)
    config = {"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}
    (folder / "pods.conflist").write_text(json.dumps(config, indent=2))


def write_containerd_config(node: Machine) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    lines = [
        "version = 2",
        f"[{cri}]",
        f'sandbox_image = "{PAUSE_IMAGE}"',
        # Lowering a process's OOM score takes CAP_SYS_RESOURCE, which root may lack.
        "restrict_oom_score_adj = true",
        f"[{cri}.cni]",
        f'bin_dir = "{CNI_PLUGINS}"',
        f'conf_dir = "{inside(node.folder / "cni")}"',
        f"[{cri}.containerd.runtimes.runc]",
        'runtime_type = "io.containerd.runc.v2"',
    ]
    if (BIN / RUNSC_SHIM).exists():
        lines += [
            f"[{cri}.containerd.runtimes.runsc]",
            'runtime_type = "io.containerd.runsc.v1"',
            f"[{cri}.containerd.runtimes.runsc.options]",
            'TypeUrl = "io.containerd.runsc.v1.options"',
            f'ConfigPath = "{write_runsc_config(node)}"',
        ]
    file = node.folder / "containerd.toml"
    file.write_text("\n".join(lines) + "\n")
    return inside(file)


def write_runsc_config(node: Machine) -> str:
    """The settings of gVisor's shim. `systrap` needs no virtualisation, which machines for tests lack."""
    lines = ["[runsc_config]", 'platform = "systrap"']
    file = node.folder / "runsc.toml"
    file.write_text("\n".join(lines) + "\n")
    return inside(file)


def write_kubelet_config(node: Machine, number: int) -> str:
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": inside(PKI / "ca.crt")}},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/pilotlight/{node.name}",
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        # The disk is shared with whatever else the host does; its state is not the cluster's.
        "evictionHard": {
            "imagefs.available": "1%",
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "failCgroupV1": False,
        "failSwapOn": False,
        # A loaded image has no registry to come back from.
        "imageGCHighThresholdPercent": 100,
        # Four renewals fit into the grace period after which a node counts as lost.
        "nodeLeaseDurationSeconds": 16,
        "oomScoreAdj": 0,
        "resolvConf": "",
        "tlsCertFile": inside(PKI / f"{node.name}.crt"),
        "tlsPrivateKeyFile": inside(PKI / f"{node.name}.key"),
        # Its default is made below /usr, which is the host's.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }
    return write_config(node, "kubelet.json", config)


def write_proxy_config(of: Machine, node: str) -> str:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": inside(PKI / "kube-proxy.kubeconfig")},
        "clusterCIDR": POD_RANGE,
        # Table sizes and timeouts are the whole kernel's.
        "conntrack": {
            "maxPerCore": 0,
            "tcpCloseWaitTimeout": "0s",
            "tcpEstablishedTimeout": "0s",
        },
        "detectLocalMode": "ClusterCIDR",
        "hostnameOverride": node,
        "iptables": {"minSyncPeriod": "200ms"},
        "mode": "iptables",
        "oomScoreAdj": 0,
    }
    return write_config(of, "kube-proxy.json", config)


def write_config(of: Machine, name: str, content: dict) -> str:
    file = of.folder / name
    file.write_text(json.dumps(content, indent=2) + "\n")
    return inside(file)
