"""VictoriaLogs as a receiver of OTLP: the program that the cluster's tools build, and what it has of a function."""

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from tests.harness.paths import REPOSITORY
from tests.harness.patience import PATIENCE, until

PROGRAM = REPOSITORY / "target/cluster/bin/victoria-logs"
# Where it takes OTLP.
OTLP = "/insert/opentelemetry"


def rows(base, query, headers=None):
    """What it has, in the order of time."""
    arguments = urllib.parse.urlencode({"query": f"{query} | sort by (_time)", "limit": 10_000})
    request = urllib.request.Request(f"{base}/select/logsql/query?{arguments}", headers=headers or {})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return [json.loads(line) for line in answer]


class VictoriaLogs:
    """Running while the `with` lasts. It can be stopped and started again, at the same port with the same data."""

    def __init__(self, data, port, flags=()):
        assert PROGRAM.is_file(), f"{PROGRAM} is missing: tests/cluster/cluster build victoria-logs"
        self.base = f"http://127.0.0.1:{port}"
        self._command = [
            PROGRAM,
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-storageDataPath={data}",
            "-inmemoryDataFlushInterval=1s",
            *flags,
        ]
        self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        until(self._serves, lambda: f"VictoriaLogs serves: {self._process.poll()}")

    def stop(self):
        if self._process:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def _serves(self):
        try:
            with urllib.request.urlopen(f"{self.base}/health", timeout=PATIENCE) as answer:
                return answer.status == 200
        except OSError:
            return False
