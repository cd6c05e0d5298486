"""The cluster's API server with the project's own definitions, for every test here."""

import pytest

from tests.harness.commands import attempt, inside, run
from tests.harness.kubectl import TIMEOUT
from tests.harness.paths import REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def definitions():
    crds = REPOSITORY / "crds"
    run(*inside("kubectl", "apply", "--server-side", "--force-conflicts", f"--filename={crds}"))
    names = [f"crd/{kind}.pilotlight.dev" for kind in ("functions", "warmpools", "schedules")]
    run(*inside("kubectl", "wait", "--for=condition=Established", TIMEOUT, *names))


@pytest.fixture(scope="session")
def dry_run():
    def apply(manifest):
        command = inside("kubectl", "apply", "--dry-run=server", "--validate=strict", "--filename=-")
        return attempt(*command, input=manifest)

    return apply
