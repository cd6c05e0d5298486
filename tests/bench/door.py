"""2,000 connections that stall, and a quiet function beside them; writes docs/door.md.

    make show-door

The connections stall in the head of a request, in its body or in reading the answer, by HTTP/1.1 and HTTP/2, and are
opened anew when the gateway closes them, by a thread of the lowest priority. A quiet function is called at a steady
rate, beside the connections and beside nobody by turns, and so is a bare proxy in front of an echo server on the same
machine. The cost of the connections is the p99 beside them, divided by the p99 of the same round beside nobody. The
proxy has nothing to do with them, so its cost is the machine's part; the function's divided by the proxy's is the
gateway's part. The gateway has the memory limit of the chart. Nothing is asserted but that the quiet function answers.
"""

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import yaml

from tests.harness.commit import commit
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.paths import BENCH, CHART, EXAMPLES, LOAD, PILOTLIGHT, REPOSITORY
from tests.harness.patience import PATIENCE, until
from tests.harness.stalls import Stalls, path_of, raise_file_limit

LARGE = "def lambda_handler(event, context): return 'x' * 5_000_000\n"
FUNCTIONS = {
    "quiet": {"runtime": "custom", "code": {"path": str(EXAMPLES / "rust-echo/build")}},
    "large": {
        "runtime": "python3.11",
        "memory": 256,
        "code": {"inline": {"lambda_function.py": LARGE}},
        "concurrency": {"reserved": 2},
    },
}
MIB = 1024 * 1024


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rate", type=int, default=100, help="calls per second")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/door.md")
    options = parser.parse_args()
    raise_file_limit()
    limit = yaml.safe_load((CHART / "values.yaml").read_text())["gateway"]["resources"]["limits"]["memory"]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        manifest = Path(folder) / "functions.yaml"
        manifest.write_text(as_yaml([resource("Function", *one) for one in FUNCTIONS.items()]))
        server = LocalServer(manifest, arguments=[f"--memory-limit={limit}"])
        stack.callback(server.stop)
        echo = stack.enter_context(role("echo"))
        proxy = stack.enter_context(role("proxy", echo))
        gateway = server.endpoint.removeprefix("http://")
        targets = {"gateway": (gateway, path_of("quiet")), "proxy": (proxy, "/")}
        # Instances are warm, and their number fits the rate.
        round_of(targets, 0, options)
        idle = memory(server, "VmRSS")
        rounds, opened, probes = [], 0, []
        for turn in range(options.rounds):
            found = {}
            for is_beside in (False, True) if turn % 2 == 0 else (True, False):
                if not is_beside:
                    found["alone"] = round_of(targets, turn, options)
                    continue
                with Stalls(gateway, options.connections, "quiet", "large") as stalls:
                    until(lambda: stalls.opened >= options.connections, "all connections are open")
                    # The bytes that each of them sends before it stalls.
                    time.sleep(options.seconds)
                    found["beside"] = round_of(targets, turn, options)
                    probes += [probe(server) for _ in range(5)]
                opened += stalls.opened
                # Nothing of them is left for the next measurement.
                until(lambda: callers(server) == 0, "their connections are closed")
            rounds.append(found)
        metrics = read(server.status, "/metrics").decode()
        figures = {
            "limit": limit,
            "idle": idle,
            "highest": memory(server, "VmHWM"),
            "opened": opened,
            "probe": max(probes),
            "closed": samples(metrics, "pilotlight_connections_closed_total"),
            "refused": samples(metrics, "pilotlight_requests_refused_total"),
        }
    text = page(rounds, figures, options)
    options.output.write_text(text)
    print(text)


