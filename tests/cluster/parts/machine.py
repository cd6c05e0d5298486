"""A machine: mount, network, process, IPC and UTS namespaces, held by one process (boot.sh).

When that process is killed the kernel ends all others in the machine and takes its mounts, links
and packet filter rules along. This is also what losing a machine looks like to the rest.
"""

import contextlib
import os
import subprocess
from pathlib import Path

from . import cgroup
from .layout import BIN, HOME, LOGS, RUN, SOURCE, inside
from .progress import Failed, wait_until

ALL_NAMESPACES = ("mount", "uts", "ipc", "net", "pid")
INIT = "init"
# The program that the first process of a machine becomes.
HOLDER = "pause"
# Not the caller's environment, since a proxy in it would get the cluster's own traffic. containerd looks for the shims
# of its runtimes on the path.
ENVIRONMENT = {
    "PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{inside(BIN)}",
    "HOME": "/root",
}


class Machine:
    def __init__(self, name: str):
        self.name = name
        self.folder = RUN / name
        self.var = self.folder / "var"

    def boot(self) -> None:
        cgroup.make_machine(self.name)
        for folder in ("lib", "log", "tmp", "cache"):
            (self.var / folder).mkdir(parents=True, exist_ok=True)
        if not (self.var / "run").is_symlink():
            (self.var / "run").symlink_to("/run")
        namespaces = [f"--{kind}" for kind in ALL_NAMESPACES]
        script = [
            str(SOURCE / "parts" / "boot.sh"),
            self.name,
            str(self.var.relative_to(HOME)),
            f"bin/{HOLDER}",
        ]
        init = self.spawn(INIT, ["unshare", *namespaces, "--fork", "--kill-child", "--", "sh", *script])
        # The script becomes the holder as its last step. A file that the script leaves before that step would
        # let a caller look for a holder that is not there yet.
        wait_until(f"{self.name}: boot", self.is_held, lambda: init.poll() is None, self.log(INIT))

    def spawn(self, component: str, command: list[str], **options) -> subprocess.Popen:
        """Starts a process that outlives this one, in the component's group, writing to its log."""
        group = cgroup.make_component(self.name, component)
        LOGS.mkdir(parents=True, exist_ok=True)
        with self.log(component).open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=HOME,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Before the program starts, so that not even its first child escapes the group.
                preexec_fn=lambda: (group / "cgroup.procs").write_text("0"),
                **options,
            )

    def start(self, component: str, arguments: list[str], program: str | None = None) -> None:
        command = [program or inside(BIN / component), *arguments]
        self.spawn(component, self.entering(command))

    def stop(self, component: str) -> None:
        cgroup.kill(cgroup.tracking() / self.name / component)

    def kill(self) -> None:
        self.stop(INIT)
        cgroup.clear(self.name)

    def runs(self, component: str) -> bool:
        return bool(cgroup.processes(cgroup.tracking() / self.name / component))

    def is_held(self) -> bool:
        return self.holder() is not None

    def init_pid(self) -> int:
        if pid := self.holder():
            return pid
        raise Failed(f"{self.name} is not running", self.log(INIT))

    def holder(self) -> int | None:
        """The process that holds the machine's namespaces, once the machine is made."""
        for pid in cgroup.processes(cgroup.tracking() / self.name / INIT):
            # A process may end between the list and the question.
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == HOLDER:
                    return pid
        return None

    def entering(self, command: list[str], namespaces: tuple[str, ...] = ALL_NAMESPACES) -> list[str]:
        flags = [f"--{kind}" for kind in namespaces]
        return ["nsenter", "--target", str(self.init_pid()), *flags, "--", *command]

    def run(
        self, command: list[str], namespaces: tuple[str, ...] = ALL_NAMESPACES, **options
    ) -> subprocess.CompletedProcess:
        done = subprocess.run(
            self.entering(command, namespaces), env=ENVIRONMENT, capture_output=True, text=True, **options
        )
        if done.returncode != 0:
            raise Failed(f"{self.name}: {' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def succeeds(self, command: list[str]) -> bool:
        return subprocess.run(self.entering(command), env=ENVIRONMENT, capture_output=True).returncode == 0

    def log(self, component: str) -> Path:
        return LOGS / f"{self.name}.{component}.log"


def require_root() -> None:
    if os.geteuid() != 0:
        raise Failed("namespaces and control groups need root: run this as root, or install Docker and kind")
