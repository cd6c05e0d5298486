"""Pilotlight in a real cluster, installed by its chart; boto3 calls its gateway.

Runs in the cluster's client network (`make test-cluster` enters it). One release
serves all tests; each test has Functions of its own, and takes them along.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASE, SYSTEM, FUNCTIONS = "pilotlight", "pilotlight", "functions"
ENDPOINT = f"http://{RELEASE}-gateway.{SYSTEM}.svc.cluster.local"
CHART = Path(os.environ.get("PILOTLIGHT_CHART", REPOSITORY / "charts/pilotlight"))
IMAGES = "pilotlight.test"
VERSION = "0.1.0"


def run(*command, **options):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=180, **options
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def kubectl(*words, **options):
    return run("kubectl", f"--namespace={FUNCTIONS}", *words, **options)


def until(condition, seconds, what):
    """Polls `condition` and returns its first true value; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        time.sleep(0.1)
    return value


@pytest.fixture(scope="session", autouse=True)
def release():
    run("kubectl", "apply", "--filename=-", input=json.dumps(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": FUNCTIONS}}
    ))
    run("kubectl", "apply", "--server-side", "--force-conflicts",
        f"--filename={REPOSITORY}/charts/pilotlight/crds/function.yaml")
    runtimes = [f"--set=runtimeImages.{name}={IMAGES}/{image}:{VERSION}" for name, image in
                [("python3\\.11", "python3.11"), ("custom", "custom")]]
    run("helm", "upgrade", "--install", RELEASE, CHART,
        f"--namespace={SYSTEM}", "--create-namespace", "--wait", "--timeout=120s",
        f"--set=functionNamespace={FUNCTIONS}",
        f"--set=image={IMAGES}/pilotlight:{VERSION}", *runtimes)
    yield
    for part in ("controller", "gateway"):
        print(f"--- {part}")
        print(run("kubectl", f"--namespace={SYSTEM}", "logs", "--tail=100",
                  f"deployment/{RELEASE}-{part}"))
    run("helm", "uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait")


@pytest.fixture(scope="session")
def client():
    return boto3.client(
        "lambda",
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(
            retries={"max_attempts": 0}, connect_timeout=5, read_timeout=60,
            max_pool_connections=32,
        ),
    )


@pytest.fixture(scope="session")
def invoke(client):
    def call(name, event=None, **options):
        answer = client.invoke(FunctionName=name, Payload=json.dumps(event), **options)
        answer["Body"] = json.loads(answer["Payload"].read())
        return answer

    return call


def manifest(name, source, **spec):
    return json.dumps({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": name},
        "spec": {
            "runtime": "python3.11", "code": {"inline": {"lambda_function.py": source}}, **spec,
        },
    })


@pytest.fixture
def function(client):
    """Applies a Function, and deletes it when the test is over."""
    names = set()

    def apply(name, source, **spec):
        kubectl("apply", "--filename=-", input=manifest(name, source, **spec))
        names.add(name)
        # A watch tells the gateway, some milliseconds later.
        until(lambda: is_known(client, name), 10, lambda: f"{name} is not known to the gateway")
        return name

    yield apply
    for name in names:
        kubectl("delete", "function", name, "--ignore-not-found")


def is_known(client, name):
    try:
        return client.get_function(FunctionName=name)
    except client.exceptions.ResourceNotFoundException:
        return None


def pods(name):
    listed = json.loads(kubectl("get", "pods", f"--selector=pilotlight.dev/function={name}",
                                "--output=json"))
    return [pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]]


def status(name):
    return json.loads(kubectl("get", "function", name, "--output=json")).get("status", {})


def ready_condition(name):
    return next((one for one in status(name).get("conditions", []) if one["type"] == "Ready"), {})
