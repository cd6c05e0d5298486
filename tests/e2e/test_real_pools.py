"""Warm pools for functions of real life: layers, code in a config map, Secrets, a service account.

A pool declares the account and the sources of variables. A function that asks for exactly these is served from it, and
finds what it would find in a pod of its own. One difference is enough, and the function has a pod of its own.
"""

import json

import pytest

from tests.harness import manifests, release
from tests.harness.archives import zipped
from tests.harness.kubectl import FUNCTIONS, apply, kubectl
from tests.harness.patience import until
from tests.harness.state import names, pods, status, waiting
from tests.harness.web import Web

HANDLER = """
import base64, json, os
from first import FIRST
from second import SECOND
PLACE = "/var/run/secrets/kubernetes.io/serviceaccount/token"
def account():
    if not os.path.exists(PLACE):
        return None
    payload = open(PLACE).read().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims["kubernetes.io"]["serviceaccount"]["name"], claims["kubernetes.io"]["pod"]["name"]
def lambda_handler(event, context):
    names = ("TOKEN", "STAGE", "TZ", "LANG", "_HANDLER", "AWS_LAMBDA_FUNCTION_NAME")
    return {
        "pod": os.uname().nodename,
        "account": account(),
        "layers": [FIRST, SECOND],
        "variables": {name: os.environ.get(name) for name in names},
        "supervisors": [name for name in os.environ if name.startswith("PILOTLIGHT")],
    }
"""
ACCOUNT = "e2e-orders"
SOURCES = [{"configMapRef": {"name": "e2e-defaults"}}, {"secretRef": {"name": "e2e-login"}}]


@pytest.fixture(scope="module")
def objects():
    """The account, the sources and the code that the manifests of this file name."""
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        for name in (ACCOUNT, "e2e-other")
    ]
    made = [
        *accounts,
        manifests.config_map("e2e-defaults", {"TOKEN": "default", "STAGE": "test", "TZ": "Europe/Budapest"}),
        manifests.secret("e2e-login", {"TOKEN": "secret", "LANG": "C", "_HANDLER": "evil"}),
        manifests.config_map("e2e-code", {"lambda_function.py": HANDLER}),
    ]
    apply(*made)
    yield
    for one in made:
        kubectl("delete", one["kind"], one["metadata"]["name"])


@pytest.fixture(scope="module")
def layers():
    web = Web(release.HOST)
    made = [("first", "1"), ("second", "2")]
    yield [
        web.archive(f"/{name}.zip", zipped({f"python/{name}.py": f"{name.upper()} = {text}\n"}))["archive"]
        for name, text in made
    ]
    web.close()


def asks(layers, **changes):
    """The fields of a Function for which the pool of these tests was made, and what `changes` replaces."""
    spec = {
        "code": {"configMap": "e2e-code"},
        "layers": layers,
        "environmentFrom": SOURCES,
        "environment": {"STAGE": "manifest"},
        "pod": {"serviceAccount": ACCOUNT},
    }
    return {**spec, **changes}


