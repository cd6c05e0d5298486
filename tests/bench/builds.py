"""Compares the warm path of two builds of Pilotlight, in turns on one machine in one run.

    python -m tests.bench.builds BEFORE [AFTER] [--rounds 8] [--runtimes python3.11,custom]

BEFORE and AFTER are folders with `pilotlight` and `pilotlight-supervisor`, both optimised; AFTER is
target/release by default. A round calls a function of each build with 1 and with 8 connections, in
alternating order. The table has the median over the rounds of the rate's ratio and of p50's ratio, with their
quartiles: a ratio of one round compares two measurements of the same few seconds. Nothing is asserted.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.paths import EXAMPLES, LOAD, REPOSITORY

# Each function answers 7, except the program of `custom`, which answers its event.
CODE = {
    "custom": {"path": str(EXAMPLES / "rust-echo/build")},
    "python3.11": {"inline": {"lambda_function.py": "def lambda_handler(event, context): return 7\n"}},
    "nodejs22": {"inline": {"index.mjs": "export const handler = async () => 7;\n"}},
    "ruby3.1": {"inline": {"lambda_function.rb": "def lambda_handler(event:, context:) = 7\n"}},
    "java17": {
        "inline": {
            "Hello.java": "package example;\n"
            "public class Hello { public Object handleRequest(Object event) { return 7; } }\n"
        }
    },
}
CONNECTIONS = (1, 8)
MEMORY = 256


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?", default=REPOSITORY / "target/release")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--runtimes", default="custom,python3.11")
    options = parser.parse_args()
    runtimes = options.runtimes.split(",")
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "functions.yaml"
        manifest.write_text(as_yaml([function(runtime) for runtime in runtimes]))
        servers = []
        try:
            for build in (options.before, options.after):
                servers.append(
                    LocalServer(manifest, program=(build / "pilotlight").resolve(), has_status=False)
                )
            report(servers, runtimes, options)
        finally:
            # A server counts what was started after it among its own.
            for server in reversed(servers):
                server.stop()


def report(servers, runtimes, options):
    print(
        "| runtime | connections | before, calls/s | after, calls/s | rate, after / before | p50, after / before |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for runtime in runtimes:
        for connections in CONNECTIONS:
            rounds = [compare(servers, runtime, connections, turn, options) for turn in range(options.rounds)]
            print(row(runtime, connections, rounds), flush=True)


def function(runtime):
    spec = {"runtime": runtime, "memory": MEMORY, "code": CODE[runtime]}
    return resource("Function", name_of(runtime), spec)


def name_of(runtime):
    return runtime.replace(".", "-")


def compare(servers, runtime, connections, turn, options):
    """The measurements of one round, as (before, after)."""
    order = [0, 1] if turn % 2 == 0 else [1, 0]
    found = {place: measure(servers[place], runtime, connections, options) for place in order}
    return found[0], found[1]


def measure(server, runtime, connections, options):
    path = f"/2015-03-31/functions/{name_of(runtime)}/invocations"
    address = server.endpoint.removeprefix("http://")
    command = [LOAD, "time", address, path, f"closed:{connections}", f"--seconds={options.seconds}"]
    if runtime != "custom":
        command.append("--answer=7")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def row(runtime, connections, rounds):
    before, after = (statistics.median(one[place]["rate"] for one in rounds) for place in (0, 1))
    rates, p50s = (
        spread([after[figure] / before[figure] for before, after in rounds]) for figure in ("rate", "p50")
    )
    return f"| {runtime} | {connections} | {before:.0f} | {after:.0f} | {rates} | {p50s} |"


def spread(ratios):
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"


if __name__ == "__main__":
    main()
