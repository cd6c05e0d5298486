"""NetworkPolicies are enforced on each node: rules hand the first packet of each connection to a queue of the
kernel, and the program `network-policies` (../policies) says which packets go on.

The rules are there before the first pod. A queue that nobody reads drops its packets, so no pod is ever without
the policies.
"""

from .api import reader
from .layout import PKI, inside
from .machine import Machine
from .progress import wait_until

COMPONENT = "network-policies"
QUEUE = 100
QUEUES = "/proc/net/netfilter/nfnetlink_queue"

# Addresses of Services are translated by then, and the sender's is not hidden yet. Packets of the node's own
# processes, such as the kubelet's probes, pass.
RULES = f"""*mangle
--append POSTROUTING -m conntrack --ctstate NEW -m owner ! --uid-owner 0 -j NFQUEUE --queue-num {QUEUE}
--append INPUT ! --in-interface lo -m conntrack --ctstate NEW -j NFQUEUE --queue-num {QUEUE}
COMMIT
"""


def lay_rules(node: Machine) -> None:
    node.run(["iptables-restore", "--wait", "--noflush"], input=RULES)


def start(node: Machine) -> None:
    kubeconfig = inside(PKI / f"{COMPONENT}.kubeconfig")
    node.start(COMPONENT, [f"--kubeconfig={kubeconfig}", f"--node={node.name}", f"--queue={QUEUE}"])


def wait_until_enforced(node: Machine) -> None:
    """The program reads its queue once it knows all pods and policies."""
    wait_until(
        f"{node.name}: NetworkPolicies are enforced",
        lambda: is_read(node.run(["cat", QUEUES]).stdout),
        lambda: node.runs(COMPONENT),
        node.log(COMPONENT),
    )


def is_read(queues: str) -> bool:
    return any(line.split()[0] == str(QUEUE) for line in queues.splitlines())


def rights() -> list[dict]:
    return reader(
        f"system:{COMPONENT}", {"": ["pods", "namespaces"], "networking.k8s.io": ["networkpolicies"]}
    )
