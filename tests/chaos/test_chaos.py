"""A short chaos run with the same faults each time: every invocation and every event is accounted for."""

import pytest

from tests.chaos import queue
from tests.chaos.faults import FAULTS
from tests.chaos.trial import Trial, verdict
from tests.harness import release
from tests.harness.paths import REPOSITORY

# The faults of one group occur at once.
GROUPS = [
    ["pod-deleted", "gateway-killed"],
    ["controller-killed", "supervisor-killed"],
    ["watches-dropped", "queue-killed"],
    ["certificates-renewed", "gateway-killed"],
    ["gateways-restarted", "function-updated"],
    ["gateway-cut-off-from-instances", "runtime-killed"],
]


# A certificate lives for as long as the run takes, and half of that is over within it.
SETTINGS = ("--set=certificateLifetime=120",)


@pytest.fixture(scope="module", autouse=True)
def installed():
    queue.make_volume()
    with release.installed(*queue.SETTINGS, *SETTINGS):
        yield
    queue.delete_volume()


def test_every_invocation_is_accounted_for():
    with Trial(REPOSITORY / "target/chaos/short", seed=1, rate=30, event_rate=10, settings=SETTINGS) as trial:
        trial.warm_up()
        for names in GROUPS:
            trial.strike([FAULTS[name] for name in names])
        trial.quiet(5)
    found = verdict(trial.folder)
    print(found.words)
    assert found.is_well, f"{found.words}\nThe records are in {trial.folder}."
