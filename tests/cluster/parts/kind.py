"""The same cluster made by kind, on machines with a Docker engine. It has a control plane node, which runs no
pods, and N workers: worker N is the local cluster's node N.
"""

import json
import os
import subprocess
from pathlib import Path

from . import build
from .layout import HOME, IMAGES
from .progress import PATIENCE, Failed, stage

NAME = "pilotlight"
CONTROL_NODE = f"{NAME}-control-plane"
KUBECONFIG = HOME / "kind.kubeconfig"
CLIENT_KUBECONFIG = HOME / "kind.client.kubeconfig"
MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
PARKED = "/etc/kubernetes/kube-apiserver.yaml"
GRACE_PATCH = """kind: ClusterConfiguration
controllerManager:
  extraArgs:
    node-monitor-grace-period: 16s
"""


def available() -> bool:
    try:
        questions = (["kind", "version"], ["docker", "info"])
        return all(subprocess.run(question, capture_output=True).returncode == 0 for question in questions)
    except OSError:
        return False


def up(nodes: int) -> None:
    if NAME not in output("kind", "get", "clusters").split():
        workers = [{"role": "worker"} for _ in range(nodes)]
        config = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [{"role": "control-plane"}, *workers],
            "kubeadmConfigPatches": [GRACE_PATCH],
        }
        HOME.mkdir(parents=True, exist_ok=True)
        file = HOME / "kind.json"
        file.write_text(json.dumps(config))
        with stage("kind create cluster"):
            run(
                "kind",
                "create",
                "cluster",
                "--name",
                NAME,
                "--config",
                str(file),
                "--wait",
                "180s",
                "--kubeconfig",
                str(KUBECONFIG),
            )
    KUBECONFIG.write_text(output("kind", "get", "kubeconfig", "--name", NAME))
    build.build_base_image()
    load([IMAGES / "base.tar"])


def down() -> None:
    run("kind", "delete", "cluster", "--name", NAME, "--kubeconfig", str(KUBECONFIG))
    for file in (KUBECONFIG, CLIENT_KUBECONFIG):
        file.unlink(missing_ok=True)


def load(archives: list[Path]) -> None:
    for archive in archives:
        run("kind", "load", "image-archive", str(archive), "--name", NAME)


def execute(command: list[str]) -> None:
    # In the control plane node's network, where the API server is on the loopback.
    pid = output("docker", "inspect", "--format", "{{.State.Pid}}", CONTROL_NODE).strip()
    content = output("kind", "get", "kubeconfig", "--name", NAME, "--internal")
    CLIENT_KUBECONFIG.write_text(content.replace(f"https://{CONTROL_NODE}:", "https://127.0.0.1:"))
    environment = {**os.environ, "KUBECONFIG": str(CLIENT_KUBECONFIG)}
    os.execvpe("nsenter", ["nsenter", "--target", pid, "--net", "--", *command], environment)


def node_stop(number: int) -> None:
    run("docker", "kill", worker(number))


def node_start(number: int) -> None:
    run("docker", "start", worker(number))
    run(
        "kubectl",
        "--kubeconfig",
        str(KUBECONFIG),
        "wait",
        "--for=condition=Ready",
        f"--timeout={PATIENCE}s",
        f"node/{worker(number)}",
    )


def apiserver_stop() -> None:
    # The kubelet ends a static pod whose manifest is gone, and starts it once it is back.
    stop = "crictl ps --quiet --name kube-apiserver | xargs --no-run-if-empty crictl stop --timeout 0"
    in_control_node(f"[ ! -e {MANIFEST} ] || mv {MANIFEST} {PARKED}; {stop}")


def apiserver_start() -> None:
    ready = "kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /readyz"
    in_control_node(
        f"[ ! -e {PARKED} ] || mv {PARKED} {MANIFEST}; timeout {PATIENCE} sh -c 'until {ready}; do sleep 1; done'"
    )


def logs(component: str | None) -> None:
    folder = HOME / "kind-logs"
    run("kind", "export", "logs", str(folder), "--name", NAME)
    print(folder)


def kubeconfig() -> Path:
    return KUBECONFIG


def worker(number: int) -> str:
    return f"{NAME}-worker{number if number > 1 else ''}"


def in_control_node(script: str) -> None:
    run("docker", "exec", CONTROL_NODE, "sh", "-c", script)


def run(*command: str) -> None:
    if subprocess.run(command).returncode != 0:
        raise Failed(f"{' '.join(command)} failed")


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
