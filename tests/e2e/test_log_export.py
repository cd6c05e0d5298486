"""Log records of pods in a real receiver of OTLP, beside their store.

The receiver is the release's own VictoriaLogs, by its way in for OTLP and in a tenant of its own.
"""

import base64

import pytest

from tests.e2e.test_log_store import PRINTS, STORE, call, lines
from tests.harness import release
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.manifests import secret
from tests.harness.patience import until
from tests.harness.release import STORED, SYSTEM
from tests.harness.victoria_logs import OTLP, rows

BASE = f"http://{STORE}.{SYSTEM}.svc.cluster.local:9428"
HEADERS = "receiver-headers"
EXPORTED = [
    f"--set=logs.otlp.endpoint={BASE}{OTLP}",
    f"--set=logs.otlp.headersSecret={HEADERS}",
]


@pytest.fixture(scope="module")
def authorization(installed):
    """The release exports; what its receiver wants to be shown."""
    release.install(*STORED)
    password = base64.b64decode(get("secret", STORE, namespace=SYSTEM)["data"]["password"])
    authorization = "Basic " + base64.b64encode(b"pilotlight:" + password).decode()
    headers = f"authorization={authorization.replace(' ', '%20')},AccountID=7"
    apply(secret(HEADERS, {"headers": headers}), namespace=SYSTEM)
    release.install(*STORED, *EXPORTED)
    release.await_replaced()
    yield authorization
    release.install()
    release.await_replaced()
    kubectl("delete", "secret", HEADERS, namespace=SYSTEM)


def test_records_of_pods_arrive_beside_their_store_and_a_gateway_that_ends_sends_the_rest(
    function, authorization
):
    name = function("exported", PRINTS)
    call(name, range(5))
    assert lines(name) == [0, 1, 2, 3, 4]
    release.roll("gateway")
    release.await_replaced()
    call(name, range(5, 10))

    def exported():
        headers = {"authorization": authorization, "AccountID": "7"}
        return rows(BASE, f'"service.name":="{name}"', headers)

    def printed():
        # A record that an instance has handed to both gateways arrives twice, with one name.
        found = {row["log.record.uid"]: row["_msg"] for row in exported()}
        return sorted(int(text.removeprefix("line ")) for text in found.values() if text.startswith("line "))

    # Gateways alone connect to the store.
    with release.without_walls():
        until(lambda: printed() == [*range(10)], lambda: exported())
        row = next(row for row in exported() if row["_msg"] == "line 9")
    assert row["k8s.namespace.name"] == row["service.namespace"] and row["faas.instance"]
    assert len(row["trace_id"]) == 32
    # Its secret is nowhere to be read.
    assert authorization.split()[1] not in release.logged("gateway", "")
