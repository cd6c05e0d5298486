"""One run with its account: functions, a journal, clients, faults, and the verdict.

The load, the journal and the checker are `pilotlight-load` (tests/load). All records are in one folder, one line for
each event. A run begins with a clean cluster (`clean.py`) and ends at its first own error (`guard.py`),
after it has stopped everything and undone all faults.
"""

import json
import re
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass

from tests.chaos import plan, queue
from tests.chaos.clean import clean, left, mark
from tests.chaos.guard import Guard, HarnessError, last_line, reason
from tests.chaos.lines import logged
from tests.chaos.world import World
from tests.harness.addresses import own_address
from tests.harness.kubectl import FUNCTIONS, apply, kubectl
from tests.harness.load import Ending, accounted
from tests.harness.load import verdict as checked
from tests.harness.manifests import warm_pool
from tests.harness.paths import LOAD
from tests.harness.patience import PATIENCE
from tests.harness.release import HOST, await_known

POOL = "chaos"
# Calls a second at random moments, or bursts with a pause in seconds; then reserved instances.
LOADS = {
    "chaos-steady": ("{rate}", {"concurrency": {"reserved": 8}}),
    "chaos-bursty": ("4x3", {"concurrency": {"reserved": 10}, "keepAlive": 5}),
    # Calls are some seconds apart and instances do not stay warm, so each call is a cold start from the pool.
    "chaos-pooled": ("0.5", {"concurrency": {"reserved": 4}, "keepAlive": 1}),
    # Needs more memory than the pool's pods have, so it gets its own pods.
    "chaos-large": ("{low}", {"concurrency": {"reserved": 3}, "memory": 256}),
    # Its calls are asynchronous. An attempt that fails is not repeated, so that each execution needs a reason.
    "chaos-events": ("{events}", {"concurrency": {"reserved": 4}, "async": {"retries": 0}}),
}
ASYNCHRONOUS = ("chaos-events",)
STRIKES = "now"  # the last word of the line that a run prints when faults strike
QUEUE = 200  # calls of a function that may wait: cold starts take the processors for some seconds
SLOW = 1  # seconds: a call that takes longer is not back to normal
CALM, CALM_LIMIT = 6, 60  # seconds without a slow or failed call, and the longest wait for them
# How long, in seconds, each function may take to answer once everything is up again: starts are retried every 30 s.
# The account judges a function that does not answer.
ANSWERING_LIMIT = 300
WARM_UP = 25  # the longest wait in seconds, after each function has answered, until no call is slow
LAST_ANSWER = 150  # seconds: a client gives up a call after 90
# How long, in seconds, events may take to end after the last one was sent: an attempt that was refused often waits 5 minutes.
EVENTS_LIMIT = 600
SETTLED = 5  # seconds after a fault is undone in which a failed call may still be due to it


