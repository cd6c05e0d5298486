"""Sends one trace through two functions to a real collector, asks that for it, and writes its table into docs/traces.md.

    make show-traces

The caller has a span of its own. The first function is Python with Powertools' tracer, unmodified, and calls the second
with boto3; the second is a custom runtime in shell.
"""

import json
import secrets
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.harness.commit import commit
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.paths import EXAMPLES, REPOSITORY
from tests.harness.patience import LONGER, PATIENCE, until
from tests.traces.jaeger import Jaeger, build

PAGE = REPOSITORY / "docs/traces.md"
LOCAL = "<!-- the table of make show-traces -->"
END = "<!-- its end -->"


def expected(front, shell):
    """Each span of the trace, and the one above it. `front`, `shell`: how the instance of each function came up."""

    def phases(function, coming_up):
        return [(phase, function) for phase in ("queue", *coming_up, "run", "respond")]

    return [
        ("caller", None),
        ("front", "caller"),
        *phases("front", front),
        ("## lambda_handler", "run"),
        ("## lambda_function.second", "## lambda_handler"),
        ("lambda", "## lambda_function.second"),
        ("shell", "lambda"),
        *phases("shell", shell),
    ]


EXPECTED = expected(front=["start", "init"], shell=["start", "init"])


def functions():
    front = {"path": str(REPOSITORY / "tests/traces/front")}
    shell = {"path": str(EXAMPLES / "shell/code")}
    return [
        resource("Function", "front", {"runtime": "python3.11", "timeout": LONGER, "code": front}),
        resource(
            "Function",
            "shell",
            {"runtime": "custom", "handler": "function.describe", "timeout": LONGER, "code": shell},
        ),
    ]


def call(endpoint, trace, span):
    """Calls the first function as a caller that is traced; returns when that began and ended."""
    request = urllib.request.Request(
        f"{endpoint}/2015-03-31/functions/front/invocations",
        json.dumps({"order": 4711}).encode(),
        {"traceparent": f"00-{trace}-{span}-01"},
    )
    begin = time.time_ns()
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert "x-amz-function-error" not in answer.headers, answer.read()
        assert answer.headers["traceresponse"].startswith(f"00-{trace}-"), answer.headers
    return begin, time.time_ns()


def show(jaeger, place):
    manifest = Path(place) / "functions.yaml"
    manifest.write_text(as_yaml(functions()))
    server = LocalServer(manifest, arguments=[f"--otlp={jaeger.otlp}", "--trace-ratio=0"])
    try:
        trace, span = secrets.token_hex(16), secrets.token_hex(8)
        times = call(server.endpoint, trace, span)
        jaeger.export(trace, span, "caller", *times)
        spans = complete(jaeger, trace, EXPECTED)
        # A call about which no caller has decided leaves nothing, at this ratio, unless it fails.
        untraced = call_untraced(server.endpoint)
        assert ";Sampled=0;" in untraced, untraced
    finally:
        server.stop()
    root = untraced.split(";")[0].removeprefix("Root=1-").replace("-", "")
    assert jaeger.spans(root) == [], "a call that is not sampled leaves no span"
    return spans


def complete(jaeger, trace, expected):
    """The spans of the trace, once each that is expected is there, below the one that is above it, and no other."""
    spans = []

    def is_complete():
        spans[:] = jaeger.spans(trace)
        found = sorted((one["name"].lower(), str(one["below"]).lower()) for one in spans)
        return found == sorted((name, str(below).lower()) for name, below in expected)

    until(is_complete, lambda: f"the whole trace: {[(s['name'], s['below']) for s in spans]}")
    return spans


def call_untraced(endpoint):
    request = urllib.request.Request(
        f"{endpoint}/2015-03-31/functions/shell/invocations", b'{"name": "untraced"}'
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.headers["x-amzn-trace-id"]


def table(spans):
    children = {}
    for one in sorted(spans, key=lambda one: one["start"]):
        children.setdefault(one["parent"], []).append(one)
    [root] = [one for one in spans if one["below"] is None]
    lines = ["| span | from | begins, ms | takes, ms |", "|---|---|---|---|"]

    def add(one, depth):
        begins = (one["start"] - root["start"]) / 1000
        name = "&nbsp;&nbsp;" * depth + f"`{one['name']}`"
        lines.append(f"| {name} | {one['service']} | {begins:.1f} | {one['duration'] / 1000:.1f} |")
        for child in children.get(one["id"], []):
            add(child, depth + 1)

    add(root, 0)
    return lines


def write(begin, spans):
    """Puts the table into the page, behind the mark where it begins."""
    before, mark, rest = PAGE.read_text().partition(begin)
    assert mark, f"{PAGE} has no {begin}"
    after = rest.partition(END)[2]
    said = f"Commit {commit()}: {len(spans)} spans of one call, as Jaeger answers. The durations are no benchmark."
    lines = "\n".join([begin, "", said, "", *table(spans), "", END])
    PAGE.write_text(before + lines + after)
    print(lines)


def main():
    build()
    with Jaeger() as jaeger, tempfile.TemporaryDirectory() as place:
        spans = show(jaeger, place)
    write(LOCAL, spans)
    return 0


if __name__ == "__main__":
    sys.exit(main())
