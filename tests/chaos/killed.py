#!/usr/bin/env python3
"""Kills a chaos run in the middle of each lasting fault, and starts another one in the same cluster.

The next run finds the leftovers of the killed one: processes, a stopped node or API server, rules in pods'
networks, a Deployment of another size, Functions. It must clean up and reach its own fault. The
last run is not killed and gives a verdict. `seeds.py` puts the table into docs/chaos-seeds.md.
"""

import json
import random
import signal
import subprocess
import sys
import time

from tests.chaos.faults import FAULTS
from tests.chaos.trial import STRIKES
from tests.harness.paths import REPOSITORY

# Faults that leave something behind if a run is killed.
LASTING = [
    name
    for name in (
        "node-lost",
        "api-server-stopped",
        "api-server-slow",
        "watches-dropped",
        "gateway-cut-off-for-long",
        "controller-cut-off",
        "packets-lost",
        "network-slow",
        "memory-short",
        "queue-away",
        "queue-full",
        "function-deleted",
        "gateways-scaled",
        "gateways-restarted",
        "controllers-restarted",
        "upgraded",
    )
    if name in FAULTS
]
FOLDER = REPOSITORY / "target/chaos/killed"
ROWS = FOLDER / "rows.json"
RUN = (sys.executable, "-m", "tests.chaos.run", "--no-report", f"--folder={FOLDER}", "--rate=20")


def started(*words):
    return subprocess.Popen([*RUN, *words], stdout=subprocess.PIPE, text=True)


def killed(name, dice):
    """A row of the table. `found` lists the leftovers of the earlier run, which this run cleaned up."""
    begin, found, after = time.monotonic(), [], None
    with started("--skip=mixed", f"--only={name}") as run:
        for line in run.stdout:
            print(line, end="", flush=True)
            if line.startswith("cleaned up: "):
                found.append(line.removeprefix("cleaned up: ").strip())
            if line.endswith(f"{name} {STRIKES}\n"):
                # At a random moment of the fault, before the run begins to undo it.
                after = dice.uniform(0.1, 0.9) * FAULTS[name].seconds
                time.sleep(after)
                run.send_signal(signal.SIGKILL)
    return {"fault": name, "after": after, "found": found, "seconds": time.monotonic() - begin}


def last():
    """A run that is not killed, after all others."""
    found = []
    with started("--skip=singly", "--invocations=1500", "--events=0") as run:
        for line in run.stdout:
            print(line, end="", flush=True)
            if line.startswith("cleaned up: "):
                found.append(line.removeprefix("cleaned up: ").strip())
    return run.returncode, found


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    ROWS.unlink(missing_ok=True)
    dice, rows = random.Random(1), []
    for name in LASTING:
        row = killed(name, dice)
        if rows:
            rows[-1]["left"] = row.pop("found")
        rows.append(row)
        print(f"killed in {name} after {row['after']} s", flush=True)
        if row["after"] is None:
            print(f"killed: the run for {name} did not come as far as its fault", file=sys.stderr)
            return 1
    code, left = last()
    rows[-1]["left"] = left
    # The file is written only at the end, so that nobody takes a partial or an old table for this one's.
    ROWS.write_text(json.dumps({"rows": rows, "code": code}))
    return code


if __name__ == "__main__":
    sys.exit(main())
