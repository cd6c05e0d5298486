"""One run under account: functions, a journal, clients, faults, and the verdict.

The load, the journal and the checker are `pilotlight-load` (tests/load); what it reads lies in one
folder, a line for each thing that happened.
"""

import json
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.chaos.world import World
from tests.harness.addresses import own_address
from tests.harness.kubectl import FUNCTIONS, apply, get, kubectl
from tests.harness.load import Ending, accounted
from tests.harness.manifests import warm_pool
from tests.harness.paths import LOAD
from tests.harness.processes import SUPERVISOR, running
from tests.harness.release import HOST, await_known

POOL = "chaos"
# Calls a second at random moments, or so many at once with so many seconds between; reserved instances.
LOADS = {
    "chaos-steady": ("{rate}", {"concurrency": {"reserved": 8}}),
    "chaos-bursty": ("4x3", {"concurrency": {"reserved": 10}, "keepAlive": 5}),
    # Some seconds without a call on average, and none that stays warm: each is a cold start by the pool.
    "chaos-pooled": ("0.5", {"concurrency": {"reserved": 4}, "keepAlive": 1}),
    # Too large for the pool.
    "chaos-large": ("{low}", {"concurrency": {"reserved": 3}, "memory": 256}),
}
QUEUE = 200  # calls of a function that may wait: some seconds of all, as cold starts take the processors
SLOW = 1  # seconds: a call that takes longer is not back to normal
CALM, CALM_LIMIT = 6, 60  # seconds without such a call or one that fails, and how long they are waited for
ANSWERING_LIMIT = 60  # seconds for each function to answer when all is up again: starts are tried every 30
SETTLED = 5  # seconds after that in which an answer may still be the fault's


