"""Writes docs/reliability.md and its plot from the records of a run."""

import json
import os
import platform
from collections import Counter

import pygal

from tests.chaos.faults import FAULTS
from tests.chaos.trial import ASYNCHRONOUS, QUEUE, SLOW
from tests.harness.cluster import kubernetes
from tests.harness.commit import commit

STEADY = "chaos-steady"
BEFORE = 5  # seconds before each fault, which show the platform without one


class Run:
    """The results of a run, read from its folder; times are in seconds."""

    def __init__(self, folder):
        sent, answered, self.instances, self.struck, open_faults = {}, [], [], [], {}
        self.events = 0
        for record in self._records(folder):
            at = record["at"] / 1e6
            match record["record"]:
                case "sent":
                    sent[record["id"]] = (at, record["function"])
                case "answered":
                    kind = record.get("kind", record["outcome"])
                    is_event = sent[record["id"]][1] in ASYNCHRONOUS
                    answered.append((record["id"], at, f"{kind} of an event" if is_event else kind))
                case "accepted":
                    self.events += 1
                    answered.append((record["id"], at, "success"))
                case "instances":
                    self.instances.append((at, record["function"], record["live"]))
                case "fault":
                    open_faults[record["fault"]] = at
                case "over":
                    self.struck.append((record["fault"], open_faults.pop(record["fault"]), at))
        self.plan = json.loads((folder / "plan.json").read_text())
        self.begun = min(at for at, _ in sent.values())
        self.took = max(at for _, at, _ in answered) - self.begun
        # For each call: when it was sent, how long it took, its function and its outcome.
        self.calls = sorted((sent[id][0], at - sent[id][0], sent[id][1], kind) for id, at, kind in answered)

    def _records(self, folder):
        for file in (folder / "driver.jsonl", *sorted(folder.glob("client-*.jsonl"))):
            for line in file.open():
                yield json.loads(line)

    def between(self, begin, end):
        return [call for call in self.calls if begin <= call[0] < end]


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def took(calls, share):
    return percentile([took for _, took, _, _ in calls], share) * 1000


def failures(calls):
    found = Counter(kind for _, _, _, kind in calls if kind != "success")
    return ", ".join(f"{count} {kind}" for kind, count in found.most_common()) or "0"


def described(run):
    return (
        f"Seed {run.plan['seed']}, {run.plan['rate']:.0f} calls a second of `{STEADY}`, less of others, bursts, and "
        f"{run.plan['event_rate']:.0f} asynchronous calls a second of `{ASYNCHRONOUS[0]}`"
    )


def fault_rows(run):
    before = [call for _, begin, _ in run.struck for call in run.between(begin - BEFORE, begin)]
    yield row("– | none", before, "–")
    for fault, begin, end in run.struck:
        inside = run.between(begin, end)
        bad = [
            at + took
            for at, took, function, kind in inside
            if function == STEADY and (kind != "success" or took > SLOW)
        ]
        recovery = f"{max(bad) - begin:.1f} s" if bad else "none needed"
        yield row(f"`{fault}` | {FAULTS[fault].what}", inside, recovery)


def row(name, calls, recovery):
    steady = [call for call in calls if call[2] == STEADY]
    return (
        f"| {name} | {took(steady, 0.5):.0f} | {took(steady, 0.99):.0f} | {took(steady, 1):.0f} "
        f"| {failures(calls)} | {recovery} | {len(calls)} |"
    )


def plot(run, path):
    good, bad = Counter(), Counter()
    for at, _, _, kind in run.calls:
        (good if kind == "success" else bad)[int(at - run.begun) // 5 * 5] += 1
    live, instances = {}, {}
    for at, function, count in sorted(run.instances):
        live[function] = count
        instances[int(at - run.begun) // 5 * 5] = sum(live.values())
    chart = pygal.XY(
        title="The mixed run: per 5 s of it",
        height=420,
        show_dots=False,
        stroke_style={"width": 1.5},
        disable_xml_declaration=True,
        js=[],
        style=pygal.style.CleanStyle,
        x_title="seconds",
    )
    seconds = range(0, int(run.took), 5)
    chart.add("answers a second", [(at, good[at] / 5) for at in seconds])
    chart.add("failures a second", [(at, bad[at] / 5) for at in seconds])
    chart.add("instances", sorted(instances.items()))
    chart.add("faults", [(begin - run.begun, -2) for _, begin, _ in run.struck], stroke=False, show_dots=True)
    path.write_text(chart.render())


def write(output, folder, verdicts):
    singly, mixed = Run(folder / "singly"), Run(folder / "mixed")
    plot(mixed, output.with_name("reliability.svg"))
    struck = Counter(fault for fault, _, _ in mixed.struck)
    counts = ", ".join(f"`{name}` {count}" for name, count in sorted(struck.items()))
    lines = [
        "<!-- Generated by `make show-chaos` (tests/chaos/report.py); changes made here are lost. -->",
        "",
        "# Reliability",
        "",
        "Every invocation is accounted for, whatever breaks: it is answered once, it runs at most once and",
        "alone in its instance, in no older code than what has answered before, and an error tells whether it",
        "may have run. `make show-chaos` holds a cluster of two nodes to that: clients send calls at random moments",
        "and in bursts, handlers write their begin and end to a journal outside of their instances, faults come",
        "from a seeded plan, and a checker compares (tests/load/README.md has the rules). A part of it runs",
        "in `make test`, and the same checker judges core's simulation.",
        "",
        "Every event of an asynchronous call is accounted for as well: after its 202 it is executed to its end, and no more",
        "often than its function declares, which is once here, and once more for each fault between two executions that may",
        "have hidden the end of the first (the lines `events:` count those). An attempt that a fault has ended makes a dead",
        "letter. All of these are replayed at the end of a run, and exactly those must run then. The run ends when the queue",
        "is empty.",
        "",
        f"{os.cpu_count()} cores that clients, control plane and nodes share, Linux {platform.release()}, "
        f"Kubernetes {kubernetes()}, commit {commit()}.",
        "",
        f"## Mixed faults, {mixed.took:.0f} s",
        "",
        f"{described(mixed)}.",
        "",
        "```",
        verdicts["mixed"].words.rstrip(),
        "```",
        "",
        "![The mixed run](reliability.svg)",
        "",
        f"{mixed.events:,} events were accepted.",
        "",
        f"{sum(struck.values())} faults, up to two at once: {counts}.",
        "",
        "## Each fault by itself",
        "",
        f"{described(singly)}. Each fault",
        f"waits until the one before is over for the callers. Latencies and recovery are of `{STEADY}` (10 ms of",
        "work), failures of all functions. Each failure is of a kind that the fault allows, else the run fails, or",
        f"a `TooManyRequestsException`: all instances are busy and {QUEUE} calls of the function wait, as the cluster's",
        "own work takes the processors. Recovery: from the fault to the end of the last call that failed or took",
        f"more than {SLOW} s. `none`: the {BEFORE} s before each fault.",
        "",
        "| fault | | p50, ms | p99, ms | slowest, ms | failures | recovery | calls |",
        "|---|---|--:|--:|--:|---|--:|--:|",
        *fault_rows(singly),
        "",
        "```",
        verdicts["singly"].words.rstrip(),
        "```",
        "",
    ]
    output.write_text("\n".join(lines))