class Trial:
    """One run. The load runs inside the `with` block."""

    def __init__(
        self, folder, seed, rate=100, work=10, clients=2, reads_logs=False, settings=(), event_rate=None
    ):
        self.settings = (*queue.SETTINGS, *settings)
        # Asynchronous calls a second.
        self.event_rate = rate if event_rate is None else event_rate
        # What the logs have at the end, if the run reads them (`lines.py`).
        self.reads_logs, self.logged = reads_logs, None
        self.folder, self.seed, self.rate, self.work, self.clients = folder, seed, rate, work, clients
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.jsonl"), *folder.glob("*.errors")):
            old.unlink()
        (folder / "plan.json").write_text(
            json.dumps({"seed": seed, "rate": rate, "event_rate": self.event_rate})
        )
        self.guard = Guard()
        self.world = World(seed, list(LOADS), self.guard, self.settings)
        self.outcomes = Outcomes(folder)
        # The names of the faults, in one list for each strike.
        self.struck = []
        self._notes, self._turn = (folder / "driver.jsonl").open("a"), threading.Lock()

    def __enter__(self):
        mark()
        for found in clean(self.guard, self.world, (*ASYNCHRONOUS, queue.FILLER), self.settings):
            print(f"cleaned up: {found}", flush=True)
        self._open = ExitStack()
        try:
            self._start()
        except BaseException as error:
            self._give_up(error)
            raise
        return self

    def _start(self):
        functions = [self.function(name, spec) for name, (_, spec) in LOADS.items()]
        apply(warm_pool(POOL, size=2), queue.filler(), *functions)
        await_known([*LOADS, queue.FILLER])
        journal = self._open.enter_context(
            self.run(
                "journal", f"{own_address(HOST)}:0", self.folder / "handlers.jsonl", stdout=subprocess.PIPE
            )
        )
        first = journal.stdout.readline().split()
        if not first:
            raise HarnessError(f"the journal does not listen: {last_line(self.errors('journal'))}")
        self._depend_on("journal", journal)
        self._open.enter_context(Pods(self.note, self.guard))
        self.senders = [
            self._open.enter_context(self.client(number, first[-1])) for number in range(self.clients)
        ]
        for number, sender in enumerate(self.senders):
            self._depend_on(f"client-{number}", sender)
        for name in LOADS:
            self.note("queue", function=name, size=QUEUE)

    def __exit__(self, _kind, error, _trace):
        if error is not None:
            self._give_up(error)
            return
        try:
            self._finish()
        except BaseException as error:
            self._give_up(error)
            raise

    def _finish(self):
        """Waits for the last answers, then removes everything."""
        self.guard.check()
        self.guard.let_go()
        for sender in self.senders:
            sender.stdin.close()
        for number, sender in enumerate(self.senders):
            if sender.wait(LAST_ANSWER) != 0:
                raise HarnessError(f"client-{number} failed: {last_line(self.errors(f'client-{number}'))}")
        for name in ASYNCHRONOUS:
            self.await_events(name)
        # A function's log cannot be read by its name once the function is gone.
        if self.reads_logs:
            self.logged = logged(LOADS)
        # The watch of pods ends only after they are deleted. Pods that are being replaced may exceed a limit for
        # some seconds, and if the records ended then, the limit would seem to stay exceeded.
        self.clear()
        self._open.close()
        self._notes.close()

    def _give_up(self, error):
        """After an error: stops everything, undoes the faults, and marks the records, so the checker refuses them."""
        self.guard.let_go()
        self._open.close()
        self.note("aborted", reason=reason(error))
        self._notes.close()
        guard = Guard()
        try:
            world = World(self.seed, list(LOADS), guard, self.settings)
            clean(guard, world, (*ASYNCHRONOUS, queue.FILLER), self.settings)
        except Exception as error:
            # Only printed, because the caller raises the first error.
            print(f"the cluster could not be cleaned up; the next run tries again: {error}", flush=True)

    def function(self, name, spec):
        concurrency = {**spec["concurrency"], "queue": QUEUE}
        return accounted(name, prints=self.reads_logs, **{**spec, "concurrency": concurrency})

    def client(self, number, address):
        share = {
            "rate": self.rate / self.clients,
            "low": self.rate / self.clients / 10,
            "events": self.event_rate / self.clients,
        }
        loads = [
            f"--{'event' if name in ASYNCHRONOUS else 'function'}={name}={load.format(**share)}"
            for name, (load, _) in LOADS.items()
        ]
        return self.run(
            "load",
            f"{HOST}:80",
            *loads,
            f"--name={number}",
            f"--journal={address}",
            f"--output={self.folder}/client-{number}.jsonl",
            f"--work={self.work}",
            # It ends before that, when its standard input is closed.
            f"--seconds={24 * 3600}",
            f"--seed={self.seed * 1000 + number * 100}",
            stdin=subprocess.PIPE,
            name=f"client-{number}",
        )

    def run(self, word, *words, name=None, **options):
        with self.errors(name or word).open("w") as errors:
            return Ending([LOAD, word, *map(str, words)], text=True, stderr=errors, **options)

    def errors(self, name):
        """The file with the standard error of a process."""
        return self.folder / f"{name}.errors"

    def _depend_on(self, name, process):
        self.guard.depend_on(name, process, self.errors(name))

    def note(self, record, **fields):
        with self._turn:
            self._notes.write(json.dumps({"record": record, "at": now(), **fields}) + "\n")
            self._notes.flush()

    def await_events(self, name):
        """Waits until each event has ended, then has the dead letters run, which faults have made."""
        self._await(lambda: (queue.waiting(name) or (None,))[0] == 0, EVENTS_LIMIT)
        count, dead = self.guard.until(lambda: queue.waiting(name), "the event queue cannot be asked")
        if count:
            self.note("left", what=f"{count} events of {name}")
            return
        # The first one may run before the answer is there.
        begin, replayed = now(), queue.replay(name)
        if replayed is None:
            raise HarnessError(f"the dead letters of {name} cannot be replayed")
        self.note("replayed", at=begin, function=name, count=replayed)
        if replayed != dead:
            self.note("left", what=f"{dead - replayed} dead letters of {name} that were not replayed")
        self._await(lambda: queue.waiting(name) == (0, 0), EVENTS_LIMIT)
        if (last := queue.waiting(name)) != (0, 0):
            self.note("left", what=f"events and dead letters of {name} after the replay: {last}")

    def strike(self, faults, lengths=None):
        """Inflicts faults at the same time. Returns once everything is up again and each function has answered."""
        names = [fault.name for fault in faults]
        if pair := plan.conflict({fault.name: fault.claim for fault in faults}, names):
            raise HarnessError(f"{' and '.join(pair)} exclude each other")
        lengths = lengths or [fault.seconds for fault in faults]
        targets = self.world.aim(faults)
        print(f"{self.sent()} sent; {' and '.join(names)} {STRIKES}", flush=True)
        self.struck.append(names)
        for fault in faults:
            self.note("fault", fault=fault.name, allows=sorted(fault.allows))
        with ThreadPoolExecutor(len(faults)) as striking:
            done = [
                striking.submit(self._inflict, *one) for one in zip(faults, targets, lengths, strict=True)
            ]
            try:
                for one in as_completed(done):
                    one.result()
            except BaseException as error:
                # This ends the other fault's wait. The executor waits until that fault is undone.
                self.guard.fail(reason(error))
                raise
        self.world.rest()
        rested = time.time()
        self._await(lambda: self.outcomes.all_answered(LOADS, rested), ANSWERING_LIMIT)
        self.guard.sleep(SETTLED)
        for name in names:
            self.note("over", fault=name)

    def _inflict(self, fault, target, seconds):
        try:
            with fault.inflict(self.world, target):
                self.guard.sleep(seconds)
        except HarnessError:
            raise
        except Exception as error:
            raise HarnessError(f"the fault {fault.name} failed: {error!r}") from error

    def warm_up(self):
        """Returns once each function has answered and the first instances are up."""
        begin = time.time()
        self._await(lambda: self.outcomes.all_answered(LOADS, begin), ANSWERING_LIMIT)
        self._await(self.outcomes.are_calm, WARM_UP)

    def quiet(self, seconds):
        """Causes no fault for some time, while the clients continue."""
        self.guard.sleep(seconds)

    def calm(self):
        """Waits, for a limited time, until no call has failed or been slow for some seconds."""
        self._await(self.outcomes.are_calm, CALM_LIMIT)

    def _await(self, true, seconds):
        """Waits at most `seconds`. If the condition does not come true, the verdict shows the consequence."""
        self.guard.comes_true(true, seconds)

    def sent(self):
        self.outcomes.catch_up()
        return self.outcomes.sent

    def accepted(self):
        """How many events were accepted."""
        self.outcomes.catch_up()
        return self.outcomes.accepted

    def clear(self):
        """Deletes the objects of the run, and records what remains."""
        # `clean` also deletes pods itself. That would hide pods that Pilotlight has forgotten.
        kubectl("delete", "functions", *LOADS, queue.FILLER)
        kubectl("delete", "warmpool", POOL)
        self._await(lambda: not left(), PATIENCE)
        for what in left():
            self.note("left", what=what)


