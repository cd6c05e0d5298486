"""Libraries that code for the original platform uses run unmodified, installed by pip."""

import json

import pytest

from tests.faithful.served import code
from tests.harness.endpoint import only_local

pytestmark = only_local("pip installs what requirements.txt names beside the code of a folder")

ASGI = """
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from mangum import Mangum

started = []

@asynccontextmanager
async def lifespan(app):
    started.append("up")
    yield

app = FastAPI(lifespan=lifespan)

@app.get("/orders/{number}")
async def order(number: int, request: Request, currency: str = "EUR"):
    if number == 404:
        raise HTTPException(404, "no such order")
    context = request.scope["aws.context"]
    return {
        "number": number, "currency": currency, "started": started[:1],
        "function": context.function_name, "cookie": request.cookies.get("session"),
        "source": request.client.host,
    }

@app.post("/notes")
async def note(request: Request):
    return {"length": len(await request.body()), "grüße": (await request.json())["text"]}

handler = Mangum(app, lifespan="on")
"""

POWERTOOLS = """
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="shop")
tracer = Tracer(service="shop")
metrics = Metrics(namespace="Shop", service="shop")

@tracer.capture_method
def price(order):
    tracer.put_annotation("Order", order)
    if order == "broken":
        raise ValueError("a broken order")
    logger.info("priced", extra={"order": order})
    return 42

@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event, context):
    metrics.add_metric(name="Priced", unit=MetricUnit.Count, value=1)
    try:
        return {"price": price(event["order"]), "trace": tracer.provider.current_segment() is not None}
    except ValueError:
        logger.exception("not priced")
        return {"price": None}
"""

FUNCTIONS = {
    "asgi": code(
        "python3.11",
        {"app.py": ASGI, "requirements.txt": "fastapi==0.165.0\nmangum==0.22.0\n"},
        handler="app.handler",
        memory=256,
    ),
    "powertools": code(
        "python3.11",
        {"lambda_function.py": POWERTOOLS, "requirements.txt": "aws-lambda-powertools[tracer]==3.37.0\n"},
        memory=256,
    ),
}


def http_event(method, path, query="", body=None, cookies=()):
    """An event of an HTTP API, payload version 2.0."""
    http = {
        "method": method,
        "path": path,
        "protocol": "HTTP/1.1",
        "sourceIp": "192.0.2.1",
        "userAgent": "test",
    }
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "cookies": list(cookies),
        "headers": {"content-type": "application/json", "host": "shop.test", "x-forwarded-for": "192.0.2.1"},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "shop",
            "domainName": "shop.test",
            "http": http,
            "requestId": "r1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "body": body,
        "isBase64Encoded": False,
    }


def printed(answered):
    """The lines that the function wrote, without the platform's own."""
    own = ("INIT_START ", "START RequestId: ", "END RequestId: ", "REPORT RequestId: ")
    return [line for line in answered["Log"].splitlines() if line and not line.startswith(own)]


def test_an_asgi_application_answers_through_mangum(served):
    event = http_event("GET", "/orders/7", "currency=CHF", cookies=["session=s1"])
    answered = served.invoke("asgi", event, LogType="Tail")
    assert answered["Body"]["statusCode"] == 200, answered["Body"]
    assert json.loads(answered["Body"]["body"]) == {
        "number": 7,
        "currency": "CHF",
        "started": ["up"],
        "function": "asgi",
        "cookie": "s1",
        "source": "192.0.2.1",
    }
    assert answered["Body"]["headers"]["content-type"] == "application/json"
    assert printed(answered) == []


def test_an_asgi_application_reads_bodies_and_refuses(served):
    posted = served.answer("asgi", http_event("POST", "/notes", body=json.dumps({"text": "grüße"})))
    assert json.loads(posted["body"]) == {"length": len('{"text": "gr\\u00fc\\u00dfe"}'), "grüße": "grüße"}
    assert served.answer("asgi", http_event("GET", "/orders/404"))["statusCode"] == 404
    assert served.answer("asgi", http_event("GET", "/orders/none"))["statusCode"] == 422


@pytest.mark.parametrize("order", ["first", "second"])
def test_powertools_logs_traces_and_measures_without_a_warning(served, order):
    answered = served.invoke("powertools", {"order": order}, LogType="Tail")
    assert answered["Body"] == {"price": 42, "trace": True}
    records = [json.loads(line) for line in printed(answered)]
    logged = [record for record in records if "level" in record]
    assert [(record["level"], record["message"]) for record in logged] == [("INFO", "priced")]
    assert logged[0]["function_request_id"] == answered["RequestId"]
    measured = {name for record in records if "_aws" in record for name in record}
    assert "Priced" in measured
    assert len(records) == 2 + ("ColdStart" in measured), records


def test_powertools_logs_an_exception_as_one_record(served):
    answered = served.invoke("powertools", {"order": "broken"}, LogType="Tail")
    assert answered["Body"] == {"price": None}
    (record,) = [json.loads(line) for line in printed(answered) if '"level"' in line]
    assert (record["level"], record["exception_name"]) == ("ERROR", "ValueError")
    assert "a broken order" in record["exception"]


def test_no_start_prints_a_warning(served):
    for name in FUNCTIONS:
        served.invoke(name, http_event("GET", "/orders/1") | {"order": "third"})
        lines = served.logs(name).splitlines()
        assert not [line for line in lines if "warn" in line.lower() or "deprecat" in line.lower()]