class Trial:
    """The load runs inside `with`."""

    def __init__(self, folder, seed, rate=100, work=10, clients=2):
        self.folder, self.seed, self.rate, self.work, self.clients = folder, seed, rate, work, clients
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.jsonl"):
            old.unlink()
        (folder / "plan.json").write_text(json.dumps({"seed": seed, "rate": rate}))
        self.world = World(seed, list(LOADS))
        self.told = Told(folder)
        self._notes, self._turn = (folder / "driver.jsonl").open("a"), threading.Lock()

    def __enter__(self):
        apply(warm_pool(POOL, size=2), *(self.function(name, spec) for name, (_, spec) in LOADS.items()))
        await_known(list(LOADS))
        with ExitStack() as stack:
            self.journal = stack.enter_context(
                self.run(
                    "journal",
                    f"{own_address(HOST)}:0",
                    self.folder / "handlers.jsonl",
                    stdout=subprocess.PIPE,
                )
            )
            address = self.journal.stdout.readline().split()[-1]
            self.pods = stack.enter_context(Pods(self.note))
            self.senders = [
                stack.enter_context(self.client(number, address)) for number in range(self.clients)
            ]
            self._open = stack.pop_all()
        for name in LOADS:
            self.note("queue", function=name, size=QUEUE)
        return self

    def __exit__(self, *failed):
        """The last answers come in; then nothing is left."""
        for sender in self.senders:
            sender.stdin.close()
        ended = [sender.wait(150) for sender in self.senders]
        self._open.close()
        assert not any(ended), f"a client ended with {ended}"
        if failed[0] is None:
            self.clear()
        self._notes.close()

    def function(self, name, spec):
        concurrency = {**spec["concurrency"], "queue": QUEUE}
        return accounted(name, **{**spec, "concurrency": concurrency})

    def client(self, number, address):
        share = {"rate": self.rate / self.clients, "low": self.rate / self.clients / 10}
        loads = [f"--function={name}={load.format(**share)}" for name, (load, _) in LOADS.items()]
        return self.run(
            "load",
            f"{HOST}:80",
            *loads,
            f"--name={number}",
            f"--journal={address}",
            f"--output={self.folder}/client-{number}.jsonl",
            f"--work={self.work}",
            f"--seed={self.seed * 1000 + number * 100}",
            stdin=subprocess.PIPE,
        )

    def run(self, *words, **options):
        return Ending([LOAD, *map(str, words)], text=True, **options)

    def note(self, record, **fields):
        with self._turn:
            self._notes.write(json.dumps({"record": record, "at": time.time_ns() // 1000, **fields}) + "\n")
            self._notes.flush()

    def strike(self, faults, lengths=None):
        """Inflicts faults at once, and returns when all that they took is up again and each function answers."""
        lengths = lengths or [fault.seconds for fault in faults]
        for fault in faults:
            self.note("fault", fault=fault.name, allows=sorted(fault.allows))
        with ThreadPoolExecutor(len(faults)) as striking:
            done = [striking.submit(self._inflict, *one) for one in zip(faults, lengths, strict=True)]
        for one in done:
            one.result()
        self.world.rest()
        rested = time.time()
        self._await(lambda: self.told.all_answered(LOADS, rested), ANSWERING_LIMIT)
        time.sleep(SETTLED)
        for fault in faults:
            self.note("over", fault=fault.name)

    def _inflict(self, fault, seconds):
        with fault.inflict(self.world):
            time.sleep(seconds)

    def quiet(self, seconds):
        """Without a fault of ours; the clients go on."""
        time.sleep(seconds)
        self._assert_clients_live()

    def calm(self):
        """Returns when no call has failed or been slow for some seconds, if that comes soon."""
        self._await(self.told.are_calm, CALM_LIMIT)
        self._assert_clients_live()

    def _await(self, true, seconds):
        """Of what the clients are told; when it does not come true, the account says what it means."""
        deadline = time.monotonic() + seconds
        while not true() and time.monotonic() < deadline:
            time.sleep(0.2)

    def _assert_clients_live(self):
        assert all(sender.poll() is None for sender in self.senders), "a client has ended"

    def sent(self):
        self.told.catch_up()
        return self.told.sent

    def clear(self):
        """Takes all away that was made for the run, and notes what stays."""
        kubectl("delete", "functions", *LOADS)
        kubectl("delete", "warmpool", POOL)
        deadline = time.monotonic() + 90
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(1)
        for what in left:
            self.note("left", what=what)

    def left(self):
        found = [f"pod {pod['metadata']['name']}" for pod in get("pods")["items"]]
        maps = get("configmaps", "--selector=app.kubernetes.io/managed-by=pilotlight")["items"]
        found += [f"config map {one['metadata']['name']}" for one in maps]
        leases = {one["metadata"]["name"] for one in get("leases")["items"]}
        found += [f"lease {name}" for name in leases - {"pilotlight-controller"}]
        found += [
            f"process {pid}: {groups.splitlines()[-1]}"
            for pid, (_, name, groups) in running().items()
            if name == SUPERVISOR
        ]
        return found


class Told:
    """What the clients of a run have written up to now."""

    def __init__(self, folder):
        self.folder, self.places = folder, {}
        self.sent, self.open, self.bad_at = 0, {}, 0.0
        # By function, the last success: when its call was sent.
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
        at = record["at"] / 1e6
        if record["record"] == "sent":
            self.sent += 1
            self.open[record["id"]] = (at, record["function"])
            return
        sent, function = self.open.pop(record["id"])
        if record["outcome"] == "success":
            self.successes[function] = max(sent, self.successes.get(function, 0))
        if record["outcome"] != "success" or at - sent > SLOW:
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
        """Each has answered a call that was sent after `since`."""
        self.catch_up()
        return all(self.successes.get(function, 0) > since for function in functions)


class Pods:
    """Notes how many instances each function has, at each change."""

    def __init__(self, note):
        self.note, self.pods, self.counts = note, {}, Counter()
        self.limits = {name: spec["concurrency"]["reserved"] for name, (_, spec) in LOADS.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self.process.terminate()
        self._thread.join()

    def _watch(self):
        while not self._stop.is_set():
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
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            # A new watch begins with all that there is.
            self.pods.clear()
            self._read()
            self.process.terminate()
            self.process.wait()
            # The API server may be away.
            self._stop.wait(0.5)

    def _read(self):
        for line in self.process.stdout:
            self._changed(json.loads(line))

    def _changed(self, event):
        pod, told = event["object"], event["type"]
        if pod.get("kind") != "Pod":
            return
        name, function = pod["metadata"]["name"], pod["metadata"]["labels"]["pilotlight.dev/function"]
        ends = "deletionTimestamp" in pod["metadata"] or pod["status"].get("phase") in ("Succeeded", "Failed")
        if told == "DELETED" or ends:
            self.pods.pop(name, None)
        else:
            self.pods[name] = function
        live = sum(1 for one in self.pods.values() if one == function)
        if self.counts[function] != live:
            self.counts[function] = live
            self.note("instances", function=function, live=live, limit=self.limits.get(function, 0))
