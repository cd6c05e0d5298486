"""Compares the warm path of builds of Pilotlight, or of settings of one build, in turns on one machine in one run.

    python -m tests.bench.builds BEFORE [AFTER] [--rounds 8] [--runtimes python3.11,custom]
    python -m tests.bench.builds target/release --settings

BEFORE and AFTER are folders with `pilotlight` and `pilotlight-supervisor`, both optimised; AFTER is
target/release by default. With `--settings` the program of BEFORE runs with the options of a user who sets none, and
with those of SETTINGS. A round calls a function of each server with 1 and with 8 connections, in
alternating order. The table has the median over the rounds of the rate's ratio and of p50's ratio, with their
quartiles: a ratio of one round compares two measurements of the same few seconds. Nothing is asserted.
`--section NAME` writes the table into that part of docs/benchmarks-builds.md.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.paths import EXAMPLES, LOAD, REPOSITORY
from tests.harness.section import rewrite

DOCUMENT = REPOSITORY / "docs/benchmarks-builds.md"

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
# What is compared with the options of a user who sets none: options of `pilotlight local`, fields of the Function,
# variables. No folder can be made below /dev/null.
SETTINGS = {
    "the log in memory instead of in files": {"environment": {"PILOTLIGHT_LOGS": "/dev/null/logs"}},
    "the function's output dropped": {"spec": {"logging": {"enabled": False}}},
    "the listener of metrics": {"arguments": ["--status=127.0.0.1:0"]},
    "traces, a tenth kept": {"arguments": ["--otlp={collector}", "--trace-ratio=0.1"]},
    "traces, each kept": {"arguments": ["--otlp={collector}"]},
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?", default=REPOSITORY / "target/release")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--runtimes", default="custom,python3.11")
    parser.add_argument("--settings", action="store_true", help="compare settings of BEFORE")
    parser.add_argument("--section", help="the part of the document that the table is written into")
    options = parser.parse_args()
    options.runtimes = options.runtimes.split(",")
    lines = []

    def say(line):
        print(line, flush=True)
        lines.append(line)

    if options.settings:
        compare_settings(options, say)
    else:
        compare_builds(options, say)
    if options.section:
        rewrite(DOCUMENT, options.section, lines)


def compare_builds(options, say):
    heading(say, "before", "after")
    with ExitStack() as stack:
        servers = [stack.enter_context(Served(build, options)) for build in (options.before, options.after)]
        for runtime in options.runtimes:
            for connections in CONNECTIONS:
                rounds = [compare(servers, runtime, connections, turn, options) for turn in each_of(options)]
                say(row(runtime, connections, rounds))


def compare_settings(options, say):
    """Each setting has a table of its own, because more than two servers would share two processors."""
    with Collector() as collector:
        for name, settings in SETTINGS.items():
            say(f"{name[0].upper()}{name[1:]}:")
            say("")
            heading(say, "without", "with")
            with ExitStack() as stack:
                arguments = [one.format(collector=collector.address) for one in settings.get("arguments", ())]
                plain = stack.enter_context(Served(options.before, options))
                other = stack.enter_context(
                    Served(options.before, options, **{**settings, "arguments": arguments})
                )
                for runtime in options.runtimes:
                    for connections in CONNECTIONS:
                        rounds = [
                            compare([plain, other], runtime, connections, turn, options)
                            for turn in each_of(options)
                        ]
                        say(row(runtime, connections, rounds))
            say("")
        if not collector.bodies:
            sys.exit("the collector got no span")


def each_of(options):
    return range(options.rounds)


class Served:
    """A server with one function for each runtime inside `with`."""

    def __init__(self, build, options, arguments=(), environment=None, spec=None):
        self._program = (build / "pilotlight").resolve()
        self._functions = [function(runtime, spec) for runtime in options.runtimes]
        self._arguments, self._environment = arguments, environment

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        manifest = Path(self._folder.name) / "functions.yaml"
        manifest.write_text(as_yaml(self._functions))
        self._server = LocalServer(
            manifest,
            program=self._program,
            has_status=False,
            arguments=self._arguments,
            variables=self._environment,
        )
        self.endpoint = self._server.endpoint
        return self

    # A server counts what was started after it among its own: the last one has to end first.
    def __exit__(self, *_):
        self._server.stop()
        self._folder.cleanup()


class Collector:
    """Takes spans inside `with`, and throws them away."""

    def __enter__(self):
        collector = self
        self.bodies = 0

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                collector.bodies += 1
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def heading(say, first, second):
    say(
        f"| runtime | connections | {first}, calls/s | {second}, calls/s | rate, {second} / {first} | p50, {second} / {first} |"
    )
    say("|---|---:|---:|---:|---:|---:|")


def function(runtime, fields=None):
    spec = {"runtime": runtime, "memory": MEMORY, "code": CODE[runtime], **(fields or {})}
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
