"""The namespace of the Functions enforces the Pod Security level `restricted`, as the chart makes it.

All suites run in such a namespace. Here are the settings that they leave at their defaults. The nodes of the tests cannot run
some of these pods, but the API server has admitted them.
"""

import json

import pytest

from tests.harness import release
from tests.harness.commands import attempt
from tests.harness.kubectl import FUNCTIONS, apply, get, kubectl
from tests.harness.manifests import config_map, secret
from tests.harness.patience import until
from tests.harness.state import pods

CLASS = "security-class"
ANSWERS = "def lambda_handler(event, context):\n    return event\n"
LEVEL = "pod-security.kubernetes.io/enforce"


def test_a_pod_with_fewer_walls_is_refused():
    """Otherwise the rest would show nothing."""
    assert get("namespace", FUNCTIONS)["metadata"]["labels"][LEVEL] == "restricted"
    spec = {"containers": [{"name": "any", "image": "any:1"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "walls"}, "spec": spec}
    words = ("create", "--dry-run=server", "--filename=-")
    done = attempt("kubectl", f"--namespace={FUNCTIONS}", *words, input=json.dumps(pod))
    assert done.returncode != 0 and 'violates PodSecurity "restricted' in done.stderr, done


@pytest.fixture
def every_setting():
    """All settings of the chart that change the pods."""
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": CLASS}}
    apply({**kind, "handler": "runc"})
    release.install(
        "--set=functions.userNamespaces=true",
        f"--set=functions.runtimeClassName={CLASS}",
        "--set=functions.cpu.limit=1",
        "--set=functions.livenessProbe=false",
    )
    release.await_replaced()
    yield
    release.install()
    kubectl("delete", "runtimeclass", CLASS)


def test_pods_with_every_setting_are_admitted(every_setting, function):
    apply(secret("security", {"A": "1"}), config_map("security", {"B": "2"}))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "security"}}
    pool = {"runtime": "python3.11", "size": 1, "imagePullSecrets": [{"name": "security"}]}
    kind = {"apiVersion": "pilotlight.dev/v1alpha1", "kind": "WarmPool", "metadata": {"name": "security"}}
    apply(account, {**kind, "spec": pool})
    name = function(
        "security",
        ANSWERS,
        concurrency={"provisioned": 1, "reserved": 1},
        environmentFrom=[{"secretRef": {"name": "security"}}, {"configMapRef": {"name": "security"}}],
        pod={"serviceAccount": "security", "imagePullSecrets": [{"name": "security"}]},
    )
    try:
        selector = "--selector=pilotlight.dev/warm-pool=security"
        for found in (lambda: pods(name), lambda: get("pods", selector)["items"]):
            until(found, lambda: kubectl("get", "events,pods,functions,warmpools", "--output=wide"))
            for pod in found():
                assert pod["spec"]["hostUsers"] is False and pod["spec"]["runtimeClassName"] == CLASS, pod
    finally:
        kubectl(
            "delete", "warmpool/security", "secret/security", "configmap/security", "serviceaccount/security"
        )
