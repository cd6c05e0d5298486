"""A `pilotlight local` of the tests: started, watched through its output, stopped.

Owns the process and every line it printed; conftest.py holds the one of the
session, and tests that change manifests start their own. It never reaches into
the server: what tests learn, they learn through HTTP, output and exit code.
"""

import ctypes
import os
import re
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

from tests.harness.metrics import read_metrics, sum_of_samples
from tests.harness.paths import PILOTLIGHT
from tests.harness.patience import PATIENCE, until

STATUS = re.compile(r"probes and metrics: (http://\S+)")
READY = re.compile(r"ready: (http://\S+) \((\d+) functions?\)")
# In seconds. The first start on a machine downloads, installs and compiles the clients of the runtimes.
READY_WITHIN = 4 * PATIENCE

PR_SET_CHILD_SUBREAPER = 36


def pilotlight(*arguments):
    """Runs one command to its end."""
    return subprocess.run(
        [PILOTLIGHT, *arguments], capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE
    )


class LocalServer:
    """One `pilotlight local`, ready to serve once constructed."""

    host = "127.0.0.1"  # where its functions reach the tests

    def __init__(
        self, *paths, environment=None, program=PILOTLIGHT, has_status=True, arguments=(), variables=None
    ):
        """`environment`: all variables, instead of those of this process; `variables`: some more."""
        assert program.is_file(), f"{program} is missing: build it, or name it in PILOTLIGHT_BIN"
        # Whatever the server loses becomes a child of this process, where stop() finds it.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.lines = []
        self._grown = threading.Condition()
        self._before = children_of(os.getpid())
        # Servers of other suites keep their logs and events apart.
        self._state = tempfile.TemporaryDirectory(prefix="pilotlight-state-")
        environment = {
            "PILOTLIGHT_LOGS": f"{self._state.name}/logs",
            "PILOTLIGHT_EVENTS": f"{self._state.name}/events",
            **(environment or os.environ),
            **(variables or {}),
        }
        self.process = subprocess.Popen(
            [
                program,
                "local",
                "--listen=127.0.0.1:0",
                *["--status=127.0.0.1:0"] * has_status,
                *arguments,
                *paths,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            ready = self.wait_for_line(READY, READY_WITHIN)
        except BaseException:
            self.process.kill()
            raise
        self.endpoint, self.functions = ready[1], int(ready[2])
        # Programs of an earlier version, beside which benchmarks measure, have no such listener.
        self.status = self.wait_for_line(STATUS)[1] if has_status else None

    def _read(self):
        for line in self.process.stdout:
            with self._grown:
                self.lines.append(line.rstrip("\n"))
                self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()

    def wait_for_line(self, pattern, seconds=PATIENCE):
        """The match of the first line, past or future, in which `pattern` is found."""

        def found():
            return next((m for line in self.lines if (m := re.search(pattern, line))), None)

        with self._grown:
            self._grown.wait_for(lambda: found() or not self._reader.is_alive(), seconds)
            match = found()
        limit = f"within {seconds} s" if self._reader.is_alive() else "before the server ended"
        assert match, f"no line with {pattern!r} {limit}:\n{self.tail()}"
        return match

    def tail(self):
        return "\n".join(self.lines[-60:])

    def metric(self, name, function):
        """The sum of the samples of `name` that carry this function, None without a sample."""
        return sum_of_samples(read_metrics(self.status), name, function)

    def stop(self):
        """Interrupts the server as a person would; it ends well and leaves no process behind."""
        self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired as late:
            self.process.kill()
            raise AssertionError(f"still running {PATIENCE} s after SIGINT:\n{self.tail()}") from late
        assert status == 0, f"exit code {status} after SIGINT:\n{self.tail()}"
        # A killed process needs a moment to vanish.
        until(lambda: not self.left_behind(), lambda: f"gone: {self.left_behind()}")

    def left_behind(self):
        return sorted(children_of(os.getpid()) - self._before - {self.process.pid})


def children_of(parent):
    """The living processes whose parent is `parent`; zombies are dead."""
    children = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # pid (command) state ppid …; the command may hold spaces and parentheses
            state, ppid = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # ended while the directory was read
        if int(ppid) == parent and state != "Z":
            children.add(int(stat.parent.name))
    return children
