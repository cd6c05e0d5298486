"""The release, a boto3 client of its gateway, and Functions of one test's own."""

import json

import boto3
import pytest
import release
from botocore.config import Config
from load import Journal, own_address
from release import ENDPOINT, HOST, apply, await_known, get, is_full, kubectl, until, waiting


@pytest.fixture(scope="session", autouse=True)
def installed():
    release.install()
    yield
    release.tell_of_the_release()
    release.uninstall()


def client_of(endpoint):
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(
            retries={"max_attempts": 0},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
        ),
    )


@pytest.fixture(scope="session")
def client():
    return client_of(ENDPOINT)


@pytest.fixture(scope="session")
def invoke(client):
    def call(name, event=None, **options):
        answer = client.invoke(FunctionName=name, Payload=json.dumps(event), **options)
        answer["Body"] = json.loads(answer["Payload"].read())
        return answer

    return call


@pytest.fixture
def journal():
    journal = Journal(own_address(HOST))
    yield journal
    journal.close()


def manifest(name, source, **spec):
    return json.dumps(release.function(name, source, **spec))


@pytest.fixture
def function():
    """Applies a Function, and deletes it when the test is over."""
    names = set()

    def apply(name, source, **spec):
        kubectl("apply", "--filename=-", input=manifest(name, source, **spec))
        names.add(name)
        await_known([name])
        return name

    yield apply
    for name in names:
        kubectl("delete", "function", name, "--ignore-not-found")


def pods(name):
    listed = get("pods", f"--selector=pilotlight.dev/function={name}")
    return [pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]]


def status(name):
    return get("function", name).get("status", {})


def names(listed):
    return {pod["metadata"]["name"] for pod in listed}


@pytest.fixture
def warm_pool():
    """Applies a WarmPool and waits until it is full; deletes it when the test is over."""
    made = set()

    def make(name, **spec):
        made.add(name)
        apply(release.warm_pool(name, **spec))
        until(lambda: is_full(name), 30, lambda: kubectl("get", "warmpool,pods", "--output=wide"))
        return name

    yield make
    for name in made:
        kubectl("delete", "warmpool", name)
    for name in made:
        until(lambda: not waiting(name), 20, lambda: names(waiting(name)))


def ready_condition(name):
    return next((one for one in status(name).get("conditions", []) if one["type"] == "Ready"), {})
