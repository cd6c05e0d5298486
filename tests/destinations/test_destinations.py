"""Records of events that have ended reach real receivers, exactly as they were recorded.

The senders and the reading of Secrets are those of gateways; `operator/gateway/examples/deliver.rs` calls them.
"""

import json
import subprocess
import uuid

import botocore.exceptions
import pytest

from tests.destinations import receivers
from tests.destinations.receivers import KEYS, Authority, Web
from tests.harness.paths import REPOSITORY
from tests.harness.patience import until

DELIVER = REPOSITORY / "target/debug/examples/deliver"
TRACE = "Root=1-6a2f3a9e-0c8e4a519a550f7a3e5f0001;Parent=0c8e4a519a550f7a;Sampled=1"
PAYLOAD = '{"n": 1.10, "text": "gr\u00fcn"}'
ANSWER = '{"sum": 12345678901234567890}'


@pytest.fixture(scope="session")
def queue(tmp_path_factory):
    with receivers.elasticmq(tmp_path_factory.mktemp("elasticmq")) as client:
        yield client


@pytest.fixture(scope="session")
def storage(tmp_path_factory):
    with receivers.versitygw(tmp_path_factory.mktemp("versitygw")) as client:
        client.create_bucket(Bucket="records")
        yield client


@pytest.fixture(scope="session")
def nats(tmp_path_factory):
    accounts = """
    max_payload: 100000
    authorization { users: [
      {user: reader, password: r}
      {user: sender, password: hunter2, permissions: {publish: ["orders.>", "_INBOX.>"]}}
    ]}
    """
    login = {"user": "reader", "pass": "r"}
    with receivers.nats(tmp_path_factory.mktemp("nats"), login, accounts) as server:
        yield server


@pytest.fixture
def web():
    server = Web()
    yield server
    server.close()


@pytest.fixture
def secret(tmp_path):
    """Makes a Secret, and returns what a destination names it by."""

    def make(**keys):
        folder = tmp_path / "secrets" / "receiver"
        folder.mkdir(parents=True)
        for key, value in keys.items():
            (folder / key.replace("__", ".")).write_text(value)
        return {"name": "receiver"}

    return make


