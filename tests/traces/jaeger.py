"""Jaeger, all in one process: built from its Go module, on ports of the loopback interface, in memory."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request

from tests.harness.addresses import free_port
from tests.harness.paths import REPOSITORY
from tests.harness.patience import PATIENCE, until

SOURCE = REPOSITORY / "tests/traces/jaeger"
PROGRAM = REPOSITORY / "target/traces/jaeger"
PACKAGE = "github.com/jaegertracing/jaeger/cmd/all-in-one"
# As an image for the nodes of the cluster.
IMAGE = "pilotlight.test/jaeger:1.76"
ARCHIVE = REPOSITORY / "target/traces/jaeger.tar"


def pack():
    """The program as an image."""
    root = PROGRAM.parent / "root"
    root.mkdir(exist_ok=True)
    shutil.copy2(PROGRAM, root / "jaeger")
    words = ["--tag", IMAGE, "--layer", root, "--entrypoint", "/jaeger", "--user", "65534:65534", ARCHIVE]
    subprocess.run([REPOSITORY / "tests/cluster/image", *words], check=True)


def build():
    """Compiles it; Go's cache makes a second time short."""
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", PROGRAM, PACKAGE]
    subprocess.run(command, cwd=SOURCE, check=True, env=os.environ | {"CGO_ENABLED": "0"})


class JaegerAt:
    """A Jaeger that runs, by the addresses of its receiver and of its questions."""

    def __init__(self, otlp, query):
        self.otlp, self.query = otlp, query

    def answers(self):
        try:
            return self.get("/api/services") is not None
        except OSError:
            return False

    def get(self, path):
        with urllib.request.urlopen(self.query + path, timeout=PATIENCE) as answer:
            return json.load(answer)

    def spans(self, trace):
        """The spans of a trace by their names, each with the name of its parent."""
        try:
            traces = self.get(f"/api/traces/{trace}")["data"]
        except urllib.error.HTTPError:
            return []
        [found] = traces
        names = {span["spanID"]: span["operationName"] for span in found["spans"]}
        return [
            {
                "id": span["spanID"],
                "name": span["operationName"],
                "service": found["processes"][span["processID"]]["serviceName"],
                "parent": next((r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"), None),
                "below": next(
                    (names.get(r["spanID"]) for r in span["references"] if r["refType"] == "CHILD_OF"), None
                ),
                "start": span["startTime"],
                "duration": span["duration"],
                "tags": {tag["key"]: tag["value"] for tag in span["tags"]},
            }
            for span in found["spans"]
        ]

    def export(self, trace, span, name, begin, end):
        """A span of the caller's own, as its SDK would send it."""
        body = {
            "resourceSpans": [
                {
                    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "caller"}}]},
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "traceId": trace,
                                    "spanId": span,
                                    "name": name,
                                    "kind": 3,
                                    "startTimeUnixNano": str(begin),
                                    "endTimeUnixNano": str(end),
                                }
                            ]
                        }
                    ],
                }
            ]
        }
        request = urllib.request.Request(
            f"{self.otlp}/v1/traces", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass


class Jaeger(JaegerAt):
    """Running while the `with` lasts."""

    def __init__(self, host="127.0.0.1"):
        ports = {
            name: f"{host}:{free_port()}"
            for name in (
                "admin.http.host-port",
                "collector.grpc-server.host-port",
                "collector.http-server.host-port",
                "collector.otlp.grpc.host-port",
                "collector.otlp.http.host-port",
                "query.grpc-server.host-port",
                "query.http-server.host-port",
            )
        }
        addresses = ports["collector.otlp.http.host-port"], ports["query.http-server.host-port"]
        super().__init__(*[f"http://{address}" for address in addresses])
        options = [f"--{name}={address}" for name, address in ports.items()]
        self.command = [PROGRAM, "--collector.otlp.enabled=true", "--log-level=warn", *options]

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"SPAN_STORAGE_TYPE": "memory"},
        )
        until(self.answers, lambda: f"Jaeger answers: {self.process.poll()}")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)
