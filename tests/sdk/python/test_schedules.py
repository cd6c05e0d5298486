"""Schedules in local mode: read beside their function, sent once, and refused where they are wrong."""

import json

import pytest

from tests.harness.endpoint import only_local
from tests.harness.local_server import LocalServer, pilotlight
from tests.harness.patience import until

MANIFEST = """\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: { name: scheduled }
spec:
  runtime: python3.11
  memory: 128
  code:
    inline:
      lambda_function.py: |
        import json
        def lambda_handler(event, context):
            print("ran", context.aws_request_id, json.dumps(event))
---
apiVersion: pilotlight.dev/v1alpha1
kind: Schedule
metadata: { name: often }
spec:
  function: scheduled
  schedule: rate(1 day)
  input: { days: [1] }
"""


@pytest.fixture
def events(tmp_path):
    """A folder of events that outlives a server."""
    return {"PILOTLIGHT_EVENTS": str(tmp_path / "events")}


@pytest.fixture
def manifests(tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "all.yaml").write_text(MANIFEST)
    return folder


def listed(server):
    done = pilotlight("schedules", "--endpoint", server.endpoint)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@only_local("about `pilotlight local` itself")
def test_a_schedule_sends_its_input_once_over_a_restart(manifests, events):
    server = LocalServer(manifests, variables=events)
    try:
        ran = server.wait_for_line(r"ran (\S+) (.*)")
        assert json.loads(ran[2]) == {"days": [1]}
        # The first time is when the schedule was first seen.
        until(lambda: listed(server)[1].split()[5] != "-", lambda: listed(server))
        before = listed(server)
        assert before[1].split()[:4] == ["often", "scheduled", "rate(1", "day)"]
    finally:
        server.stop()
    server = LocalServer(manifests, variables=events)
    try:
        until(lambda: listed(server) == before, lambda: (before, listed(server)))
        assert not [line for line in server.lines if ran[1] in line]
        # Another rate has other times, from now on.
        (manifests / "all.yaml").write_text(MANIFEST.replace("rate(1 day)", "rate(2 days)"))
        until(lambda: "rate(2 days)" in listed(server)[1], lambda: listed(server))
    finally:
        server.stop()


@only_local("about `pilotlight local` itself")
def test_a_wrong_schedule_is_refused_with_its_place(manifests):
    (manifests / "all.yaml").write_text(MANIFEST.replace("rate(1 day)", "cron(61 3 * * ? *)"))
    done = pilotlight("local", "--listen=127.0.0.1:0", str(manifests))
    assert done.returncode == 2
    assert "all.yaml:18:3: spec.schedule: `cron(61 3 * * ? *)` is no schedule" in done.stderr, done.stderr
