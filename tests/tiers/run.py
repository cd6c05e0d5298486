"""Runs the stages of a tier as `stage` decides, and prints the time of each and the slowest tests.

A stage is a process group of its own. Its output goes to a file of target/tiers and is shown when it
ends, so that lines of two stages never mix. At the end, or when a person interrupts, nothing runs on.
"""

import contextlib
import fcntl
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.tiers import slowest
from tests.tiers.stage import Stage, State, check, skipped, startable

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = REPOSITORY / "target/tiers"
# How many lines are shown of a stage that passed and is no test.
TAIL = 3
# How long, in seconds, an interrupted stage may clean up before it is killed.
GRACE = 60
# Runs its arguments at the lowest priority. Where the kernel groups processes by session, the niceness of a
# process counts within its session alone, and the session has one of its own.
LOW = '(echo 19 >/proc/self/autogroup) 2>/dev/null || :; exec nice -n 19 "$@"'


@dataclass
class Process:
    stage: Stage
    process: subprocess.Popen
    log: Path
    began: float


class Run:
    """One run of a tier; `states` is what `stage` decides on."""

    def __init__(self, tier: str, stages: Sequence[Stage], slots: float):
        check(stages)
        self.stages, self.slots = stages, slots
        self.records = RECORDS / tier
        self.states = {stage.name: State.WAITING for stage in stages}
        self.times: dict[str, tuple[float, float]] = {}
        self.running: dict[str, Process] = {}
        # Names of stages that ended; None is a signal to end the run. Its `put` may run in a signal handler.
        self.ended: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.begin = time.monotonic()

    def all(self) -> bool:
        """Runs every stage that can run; says whether all passed."""
        self.records.mkdir(parents=True, exist_ok=True)
        # The lock goes with this process. Two runs would remove each other's logs.
        lock = self.records.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(
                f"{self.records.name}: another run of this tier is under way in this checkout; wait for its end"
            )
            return False
        for old in self.records.iterdir():
            old.unlink()
        # An exception out of a handler could come between the start of a process and the note of it.
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, lambda *_: self.ended.put(None)) for number in numbers}
        try:
            while self.advance() and (name := self.ended.get()):
                self.finish(name)
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        self.report()
        return all(state is State.PASSED for state in self.states.values())

    def advance(self) -> bool:
        """Starts what may start; says whether anything runs."""
        while lost := skipped(self.stages, self.states):
            for stage in lost:
                self.states[stage.name] = State.SKIPPED
                say(f"--- {stage.name}: not run, as a stage that it needs has not passed")
        for stage in startable(self.stages, self.states, self.slots):
            self.start(stage)
        return bool(self.running)

    def start(self, stage: Stage) -> None:
        log = self.records / f"{stage.name.replace(' ', '-')}.log"
        report = log.with_suffix(".xml")
        command = ["sh", "-ec", stage.command]
        if stage.background:
            command = ["sh", "-c", LOW, "sh", *command]
        # pytest writes its report without being asked in the command.
        environment = {
            **os.environ,
            "PILOTLIGHT_REPORT": str(report),
            "PYTEST_ADDOPTS": f"--junitxml={report}",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.states[stage.name] = State.RUNNING
        self.running[stage.name] = Process(stage, process, log, time.monotonic())
        say(f"--- {stage.name}: started at {self.elapsed():.0f} s, log {log.relative_to(REPOSITORY)}")
        threading.Thread(target=self.watch, args=(stage, process), daemon=True).start()

    def watch(self, stage: Stage, process: subprocess.Popen) -> None:
        try:
            process.wait(stage.limit * 60)
        except subprocess.TimeoutExpired:
            say(f"--- {stage.name}: has not ended within its limit of {stage.limit} minutes and is stopped")
            end(process)
        self.ended.put(stage.name)

    def finish(self, name: str) -> None:
        run = self.running.pop(name)
        now = time.monotonic()
        passed = run.process.returncode == 0
        self.states[name] = State.PASSED if passed else State.FAILED
        self.times[name] = (run.began - self.begin, now - run.began)
        word = "passed" if passed else f"FAILED with exit status {run.process.returncode}"
        lines = run.log.read_text(errors="replace").splitlines()
        shown = lines if run.stage.tests or not passed else lines[-TAIL:]
        say("\n".join([f"=== {name}: {word} after {now - run.began:.1f} s", *shown]))

    def stop(self) -> None:
        """Ends what still runs, which is something only after a signal or a fault of this program."""
        for name, run in self.running.items():
            say(f"--- {name}: is ended with the run")
            end(run.process)
            self.states[name] = State.SKIPPED

    def elapsed(self) -> float:
        return time.monotonic() - self.begin

    def report(self) -> None:
        lines = ["", "The ten slowest tests:", *slowest.lines(self.records, 10)]
        lines += ["", "The stages (start, time):"]
        for stage in self.stages:
            state = self.states[stage.name]
            began, took = self.times.get(stage.name, (0.0, 0.0))
            word = "" if state is State.PASSED else f"  {state.value.upper()}"
            lines.append(f"{began:7.1f} s {took:7.1f} s  {stage.name}{word}")
        lines.append(f"{self.elapsed():17.1f} s  together")
        text = "\n".join(lines)
        (self.records / "times.txt").write_text(text + "\n")
        say(text)
        failed = [name for name, state in self.states.items() if state is not State.PASSED]
        if failed:
            say(f"failed or not run: {', '.join(failed)}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def end(process: subprocess.Popen) -> None:
    """Interrupts a stage, so that it can clean up, and kills what of its process group is left then."""
    for how, patience in ((signal.SIGINT, GRACE), (signal.SIGTERM, GRACE)):
        if process.poll() is None:
            send(process, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
    # Processes in the background of a shell ignore an interrupt.
    send(process, signal.SIGKILL)
    process.wait()


def send(process: subprocess.Popen, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)