def test_a_function_with_layers_a_secret_and_an_account_starts_in_a_pool_that_declares_them(
    objects, layers, warm_pool, function, invoke
):
    pool = warm_pool("e2e-declared", size=1, serviceAccount=ACCOUNT, environmentFrom=SOURCES)
    before = names(waiting(pool))
    name = function("e2e-real", "", **asks(layers))
    until(lambda: status(name).get("warmPool") == pool, lambda: status(name))
    answer = invoke(name, {})
    timing = answer["ResponseMetadata"]["HTTPHeaders"]["server-timing"]
    assert "claim;dur=" in timing, timing
    claimed = answer["Body"]
    assert claimed["pod"] in before and claimed["pod"].startswith(f"{pool}-")
    assert claimed["account"] == [ACCOUNT, claimed["pod"]]
    assert claimed["layers"] == [1, 2]
    # The last source wins over the first, the manifest over both, both over defaults, and nothing over reserved names.
    assert claimed["variables"] == {
        "TOKEN": "secret",
        "STAGE": "manifest",
        "TZ": "Europe/Budapest",
        "LANG": "C",
        "_HANDLER": "lambda_function.lambda_handler",
        "AWS_LAMBDA_FUNCTION_NAME": name,
    }
    assert claimed["supervisors"] == []
    # The label by which policies let it reach the API server stays when the pod becomes the function's.
    [pod] = until(lambda: pods(name), lambda: kubectl("get", "pods", "--show-labels"))
    assert pod["metadata"]["labels"]["pilotlight.dev/service-account"] == "own"

    # A pod of the function's own has the same.
    kubectl("delete", "warmpool", pool)
    until(lambda: not waiting(pool), lambda: kubectl("get", "pods"))
    apply(manifests.warm_pool(pool, size=0))
    own = invoke(function("e2e-real-own", "", **asks(layers)), {})["Body"]
    assert own["pod"].startswith("e2e-real-own-")
    assert own["account"] == [ACCOUNT, own["pod"]]
    same = {"AWS_LAMBDA_FUNCTION_NAME": name}
    assert {**own["variables"], **same} == claimed["variables"] and own["layers"] == [1, 2]


def test_a_function_that_differs_in_one_field_has_a_pod_of_its_own(
    objects, layers, warm_pool, function, invoke
):
    pool = warm_pool("e2e-exact", size=1, serviceAccount=ACCOUNT, environmentFrom=SOURCES)
    before = names(waiting(pool))
    for name, field, changes in [
        ("e2e-other-account", "spec.pod.serviceAccount", {"pod": {"serviceAccount": "e2e-other"}}),
        ("e2e-no-account", "spec.pod.serviceAccount", {"pod": {}}),
        ("e2e-order", "spec.environmentFrom", {"environmentFrom": SOURCES[::-1]}),
        ("e2e-fewer", "spec.environmentFrom", {"environmentFrom": SOURCES[:1]}),
        (
            "e2e-placed",
            "spec.pod.tolerations",
            {"pod": {"serviceAccount": ACCOUNT, "tolerations": [{"key": "a", "operator": "Exists"}]}},
        ),
    ]:
        function(name, "", **asks(layers, **changes))
        told = f"none: the nearest WarmPool, {pool}, does not match {field}"
        until(lambda: status(name).get("warmPool") == told, lambda: status(name))
        answer = invoke(name, {})["Body"]
        assert answer["pod"].startswith(f"{name}-")
        assert answer["account"] == (None if "no-account" in name else [json_account(changes), answer["pod"]])
        kubectl("delete", "function", name)
    assert names(waiting(pool)) == before, "nobody has used it"


def json_account(changes):
    return changes.get("pod", {}).get("serviceAccount", ACCOUNT)


def test_a_plain_function_with_layers_and_code_in_a_config_map_starts_in_a_plain_pool(
    objects, layers, warm_pool, function, invoke
):
    pool = warm_pool("e2e-with-layers", size=1)
    before = names(waiting(pool))
    name = function("e2e-layered", "", code={"configMap": "e2e-code"}, layers=layers)
    answer = invoke(name, {})["Body"]
    assert answer["pod"] in before
    assert answer["layers"] == [1, 2] and answer["account"] is None
    # The next instance has the code that the config map has by then.
    changed = HANDLER.replace("[FIRST, SECOND]", "[SECOND, FIRST]")
    apply(manifests.config_map("e2e-code", {"lambda_function.py": changed}))
    try:
        until(lambda: len(waiting(pool)) == 1, lambda: kubectl("get", "pods"))
        shown = json.loads(kubectl("get", "configmap", "e2e-code", "--output=json", namespace=FUNCTIONS))
        assert shown["data"]["lambda_function.py"] == changed

        def answers_anew():
            name = function("e2e-layered-anew", "", code={"configMap": "e2e-code"}, layers=layers)
            layers_now = invoke(name, {})["Body"]["layers"]
            kubectl("delete", "function", name)
            return layers_now == [2, 1]

        until(answers_anew, lambda: kubectl("get", "pods,functions"))
    finally:
        apply(manifests.config_map("e2e-code", {"lambda_function.py": HANDLER}))
