"""100,000 waiting events of one function, and a quiet function beside them.

    make show-events-cost

In local mode. A function with one instance, which takes its time, has the events; each round makes them anew and removes them. A
quiet function is called at a steady rate beside the events and beside nobody, by turns, and so is a bare proxy in front of an
echo server on the same machine. The cost of the events is the p50 or p99 beside them, divided by that of the same round beside
nobody. The proxy has nothing to do with them, so its cost is the machine's part. Nothing is asserted but that every call is
answered. Writes a section of docs/benchmarks-events.md.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.bench.door import measure, quartiles, role
from tests.bench.events import OUT
from tests.harness.commit import commit
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.paths import EXAMPLES, PILOTLIGHT
from tests.harness.patience import PATIENCE, until
from tests.harness.section import rewrite
from tests.harness.stalls import path_of

BUSY = "import time\n\ndef lambda_handler(event, context): time.sleep(0.2)\n"
FUNCTIONS = {
    "quiet": {"runtime": "custom", "code": {"path": str(EXAMPLES / "rust-echo/build")}},
    "busy": {
        "runtime": "python3.11",
        "code": {"inline": {"lambda_function.py": BUSY}},
        "concurrency": {"reserved": 1},
    },
}
SENDERS = 64  # callers at once that make the events


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rate", type=int, default=100, help="calls per second")
    parser.add_argument("--no-report", action="store_true", help="only print")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        manifest = Path(folder) / "functions.yaml"
        manifest.write_text(as_yaml([resource("Function", *one) for one in FUNCTIONS.items()]))
        server = LocalServer(manifest)
        stack.callback(server.stop)
        echo = stack.enter_context(role("echo"))
        proxy = stack.enter_context(role("proxy", echo))
        gateway = server.endpoint.removeprefix("http://").rstrip("/")
        targets = {"quiet": (gateway, path_of("quiet")), "proxy": (proxy, "/")}
        # Instances are warm, and their number fits the rate.
        turns(targets, 0, options)
        rounds, waited, filled = [], [], []
        for turn in range(options.rounds):
            found = {}
            for is_beside in (False, True) if turn % 2 == 0 else (True, False):
                if not is_beside:
                    found["alone"] = turns(targets, turn, options)
                    continue
                begin = time.monotonic()
                fill(server, gateway, options)
                filled.append(options.events / (time.monotonic() - begin))
                found["beside"] = turns(targets, turn, options)
                waited.append(waiting(server))
                purge(server)
            rounds.append(found)
    lines = page(rounds, min(waited), statistics.median(filled), options)
    print("\n".join(lines))
    if not options.no_report:
        rewrite(OUT, "show-events-cost", lines)


def turns(targets, turn, options):
    """The measurements of one round, in alternating order."""
    order = list(targets) if turn % 2 == 0 else list(targets)[::-1]
    return {name: measure(*targets[name], options) for name in order}


def request(server, path, method):
    url = f"{server.endpoint.rstrip('/')}/pilotlight/v1/functions/busy/events{path}"
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=PATIENCE) as answer:
        return json.load(answer)


def waiting(server):
    return request(server, "", "GET")["count"]


def fill(server, gateway, options):
    """Returns when so many events wait."""
    header, seconds = "--header=X-Amz-Invocation-Type: Event", argparse.Namespace(rate=0, seconds=2)
    load = f"closed:{SENDERS}"
    while waiting(server) < options.events:
        measure(gateway, path_of("busy"), seconds, header, "--status=202", load=load)


def purge(server):
    request(server, "", "DELETE")
    # The one that is under way ends with its attempt.
    until(lambda: waiting(server) == 0, "no event is left")


def page(rounds, waited, rate, options):
    def beside(one, name, figure):
        return one["beside"][name][figure] / one["alone"][name][figure]

    def middle(place, name, figure):
        return f"{statistics.median(one[place][name][figure] for one in rounds):.2f} ms"

    rows, costs = [], []
    for place, title in (("alone", "nobody"), ("beside", f"{options.events:,} waiting events")):
        figures = " | ".join(
            middle(place, name, figure) for name in ("quiet", "proxy") for figure in ("p50", "p99")
        )
        rows.append(f"| {title} | {figures} |")
    for figure in ("p50", "p99"):
        quiet, proxy = (
            quartiles([beside(one, name, figure) for one in rounds]) for name in ("quiet", "proxy")
        )
        own = quartiles([beside(one, "quiet", figure) / beside(one, "proxy", figure) for one in rounds])
        costs.append(f"| {figure} | {quiet} | {proxy} | {own} |")
    return [
        f"In local mode, with the programs of `{PILOTLIGHT.parent.name}` at commit {commit()}. {options.rounds} rounds, by turns,",
        f"of measurements of {options.seconds} s at {options.rate} calls a second; medians over the rounds, with quartiles in",
        f"brackets. One instance of another function works on the events, of which {waited:,} waited at least at the end of a",
        f"measurement. They were accepted at {rate:,.0f} a second, by {SENDERS} callers at once.",
        "",
        "| beside | quiet function, p50 | p99 | proxy, p50 | p99 |",
        "|---|---:|---:|---:|---:|",
        *rows,
        "",
        "Beside the events, divided by the same round beside nobody:",
        "",
        "| | quiet function | proxy | function / proxy |",
        "|---|---:|---:|---:|",
        *costs,
        "",
    ]


if __name__ == "__main__":
    main()
