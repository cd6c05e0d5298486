"""The session's server and its boto3 clients.

One `pilotlight local` serves the fixtures and the examples to all tests; its
stop at the end of the session is itself a check (harness/local_server.py). With
PILOTLIGHT_ENDPOINT the same tests call a cluster instead (harness/remote_server.py).
"""

import pytest

from tests.harness.endpoint import ENDPOINT
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import LocalServer
from tests.harness.paths import EXAMPLES, REPOSITORY
from tests.harness.remote_server import RemoteServer
from tests.harness.room import Room


@pytest.fixture(scope="session")
def server():
    if ENDPOINT is not None:
        yield RemoteServer(ENDPOINT)
        return
    examples = ["hello", "json-api", "failures", "shell", "thumbnail"]
    # Without its executable the manifest is invalid; its test says what to do.
    if (EXAMPLES / "rust-echo/build/bootstrap").exists():
        examples.append("rust-echo")
    server = LocalServer(REPOSITORY / "tests/sdk/functions.yaml", *(EXAMPLES / name for name in examples))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def client(server):
    return lambda_client(server.endpoint)


@pytest.fixture(scope="session")
def invoke(client):
    return invoker(client)


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
