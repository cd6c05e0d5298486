"""How long a line takes from the print to a reader in a cluster, and a function that prints 10,000 lines a second.

    make show-logs-pods              with a cluster that is up and the images loaded

The function prints the time at which it prints. Readers follow its log at its owner and at the other gateway, on the same
machine, so there is one clock. Then a function prints 10,000 lines a second: the gateway's counters say what it took, what the
store had and what was dropped, and the lines are read back and counted. Nothing is asserted but that the account is complete.
Writes a section of docs/benchmarks-logs.md.
"""

import argparse
import json
import statistics
import threading
import time
import urllib.request

from tests.bench.cluster import by_role
from tests.harness import manifests, release
from tests.harness.commit import commit
from tests.harness.kubectl import apply, kubectl
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.metrics import read_metrics
from tests.harness.paths import REPOSITORY
from tests.harness.patience import PATIENCE, until
from tests.harness.release import ENDPOINT, STORED

OUT = REPOSITORY / "docs/benchmarks-logs.md"
STORE = (
    *STORED,
    # What a function may print: ten thousand lines of a hundred bytes a second take more than the default of 1 MiB.
    "--set=functions.logRate=4096",
)
CLOCK = """
import time
def lambda_handler(event, context):
    for n in range(event["lines"]):
        time.sleep(event["pause"])
        print(f"at {time.time_ns()} {n}")
    return event["lines"]
"""
# The prints of 10 ms are one write, as of a program that logs much; it sleeps for the rest.
LOUD = """
import sys, time
TEXT = "a line that says something of one hundred bytes, as the lines of many programs do".ljust(88, ".")
def lambda_handler(event, context):
    begin = time.monotonic()
    for turn in range(event["seconds"] * 100):
        first = turn * event["rate"] // 100
        last = (turn + 1) * event["rate"] // 100
        sys.stdout.write("".join(f"{n:09} {TEXT}\\n" for n in range(first, last)))
        time.sleep(max(0, begin + (turn + 1) / 100 - time.monotonic()))
    return time.monotonic() - begin
"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=500, help="of each measurement of the tail")
    parser.add_argument("--rounds", type=int, default=4, help="of each gateway")
    parser.add_argument("--seconds", type=int, default=20, help="in which the loud function prints")
    parser.add_argument("--rate", type=int, default=10_000, help="lines a second")
    parser.add_argument("--no-report", action="store_true", help="only print")
    options = parser.parse_args()
    with release.installed(*STORE):
        release.await_replaced()
        apply(
            manifests.function("logs-clock", CLOCK, timeout=600),
            manifests.function("logs-loud", LOUD, timeout=600, memory=512),
        )
        release.await_known(["logs-clock", "logs-loud"])
        try:
            tails, loud = tail(options), rate(options)
        finally:
            kubectl("delete", "functions", "logs-clock", "logs-loud")
    lines = page(tails, loud, options)
    print("\n".join(lines))
    if not options.no_report:
        from tests.harness.section import rewrite

        rewrite(OUT, "show-logs-pods", lines)


class Follower:
    """Reads a function's log at one gateway as it comes; remembers how late each line was, in milliseconds."""

    def __init__(self, gateway, name):
        since = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}Z"
        url = f"http://{gateway}:8080/pilotlight/v1/functions/{name}/logs?follow=true&source=stdout&since={since}"
        self.late, self.seen = [], set()
        self._answer = urllib.request.urlopen(url, timeout=PATIENCE)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._answer:
            now = time.time_ns()
            _, at, number = json.loads(line)["text"].split()
            if number not in self.seen:
                self.seen.add(number)
                self.late.append((now - int(at)) / 1e6)


