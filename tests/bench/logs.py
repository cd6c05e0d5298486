"""How long a search takes in a large log, and what a line takes on disk; writes a section of docs/benchmarks-logs.md.

`python -m tests.bench.logs [LINES]`, by default 10 million. The lines go through the interface that gateways use
(`tests/bench/src/bin/log-search.rs`), into each store of this machine.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from tests.harness.commit import commit
from tests.harness.paths import REPOSITORY
from tests.harness.section import rewrite

VICTORIA_LOGS = REPOSITORY / "target/cluster/bin/victoria-logs"
# What the chart starts it with (charts/pilotlight/templates/logs.yaml).
FLAGS = ["-inmemoryDataFlushInterval=1s", "-retentionPeriod=30d", "-insert.maxLineSizeBytes=2MiB"]
PROGRAM = REPOSITORY / "target/release/log-search"
OUT = REPOSITORY / "docs/benchmarks-logs.md"


@contextmanager
def victoria_logs(folder):
    """Its address for as long as `with` lasts. At the end everything is on its disk."""
    command = [VICTORIA_LOGS, "-httpListenAddr=127.0.0.1:0", f"-storageDataPath={folder}", *FLAGS]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stderr.readline, "")
        [address] = [line.rsplit("/", 2)[1] for line in until_served(lines)]
        with subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL):
            yield f"http://{address}"
            process.terminate()
            process.wait()
    finally:
        process.kill()


def until_served(lines):
    for line in lines:
        if "started server at http://" in line:
            yield line
            return


def size(folder):
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def main():
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    tables = []
    with tempfile.TemporaryDirectory(prefix="pilotlight-logs-") as folder:
        with victoria_logs(folder) as address:
            printed = measured(lines, f"--victoria={address}")
        tables += table("VictoriaLogs with the options of the chart", printed, size(folder))
    # The second store takes as long again.
    rewrite(OUT, "show-logs-search", [*introduction(lines), *tables])
    with tempfile.TemporaryDirectory(prefix="pilotlight-logs-") as folder:
        printed = measured(lines, f"--sqlite={folder}")
        tables += table("The files of local mode", printed, size(folder))
    rewrite(OUT, "show-logs-search", [*introduction(lines), *tables])


def measured(lines, place):
    """What the program prints: what was written, and each search."""
    command = [PROGRAM, f"--records={lines}", place]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def introduction(lines):
    return [
        f"At commit {commit()}: {lines:,} lines of one function, of 20 instances, as a function prints them with START, END and",
        "REPORT. A search goes through the interface that gateways use.",
        "",
    ]


def table(title, printed, used):
    filled, *searches = printed
    lines = filled["filled"]
    rows = []
    for one in searches:
        rounds = sorted(one["milliseconds"])
        rows.append(
            f"| {one['search']} | {one['found']} | {rounds[0]:,.0f} | {rounds[len(rounds) // 2]:,.0f} | {rounds[-1]:,.0f} |"
        )
    return [
        f"### {title}",
        "",
        f"- The texts of the lines have {filled['text_bytes'] / lines:,.0f} bytes on average. With everything that a search "
        f"needs, a line takes **{used / lines:,.1f} bytes** on disk.",
        f"- The store took {lines / filled['seconds']:,.0f} lines a second.",
        "",
        f"| search, in milliseconds over {len(searches[0]['milliseconds'])} rounds | found | min | median | max |",
        "|---|---:|---:|---:|---:|",
        *rows,
        "",
    ]


if __name__ == "__main__":
    main()
