"""A short run of the chaos, the same faults each time: every invocation is accounted for."""

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.trial import Trial
from tests.harness import release
from tests.harness.load import verdict
from tests.harness.paths import REPOSITORY

# Those of one group at once.
GROUPS = [
    ["pod-deleted", "gateway-killed"],
    ["controller-killed", "supervisor-killed"],
    ["watches-dropped", "runtime-killed"],
    ["gateways-restarted", "function-updated"],
    ["gateway-cut-off-from-instances"],
]


@pytest.fixture(scope="module", autouse=True)
def installed():
    with release.installed():
        yield


def test_every_invocation_is_accounted_for():
    with Trial(REPOSITORY / "target/chaos/short", seed=1, rate=30) as trial:
        trial.quiet(5)
        for names in GROUPS:
            trial.strike([FAULTS[name] for name in names])
        trial.quiet(5)
    is_well, words = verdict(trial.folder)
    print(words)
    assert is_well, f"{words}\nThe records are in {trial.folder}."
