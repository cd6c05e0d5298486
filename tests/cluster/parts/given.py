"""A cluster of the user, named by PILOTLIGHT_KUBECONFIG. We change nothing in it."""

import os
import subprocess
from pathlib import Path

from .progress import PATIENCE, Failed

VARIABLE = "PILOTLIGHT_KUBECONFIG"


def named() -> bool:
    return bool(os.environ.get(VARIABLE))


def up(nodes: int) -> None:
    command = [
        "kubectl",
        "--kubeconfig",
        str(kubeconfig()),
        f"--request-timeout={PATIENCE}s",
        "get",
        "--raw",
        "/readyz",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{VARIABLE} names a cluster that does not answer: {done.stderr.strip()}")


def down() -> None:
    pass


def load(archives: list[Path]) -> None:
    refuse("load: push the images to a registry that the cluster pulls from")


def execute(command: list[str]) -> None:
    os.execvpe(command[0], command, {**os.environ, "KUBECONFIG": str(kubeconfig())})


def node_stop(number: int) -> None:
    refuse("node-stop")


def node_start(number: int) -> None:
    refuse("node-start")


def apiserver_stop() -> None:
    refuse("apiserver-stop")


def apiserver_start() -> None:
    refuse("apiserver-start")


def logs(component: str | None) -> None:
    refuse("logs")


def kubeconfig() -> Path:
    return Path(os.environ[VARIABLE])


def refuse(what: str) -> None:
    raise Failed(f"not on a cluster given by {VARIABLE}: {what}")
