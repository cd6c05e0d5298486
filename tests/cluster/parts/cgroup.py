"""The control groups of the cluster: they bound the pods, and they say which processes are ours.

A process is the cluster's if and only if it is in the group `pilotlight` or below it. That holds
for all descendants, survives a killed `up`, and can never name a stranger as a reused process
number can. Each component has a group of its own, `pilotlight/MACHINE/COMPONENT`; a node's pods are
in `pilotlight/NODE/kubepods`, made by its kubelet.

Only `pilotlight` and `pilotlight/MACHINE` exist in every hierarchy (cgroup v1), as the kubelet
wants of its root; membership is read from one of them.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

from .progress import PATIENCE, Failed

MOUNT = Path("/sys/fs/cgroup")
NAME = "pilotlight"


def is_v2() -> bool:
    return (MOUNT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    if is_v2():
        return [MOUNT]
    return [d for d in sorted(MOUNT.iterdir()) if not d.is_symlink() and (d / "cgroup.procs").exists()]


def tracking() -> Path:
    return (MOUNT if is_v2() else MOUNT / "pids") / NAME


def make_machine(machine: str) -> None:
    for hierarchy in hierarchies():
        for group in (hierarchy / NAME, hierarchy / NAME / machine):
            enable_controllers(group.parent)
            group.mkdir(exist_ok=True)
            inherit_cpuset(group)


def enable_controllers(group: Path) -> None:
    if is_v2():
        names = (group / "cgroup.controllers").read_text().split()
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))


def inherit_cpuset(group: Path) -> None:
    # On v1 a new group has no processor and admits no process.
    if not is_v2() and (group / "cpuset.cpus").exists():
        for file in ("cpuset.cpus", "cpuset.mems"):
            (group / file).write_text((group.parent / file).read_text())


def make_component(machine: str, component: str) -> Path:
    group = tracking() / machine / component
    group.mkdir(exist_ok=True)
    return group


def processes(group: Path) -> list[int]:
    found: list[int] = []
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(OSError):
            found += map(int, (Path(folder) / "cgroup.procs").read_text().split())
    return found


def kill(group: Path) -> None:
    """Kills what is in the group until nothing is: a process may fork while the list is read."""
    deadline = time.monotonic() + PATIENCE
    while pids := processes(group):
        if time.monotonic() > deadline:
            raise Failed(f"processes {pids} of {group} outlive SIGKILL")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def clear(machine: str = "") -> None:
    """Ends a machine's processes, or all, and removes the groups: a group that outlives its pod costs
    the next kubelet three seconds of waiting for a container that is not there."""
    kill(tracking() / machine)
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / NAME / machine, topdown=False):
            remove(Path(folder))


def remove(group: Path) -> None:
    # The kernel needs a moment after the last process before it lets a group go.
    deadline = time.monotonic() + PATIENCE
    while group.exists():
        try:
            group.rmdir()
        except OSError as error:
            if time.monotonic() > deadline:
                raise Failed(f"{group} cannot be removed: {error}") from error
            time.sleep(0.02)


def remains() -> list[Path]:
    return [h / NAME for h in hierarchies() if (h / NAME).exists()]
