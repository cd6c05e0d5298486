"""Several controllers, of which one leads; and what a controller creates besides pods."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import pytest

from tests.e2e.refusal import refusal
from tests.harness.forward import forwarded
from tests.harness.kubectl import apply, enforce, get, kubectl
from tests.harness.manifests import config_map, no_pods, secret
from tests.harness.metrics import read_metrics
from tests.harness.patience import until
from tests.harness.release import SYSTEM, parts, pod_of
from tests.harness.state import is_ready, pods, ready_condition
from tests.harness.watch import Watch

ECHO = "def lambda_handler(event, context):\n    return event\n"

MEETS = """
from rooms import enter

def lambda_handler(event, context):
    if event:
        enter(event, context.aws_request_id)
    return "met"
"""

GROWN = 8  # attempts to make a pod: the pauses between them have grown by then

VARIABLES = """
import os

def lambda_handler(event, context):
    return {name: os.environ.get(name) for name in event}
"""


def controllers():
    return {pod["metadata"]["name"]: pod for pod in parts("controller")}


def lease():
    return get("lease", "pilotlight-controller")["spec"]


def leader():
    """The controller that leads, if it is one that lives."""
    holder = pod_of(lease().get("holderIdentity"))
    return holder if holder in controllers() else None


@pytest.fixture
def two_controllers():
    def are_there():
        found = controllers()
        return len(found) == 2 and all(map(is_ready, found.values())) and leader()

    until(are_there, lambda: (lease(), list(controllers())))


def metrics(pod):
    with forwarded(pod, 8081, namespace=SYSTEM) as place:
        lines = read_metrics(f"http://{place}").splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def config_maps(name):
    selector = f"--selector=pilotlight.dev/function={name}"
    return kubectl("get", "configmaps", selector, "--output=name").split()


def test_one_of_two_controllers_leads_and_both_serve_metrics(function, invoke, two_controllers):
    invoke(function("ctl-metrics", ECHO))
    told = {name: metrics(pod) for name, pod in controllers().items()}
    leads = {name: one["pilotlight_controller_leader"] for name, one in told.items()}
    assert sorted(leads.values()) == ["0", "1"] and leads[leader()] == "1", leads
    for one in told.values():
        assert int(one["pilotlight_controller_functions"]) >= 1, "one that stands by watches too"
    assert int(told[leader()]["pilotlight_controller_pods_created_total"]) >= 1


def test_a_leader_that_ends_hands_over(function, invoke, two_controllers):
    name, warm = function("ctl-handover", ECHO), function("ctl-handover-warm", ECHO)
    invoke(warm)
    with Watch("lease", "pilotlight-controller", form="{.spec.holderIdentity}") as holders:
        old = leader()
        holders.until(lambda seen: seen and pod_of(seen[-1]) == old)
        kubectl("delete", "pod", old, "--wait=false", namespace=SYSTEM)
        assert invoke(name, 1)["Body"] == 1, "a cold start needs a leader"
        assert invoke(warm, 2)["Body"] == 2
        holders.until(lambda seen: pod_of(seen[-1]) not in ("", old))
        changes = [pod_of(holder) for holder, _ in groupby(holders.seen)]
    # It gave the Lease back: one that had to be waited out goes from one holder to the next.
    assert changes[changes.index(old) + 1] == "", changes
    assert leader() not in (None, old)


def test_a_leader_that_lost_its_lease_ends_and_another_takes_over(function, invoke, two_controllers):
    warm, cold = function("ctl-lost-warm", ECHO), function("ctl-lost-cold", ECHO)
    invoke(warm)
    old = leader()
    begun = running_since(old)
    # Nobody of this name renews it, as after a crash.
    change = {"spec": {"holderIdentity": "somebody"}}
    kubectl("patch", "lease", "pilotlight-controller", "--type=merge", f"--patch={json.dumps(change)}")
    until(lambda: running_since(old) != begun, lambda: controllers()[old]["status"])
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(invoke, cold, "cold")
        while not call.done():
            assert invoke(warm, "warm")["Body"] == "warm"
        assert call.result()["Body"] == "cold", "it waited for the next leader"
    assert leader()


def running_since(pod):
    state = controllers()[pod]["status"]["containerStatuses"][0]["state"]
    return state.get("running", {}).get("startedAt")


def test_secrets_and_config_maps_are_variables_below_those_of_the_manifest(function, invoke):
    apply(
        config_map("ctl-defaults", {"COLOUR": "red", "SIZE": "1", "TASTE": "sour"}),
        secret(
            "ctl-login",
            {
                "TASTE": "$(COLOUR) ü",
                "_HANDLER": "other",
                "LAMBDA_TASK_ROOT": "/other",
                "SIZE": "2",
                "AWS_REGION": "mars",
            },
        ),
    )
    name = function(
        "ctl-from",
        VARIABLES,
        environment={"SIZE": "3"},
        environmentFrom=[
            {"configMapRef": {"name": "ctl-defaults"}},
            {"secretRef": {"name": "ctl-login"}},
        ],
    )
    asked = ["COLOUR", "SIZE", "TASTE", "_HANDLER", "LAMBDA_TASK_ROOT", "AWS_REGION", "PILOTLIGHT_ENV_SIZE"]
    assert invoke(name, asked)["Body"] == {
        "COLOUR": "red",
        "SIZE": "3",
        "TASTE": "$(COLOUR) ü",
        "_HANDLER": "lambda_function.lambda_handler",
        "LAMBDA_TASK_ROOT": "/var/task",
        "AWS_REGION": "mars",
        "PILOTLIGHT_ENV_SIZE": None,
    }
    kubectl("delete", "secret/ctl-login", "configmap/ctl-defaults")


def test_a_missing_secret_fails_the_call_and_the_status_says_so_until_it_exists(function, invoke, client):
    name = function("ctl-missing", ECHO, environmentFrom=[{"secretRef": {"name": "ctl-absent"}}])
    refusal(client, name, "CreateContainerConfigError", "ctl-absent")
    until(
        lambda: ready_condition(name).get("reason") == "CreateContainerConfigError",
        lambda: ready_condition(name),
    )
    until(lambda: not pods(name), lambda: pods(name))
    assert ready_condition(name)["status"] == "False", "nothing has become better"
    apply(secret("ctl-absent", {"A": "1"}))
    assert invoke(name, True)["Body"] is True
    until(lambda: ready_condition(name)["status"] == "True", lambda: ready_condition(name))
    kubectl("delete", "secret/ctl-absent")


@pytest.mark.parametrize(
    ("changes", "reason", "word"),
    [
        ({"runtime": "python3.14"}, "NoImage", "--image python3.14=IMAGE"),
        ({"runtime": "nodejs20.x"}, "NoImage", "--image nodejs20.x=IMAGE"),
        ({"runtime": "dotnet8"}, "NoImage", "self-contained `bootstrap`"),
        ({"runtime": "go1.x"}, "NoImage", "go1.x is a retired runtime"),
        ({"runtime": "pyhton3.11"}, "NoImage", "did you mean `python3.11`?"),
    ],
)
def test_a_function_that_can_have_no_pods_fails_its_calls(function, client, changes, reason, word):
    name = function("ctl-no-pods", ECHO, **changes)
    refusal(client, name, word)
    assert ready_condition(name)["reason"] == reason


def test_old_code_is_deleted_with_its_last_pod(function, invoke, room):
    name = function("ctl-code", ECHO)
    assert invoke(name, 1)["Body"] == 1
    first = config_maps(name)
    assert len(first) == 1
    function("ctl-code", MEETS)
    until(lambda: invoke(name, None)["Body"] == "met", "the new code answers")
    until(lambda: len(config_maps(name)) == 1, lambda: config_maps(name))
    assert config_maps(name) != first
    with ThreadPoolExecutor(1) as pool:
        held = room()
        call = pool.submit(invoke, name, held.address)
        held.await_entered(1)
        function("ctl-code", ECHO)
        until(lambda: len(config_maps(name)) == 2, lambda: config_maps(name))
        held.open()
        assert call.result()["Body"] == "met"
    until(lambda: config_maps(name) == first, lambda: config_maps(name))
    assert invoke(name, 1)["Body"] == 1


def test_calls_succeed_after_a_quota_is_lifted(function, client, invoke):
    name = function("ctl-quota", ECHO)
    enforce(no_pods("ctl-none"))

    def failures():
        return int(metrics(controllers()[leader()])["pilotlight_controller_pods_create_failures_total"])

    def is_refused():
        refusal(client, name, "exceeded quota: ctl-none")
        return failures() >= before + GROWN

    before = failures()
    try:
        until(is_refused, lambda: f"{failures() - before} attempts")
    finally:
        kubectl("delete", "resourcequota", "ctl-none")
    assert invoke(name, True)["Body"] is True
    until(lambda: ready_condition(name)["status"] == "True", lambda: ready_condition(name))
