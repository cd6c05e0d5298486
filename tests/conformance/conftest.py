"""A `pilotlight local` for each runtime, and the table that the run makes.

PILOTLIGHT_ENDPOINT names a gateway that serves the functions of PILOTLIGHT_RUNTIME already, a cluster's
(`serve`): the same cases run there. `--table FILE` keeps what came of the run, see table.py.
"""

import base64
import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sdk/python"))

import boto3  # noqa: E402
import local_server  # noqa: E402
from botocore.config import Config  # noqa: E402
from table import CLUSTER, LOCAL, keep  # noqa: E402
from waiting import RUNTIMES_THAT_WAIT, Instance  # noqa: E402
from waiting_compiled import COMPILED  # noqa: E402

from runtimes import RUNTIMES, manifests  # noqa: E402

# The first start on a machine installs and compiles the clients.
local_server.READY_WITHIN = 1200

ENDPOINT = os.environ.get("PILOTLIGHT_ENDPOINT")
IN_CLUSTER = ENDPOINT is not None
SERVED = [one for one in RUNTIMES if not IN_CLUSTER or one.name == os.environ.get("PILOTLIGHT_RUNTIME")]

RESULTS = pytest.StashKey()


def only_local(reason):
    """For a test that a cluster cannot pass; `reason` says what it lacks."""
    return pytest.mark.skipif(IN_CLUSTER, reason=f"not in a cluster: {reason}")


def pytest_addoption(parser):
    parser.addoption("--table", type=Path, help="the page of tables to bring up to date")


def pytest_configure(config):
    assert SERVED, "PILOTLIGHT_RUNTIME must name the runtime that PILOTLIGHT_ENDPOINT serves"
    config.stash[RESULTS] = {}


@pytest.fixture(scope="session", params=SERVED, ids=lambda runtime: runtime.name)
def runtime(request):
    return request.param


@pytest.fixture(scope="session")
def endpoint(runtime, tmp_path_factory):
    if IN_CLUSTER:
        yield ENDPOINT
        return
    file = tmp_path_factory.mktemp("manifests") / "functions.yaml"
    file.write_text(manifests(runtime), encoding="utf-8")
    server = local_server.LocalServer(file)
    yield server.endpoint
    server.stop()


@pytest.fixture(scope="session")
def client(endpoint):
    return connect(endpoint)


def connect(endpoint):
    config = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=60, max_pool_connections=20)
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=config,
    )


@pytest.fixture(scope="session")
def invoke(client):
    """Invokes with an event as a value; the answer's body, request id and log lines are added."""

    def call(name, event=None, **options):
        payload = {"Payload": json.dumps(event)} if "Payload" not in options else {}
        answer = client.invoke(FunctionName=name, **payload, **options)
        answer["Body"] = json.loads(answer.pop("Payload").read())
        answer["RequestId"] = answer["ResponseMetadata"]["RequestId"]
        if "LogResult" in answer:
            answer["Log"] = base64.b64decode(answer["LogResult"]).decode()
        return answer

    return call


@pytest.fixture(scope="session")
def figures(request, runtime):
    """What was measured of this runtime, for the table."""
    return result(request.config, runtime)["figures"]


def result(config, runtime):
    return config.stash[RESULTS].setdefault(runtime.name, {"cases": {}, "figures": {}})


@pytest.fixture(scope="session")
def clock():
    """How long a call takes, in milliseconds; of several the middle one."""

    def measure(call, times=1):
        taken = []
        for _ in range(times):
            before = time.perf_counter()
            call()
            taken.append((time.perf_counter() - before) * 1000)
        return statistics.median(taken)

    return measure


@pytest.fixture(scope="session", params=RUNTIMES_THAT_WAIT | COMPILED)
def runtime_that_waits(request, tmp_path_factory):
    return (RUNTIMES_THAT_WAIT | COMPILED)[request.param](tmp_path_factory.mktemp("client"))


@pytest.fixture
def start(tmp_path, runtime_that_waits):
    """One instance after the other in the same folder, so that paths are the same."""
    started = []

    def begin(waits, claimed=True, **options):
        root = tmp_path / ("root" if claimed else "unclaimed")
        shutil.rmtree(root, ignore_errors=True)
        instance = Instance(root, runtime_that_waits, waits)
        started.append(instance)
        if claimed:
            instance.claim(**options)
        return instance

    yield begin
    for instance in started:
        if instance.process.poll() is None:
            instance.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    runtime = getattr(item, "callspec", None) and item.callspec.params.get("runtime")
    if runtime and (call.when == "call" or report.outcome != "passed"):
        cases, case = result(item.config, runtime)["cases"], item.function.__doc__
        # One event of a case that fails is the case's outcome.
        if cases.get(case) != "failed":
            cases[case] = report.outcome
    return report


def pytest_sessionfinish(session, exitstatus):
    if file := session.config.getoption("--table"):
        keep(file, CLUSTER if IN_CLUSTER else LOCAL, session.config.stash[RESULTS])
