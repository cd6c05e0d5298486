"""A function with Powertools' tracer, as its documentation shows it, that calls a second one with boto3."""

import json

import boto3
from aws_lambda_powertools import Tracer

tracer = Tracer(service="front")
client = boto3.client("lambda")


@tracer.capture_method
def second(event):
    answer = client.invoke(FunctionName="shell", Payload=json.dumps(event))
    return json.load(answer["Payload"])


@tracer.capture_lambda_handler
def lambda_handler(event, context):
    tracer.put_annotation(key="order", value=event["order"])
    return {"second": second(event)}
