"""Callers that stall take neither the memory of a gateway nor the answers of others.

Local mode alone: what is measured is the process of the gateway. Each test has a server of its own, since the highest
memory of a process is that of its whole life.
"""

import asyncio
import itertools
import json
import re
import urllib.request
from pathlib import Path

import pytest

from tests.faithful.served import python
from tests.harness.endpoint import IN_CLUSTER
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.metrics import read_metrics
from tests.harness.patience import PATIENCE, until
from tests.harness.stalls import Stalls, bodies_on_one_connection, path_of

pytestmark = pytest.mark.skipif(IN_CLUSTER, reason="it measures the process of a gateway")

MIB = 1024 * 1024
LIMIT = 256 * MIB
FUNCTIONS = {
    "quiet": python("def lambda_handler(event, context): return event\n"),
    "large": python(
        "def lambda_handler(event, context): return 'x' * 5_000_000\n", concurrency={"reserved": 2}
    ),
}
CONNECTIONS = 300
# A connection of each kind was refused or closed for what it did.
REASONS = {"slow_head", "slow_body", "slow_reader"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("PILOTLIGHT_MEMORY_LIMIT", str(LIMIT))
    file = tmp_path / "functions.yaml"
    file.write_text(as_yaml([resource("Function", *one) for one in FUNCTIONS.items()]), encoding="utf-8")
    server = LocalServer(file)
    yield server
    server.stop()


def address(server):
    return server.endpoint.removeprefix("http://")


def highest_memory(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.status, answer.read()


def invoke(server, event):
    request = urllib.request.Request(
        server.endpoint + path_of("quiet"), json.dumps(event).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def assert_serves(server, event):
    assert invoke(server, event) == event
    for path in ("/healthz", "/readyz", "/metrics"):
        assert get(server.status.removesuffix("/") + path)[0] == 200


def test_200_stalled_bodies_on_one_connection_leave_the_gateway_below_its_memory_limit(server):
    assert_serves(server, 1)
    before = highest_memory(server)
    sent, closed = asyncio.run(bodies_on_one_connection(address(server), "quiet", 200))
    held = highest_memory(server) - before
    assert held < LIMIT, f"{held / MIB:.0f} MiB for callers that stall"
    assert_serves(server, 2)
    assert closed > 0, f"no body was refused; {sent} were taken"
    refused = samples(server, "pilotlight_requests_refused_total")
    assert refused.get('{reason="event_bytes"}'), refused
    # What the stalled bodies held returns.
    until(lambda: held_bytes(server) == 0, lambda: f"held: {held_bytes(server)}")


def samples(server, name):
    """The samples of a metric, by their labels."""
    lines = read_metrics(server.status.removesuffix("/")).splitlines()
    found = (line.rsplit(" ", 1) for line in lines if line.startswith(name + "{"))
    return {labels.removeprefix(name): int(value) for labels, value in found}


def held_bytes(server):
    used = samples(server, "pilotlight_budget_used_bytes")
    assert len(used) == 2, "the budgets of events and answers"
    return sum(used.values())


def reasons(server):
    """Why requests were refused and connections closed."""
    names = ("pilotlight_requests_refused_total", "pilotlight_connections_closed_total")
    counts = (one for name in names for one in samples(server, name).items())
    return {re.search(r'reason="(\w+)"', labels)[1] for labels, count in counts if count}


def test_connections_that_stall_leave_memory_probes_and_a_quiet_function_alone(server):
    assert_serves(server, 0)
    before = highest_memory(server)
    calls = itertools.count(1)
    with Stalls(address(server), CONNECTIONS, "quiet", "large") as stalls:

        def most_were_closed():
            assert_serves(server, next(calls))
            return stalls.opened > 3 * CONNECTIONS and REASONS <= reasons(server)

        until(most_were_closed, lambda: f"{stalls.opened} connections were opened; {reasons(server)}")
    held = highest_memory(server) - before
    assert held < LIMIT, f"{held / MIB:.0f} MiB for callers that stall"
