"""The session's server and its boto3 clients.

One `pilotlight local` serves the fixtures and the examples to all tests; its
stop at the end of the session is itself a check (local_server.py). With
PILOTLIGHT_ENDPOINT the same tests call a cluster instead (remote_server.py).
"""

import base64
import json
import os

import boto3
import pytest
from botocore.config import Config
from local_server import REPOSITORY, LocalServer
from remote_server import RemoteServer
from room import Room

ENDPOINT = os.environ.get("PILOTLIGHT_ENDPOINT")
EXAMPLES = REPOSITORY / "examples"
RUST_ECHO = EXAMPLES / "rust-echo"


def only_local(reason):
    """For a test that a cluster cannot pass; `reason` says what it lacks."""
    return pytest.mark.skipif(ENDPOINT is not None, reason=f"not in a cluster: {reason}")


@pytest.fixture(scope="session")
def server():
    if ENDPOINT is not None:
        yield RemoteServer(ENDPOINT)
        return
    examples = ["hello", "json-api", "failures", "shell", "thumbnail"]
    # Without its executable the manifest is invalid; its test says what to do.
    if (RUST_ECHO / "build/bootstrap").exists():
        examples.append("rust-echo")
    server = LocalServer(REPOSITORY / "tests/sdk/functions.yaml", *(EXAMPLES / name for name in examples))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def client(server):
    return lambda_client(server.endpoint)


def lambda_client(endpoint, retries=None):
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(
            retries=retries or {"max_attempts": 0},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=20,
        ),
    )


@pytest.fixture(scope="session")
def invoke(client):
    """Invokes with an event as a value, and adds what tests read: body, request id, log lines."""

    def call(name, event=None, **options):
        answer = client.invoke(FunctionName=name, Payload=json.dumps(event), **options)
        answer["Bytes"] = answer.pop("Payload").read()
        answer["Body"] = json.loads(answer["Bytes"])
        answer["RequestId"] = answer["ResponseMetadata"]["RequestId"]
        if "LogResult" in answer:
            answer["Log"] = base64.b64decode(answer["LogResult"]).decode()
        return answer

    return call


@pytest.fixture
def room(server):
    """Makes rooms, in which handlers wait for the test."""
    rooms = []

    def make(size=None):
        rooms.append(Room(server.host, size))
        return rooms[-1]

    yield make
    for room in rooms:
        room.close()
