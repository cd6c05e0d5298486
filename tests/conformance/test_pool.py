"""Cold starts in a cluster that use a process which waits in a warm pool of the runtime."""

import statistics

import pytest

from tests.harness.endpoint import IN_CLUSTER
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.manifests import resource, warm_pool
from tests.harness.patience import until
from tests.harness.release import await_known
from tests.harness.state import is_ready, waiting

pytestmark = pytest.mark.skipif(not IN_CLUSTER, reason="local mode has no warm pools")

POOL = "table"
NAMES = [f"pooled-{number}" for number in range(5)]
# Variables that name the function, the instance, or its machine.
OWN = {
    "AWS_ENDPOINT_URL_LAMBDA",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "HOSTNAME",
    "_X_AMZN_TRACE_ID",
}


@pytest.fixture(scope="module")
def await_full(runtime):
    """Returns once a pod of the pool waits."""
    apply(warm_pool(POOL, runtime=runtime.name, memory=runtime.memory))

    def ready():
        return [pod["metadata"]["name"] for pod in waiting(POOL) if is_ready(pod)]

    yield lambda: until(ready, lambda: kubectl("get", "warmpool,pods", "--output=wide"))
    kubectl("delete", "warmpool", POOL)


@pytest.fixture(scope="module")
def copies():
    """Functions as `table` is, which nobody has called."""
    spec = get("function", "table")["spec"]
    apply(*(resource("Function", name, spec) for name in NAMES))
    await_known(NAMES)
    yield NAMES
    kubectl("delete", "functions", *NAMES)


def test_pool(invoke, clock, figures, await_full, copies):
    """a process of a warm pool: no different, and cold starts by it are measured"""
    taken, own = [], invoke("table", {"do": "surroundings"})["Body"]
    for name in copies:
        waits, answers = await_full(), []
        taken.append(clock(lambda: answers.append(invoke(name, {"do": "surroundings"}))))
        [pod] = until(
            lambda: get("pods", f"--selector=pilotlight.dev/function={name}")["items"],
            lambda: kubectl("get", "pods", "--show-labels"),
        )
        assert pod["metadata"]["name"] in waits
        assert without_own(answers[0]["Body"], name) == without_own(own, "table")
        assert invoke(name, {"do": "count"})["Body"]["calls"] == 2
    figures["pooled"] = statistics.median(taken)


def without_own(surroundings, name):
    variables = surroundings["variables"]
    assert variables["AWS_LAMBDA_FUNCTION_NAME"] == name
    same = {key: value for key, value in surroundings.items() if key != "trace"}
    return {**same, "variables": {key: value for key, value in variables.items() if key not in OWN}}
