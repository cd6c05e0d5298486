"""Says who it is and calls $FUNCTION with the defaults of boto3; prints what `pods.py` reads."""

import json
import os

import boto3
from botocore.exceptions import ClientError


def attempt(call):
    try:
        return call()
    except ClientError as error:
        return {"error": error.response["Error"]["Code"], "whole": str(error)}


def answer():
    invoked = boto3.client("lambda").invoke(FunctionName=os.environ["FUNCTION"], Payload='{"name": "é"}')
    return json.load(invoked["Payload"])


identity = attempt(lambda: boto3.client("sts").get_caller_identity()["Arn"])
print(json.dumps({"version": boto3.__version__, "identity": identity, "answer": attempt(answer)}))
