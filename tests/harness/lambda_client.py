"""boto3's Lambda client of a gateway, and invocations with events and answers as values."""

import base64
import json

import boto3
from botocore.config import Config

from tests.harness.patience import PATIENCE


def lambda_client(endpoint, retries=None):
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
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
    """Invokes with an event as a value; adds body, request id and log lines to the answer."""

    def invoke(name, event=None, **options):
        answer = client.invoke(FunctionName=name, Payload=json.dumps(event), **options)
        answer["Bytes"] = answer.pop("Payload").read()
        answer["Body"] = json.loads(answer["Bytes"])
        answer["RequestId"] = answer["ResponseMetadata"]["RequestId"]
        if "LogResult" in answer:
            answer["Log"] = base64.b64decode(answer["LogResult"]).decode()
        return answer

    return invoke
