"""The wires between the machines. The control machine has the bridge that joins them all.

    control: fabric (bridge) 198.18.0.1 ── veth ── node-1: eth0 198.18.0.11, pods 198.18.129.0/24
                                        └─ veth ── node-2: eth0 198.18.0.12, pods 198.18.130.0/24

There is no uplink: no machine has a default route, and nothing here touches the host's network.
"""

from .layout import (
    API_ADDRESS,
    CONTROL_ADDRESS,
    MAX_NODES,
    METADATA_ADDRESS,
    SERVICE_RANGE,
    node_address,
    node_name,
    node_pods,
)
from .machine import Machine

FABRIC = "fabric"


def lay_fabric(control: Machine) -> None:
    batch(
        control,
        f"link add {FABRIC} address {hardware_address(0)} type bridge",
        f"address add {CONTROL_ADDRESS}/24 dev {FABRIC}",
        f"address add {API_ADDRESS}/24 dev {FABRIC}",
        f"address add {METADATA_ADDRESS}/32 dev {FABRIC}",
        f"link set {FABRIC} up",
        *routes(FABRIC, CONTROL_ADDRESS),
    )
    # What only crosses the bridge is the nodes' business: it must not meet this machine's rules.
    unfilter = "f=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $f ] || echo 0 >$f"
    control.run(["sh", "-c", unfilter], ("net",))


def connect(control: Machine, node: Machine, number: int) -> None:
    # A node that died a moment ago may have left its end for the kernel to collect.
    port = node_name(number)
    control.run(["sh", "-c", f"ip link del {port} 2>/dev/null || true"], ("net",))
    batch(
        control,
        f"link add {port} type veth peer name eth0 address {hardware_address(number)} netns {node.init_pid()}",
        f"link set {port} master {FABRIC} up",
    )
    batch(
        node,
        f"address add {node_address(number)}/24 dev eth0",
        "link set eth0 up",
        f"route add {METADATA_ADDRESS}/32 via {CONTROL_ADDRESS} dev eth0",
        *routes("eth0", node_address(number)),
    )


def cut(control: Machine, number: int) -> None:
    control.run(["sh", "-c", f"ip link set {node_name(number)} down 2>/dev/null || true"], ("net",))


def hardware_address(number: int) -> str:
    # Fixed. A bridge without one of its own takes a port's, and another when that port goes: losing
    # a node would then cut off the others for as long as they remember the old one.
    return f"02:00:c6:12:00:{number:02x}"


def routes(device: str, own_address: str) -> list[str]:
    # Service addresses are rewritten on the way out, which comes after the search for a route.
    lines = [f"route add {SERVICE_RANGE} dev {device}"]
    for number in range(1, MAX_NODES + 1):
        if node_address(number) != own_address:
            lines.append(f"route add {node_pods(number)} via {node_address(number)} dev {device}")
    return lines


def batch(machine: Machine, *lines: str) -> None:
    # Its network, but the host's process numbers: `netns PID` names another machine's.
    machine.run(["ip", "-batch", "-"], ("net",), input="\n".join(lines) + "\n")
