"""The cluster's API server with the project's own definitions, for every test here."""

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "tests/cluster/cluster"


def kubectl(*arguments, manifest=None):
    return subprocess.run(
        [CLUSTER, "exec", "--", "kubectl", *arguments],
        input=manifest,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="session", autouse=True)
def definitions():
    applied = kubectl("apply", "--server-side", "--force-conflicts", "-f", REPOSITORY / "crds")
    assert applied.returncode == 0, applied.stderr
    established = kubectl(
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "crd/functions.pilotlight.dev",
        "crd/warmpools.pilotlight.dev",
    )
    assert established.returncode == 0, established.stderr


@pytest.fixture(scope="session")
def dry_run():
    def apply(manifest):
        return kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", manifest=manifest)

    return apply
