"""The account of lines: of those that handlers have printed under faults, which does the log have?

A handler prints a line before each record that it reports to the journal (tests/load/handler.py), so the journal says which
lines were printed, by which instance and in which order. A line may be missing for two reasons alone:

- It is among the last lines of its instance, and a fault was on: the instance ended before it had handed the line over, or
  gave it to a gateway that was killed before the store had it. Nobody was left who had the line.
- A record of the log says that so many lines were dropped.

A line that is missing although its instance has handed over a later one, without such a record, is lost without an
explanation. This module reads records and a log, and never changes either.
"""

import json
import re
import urllib.request
from dataclasses import dataclass

from tests.harness.patience import PATIENCE
from tests.harness.release import ENDPOINT

NOTE = re.compile(r"(\d+) log (?:records|lines) were dropped")


@dataclass(frozen=True)
class Lines:
    printed: int
    found: int
    # Of instances that have ended with what they had.
    with_instance: int
    dropped: int  # as the log says
    unexplained: list

    @property
    def is_well(self):
        return len(self.unexplained) <= self.dropped

    @property
    def words(self):
        return (
            f"{self.printed} lines printed, {self.found} found, {self.with_instance} gone with their instance, "
            f"{self.dropped} dropped as the log says, {len(self.unexplained)} missing otherwise"
        )


def logged(functions):
    """The printed lines that the logs of the functions have, and how many they say were dropped."""
    lines, dropped = set(), 0
    for name in functions:
        url = f"{ENDPOINT}/pilotlight/v1/functions/{name}/logs"
        with urllib.request.urlopen(url, timeout=PATIENCE) as log:
            for record in map(json.loads, log):
                if record["source"] == "stdout":
                    lines.add(record["text"])
                elif note := NOTE.match(record["text"]):
                    dropped += int(note[1])
    return lines, dropped


def account(folder, lines, dropped):
    """Compares the lines of the log with the records of a run."""
    faults = intervals(records(folder / "driver.jsonl"))
    printed = {}
    for record in records(folder / "handlers.jsonl"):
        if record["record"] in ("began", "ended"):
            line = f"{record['record']} {record['id']}"
            printed.setdefault(record["instance"], []).append((line, record["at"]))
    total = found = with_instance = 0
    unexplained = []
    for instance, its in printed.items():
        total += len(its)
        has = [line in lines for line, _ in its]
        found += sum(has)
        # The first of its last lines, none of which is there.
        last = len(has) - has[::-1].index(True) if True in has else 0
        for (line, at), is_there, number in zip(its, has, range(len(its)), strict=True):
            if is_there:
                continue
            if number >= last and any(begin <= at <= end for begin, end in faults):
                with_instance += 1
            else:
                unexplained.append(f"{line} of {instance}")
    return Lines(total, found, with_instance, dropped, unexplained)


def records(file):
    for line in file.read_text().splitlines(keepends=True):
        # The last one may be torn.
        if line.endswith("\n"):
            yield json.loads(line)


def intervals(notes):
    """From when until when each fault was on, in microseconds."""
    open_since, found = {}, []
    for note in notes:
        if note["record"] == "fault":
            open_since.setdefault(note["fault"], note["at"])
        elif note["record"] == "over" and note["fault"] in open_since:
            found.append((open_since.pop(note["fault"]), note["at"]))
    return found + [(since, float("inf")) for since in open_since.values()]