@pytest.fixture
def deliver(tmp_path):
    """Delivers a record, and returns what became of it."""

    def send(destination, payload=PAYLOAD, request_id=None, times=1, **more):
        case = {
            "destination": destination,
            "secrets": str(tmp_path / "secrets"),
            "request_id": request_id or str(uuid.uuid4()),
            "payload": payload,
            "answer": ANSWER,
            "trace": TRACE,
            "times": times,
            **more,
        }
        done = subprocess.run([DELIVER], input=json.dumps(case), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        outcomes = json.loads(done.stdout)
        return outcomes if times > 1 else outcomes[0]

    return send


def checked(record, request_id):
    """The record as the platform's was recorded: the numbers as they were written."""
    text = record if isinstance(record, str) else record.decode()
    assert PAYLOAD in text and ANSWER in text, text
    assert json.loads(text) == {
        "version": "1.0",
        "timestamp": "2027-01-15T08:00:00.120Z",
        "requestContext": {
            "requestId": request_id,
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": json.loads(PAYLOAD),
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": json.loads(ANSWER),
    }


def test_a_queue_gets_the_record_and_the_trace(queue, deliver, secret):
    url = queue.get_queue_url(QueueName="done")["QueueUrl"]
    request_id = str(uuid.uuid4())
    sqs = {"queueUrl": url, "secretRef": secret(**KEYS)}
    assert deliver({"sqs": sqs}, request_id=request_id) == {"outcome": "taken"}
    [message] = queue.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"])["Messages"]
    checked(message["Body"], request_id)
    assert message["Attributes"]["AWSTraceHeader"] == TRACE
    queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def test_a_queue_that_asks_for_no_keys_needs_none(queue, deliver):
    url = queue.get_queue_url(QueueName="done")["QueueUrl"]
    request_id = str(uuid.uuid4())
    assert deliver({"sqs": {"queueUrl": url}}, request_id=request_id) == {"outcome": "taken"}
    [message] = queue.receive_message(QueueUrl=url)["Messages"]
    checked(message["Body"], request_id)
    queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def test_what_a_queue_always_refuses_is_not_tried_again(queue, deliver):
    url = queue.get_queue_url(QueueName="done")["QueueUrl"]
    absent = deliver({"sqs": {"queueUrl": f"{url}-absent"}})
    assert absent["outcome"] == "never" and "QueueDoesNotExist" in absent["why"], absent
    large = deliver({"sqs": {"queueUrl": url}}, payload=json.dumps("x" * 1_100_000))
    assert large["outcome"] == "never", large


def test_a_bucket_gets_an_object_with_the_platforms_name(storage, deliver, secret):
    request_id = str(uuid.uuid4())
    s3 = {
        "bucket": "records",
        "prefix": "shop/",
        "endpoint": storage.meta.endpoint_url,
        "secretRef": secret(**KEYS),
    }
    # A second try replaces the object of the first one.
    assert deliver({"s3": s3}, request_id=request_id, times=2) == [{"outcome": "taken"}] * 2
    [listed] = storage.list_objects_v2(Bucket="records", Prefix="shop/")["Contents"]
    name = f"shop/aws/lambda/async/hello/2027/01/15/2027-01-15T08.00.00-{request_id}"
    assert listed["Key"] == name
    found = storage.get_object(Bucket="records", Key=name)
    assert found["ContentType"] == "application/json"
    checked(found["Body"].read(), request_id)


def test_a_bucket_of_no_record_is_final_and_wrong_keys_may_be_mended(storage, deliver, secret):
    s3 = {"bucket": "absent", "endpoint": storage.meta.endpoint_url, "secretRef": secret(**KEYS)}
    absent = deliver({"s3": s3})
    assert absent["outcome"] == "never" and "NoSuchBucket" in absent["why"], absent
    wrong = deliver({"s3": {**s3, "bucket": "records", "secretRef": {"name": "absent"}}})
    assert wrong["outcome"] == "later" and "spec.async.onSuccess.s3.secretRef" in wrong["why"], wrong
    unsigned = deliver({"s3": {"bucket": "records", "endpoint": storage.meta.endpoint_url}})
    assert unsigned["outcome"] == "later", unsigned


def test_wrong_keys_of_a_bucket_may_be_mended(storage, deliver, secret):
    s3 = {"bucket": "records", "endpoint": storage.meta.endpoint_url}
    wrong = secret(**{**KEYS, "AWS_SECRET_ACCESS_KEY": "hunter3"})
    refused = deliver({"s3": {**s3, "secretRef": wrong}})
    assert refused["outcome"] == "later" and "hunter" not in refused["why"], refused
    with pytest.raises(botocore.exceptions.ClientError):
        port = storage.meta.endpoint_url.rsplit(":", 1)[1]
        receivers.client("s3", port, **{**KEYS, "AWS_SECRET_ACCESS_KEY": "hunter3"}).list_buckets()


def test_a_subject_gets_the_record_with_an_id_that_streams_know_again(nats, deliver, secret):
    request_id = str(uuid.uuid4())
    login = secret(username="sender", password="hunter2\n")
    to = {"url": nats.url, "subject": "orders.done", "secretRef": login}
    before = len(nats.received)
    assert deliver({"nats": to}, request_id=request_id, times=3) == [{"outcome": "taken"}] * 3
    until(lambda: len(nats.received) == before + 3, lambda: nats.received)
    for subject, headers, record in nats.received[before:]:
        assert subject == "orders.done"
        assert f"Nats-Msg-Id: {request_id}-1800000000000-Success\r\n" in headers
        assert f"X-Amzn-Trace-Id: {TRACE}\r\n" in headers
        checked(record, request_id)


def test_a_server_of_nats_refuses_what_it_does_not_allow(nats, deliver, secret):
    login = secret(username="sender", password="hunter2")
    elsewhere = deliver({"nats": {"url": nats.url, "subject": "secrets", "secretRef": login}})
    assert elsewhere["outcome"] == "later" and "Permissions Violation" in elsewhere["why"], elsewhere
    nobody = deliver({"nats": {"url": nats.url, "subject": "orders.done"}})
    assert nobody["outcome"] == "later" and "Authorization Violation" in nobody["why"], nobody
    to = {"url": nats.url, "subject": "orders.done", "secretRef": login}
    large = deliver({"nats": to}, payload=json.dumps("x" * 100_000))
    assert large["outcome"] == "never" and "100000 bytes" in large["why"], large


def test_a_web_server_gets_a_cloud_event(web, deliver, secret):
    request_id = str(uuid.uuid4())
    http = {"url": f"{web.url}/in?key=1", "secretRef": secret(Authorization="Bearer hunter2\n")}
    assert deliver({"http": http}, request_id=request_id) == {"outcome": "taken"}
    [(path, headers, body)] = web.received
    headers = {name.lower(): value for name, value in headers.items()}
    assert path == "/in?key=1" and headers["authorization"] == "Bearer hunter2"
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["x-amzn-trace-id"] == TRACE
    event = json.loads(body)
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": f"{request_id}-1800000000000-Success",
        "source": "arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST",
        "type": "dev.pilotlight.invocation.succeeded",
        "time": "2027-01-15T08:00:00.120Z",
        "datacontenttype": "application/json",
    }
    assert PAYLOAD in body.decode() and ANSWER in body.decode()
    del data["requestPayload"], data["responsePayload"]
    # As they were written, for the comparison of the whole.
    checked(
        f'{json.dumps(data)[:-1]}, "requestPayload": {PAYLOAD}, "responsePayload": {ANSWER}}}', request_id
    )


@pytest.mark.parametrize(
    "status, outcome",
    [(204, "taken"), (503, "later"), (429, "later"), (401, "later"), (400, "never"), (413, "never")],
)
def test_the_status_of_a_web_server_decides(web, deliver, status, outcome):
    web.status = status
    assert deliver({"http": {"url": web.url}})["outcome"] == outcome


def test_a_redirect_is_not_followed(web, deliver):
    other = Web()
    web.status, web.head = 307, {"location": f"{other.url}/"}
    refused = deliver({"http": {"url": web.url}})
    assert refused["outcome"] == "never" and "redirect" in refused["why"], refused
    assert len(web.received) == 1 and other.received == []
    other.close()


def test_the_body_of_an_answer_is_neither_awaited_for_long_nor_shown(web, deliver):
    web.body, web.head = b"secret " * 10, {"content-length": "1000000"}
    assert deliver({"http": {"url": web.url}}) == {"outcome": "taken"}
    web.status = 500
    refused = deliver({"http": {"url": web.url}})
    assert refused["outcome"] == "later" and "secret" not in refused["why"], refused


def test_no_destination_reaches_an_address_that_the_rule_refuses(web, nats, queue, storage, deliver):
    refused = [
        {"http": {"url": web.url}},
        {"http": {"url": web.url.replace("127.0.0.1", "localhost")}},
        {"nats": {"url": nats.url, "subject": "orders.done"}},
        {"sqs": {"queueUrl": queue.get_queue_url(QueueName="done")["QueueUrl"]}},
        {"s3": {"bucket": "records", "endpoint": storage.meta.endpoint_url}},
    ]
    for destination in refused:
        found = deliver(destination, allow=[])
        assert found["outcome"] == "later" and "--fetch-allow" in found["why"], found
    assert web.received == []
    assert deliver({"http": {"url": web.url}}, allow=["127.0.0.1"]) == {"outcome": "taken"}


def test_a_receiver_is_known_by_the_authorities_of_its_secret(deliver, secret, tmp_path):
    authority = Authority(tmp_path)
    web = Web(authority)
    unknown = deliver({"http": {"url": web.url}})
    assert unknown["outcome"] == "later" and web.received == [], unknown
    known = secret(ca__crt=authority.pem.read_text())
    assert deliver({"http": {"url": web.url, "secretRef": known}}, times=2) == [{"outcome": "taken"}] * 2
    assert len(web.received) == 2
    web.close()
    (tmp_path / "nats").mkdir()
    with receivers.nats(tmp_path / "nats", authority=authority) as server:
        to = {"url": server.url, "subject": "orders.done"}
        unknown = deliver({"nats": to})
        assert unknown["outcome"] == "later" and "certificate" in unknown["why"], unknown
        assert deliver({"nats": {**to, "secretRef": known}}) == {"outcome": "taken"}
        until(lambda: server.received, "the record is there")
        # What asks for TLS does not speak plain text.
        plain = {"url": server.url.replace("tls:", "nats:"), "subject": "orders.done", "secretRef": known}
        assert deliver({"nats": plain}) == {"outcome": "taken"}


def test_a_receiver_that_is_away_may_come_back(deliver):
    port = receivers.free_port()
    for destination in (
        {"http": {"url": f"http://127.0.0.1:{port}/"}},
        {"nats": {"url": f"nats://127.0.0.1:{port}", "subject": "a"}},
        {"sqs": {"queueUrl": f"http://127.0.0.1:{port}/q"}},
        {"s3": {"bucket": "records", "endpoint": f"http://127.0.0.1:{port}"}},
    ):
        found = deliver(destination)
        assert found["outcome"] == "later" and "cannot be reached" in found["why"], found
