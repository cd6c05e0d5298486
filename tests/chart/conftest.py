"""A pair of namespaces for a test on the cluster: the release's and the Functions'."""

import uuid

import pytest

from tests.chart.helm import good, run
from tests.harness import cluster as test_cluster


@pytest.fixture(scope="session")
def cluster():
    test_cluster.cluster("up")


@pytest.fixture
def namespaces(cluster):
    system = f"chart-{uuid.uuid4().hex[:8]}"
    made = (system, f"{system}-functions")
    for name in made:
        good("kubectl", "create", "namespace", name)
    yield made
    run("kubectl", "delete", "namespace", *made, "--wait=false")
