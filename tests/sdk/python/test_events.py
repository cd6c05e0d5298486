"""Asynchronous calls by boto3 and by the command line of AWS, in local mode and in pods (contract §6)."""

import json
import subprocess

import pytest
from botocore.exceptions import ClientError

from tests.harness.aws_cli import aws_cli, environment
from tests.harness.patience import PATIENCE, until

LIMIT = 1024 * 1024  # bytes of an event


def accepted(send):
    """The answer to a call, once the queue can be used: that of a new release may not be ready."""

    def answer():
        try:
            return send()
        except ClientError as error:
            if error.response["Error"]["Code"] == "ServiceException":
                return None
            raise

    return until(answer, "the event is accepted")


@pytest.fixture
def sent(room):
    """Makes an event for `sdk-mark`, and returns once this has been entered with it."""
    place = room(size=1)

    def run(send):
        send(json.dumps({"room": place.address, "name": "event"}))
        until(lambda: place.entered == ["event"], lambda: place.entered)

    return run


def test_boto3_gets_202_and_the_event_runs(client, sent):
    def send(event):
        answer = accepted(
            lambda: client.invoke(FunctionName="sdk-mark", InvocationType="Event", Payload=event)
        )
        assert answer["StatusCode"] == 202 and answer["Payload"].read() == b""
        assert "FunctionError" not in answer and "ExecutedVersion" not in answer

    sent(send)


def test_invoke_async_does_the_same(client, sent):
    def send(event):
        answer = accepted(lambda: client.invoke_async(FunctionName="sdk-mark", InvokeArgs=event))
        assert answer["Status"] == 202

    sent(send)


def test_the_command_line_of_aws_sends_an_event(server, sent, tmp_path):
    def send(event):
        command = [aws_cli(), "lambda", "invoke", "--function-name=sdk-mark", "--invocation-type=Event"]
        payload = ["--cli-binary-format=raw-in-base64-out", f"--payload={event}"]
        done = subprocess.run(
            [*command, *payload, tmp_path / "answer"],
            env=environment(server.endpoint),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"StatusCode": 202}

    sent(send)


def test_an_event_may_have_one_mebibyte(client):
    def send(size):
        event = b'"' + b"x" * (size - 2) + b'"'
        return client.invoke(FunctionName="sdk-echo", InvocationType="Event", Payload=event)

    assert accepted(lambda: send(LIMIT))["StatusCode"] == 202
    with pytest.raises(ClientError) as refused:
        send(LIMIT + 1)
    assert refused.value.response["Error"]["Code"] == "RequestTooLargeException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert f"{LIMIT} bytes" in refused.value.response["Error"]["Message"]


def test_what_is_no_event_is_refused_at_once(client):
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="absent", InvocationType="Event")
    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke(FunctionName="sdk-echo", InvocationType="Event", Payload="no JSON")
