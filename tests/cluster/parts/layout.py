"""The paths and addresses of everything. They are decided here once; nothing is negotiated.

All addresses are from 198.18.0.0/15, which is set aside for tests within one's own networks. Every
machine knows the routes to all the nodes there can be, so that adding one changes no other.
"""

from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
HOME = SOURCE.parents[1] / "target" / "cluster"
BIN = HOME / "bin"
IMAGES = HOME / "images"
RUN = HOME / "run"
PKI = RUN / "pki"
LOGS = RUN / "logs"
KUBECONFIG = RUN / "kubeconfig"
CLIENT_KUBECONFIG = RUN / "client.kubeconfig"

# HOME within a machine, wherever the checkout is.
INSIDE = Path("/run/pilotlight")

CONTROL = "control"
CONTROL_ADDRESS = "198.18.0.1"
# Its own, as in a managed cluster, so that a policy may name it and nothing else.
API_ADDRESS = "198.18.0.2"
API_SERVER = f"https://{API_ADDRESS}:6443"
# That of a cloud's metadata server: whoever listens there in the control machine is one.
METADATA_ADDRESS = "169.254.169.254"
POD_RANGE = "198.18.128.0/17"
SERVICE_RANGE = "198.19.0.0/16"
API_SERVICE_ADDRESS = "198.19.0.1"
DNS_SERVICE_ADDRESS = "198.19.0.10"
DOMAIN = "cluster.local"
MAX_NODES = 9

RUNSC_SHIM = "containerd-shim-runsc-v1"
PAUSE_IMAGE = "pilotlight.test/pause:1"
BASE_IMAGE = "pilotlight.test/base:1"
# Beside Pilotlight's own, so that `cluster load target/images/*.tar` brings it to the nodes.
VICTORIA_LOGS_IMAGE = HOME.parent / "images/victoria-logs.tar"
NATS_IMAGE = HOME.parent / "images/nats.tar"


def node_name(number: int) -> str:
    return f"node-{number}"


def node_address(number: int) -> str:
    return f"198.18.0.{10 + number}"


def node_pods(number: int) -> str:
    return f"198.18.{128 + number}.0/24"


def inside(path: Path) -> str:
    return str(INSIDE / path.relative_to(HOME))
