"""The release, a boto3 client of its gateway, and Functions of one test's own."""

import pytest

from tests.harness import manifests, release
from tests.harness.addresses import own_address
from tests.harness.kubectl import apply, kubectl
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.load import Journal
from tests.harness.patience import until
from tests.harness.room import ROOMS, Room
from tests.harness.state import is_full, names, waiting


@pytest.fixture(scope="session", autouse=True)
def installed():
    with release.installed():
        yield


@pytest.fixture(scope="session")
def client():
    return lambda_client(release.ENDPOINT)


@pytest.fixture(scope="session")
def invoke(client):
    return invoker(client)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "records", own_address(release.HOST)) as journal:
        yield journal


@pytest.fixture
def function():
    """Applies a Function, whose handler may enter a room, and deletes it when the test is over."""
    made = set()

    def make(name, source, **spec):
        code = {"inline": {"lambda_function.py": source, **ROOMS}}
        made.add(name)
        apply(manifests.function(name, source, **{"code": code, **spec}))
        release.await_known([name])
        return name

    yield make
    for name in made:
        kubectl("delete", "function", name, "--ignore-not-found")


@pytest.fixture
def room():
    """Makes rooms, in which handlers wait for the test."""
    rooms = []

    def make(size=None):
        rooms.append(Room(own_address(release.HOST), size))
        return rooms[-1]

    yield make
    for room in rooms:
        room.close()


@pytest.fixture
def warm_pool():
    """Applies a WarmPool and waits until it is full; deletes it when the test is over."""
    made = set()

    def make(name, **spec):
        made.add(name)
        apply(manifests.warm_pool(name, **spec))
        until(lambda: is_full(name), lambda: kubectl("get", "warmpool,pods", "--output=wide"))
        return name

    yield make
    for name in made:
        kubectl("delete", "warmpool", name)
    for name in made:
        until(lambda: not waiting(name), lambda: names(waiting(name)))
