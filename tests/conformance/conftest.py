"""A `pilotlight local` for each runtime, and the table of results.

In a cluster, PILOTLIGHT_RUNTIME names the runtime that is served (serve.py). `--table FILE` keeps the
results of the run, see table.py.
"""

import os
import shutil
import statistics
import time
from pathlib import Path

import pytest

from tests.conformance.runtimes import RUNTIMES, manifests
from tests.conformance.table import CLUSTER, LOCAL, SANDBOX, keep
from tests.conformance.waiting import RUNTIMES_THAT_WAIT, Instance
from tests.conformance.waiting_compiled import COMPILED
from tests.harness.endpoint import ENDPOINT, IN_CLUSTER
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import LocalServer

IN_SANDBOX = "PILOTLIGHT_RUNTIME_CLASS" in os.environ
PLACE = SANDBOX if IN_SANDBOX else CLUSTER if IN_CLUSTER else LOCAL
SERVED = [one for one in RUNTIMES if not IN_CLUSTER or one.name == os.environ.get("PILOTLIGHT_RUNTIME")]

RESULTS = pytest.StashKey()


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
    server = LocalServer(file)
    yield server.endpoint
    server.stop()


@pytest.fixture(scope="session")
def client(endpoint):
    return lambda_client(endpoint)


@pytest.fixture(scope="session")
def invoke(client):
    return invoker(client)


@pytest.fixture(scope="session")
def figures(request, runtime):
    """The measurements of this runtime, for the table."""
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
    if file := session.config.getoption("--table", None):
        keep(file, PLACE, session.config.stash[RESULTS])