def now():
    """The time of records, in microseconds."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Verdict:
    """The judgement of the checker on the records of a run."""

    words: str
    sent: int
    broken: int

    @property
    def is_well(self):
        return not self.broken


def verdict(folder):
    is_well, words = checked(folder)
    found = re.fullmatch(r"(\d+) sent,.*\n(\d+) rules broken\n", words, re.DOTALL)
    if not found or is_well != (found[2] == "0"):
        raise HarnessError(f"the checker gives no verdict on {folder}: {words}")
    if found[1] == "0":
        raise HarnessError(f"no invocation was sent: {folder}")
    return Verdict(words, int(found[1]), int(found[2]))


class Outcomes:
    """The outcomes that the clients of a run have recorded so far."""

    def __init__(self, folder):
        self.folder, self.places = folder, {}
        self.sent, self.accepted, self.open, self.bad_at = 0, 0, {}, 0.0
        # For each function, when the last successful call was sent.
        self.successes = {}

    def catch_up(self):
        for file in self.folder.glob("client-*.jsonl"):
            with file.open("rb") as opened:
                opened.seek(self.places.get(file, 0))
                for line in opened:
                    if line.endswith(b"\n"):
                        self.places[file] = self.places.get(file, 0) + len(line)
                        self._take(json.loads(line))

    def _take(self, record):
        at, kind = record["at"] / 1e6, record["record"]
        if kind == "sent":
            # Events count once they are accepted.
            self.sent += record["function"] not in ASYNCHRONOUS
            self.open[record["id"]] = (at, record["function"])
            return
        if kind not in ("accepted", "answered"):
            return
        sent, function = self.open.pop(record["id"])
        self.accepted += kind == "accepted"
        # An event that was accepted is answered.
        is_well = kind == "accepted" or record["outcome"] == "success"
        if is_well:
            self.successes[function] = max(sent, self.successes.get(function, 0))
        if not is_well or at - sent > SLOW:
            self.bad_at = max(self.bad_at, at)

    def are_calm(self):
        self.catch_up()
        now = time.time()
        return (
            self.sent
            and now - self.bad_at > CALM
            and all(now - sent < SLOW for sent, _ in self.open.values())
        )

    def all_answered(self, functions, since):
        """Whether each function has answered a call that was sent after `since`."""
        self.catch_up()
        return all(self.successes.get(function, 0) > since for function in functions)


class Pods:
    """Records each change of the number of a function's instances."""

    def __init__(self, note, guard):
        self.note, self.guard, self.pods, self.counts = note, guard, {}, Counter()
        self.limits = {name: spec["concurrency"]["reserved"] for name, (_, spec) in LOADS.items()}
        self.limits[queue.FILLER] = queue.FILLER_SPEC["concurrency"]["reserved"]
        self._stop, self._turn, self._process = threading.Event(), threading.Lock(), None
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        with self._turn:
            self._stop.set()
            if self._process:
                self._process.terminate()
        self._thread.join()

    def _watch(self):
        try:
            while self._begin():
                # A new watch begins with all existing pods.
                self.pods.clear()
                self._read()
                # The watch ends when a fault stops the API server.
                self._stop.wait(0.5)
        except Exception as error:
            self.guard.fail(f"the watch of pods failed: {error!r}")

    def _begin(self):
        command = [
            "kubectl",
            f"--namespace={FUNCTIONS}",
            "get",
            "pods",
            "--watch",
            "--output-watch-events",
            "--output=json",
            "--selector=pilotlight.dev/function",
        ]
        # The lock prevents a start after `__exit__`, which would not end that process.
        with self._turn:
            if not self._stop.is_set():
                self._process = Ending(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                return True

    def _read(self):
        with self._process as process:
            for line in process.stdout:
                # A watch may end in the middle of a line.
                if line.endswith("\n"):
                    self._changed(json.loads(line))

    def _changed(self, event):
        pod, change = event["object"], event["type"]
        if pod.get("kind") != "Pod":
            return
        name, function = pod["metadata"]["name"], pod["metadata"]["labels"]["pilotlight.dev/function"]
        ends = "deletionTimestamp" in pod["metadata"] or pod["status"].get("phase") in ("Succeeded", "Failed")
        if change == "DELETED" or ends:
            self.pods.pop(name, None)
        else:
            self.pods[name] = function
        live = sum(1 for one in self.pods.values() if one == function)
        if self.counts[function] != live:
            self.counts[function] = live
            self.note("instances", function=function, live=live, limit=self.limits.get(function, 0))
