"""Asynchronous calls in pods, with the event queue that the chart installs: accepted by any gateway, tried by the function's
owner, and kept while the queue's server or a gateway is away. Other calls never depend on it.

The release of the suite has a queue while these tests run.
"""

import json

import pytest

from tests.destinations.receivers import Web
from tests.harness import release
from tests.harness.addresses import own_address
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import pilotlight
from tests.harness.patience import until
from tests.harness.release import ENDPOINT, HOST, QUEUED, SYSTEM

QUEUE = "pilotlight-events"
LISTED, BEARER = "e2e-destination", "e2e-bearer-of-destinations"
# Enters a room, and then fails if the event says so.
SOURCE = """
import rooms

def lambda_handler(event, context):
    rooms.enter(event["room"], f"{event['number']} {context.aws_request_id}")
    if event.get("raises"):
        raise ValueError(event["raises"])
    return event["number"]
"""

# Enters the room of the event whose record it gets.
RECORD = """
import rooms

def lambda_handler(record, context):
    event = record["requestPayload"]
    rooms.enter(event["room"], f"record of {record['responsePayload']} {record['requestContext']['requestId']}")
"""


@pytest.fixture(scope="module", autouse=True)
def queued(installed):
    release.install(*QUEUED, "--set=gateway.replicas=2", f"--set=gateway.destinationSecrets={{{LISTED}}}")
    release.await_replaced()
    yield
    release.install()
    release.await_replaced()


@pytest.fixture
def client():
    return lambda_client(ENDPOINT)


@pytest.fixture
def open_room(room):
    """Nobody waits in it."""
    made = room()
    made.open()
    return made


def send(client, name, room, number, **more):
    """Sends an event, once the queue can be reached, and returns what the handler says in the room."""
    event = json.dumps({"room": room.address, "number": number, **more})

    def accepted():
        try:
            answer = client.invoke(FunctionName=name, InvocationType="Event", Payload=event)
        except client.exceptions.ServiceException:
            return None
        assert answer["StatusCode"] == 202
        return f"{number} {answer['ResponseMetadata']['RequestId']}"

    return until(accepted, lambda: release.logged("gateway", "NATS"))


def shown(name):
    done = pilotlight("events", name, f"--endpoint={ENDPOINT}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_events_are_run_once_each_whichever_gateway_accepts_them(client, function, open_room):
    name = function("events-run", SOURCE, concurrency={"reserved": 2})
    # The Service spreads connections over both gateways.
    sent = [send(lambda_client(ENDPOINT), name, open_room, number) for number in range(20)]
    until(lambda: set(open_room.entered) >= set(sent), lambda: open_room.entered)
    until(lambda: shown(name) == "no events", lambda: shown(name))
    assert sorted(open_room.entered) == sorted(sent)


@pytest.mark.long
def test_an_event_that_fails_is_tried_again_with_the_same_id(client, function, open_room):
    name = function("events-fail", SOURCE, **{"async": {"retries": 1}})
    sent = send(client, name, open_room, 1, raises="on purpose")
    until(lambda: len(open_room.entered) == 2, lambda: open_room.entered)
    until(lambda: shown(name).startswith("no events\n1 have failed"), lambda: shown(name))
    assert open_room.entered == [sent, sent]


def test_a_dead_letter_is_replayed_and_a_record_goes_to_its_destination(client, function, open_room):
    next_one = function("events-next", RECORD)
    to_next = {"retries": 0, "onSuccess": {"function": next_one}}
    name = function("events-dead", SOURCE, **{"async": to_next})
    failed = send(client, name, open_room, 1, raises="on purpose")
    until(lambda: "1 have failed" in shown(name), lambda: shown(name))
    done = pilotlight("events", "replay", name, f"--endpoint={ENDPOINT}")
    assert done.stdout.strip() == "1 events are tried again", done.stderr
    until(lambda: open_room.entered == [failed, failed], lambda: open_room.entered)
    until(lambda: "1 have failed" in shown(name), lambda: shown(name))
    done = send(client, name, open_room, 2)
    request_id = done.split()[1]
    until(lambda: f"record of 2 {request_id}" in open_room.entered, lambda: open_room.entered)
    until(lambda: get("function", name)["status"].get("events") == 0, lambda: get("function", name))


@pytest.fixture
def receiver():
    """A web server of the clients' network, for those who know what a Secret has."""
    web = Web(address=own_address(HOST))
    apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": LISTED},
            "stringData": {"authorization": f"Bearer {BEARER}"},
        }
    )
    yield web
    kubectl("delete", "secret", LISTED)
    web.close()


def test_a_record_goes_to_a_server_with_the_credentials_of_a_secret(client, function, open_room, receiver):
    destination = {"http": {"url": f"{receiver.url}/done", "secretRef": {"name": LISTED}}}
    name = function("events-http", SOURCE, **{"async": {"retries": 0, "onSuccess": destination}})
    request_id = send(client, name, open_room, 1).split()[1]
    until(lambda: receiver.received, lambda: (open_room.entered, shown(name)))
    [(path, head, body)] = receiver.received
    head = {name.lower(): value for name, value in head.items()}
    assert (path, head["authorization"]) == ("/done", f"Bearer {BEARER}")
    assert head["content-type"] == "application/cloudevents+json"
    record = json.loads(body)["data"]
    assert (record["requestContext"]["requestId"], record["responsePayload"]) == (request_id, 1)
    assert release.logged("gateway", BEARER) == ""


def test_what_was_accepted_survives_the_server_and_the_gateways(client, function, room):
    name = function("events-kept", SOURCE, concurrency={"reserved": 1})
    held = room()
    first = send(client, name, held, 0)
    held.await_entered(1)
    sent = [send(client, name, held, number) for number in range(1, 6)]
    # The container starts again, with what is on its disk.
    kubectl("exec", f"{QUEUE}-0", "--", "/nats-server", "--signal", "quit=1", namespace=SYSTEM)
    release.roll("gateway")
    held.open()
    release.await_replaced()
    until(lambda: set(held.entered) >= {first, *sent}, lambda: held.entered)
    until(lambda: shown(name) == "no events", lambda: shown(name))


@pytest.mark.long
def test_without_the_server_events_are_refused_and_other_calls_go_on(client, function, open_room):
    name = function("events-away", SOURCE)
    send(client, name, open_room, 1)
    kubectl("scale", "statefulset", QUEUE, "--replicas=0", namespace=SYSTEM)
    event = json.dumps({"room": open_room.address, "number": 2})

    def refused():
        try:
            client.invoke(FunctionName=name, InvocationType="Event", Payload=event)
        except client.exceptions.ServiceException as error:
            return error.response["Error"]["Message"]
        return None

    assert "event queue" in until(refused, "it is away")
    invoke = invoker(client)
    assert invoke(name, {"room": open_room.address, "number": 3})["Body"] == 3
    # Gateways that start without it serve as well.
    release.roll("gateway")
    release.await_replaced()
    assert invoke(name, {"room": open_room.address, "number": 4})["Body"] == 4
    kubectl("scale", "statefulset", QUEUE, "--replicas=1", namespace=SYSTEM)
    sent = send(client, name, open_room, 5)
    until(lambda: sent in open_room.entered, lambda: open_room.entered)
