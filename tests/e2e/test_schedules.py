"""Schedules in pods: each time has one event, whichever gateway owns the function, and the status says what was sent.

The release of the suite has a queue while these tests run.
"""

import pytest

from tests.harness import release
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.local_server import pilotlight
from tests.harness.manifests import schedule
from tests.harness.patience import until
from tests.harness.release import ENDPOINT, QUEUED

pytestmark = pytest.mark.long

SOURCE = """
import rooms

def lambda_handler(event, context):
    rooms.enter(event["room"], context.aws_request_id)
"""


@pytest.fixture(scope="module", autouse=True)
def queued(installed):
    release.install(*QUEUED, "--set=gateway.replicas=2")
    release.await_replaced()
    yield
    release.install()
    release.await_replaced()


@pytest.fixture
def scheduled():
    """Applies a Schedule, and deletes it when the test is over."""
    made = []

    def make(name, function, **spec):
        apply(schedule(name, function, **spec))
        made.append(name)
        return name

    yield make
    for name in made:
        kubectl("delete", "schedule", name)


def status(name):
    return get("schedule", name).get("status", {})


def reason(name):
    conditions = {one["type"]: one for one in status(name).get("conditions", [])}
    return conditions.get("Ready", {}).get("reason")


def test_each_time_has_one_event_while_gateways_are_replaced(function, room, scheduled):
    name = function("scheduled", SOURCE)
    open_room = room()
    open_room.open()
    often = scheduled("often", name, schedule="rate(1 minute)", input={"room": open_room.address})
    # The first time is its creation.
    until(lambda: len(open_room.entered) == 1, lambda: (open_room.entered, status(often)))
    until(lambda: status(often).get("lastTime"), lambda: status(often))
    first = status(often)
    assert first["nextTime"] > first["lastTime"] and first["missed"] == 0
    assert reason(often) == "Scheduled"
    release.roll("gateway")
    release.await_replaced()
    until(lambda: len(open_room.entered) > 1, lambda: (open_room.entered, status(often)))
    until(lambda: status(often)["lastTime"] >= first["nextTime"], lambda: status(often))
    assert len(set(open_room.entered)) == len(open_room.entered), open_room.entered
    assert status(often)["missed"] == 0, status(often)
    done = pilotlight("schedules", f"--endpoint={ENDPOINT}")
    assert done.returncode == 0, done.stderr
    assert any(line.split()[:2] == [often, name] for line in done.stdout.splitlines()), done.stdout


def test_a_schedule_that_sends_nothing_says_why(scheduled):
    wrong = scheduled("wrong", "nobody", schedule="cron(61 3 * * ? *)")
    until(lambda: reason(wrong) == "InvalidSchedule", lambda: get("schedule", wrong))
    lost = scheduled("lost", "nobody", suspend=False)
    until(lambda: reason(lost) == "FunctionNotFound", lambda: get("schedule", lost))