@contextlib.contextmanager
def role(*arguments):
    """One of the bench's servers; it ends with its standard input."""
    process = subprocess.Popen([BENCH, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().split()[0]
    finally:
        process.stdin.close()
        process.wait(PATIENCE)


def round_of(targets, turn, options):
    """The measurements of one round, in alternating order."""
    order = list(targets) if turn % 2 == 0 else list(targets)[::-1]
    return {name: measure(*targets[name], options) for name in order}


def measure(address, path, options, *further, load=None):
    """`load`: other arrivals than the steady ones of `options`."""
    load = (load or f"steady:{options.rate}", f"--seconds={options.seconds}")
    command = [LOAD, "time", address, path, *load, *further]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def memory(server, name):
    """A figure of the gateway's process, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", status)[1])


def read(endpoint, path):
    with urllib.request.urlopen(endpoint.removesuffix("/") + path, timeout=PATIENCE) as answer:
        return answer.read()


def probe(server):
    """How long `/healthz` takes, in milliseconds."""
    begin = time.monotonic()
    read(server.status, "/healthz")
    return 1000 * (time.monotonic() - begin)


def callers(server):
    """The connections that the gateway has with callers."""
    return samples(read(server.status, "/metrics").decode(), "pilotlight_connections")['{listener="api"}']


def samples(metrics, name):
    lines = (line for line in metrics.splitlines() if line.startswith(name + "{"))
    return {line.rsplit(" ", 1)[0].removeprefix(name): int(float(line.rsplit(" ", 1)[1])) for line in lines}


def page(rounds, figures, options):
    stalled = f"{options.connections:,} connections that stall"
    rows = [row("nobody", rounds, "alone"), row(stalled, rounds, "beside")]
    costs = {name: quartiles([cost(one, name) for one in rounds]) for name in ("gateway", "proxy")}
    own = quartiles([cost(one, "gateway") / cost(one, "proxy") for one in rounds])
    counts = {**figures["closed"], **figures["refused"]}
    return "\n".join(
        [
            "# Limits at the door",
            "",
            f"Written by `make show-door` with the programs of `{PILOTLIGHT.parent.name}` at commit `{commit()}`.",
            f"{options.connections:,} connections stall in the head of a request, in its body or in reading the",
            "answer, by HTTP/1.1 and HTTP/2. They are opened anew when the gateway closes them, by a thread of the lowest",
            "priority, as callers do not use the gateway's processors. Beside them a quiet",
            f"function is called {options.rate} times a second, by turns with a bare proxy and an echo server, and by",
            f"turns beside nobody. {options.rounds} rounds of four measurements of {options.seconds} s; medians over the",
            "rounds, with quartiles in brackets. [limits.md](limits.md) explains the limits.",
            "",
            "| beside | gateway, p50 | gateway, p99 | proxy, p50 | proxy, p99 |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
            f"The p99 beside {stalled}, divided by the p99 of the same round beside nobody:",
            "",
            "| gateway | proxy, which has nothing to do with them | gateway / proxy |",
            "|---:|---:|---:|",
            f"| {costs['gateway']} | {costs['proxy']} | {own} |",
            "",
            f"- The gateway may use {figures['limit']}. It took {figures['highest'] / MIB:.0f} MiB of resident memory",
            f"  at most, and {figures['idle'] / MIB:.0f} MiB before the first connection stalled.",
            f"- {figures['opened']:,} connections were opened. `/healthz` of the status listener answered within",
            f"  {figures['probe']:.1f} ms.",
            *(f"- `{labels}`: {count:,}" for labels, count in sorted(counts.items())),
            "",
        ]
    )


def row(beside, rounds, which):
    def middle(name, figure):
        return statistics.median(one[which][name][figure] for one in rounds)

    figures = [f"{middle(name, figure):.2f} ms" for name in ("gateway", "proxy") for figure in ("p50", "p99")]
    return f"| {beside} | {' | '.join(figures)} |"


def cost(one, name):
    """By how much the connections make the p99 of one round longer."""
    return one["beside"][name]["p99"] / one["alone"][name]["p99"]


def quartiles(ratios):
    low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


if __name__ == "__main__":
    main()
