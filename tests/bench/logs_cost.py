"""What logging costs a call, and a quiet function beside one that prints 10,000 lines a second.

    make show-logs-cost

In local mode. Two functions differ in `spec.logging.enabled` alone; each is called at a steady rate, by turns, in each round.
Then a quiet function is called beside a function that prints 10,000 lines a second, and beside nobody, by turns, and so is a
bare proxy in front of an echo server on the same machine. The loud function's cost is the p50 or p99 beside it, divided by that
of the same round beside nobody. The proxy has nothing to do with it, so its cost is the machine's part. Nothing is asserted but
that every call is answered. Writes a section of docs/benchmarks-logs.md.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import threading
import urllib.request
from pathlib import Path

from tests.bench.door import measure, quartiles, role
from tests.bench.logs_pods import LOUD, OUT
from tests.harness.commit import commit
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.paths import EXAMPLES, PILOTLIGHT
from tests.harness.patience import PATIENCE, until
from tests.harness.section import rewrite
from tests.harness.stalls import path_of

ECHO = {"runtime": "custom", "code": {"path": str(EXAMPLES / "rust-echo/build")}}
FUNCTIONS = {
    "logs": ECHO,
    "silent": {**ECHO, "logging": {"enabled": False}},
    "loud": {
        "runtime": "python3.11",
        "memory": 256,
        "timeout": 900,
        "code": {"inline": {"lambda_function.py": LOUD}},
        "concurrency": {"reserved": 1},
    },
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rate", type=int, default=100, help="calls per second")
    parser.add_argument("--lines", type=int, default=10_000, help="that the loud function prints a second")
    parser.add_argument("--no-report", action="store_true", help="only print")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        manifest = Path(folder) / "functions.yaml"
        manifest.write_text(as_yaml([resource("Function", *one) for one in FUNCTIONS.items()]))
        server = LocalServer(manifest)
        stack.callback(server.stop)
        echo = stack.enter_context(role("echo"))
        proxy = stack.enter_context(role("proxy", echo))
        gateway = server.endpoint.removeprefix("http://")
        own = {name: (gateway, path_of(name)) for name in ("logs", "silent")}
        beside = {"quiet": own["logs"], "proxy": (proxy, "/")}
        # Instances are warm, and their number fits the rate.
        turns({**own, **beside}, 0, options)
        costs = [turns(own, turn, options) for turn in range(options.rounds)]
        rounds = []
        for turn in range(options.rounds):
            found = {}
            for is_beside in (False, True) if turn % 2 == 0 else (True, False):
                with loud(server, options) if is_beside else contextlib.nullcontext():
                    found["beside" if is_beside else "alone"] = turns(beside, turn, options)
            rounds.append(found)
    lines = page(costs, rounds, options)
    print("\n".join(lines))
    if not options.no_report:
        rewrite(OUT, "show-logs-cost", lines)


def turns(targets, turn, options):
    """The measurements of one round, in alternating order."""
    order = list(targets) if turn % 2 == 0 else list(targets)[::-1]
    return {name: measure(*targets[name], options) for name in order}


@contextlib.contextmanager
def loud(server, options):
    """The function prints for as long as `with` needs at most, and a little longer."""
    # Two measurements, with what their programs need to start and to end.
    event = {"seconds": 2 * options.seconds + 4, "rate": options.lines}
    before = len(server.lines)
    request = urllib.request.Request(
        server.endpoint.rstrip("/") + path_of("loud"), json.dumps(event).encode()
    )
    called = threading.Thread(target=lambda: urllib.request.urlopen(request, timeout=PATIENCE).read())
    called.start()
    until(lambda: len(server.lines) > before + options.lines // 10, "it prints")
    yield
    called.join()


def page(costs, rounds, options):
    def middle(measured, figure):
        return f"{statistics.median(one[figure] for one in measured):.2f} ms"

    def beside(one, name, figure):
        return one["beside"][name][figure] / one["alone"][name][figure]

    rows = [
        f"| {title} | {middle([one[name] for one in costs], 'p50')} | {middle([one[name] for one in costs], 'p99')} |"
        for name, title in (("logs", "logs START, END and REPORT"), ("silent", "`logging.enabled: false`"))
    ]
    of_logging = {
        figure: quartiles([one["logs"][figure] / one["silent"][figure] for one in costs])
        for figure in ("p50", "p99")
    }
    loud_rows = []
    for figure in ("p50", "p99"):
        quiet, proxy = (
            quartiles([beside(one, name, figure) for one in rounds]) for name in ("quiet", "proxy")
        )
        own = quartiles([beside(one, "quiet", figure) / beside(one, "proxy", figure) for one in rounds])
        loud_rows.append(f"| {figure} | {quiet} | {proxy} | {own} |")
    return [
        f"In local mode, with the programs of `{PILOTLIGHT.parent.name}` at commit {commit()}. {options.rounds} rounds, by turns,",
        f"of measurements of {options.seconds} s at {options.rate} calls a second; medians over the rounds, with quartiles in",
        "brackets.",
        "",
        "| the function | p50 | p99 |",
        "|---|---:|---:|",
        *rows,
        f"| logging / no logging | {of_logging['p50']} | {of_logging['p99']} |",
        "",
        f"A quiet function beside one that prints {options.lines:,} lines of 100 bytes a second, divided by the same round beside",
        "nobody; and a bare proxy, which has nothing to do with logs, so that it shows the machine's part:",
        "",
        "| | quiet function | proxy | function / proxy |",
        "|---|---:|---:|---:|",
        *loud_rows,
        "",
    ]


if __name__ == "__main__":
    main()
