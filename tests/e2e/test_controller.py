"""Several controllers, of which one acts; and what a controller makes besides pods."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from tests.harness.kubectl import apply, get, kubectl
from tests.harness.manifests import config_map, no_pods, secret
from tests.harness.metrics import read_metrics
from tests.harness.patience import until
from tests.harness.release import SYSTEM, parts
from tests.harness.state import is_ready, pods, ready_condition

ECHO = "def lambda_handler(event, context):\n    return event\n"

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
    holder = lease().get("holderIdentity")
    return holder if holder in controllers() else None


@pytest.fixture
def two_controllers():
    def are_there():
        found = controllers()
        return len(found) == 2 and all(map(is_ready, found.values())) and leader()

    until(are_there, lambda: (lease(), list(controllers())))


def metrics(pod):
    lines = read_metrics(f"http://{pod['status']['podIP']}:8081").splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def config_maps(name):
    selector = f"--selector=pilotlight.dev/function={name}"
    return kubectl("get", "configmaps", selector, "--output=name").split()


def refusal(client, name):
    """Why the call is refused, and after how many seconds."""
    begin = time.monotonic()
    with pytest.raises(ClientError) as refused:
        client.invoke(FunctionName=name)
    error = refused.value.response["Error"]
    assert error["Code"] == "ResourceNotReadyException", error
    return error["Message"], time.monotonic() - begin


def test_one_of_two_controllers_leads_and_both_tell_metrics(function, invoke, two_controllers):
    invoke(function("ctl-metrics", ECHO))
    told = {name: metrics(pod) for name, pod in controllers().items()}
    leads = {name: one["pilotlight_controller_leader"] for name, one in told.items()}
    assert sorted(leads.values()) == ["0", "1"] and leads[leader()] == "1", leads
    for one in told.values():
        assert int(one["pilotlight_controller_functions"]) >= 1, "one that stands by watches too"
    assert int(told[leader()]["pilotlight_controller_pods_created_total"]) >= 1


def test_a_leader_that_ends_hands_over_at_once(function, invoke, two_controllers):
    name, warm = function("ctl-handover", ECHO), function("ctl-handover-warm", ECHO)
    invoke(warm)
    old = leader()
    kubectl("delete", "pod", old, "--wait=false", namespace=SYSTEM)
    begin = time.monotonic()
    assert invoke(name, 1)["Body"] == 1, "a cold start needs a leader"
    assert time.monotonic() - begin < 10
    assert invoke(warm, 2)["Body"] == 2
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
        "AWS_REGION": "us-east-1",
        "PILOTLIGHT_ENV_SIZE": None,
    }
    kubectl("delete", "secret/ctl-login", "configmap/ctl-defaults")


def test_a_missing_secret_fails_the_call_soon_and_the_status_says_so_until_it_is_there(
    function, invoke, client
):
    name = function("ctl-missing", ECHO, environmentFrom=[{"secretRef": {"name": "ctl-absent"}}])
    why, seconds = refusal(client, name)
    assert "CreateContainerConfigError" in why and "ctl-absent" in why
    assert seconds < 10
    until(
        lambda: ready_condition(name).get("reason") == "CreateContainerConfigError",
        lambda: ready_condition(name),
    )
    until(lambda: not pods(name), lambda: pods(name))
    assert ready_condition(name)["status"] == "False", "nothing has become better"
    apply(secret("ctl-absent", {"A": "1"}))
    until(lambda: answers(invoke, name), lambda: ready_condition(name))
    until(lambda: ready_condition(name)["status"] == "True", lambda: ready_condition(name))
    kubectl("delete", "secret/ctl-absent")


def answers(invoke, name):
    try:
        return invoke(name, True)["Body"]
    except ClientError:
        return None


@pytest.mark.parametrize(
    ("changes", "reason", "word"),
    [
        ({"runtime": "python3.14"}, "NoImage", "--image python3.14=IMAGE"),
    ],
)
def test_a_function_that_can_have_no_pods_fails_its_calls_at_once(function, client, changes, reason, word):
    name = function("ctl-no-pods", ECHO, **changes)
    why, seconds = refusal(client, name)
    assert word in why and seconds < 5, (why, seconds)
    assert ready_condition(name)["reason"] == reason


def test_old_code_goes_with_its_last_pod(function, invoke):
    name = function("ctl-code", ECHO, timeout=30)
    assert invoke(name, 1)["Body"] == 1
    first = config_maps(name)
    assert len(first) == 1
    slow = "import time\ndef lambda_handler(event, context):\n    time.sleep(event)\n    return 'slow'\n"
    function("ctl-code", slow, timeout=30)
    assert until(lambda: invoke(name, 0)["Body"] == "slow", lambda: "still the old code")
    until(lambda: len(config_maps(name)) == 1, lambda: config_maps(name))
    assert config_maps(name) != first
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(invoke, name, 4)
        until(lambda: pods(name), lambda: "no pod")
        function("ctl-code", ECHO, timeout=30)
        until(lambda: len(config_maps(name)) == 2, lambda: config_maps(name))
        assert call.result()["Body"] == "slow"
    until(lambda: config_maps(name) == first, lambda: config_maps(name))
    assert invoke(name, 1)["Body"] == 1


def test_calls_succeed_soon_after_a_quota_is_lifted(function, client, invoke):
    name = function("ctl-quota", ECHO)
    apply(no_pods("ctl-none"))
    stop, created = threading.Event(), "pilotlight_controller_pods_create_failures_total"
    before = int(metrics(controllers()[leader()])[created])
    try:
        begin = time.monotonic()
        # Long enough for backoffs to have grown.
        while time.monotonic() - begin < 12:
            why, _ = refusal(client, name)
            assert "exceeded quota: ctl-none" in why
            stop.wait(0.2)
        attempts = int(metrics(controllers()[leader()])[created]) - before
        assert attempts <= 12, "creations are paced"
    finally:
        kubectl("delete", "resourcequota", "ctl-none")
    lifted = time.monotonic()
    until(lambda: answers(invoke, name), lambda: ready_condition(name))
    print(f"first answer {time.monotonic() - lifted:.1f} s after the quota; {attempts} attempts")
    until(lambda: ready_condition(name)["status"] == "True", lambda: ready_condition(name))
