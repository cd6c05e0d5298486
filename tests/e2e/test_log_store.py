"""The store of logs that the chart installs: lines outlive their pod and the gateways, and a store that is away or never
came stops no call.

The release of the suite has a store while these tests run.
"""

import json
import urllib.error
import urllib.request

import pytest

from tests.harness import release
from tests.harness.kubectl import apply, kubectl
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.metrics import read_metrics
from tests.harness.patience import LONGER, PATIENCE, until
from tests.harness.release import ENDPOINT, STORED, SYSTEM
from tests.harness.state import pods

STORE = "pilotlight-logs"
PRINTS = "def lambda_handler(event, context):\n    print('line', event['number'])\n    return event\n"
# Prints a line each 10 ms.
PRINTS_LONG = """
import time
def lambda_handler(event, context):
    for number in range(event["first"], event["first"] + event["lines"]):
        print("line", number)
        time.sleep(0.01)
    return event["lines"]
"""
MINUTE = 6000  # lines


@pytest.fixture(scope="module", autouse=True)
def stored(installed):
    release.install(*STORED)
    release.await_replaced()
    yield
    release.install()
    release.await_replaced()


def lines(name):
    """The numbers that the function has printed, as its log has them; or why there is no log."""
    try:
        with urllib.request.urlopen(
            f"{ENDPOINT}/pilotlight/v1/functions/{name}/logs", timeout=PATIENCE
        ) as log:
            texts = [json.loads(line)["text"] for line in log]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    return [int(text.removeprefix("line ")) for text in texts if text.startswith("line ")]


def call(name, numbers):
    invoke = invoker(lambda_client(ENDPOINT))
    for number in numbers:
        assert invoke(name, {"number": number})["Body"] == {"number": number}


def test_lines_outlive_their_pod_and_the_gateways(function):
    name = function("log-store", PRINTS, keepAlive=1)
    call(name, range(3))
    until(lambda: pods(name) == [], lambda: pods(name))
    assert lines(name) == [0, 1, 2]
    release.roll("gateway")
    release.await_replaced()
    assert lines(name) == [0, 1, 2]


def test_a_store_that_is_killed_loses_nothing_and_slows_no_call(function):
    name = function("log-store-killed", PRINTS)
    call(name, range(3))
    kubectl("scale", "statefulset", STORE, "--replicas=0", namespace=SYSTEM)
    kubectl(
        "delete", "pod", f"{STORE}-0", "--grace-period=0", "--force", "--ignore-not-found", namespace=SYSTEM
    )
    call(name, range(3, 6))
    until(lambda: isinstance(lines(name), tuple), lambda: lines(name))
    _, why = lines(name)
    assert "log store" in why, why
    kubectl("scale", "statefulset", STORE, "--replicas=1", namespace=SYSTEM)
    # Its volume has gone with its pod, and with it what was stored. What was not yet, comes.
    until(lambda: isinstance(found := lines(name), list) and {3, 4, 5} <= {*found}, lambda: lines(name))


def test_a_store_without_a_volume_waits_and_search_says_why(function):
    # The cluster has no storage class. The volumes of a StatefulSet cannot be changed.
    kubectl("delete", "statefulset", STORE, namespace=SYSTEM)
    release.install(*STORED, "--set=logs.store.volume=true", "--wait=false")
    release.await_replaced()
    name = function("log-store-pending", PRINTS)
    call(name, range(3))
    # Until the new StatefulSet has made its pod, there is none, or that of the one before.
    named, phase = f"--field-selector=metadata.name={STORE}-0", "--output=jsonpath={.items[*].status.phase}"
    until(lambda: kubectl("get", "pods", named, phase, namespace=SYSTEM) == "Pending", "it waits")

    # Each reader makes a gateway say it; callers get a sentence without names of the cluster.
    def says_why():
        found = lines(name)
        assert isinstance(found, tuple) and "log store" in found[1], found
        return "unbound immediate PersistentVolumeClaims" in release.logged("gateway", "a log cannot be read")

    until(says_why, lambda: release.logged("gateway", "a log cannot be read"))


@pytest.fixture
def volume(tmp_path):
    """A volume for the store. The nodes are namespaces of this machine, so a folder is the same one on both."""
    tmp_path.chmod(0o777)
    claim = f"persistentvolumeclaim/data-{STORE}-0"
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": str(tmp_path), "type": "Directory"},
    }
    apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "log-store"}, "spec": spec})
    yield
    kubectl("delete", "statefulset", STORE, "--ignore-not-found", namespace=SYSTEM)
    kubectl("delete", claim, "--ignore-not-found", namespace=SYSTEM)
    kubectl("delete", "persistentvolume", "log-store")


def waiting_bytes():
    """What the gateways have and the store does not."""
    lines = "\n".join(map(read_metrics, release.statuses())).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("pilotlight_log_backlog_bytes "))


@pytest.mark.long
def test_a_store_with_a_volume_that_is_killed_for_a_minute_loses_nothing(function, volume):
    # The volumes of a StatefulSet cannot be changed.
    kubectl("delete", "statefulset", STORE, "--ignore-not-found", namespace=SYSTEM)
    release.install(*STORED, "--set=logs.store.volume=true")
    release.await_replaced()
    name = function("log-store-minute", PRINTS_LONG, timeout=LONGER)
    invoke = invoker(lambda_client(ENDPOINT))
    assert invoke(name, {"first": 0, "lines": 300})["Body"] == 300
    # Some of these lines are in the memory of the store alone.
    kubectl("scale", "statefulset", STORE, "--replicas=0", namespace=SYSTEM)
    kubectl(
        "delete", "pod", f"{STORE}-0", "--grace-period=0", "--force", "--ignore-not-found", namespace=SYSTEM
    )
    # These take a minute.
    assert invoke(name, {"first": 300, "lines": MINUTE})["Body"] == MINUTE
    assert isinstance(lines(name), tuple) and waiting_bytes() > 0
    kubectl("scale", "statefulset", STORE, "--replicas=1", namespace=SYSTEM)
    until(lambda: waiting_bytes() == 0, waiting_bytes)
    assert lines(name) == list(range(300 + MINUTE))
