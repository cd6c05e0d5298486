"""The test cluster itself: parts of it are stopped and started again, and whether it accepts pods."""

import uuid
from contextlib import contextmanager

from tests.harness.commands import run
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.paths import CLUSTER
from tests.harness.patience import until
from tests.harness.release import IMAGES, VERSION
from tests.harness.state import is_ready


def cluster(*words):
    """Has the cluster lose a part, and get it back."""
    # The program bounds its own waiting; a first `up` builds Kubernetes.
    run(CLUSTER, *words, timeout=None)


def kubernetes():
    """Its version, as a node says."""
    return get("nodes")["items"][0]["status"]["nodeInfo"]["kubeletVersion"]


@contextmanager
def without_api_server():
    """The API server is away inside `with`; all nodes take pods again when it is left."""
    cluster("apiserver-stop")
    try:
        yield
    finally:
        cluster("apiserver-start")
        await_kubelets()


@contextmanager
def without_node(number):
    """A node has lost its power inside `with`; all nodes take pods again when it is left."""
    cluster("node-stop", number)
    try:
        yield
    finally:
        cluster("node-start", number)
        await_kubelets()


LOST = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}


def is_taken_for_good(node):
    """Whether the scheduler and the controllers of Kubernetes hold nothing against the node."""
    taints = {taint["key"] for taint in node["spec"].get("taints", [])}
    return is_ready(node) and not taints & LOST


def await_kubelets():
    """Returns once each node takes a new pod.

    A kubelet that lost the API server backs off, and asks it for pods again up to half a minute after
    its return. A node is Ready before that.
    """
    until(
        lambda: all(map(is_taken_for_good, get("nodes")["items"])),
        lambda: kubectl("get", "nodes", "--output=yaml"),
    )
    # Names of their own: several may wait at the same time.
    names = {f"probe-{uuid.uuid4().hex}": node["metadata"]["name"] for node in get("nodes")["items"]}
    apply(*(probe(name, node) for name, node in names.items()), namespace="default")

    def are_taken():
        pods = get("pods", *names, namespace="default")["items"]
        return all("startTime" in pod["status"] for pod in pods)

    try:
        until(are_taken, lambda: kubectl("get", "pods", "--output=wide", namespace="default"))
    finally:
        kubectl("delete", "pods", *names, namespace="default")


def probe(name, node):
    """A pod for one node, past the scheduler, that ends at once."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "true", "image": f"{IMAGES}/custom:{VERSION}", "command": ["true"]}],
        },
    }