def tail(options):
    """The latencies at the owner and at another gateway, by turns."""
    invoke = invoker(lambda_client(ENDPOINT))
    invoke("logs-clock", {"lines": 1, "pause": 0})
    gateways = by_role("logs-clock")
    found = {role: [] for role in gateways}
    for turn in range(options.rounds):
        order = list(gateways) if turn % 2 == 0 else list(gateways)[::-1]
        for role in order:
            # Lines of the call before have an earlier second.
            time.sleep(1.1)
            follower = Follower(gateways[role], "logs-clock")
            # A reader of another gateway begins to follow there in the background.
            time.sleep(1)
            done = invoke("logs-clock", {"lines": options.lines, "pause": 0.01})
            assert done["Body"] == options.lines, done
            until(lambda f=follower: len(f.seen) == options.lines, lambda f=follower: len(f.seen))
            found[role].append(follower.late)
    return found


def counters():
    """Those of all gateways, and the bytes that wait."""
    found = {}
    for status in release.statuses():
        for line in read_metrics(status).splitlines():
            if line.startswith("pilotlight_log_") and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = found.get(name, 0) + float(value)
    return found


def rate(options):
    """What became of the lines of a function that prints much."""
    invoke = invoker(lambda_client(ENDPOINT))
    before, highest, over = counters(), 0, threading.Event()
    behind = []

    def watch():
        while not over.wait(0.5):
            now = counters()
            behind.append(sum(v for n, v in now.items() if n.startswith("pilotlight_log_backlog_bytes")))

    watching = threading.Thread(target=watch)
    watching.start()
    took = invoke("logs-loud", {"seconds": options.seconds, "rate": options.rate})["Body"]
    printed = time.monotonic()
    until(
        lambda: sum(v for n, v in counters().items() if n.startswith("pilotlight_log_backlog_bytes")) == 0,
        counters,
    )
    after_print = time.monotonic() - printed
    over.set()
    watching.join()
    after = counters()
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    numbers, notes = set(), []
    with urllib.request.urlopen(
        f"{ENDPOINT}/pilotlight/v1/functions/logs-loud/logs", timeout=PATIENCE
    ) as answer:
        for line in answer:
            entry = json.loads(line)
            if entry["source"] == "stdout":
                numbers.add(int(entry["text"].split()[0]))
            elif "dropped" in entry["text"]:
                notes.append(entry["text"])
    highest = max(behind, default=0)
    printed = options.seconds * options.rate
    return {
        "printed": printed,
        "took": took,
        "found": len(numbers),
        "notes": notes,
        "highest": highest,
        "after": after_print,
        "grown": grown,
    }


def quantile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def page(tails, loud, options):
    rows = []
    for role, rounds in tails.items():
        medians = [statistics.median(quantile(one, part) for one in rounds) for part in (0.5, 0.99)]
        highest = max(max(one) for one in rounds)
        rows.append(f"| {role} | {medians[0]:.1f} ms | {medians[1]:.1f} ms | {highest:.1f} ms |")
    grown = ", ".join(f"`{name}` {value:,.0f}" for name, value in sorted(loud["grown"].items()))
    return [
        f"At commit {commit()}, 2 nodes. A function prints a line with the time each 10 ms; a reader follows the log over HTTP at",
        f"the gateway that owns the function, or at the other one. {options.rounds} rounds of {options.lines} lines each, by turns;",
        "medians over the rounds, and the latest line of all.",
        "",
        "| reader at the | p50 | p99 | latest |",
        "|---|---:|---:|---:|",
        *rows,
        "",
        f"A function printed {loud['printed']:,} lines of 100 bytes in {loud['took']:.1f} s, at most {options.rate:,} a second, with",
        "`functions.logRate` at 4 MiB a second:",
        "",
        f"- {loud['found']:,} of them are in the log, {loud['printed'] - loud['found']:,} are missing. The log's own notes:",
        f"  {'; '.join(loud['notes']) or 'none'}.",
        f"- {loud['highest'] / 1024 / 1024:.1f} MiB waited for the store at most; {loud['after']:.1f} s after the last line it had all.",
        f"- Counters of the gateways: {grown}.",
        "",
    ]


if __name__ == "__main__":
    main()
