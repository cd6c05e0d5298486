"""The wall clock of a gateway and its supervisors jumps forward and back, and no call is lost.

Runs in local mode. A library (libfaketime) shifts the time of day that the processes see, since a step of the
machine's own clock would affect every process.
"""

import json
import os
import urllib.request
from pathlib import Path

from tests.harness.load import Journal, Load, accounted, assert_no_rule_is_broken
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, function
from tests.harness.paths import SUPERVISOR
from tests.harness.patience import LONGER, PATIENCE, until

[FAKETIME] = Path("/usr/lib").glob("*-linux-gnu/faketime/libfaketimeMT.so.1")
HOUR, LIMIT = 3_600_000, LONGER * 1000
# The remaining time of the limit, in milliseconds, for each offset of the clock, in seconds.
STEPS = {"+3600": range(HOUR, HOUR + LIMIT + 1), "-3600": range(1), "+0": range(1, LIMIT + 1)}
# Compares its deadline, a time of day from the shifted clock, with the machine's own clock.
REMAINING = "def lambda_handler(event, context):\n    return context.get_remaining_time_in_millis()\n"


# Where libfaketime looks for the offset without a variable that names a file: a supervisor has emptied its environment
# by the time that the library reads it. Only programs that load the library read this file.
OFFSET = Path("/etc/faketimerc")


class SteppedServer(LocalServer):
    """A local server. A file sets the time of day that its programs see."""

    def __init__(self, folder, *paths):
        self.step("+0")
        variables = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        # A gateway does not pass its variables to supervisors, so this script sets them.
        supervisor = folder / "supervisor"
        settings = "".join(f"export {name}={value}\n" for name, value in variables.items())
        supervisor.write_text(f'#!/bin/sh\n{settings}exec {SUPERVISOR} "$@"\n')
        supervisor.chmod(0o755)
        super().__init__(f"--supervisor={supervisor}", *paths, environment={**os.environ, **variables})

    def step(self, offset):
        """The file is replaced as a whole, so readers never see half of it."""
        new = OFFSET.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.rename(OFFSET)

    def stop(self):
        try:
            super().stop()
        finally:
            OFFSET.unlink()


def test_a_step_of_the_clock_loses_nothing(tmp_path):
    records = tmp_path / "records"
    manifests = [
        accounted("accounted", concurrency={"reserved": 4, "queue": 100}),
        function("remaining", REMAINING, concurrency={"reserved": 1}),
    ]
    (tmp_path / "functions.yaml").write_text(as_yaml(manifests))
    server = SteppedServer(tmp_path, tmp_path / "functions.yaml")
    try:
        with Journal(records, "127.0.0.1") as journal:
            endpoint = server.endpoint.removeprefix("http://")
            with Load(journal, endpoint, {"accounted": "40"}) as load:
                for step, remaining in STEPS.items():
                    load.await_successes(100)
                    server.step(step)
                    until(lambda: invoke(server, "remaining") in remaining, f"the clock is at {step}")
                load.await_successes(100)
    finally:
        server.stop()
    assert_no_rule_is_broken(records)


def invoke(server, name):
    with urllib.request.urlopen(
        f"{server.endpoint}/2015-03-31/functions/{name}/invocations", b"{}", PATIENCE
    ) as answer:
        return json.load(answer)
