"""The slowest tests of a run, read from what the standard runners report.

pytest and Node's runner write JUnit files into the run's folder; Rust's runner prints each test's time
into the stage's log (`--report-time`).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

RUST = re.compile(r"^test (?P<name>\S+).* \.\.\. ok <(?P<seconds>[\d.]+)s>$", re.MULTILINE)


def lines(records: Path, number: int) -> list[str]:
    """One line for each of the `number` slowest tests, the slowest first."""
    slowest = sorted(tests(records), reverse=True)[:number]
    return [f"{seconds:7.1f} s  {name}" for seconds, name in slowest]


def tests(records: Path) -> Iterator[tuple[float, str]]:
    """Seconds and name of each test."""
    for file in records.glob("*.xml"):
        try:
            root = ElementTree.parse(file).getroot()
        except ElementTree.ParseError:
            continue  # its runner was ended while it wrote
        for case in root.iter("testcase"):
            place = case.get("classname", "").removeprefix("tests.")
            yield float(case.get("time", 0)), f"{file.stem}: {place} {case.get('name')}"
    for file in records.glob("*.log"):
        for found in RUST.finditer(file.read_text(errors="replace")):
            yield float(found["seconds"]), f"{file.stem}: {found['name']}"
