"""The few requests to the API server while a cluster comes up, through the loopback interface."""

import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request

from .certificates import CA_CERTIFICATE
from .layout import BIN, CLIENT_KUBECONFIG, KUBECONFIG, PKI, RUN
from .progress import PATIENCE, Failed

# How an API server that is down, starting or ending looks from here.
NO_ANSWER = (OSError, urllib.error.URLError, ValueError)


def get(path: str) -> bytes:
    # Under `exec` the loopback is another one, and the API server is near.
    is_inside = os.environ.get("KUBECONFIG") == str(CLIENT_KUBECONFIG)
    config = CLIENT_KUBECONFIG if is_inside else KUBECONFIG
    server = json.loads(config.read_text())["clusters"][0]["cluster"]["server"]
    trust = ssl.create_default_context(cafile=str(CA_CERTIFICATE))
    trust.load_cert_chain(str(PKI / "admin.crt"), str(PKI / "admin.key"))
    # No proxy of the environment: the cluster is on this machine.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    with opener.open(server + path, timeout=PATIENCE) as response:
        return response.read()


def answers(path: str) -> bool:
    try:
        get(path)
        return True
    except NO_ANSWER:
        return False


def ready_nodes() -> set[str]:
    try:
        nodes = json.loads(get("/api/v1/nodes"))["items"]
    except NO_ANSWER:
        return set()
    return {
        node["metadata"]["name"]
        for node in nodes
        for condition in node["status"].get("conditions", [])
        if condition["type"] == "Ready" and condition["status"] == "True"
    }


def apply(objects: list[dict]) -> None:
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    flags = ["--kubeconfig", str(KUBECONFIG), "--cache-dir", str(RUN / "kubectl-cache")]
    command = [str(BIN / "kubectl"), *flags, "apply", "--filename", "-"]
    done = subprocess.run(command, input=manifest, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"kubectl apply: {done.stderr.strip()}")


def reader(user: str, resources: dict[str, list[str]]) -> list[dict]:
    """The objects that let a user of this name list and watch resources, {API GROUP: [RESOURCE]}."""
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": user}}
    rules = [
        {"apiGroups": [one], "resources": what, "verbs": ["list", "watch"]} for one, what in resources.items()
    ]
    binding = {
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
    }
    return [{**role, "rules": rules}, {**role, "kind": "ClusterRoleBinding", **binding}]
