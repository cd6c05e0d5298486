"""boto3's Lambda client of a gateway, and invocations with events and answers as values."""

import base64
import json

import boto3
from botocore.config import Config

from tests.harness.patience import PATIENCE, until


def lambda_client(endpoint, retries=None, verify=None):
    """`verify`: a file with the authorities of its certificate."""
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        verify=verify,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(
            # What is sent once is counted once.
            retries=retries or {"max_attempts": 0},
            connect_timeout=PATIENCE,
            read_timeout=PATIENCE,
            max_pool_connections=32,
        ),
    )


def invoker(client):
    """Invokes with an event as a value; adds body, request id and log lines to the answer.

    An instance may take longer to come up than a call may wait, as on a busy machine. Such a call has
    not started, so it is sent again. A test whose subject is the refusal calls `client.invoke` itself.
    """

    def invoke(name, event=None, **options):
        refusals = []

        def answer():
            try:
                return client.invoke(FunctionName=name, Payload=json.dumps(event), **options)
            except client.exceptions.ResourceNotReadyException as refused:
                refusals.append(refused.response["Error"]["Message"])
                return None

        answered = until(answer, lambda: f"{name} answers: {refusals[-3:]}")
        answered["Bytes"] = answered.pop("Payload").read()
        answered["Body"] = json.loads(answered["Bytes"])
        answered["RequestId"] = answered["ResponseMetadata"]["RequestId"]
        if "LogResult" in answered:
            answered["Log"] = base64.b64decode(answered["LogResult"]).decode()
        return answered

    return invoke


def in_time(invoke):
    """Repeats invocations that end by the timeout of a function whose own is a few seconds.

    On a slow machine any call may take longer than that.
    """

    def repeat(name, event=None, **options):
        def answer():
            answered = invoke(name, event, **options)
            body = answered["Body"]
            is_late = isinstance(body, dict) and body.get("errorType") == "Sandbox.Timedout"
            return None if is_late else answered

        return until(answer, f"{name} answers within its timeout")

    return repeat
