"""Instances in pods: invocations, logs, memory, processes, and how a pod ends."""

import json

import pytest

from tests.harness.kubectl import TIMEOUT
from tests.harness.paths import REPOSITORY
from tests.images.cluster import Instance, answer

HERE = REPOSITORY / "tests/images"
SHELL = REPOSITORY / "examples/shell/code"


@pytest.fixture(scope="module")
def python(namespace, archives):
    return make_python(namespace, archives, "python")


@pytest.fixture(scope="module")
def shell(namespace, archives):
    return Instance(
        namespace,
        "shell",
        archives["custom"].image,
        archives["custom"].environment,
        ["/var/task/bootstrap"],
        SHELL.iterdir(),
        "function.describe",
    )


def make_python(namespace, archives, name, **settings):
    handler = "lambda_function.lambda_handler"
    return Instance(
        namespace,
        name,
        archives["python3.11"].image,
        archives["python3.11"].environment,
        ["/var/lang/bin/python", "/var/runtime/bootstrap.py"],
        [HERE / "functions/lambda_function.py"],
        handler,
        **settings,
    )


def test_a_python_function_has_the_environment_of_the_original_platform(python, archives):
    outcome, body = python.invoke({})
    assert outcome == "success"
    assert body["python"] == [3, 11]
    assert (body["folder"], body["path"]) == ("/var/task", ["/var/task"])
    assert body["ids"] == [993, 990]
    assert body["writable"] == ["/tmp"]
    assert body["authorities"] > 100
    assert (body["shell"], body["noon"]) == ("LINUX\n", "Europe/Zurich")
    assert body["encoding"] == ["utf-8", "utf-8"]
    assert body["uncompiled"] == []
    assert archives["python3.11"].environment.items() <= body["environment"].items()
    leaked = [name for name in body["environment"] if name.startswith(("KUBERNETES_", "PILOTLIGHT_"))]
    assert not leaked


def test_a_shell_bootstrap_answers(shell):
    outcome, body = shell.invoke({"answer": 42})
    assert outcome == "success"
    assert body["event"] == {"answer": 42} and body["kernel"].startswith("Linux")


@pytest.mark.parametrize("name", ["python", "shell"])
def test_the_pods_log_has_the_invocations_lines(name, request):
    instance = request.getfixturevalue(name)
    instance.invoke({})
    log = instance.log()
    for part in (
        "INIT_START",
        "START RequestId: ",
        "END RequestId: ",
        "REPORT RequestId: ",
        "Max Memory Used: ",
    ):
        assert part in log, log


def test_too_much_memory_ends_the_invocation_and_not_the_instance(python):
    # The kernel grants the container 32 MiB more, of which the supervisor takes about 5.
    outcome, body = python.invoke({"do": "fill", "mib": 192})
    assert outcome == "function-error" and body["errorType"] == "Runtime.ExitError", body
    assert body["errorMessage"].endswith("signal: killed")
    assert python.invoke({})[0] == "success"
    state = python.namespace.get("pod", "python")["status"]["containerStatuses"][0]
    assert state["restartCount"] == 0 and "running" in state["state"]


def test_orphans_go_to_the_supervisor_and_are_reaped(python):
    python.invoke({"do": "daemon"})
    listed = python.invoke({"do": "processes"})[1]
    assert [1, "pilotlight-supe"] in [entry[:2] for entry in listed]
    assert not [entry for entry in listed if entry[2] == "Z"], listed
    assert [entry[3] for entry in listed if entry[1] == "sleep"] == [1], listed


def test_a_deleted_pod_finishes_its_invocation_and_exits_with_0(namespace, archives):
    instance = make_python(namespace, archives, "deleted")
    assert instance.invoke({})[0] == "success"
    call = instance.call({"do": "sleep", "seconds": 3})
    instance.await_log("START RequestId: ", times=2)
    instance.delete()
    assert answer(call) == ("success", "slept")
    assert instance.exit()["exitCode"] == 0


@pytest.mark.parametrize("name", ["python", "shell"])
def test_an_idle_pod_ends_by_itself(name, request):
    instance = request.getfixturevalue(name)
    instance.delete()
    ended = instance.exit()
    assert ended["exitCode"] == 0, (ended, instance.log())


def test_the_service_image_runs_without_a_shell_and_without_root(namespace, archives):
    container = {
        "name": "pilotlight",
        "image": archives["pilotlight"].image,
        "args": ["--help"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    overrides = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    namespace.kubectl(
        "run",
        "service",
        f"--image={container['image']}",
        "--restart=Never",
        f"--overrides={json.dumps({'spec': overrides})}",
    )
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", TIMEOUT, "pod/service")
    assert "Usage: pilotlight" in namespace.kubectl("logs", "service")
