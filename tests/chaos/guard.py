"""Ends a run at its first own error. Every wait of the harness goes through this module.

An error of the harness (a fault's code, a client or the journal that ended, a thread that died) makes the
records worthless, while a broken rule is a finding. The exit code of `run.py` distinguishes the two.
"""

import threading
import time
from pathlib import Path

from tests.harness.patience import PATIENCE

INTERVAL = 0.1  # seconds between two checks of a condition and of the processes


class HarnessError(Exception):
    """The run itself failed, so its records say nothing about Pilotlight."""


class Guard:
    """Watches the processes that a run depends on, and keeps the first error. Threads share it."""

    def __init__(self):
        self._processes, self._turn, self._failed = {}, threading.Lock(), threading.Event()
        self.error: str | None = None

    def depend_on(self, name, process, errors: Path):
        """From now on the end of the process is an error. `errors` is the file with its standard error."""
        with self._turn:
            self._processes[name] = (process, errors)

    def let_go(self):
        """Stops watching the processes, so that they may end."""
        with self._turn:
            self._processes.clear()

    def fail(self, sentence):
        """Ends every wait. Only the first sentence is kept, because later errors follow from it."""
        with self._turn:
            self.error = self.error or sentence
        self._failed.set()

    def check(self):
        with self._turn:
            ended = [(name, *one) for name, one in self._processes.items() if one[0].poll() is not None]
        for name, process, errors in ended:
            self.fail(f"{name} ended with {process.returncode}: {last_line(errors)}")
        if self.error:
            raise HarnessError(self.error)

    def sleep(self, seconds):
        self._wait(lambda: False, seconds)

    def comes_true(self, condition, seconds):
        """Whether the condition becomes true within `seconds`."""
        return self._wait(condition, seconds)

    def until(self, condition, what):
        """Returns the condition's first true value."""
        if value := self._wait(condition, PATIENCE):
            return value
        raise HarnessError(f"not within {PATIENCE} s: {what() if callable(what) else what}")

    def _wait(self, condition, seconds):
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            if value := condition():
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                return value
            self._failed.wait(min(left, INTERVAL))


def last_line(file: Path):
    lines = file.read_text(errors="replace").split("\n") if file.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def reason(error: BaseException):
    """One line that says why a run ended early."""
    if isinstance(error, KeyboardInterrupt):
        return "the run was interrupted"
    text = " ".join(str(error).split())
    return text if isinstance(error, HarnessError) else f"{type(error).__name__}: {text}"
