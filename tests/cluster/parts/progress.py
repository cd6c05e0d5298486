"""Changes of the cluster: one at a time, in stages with their times, and why a stage failed.

Waiting is always for a condition, always bounded, and ends early once the process that should
fulfil the condition is gone.
"""

import contextlib
import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .layout import HOME

TAIL_LINES = 25
# In seconds: a bound that only a broken cluster reaches, however busy the machine is.
PATIENCE = 300


class Failed(Exception):
    """Something did not come about; `logs` are the files that may say why."""

    def __init__(self, message: str, *logs: Path):
        super().__init__(message)
        self.logs = logs


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:7.1f} s  {name}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def exclusive(what: str) -> Iterator[None]:
    """One process at a time; the lock goes with its process, however that ends."""
    locks = HOME / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / what).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_until(
    what: str,
    condition: Callable[[], bool],
    alive: Callable[[], bool] = lambda: True,
    log: Path | None = None,
) -> None:
    logs = (log,) if log else ()
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if not alive():
            raise Failed(f"{what}: the process ended", *logs)
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {PATIENCE} s", *logs)
        time.sleep(0.05)


def explain(failure: Failed) -> None:
    print(f"cluster: {failure}", file=sys.stderr)
    for log in failure.logs:
        if log.exists():
            lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            print(f"--- the end of {log}", *lines, sep="\n", file=sys.stderr)
