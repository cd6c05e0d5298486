"""The cluster of this machine, and a pair of namespaces for a test: the release's and the Functions'."""

import subprocess
import uuid

import pytest
from helm import CLUSTER, good, run


@pytest.fixture(scope="session", autouse=True)
def cluster():
    subprocess.run([CLUSTER, "up"], check=True, capture_output=True, timeout=300)


@pytest.fixture
def namespaces():
    system = f"chart-{uuid.uuid4().hex[:8]}"
    made = (system, f"{system}-functions")
    for name in made:
        good("kubectl", "create", "namespace", name)
    yield made
    run("kubectl", "delete", "namespace", *made, "--wait=false")
