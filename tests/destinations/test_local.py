"""Local mode sends the record of an event that has ended to its destination: unmodified clients, real receivers."""

import json
import uuid

import pytest

from tests.destinations import receivers
from tests.destinations.receivers import KEYS, Web
from tests.harness.lambda_client import lambda_client
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, function
from tests.harness.patience import until

SOURCE = """
def lambda_handler(event, context):
    if event.get("raises"):
        raise ValueError(event["raises"])
    return {"sum": event["a"] + event["b"]}
"""
GETS = """
import json

def lambda_handler(event, context):
    with open(event["requestPayload"]["file"], "a") as file:
        print(json.dumps(event), file=file, flush=True)
"""


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    with receivers.elasticmq(tmp_path_factory.mktemp("elasticmq")) as client:
        yield client


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    with receivers.versitygw(tmp_path_factory.mktemp("versitygw")) as client:
        client.create_bucket(Bucket="records")
        yield client


@pytest.fixture(scope="module")
def nats(tmp_path_factory):
    with receivers.nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def web():
    server = Web()
    yield server
    server.close()


@pytest.fixture
def calls(tmp_path):
    """Starts local mode with a function of these destinations, and sends it events."""
    servers = []
    folder = tmp_path / "secrets/receiver"
    folder.mkdir(parents=True)
    for key, value in KEYS.items():
        (folder / key).write_text(value)

    def call(event, **destinations):
        manifest = tmp_path / "functions.yaml"
        spec = {"async": {"retries": 0, **destinations}}
        manifest.write_text(as_yaml([function("works", SOURCE, **spec), function("gets", GETS)]))
        options = [f"--{name}={tmp_path / name}" for name in ("events", "logs", "secrets")]
        servers.append(LocalServer(manifest, arguments=options))
        client = lambda_client(servers[-1].endpoint)
        answer = client.invoke(FunctionName="works", InvocationType="Event", Payload=json.dumps(event))
        assert answer["StatusCode"] == 202
        return answer["ResponseMetadata"]["RequestId"]

    yield call
    for server in servers:
        server.stop()


def success(request_id, event):
    return {
        "requestContext": {
            "requestId": request_id,
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:works:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": event,
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"sum": 3},
        "version": "1.0",
    }


def checked(record, request_id, event):
    record = json.loads(record)
    assert record.pop("timestamp").endswith("Z")
    assert record == success(request_id, event)


def test_a_queue(queue, calls):
    url = queue.get_queue_url(QueueName="done")["QueueUrl"]
    event = {"a": 1, "b": 2}
    request_id = calls(event, onSuccess={"sqs": {"queueUrl": url, "secretRef": {"name": "receiver"}}})

    def received():
        return queue.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"]).get("Messages")

    [message] = until(received, "the record is in the queue")
    checked(message["Body"], request_id, event)
    assert message["Attributes"]["AWSTraceHeader"].startswith("Root=1-")


def test_a_bucket(storage, calls):
    event = {"a": 1, "b": 2}
    s3 = {"bucket": "records", "endpoint": storage.meta.endpoint_url, "secretRef": {"name": "receiver"}}
    request_id = calls(event, onSuccess={"s3": s3})
    begin = "aws/lambda/async/works/"

    def listed():
        return storage.list_objects_v2(Bucket="records", Prefix=begin).get("Contents")

    [one] = until(listed, "the record is in the bucket")
    assert one["Key"].endswith(f"-{request_id}")
    checked(storage.get_object(Bucket="records", Key=one["Key"])["Body"].read(), request_id, event)


def test_a_subject(nats, calls):
    event = {"a": 1, "b": 2}
    request_id = calls(event, onSuccess={"nats": {"url": nats.url, "subject": "orders.done"}})
    [(subject, _, record)] = until(lambda: nats.received, "the record is there")
    assert subject == "orders.done"
    checked(record, request_id, event)


def test_a_web_server_that_is_away_at_first_gets_the_failure(web, calls):
    web.status = 503
    event = {"raises": "it is broken"}
    request_id = calls(event, onFailure={"http": {"url": web.url}})
    until(lambda: web.received, "it is tried")
    web.status = 202
    before = len(web.received)
    until(lambda: len(web.received) > before, "it is tried again")
    first, *_, last = (json.loads(body) for _, _, body in web.received)
    assert first == last and last["type"] == "dev.pilotlight.invocation.failed"
    data = last["data"]
    assert data["requestContext"]["requestId"] == request_id
    assert data["requestContext"]["condition"] == "RetriesExhausted"
    assert data["responseContext"]["functionError"] == "Unhandled"
    assert data["responsePayload"]["errorMessage"] == "it is broken"


def test_another_function(calls, tmp_path):
    file = tmp_path / str(uuid.uuid4())
    event = {"a": 1, "b": 2, "file": str(file)}
    request_id = calls(event, onSuccess={"function": "gets"})
    until(file.exists, "the other function has run")
    checked(until(file.read_text, "it has written"), request_id, event)
