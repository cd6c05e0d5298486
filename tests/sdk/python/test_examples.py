"""The examples answer as their README files say."""

import base64
import json

import pytest

from tests.harness.endpoint import only_local
from tests.harness.lambda_client import in_time
from tests.harness.paths import EXAMPLES
from tests.harness.patience import until


@pytest.fixture
def answer(invoke):
    return in_time(invoke)


def test_hello_greets(answer):
    assert answer("hello", {"name": "Ada"})["Body"] == {"message": "Hello, Ada!"}


def test_json_api_converts_and_refuses(answer):
    request = {"method": "POST", "path": "/conversions"}
    body = {"value": 26.2, "from": "mi", "to": "km"}
    assert answer("json-api", request | {"body": body})["Body"] == {
        "statusCode": 200,
        "body": {"value": 42.1648128, "unit": "km"},
    }
    refused = answer("json-api", request | {"body": body | {"to": "kg"}})["Body"]
    assert (refused["statusCode"], refused["body"]["error"]["field"]) == (422, "body.to")


@only_local("its library needs an image of its own")
def test_thumbnail_uses_its_installed_library(answer):
    made = answer("thumbnail", json.loads((EXAMPLES / "thumbnail/event.json").read_text()))
    image = base64.b64decode(made["Body"].pop("image"))
    assert image.startswith(b"\x89PNG")
    assert made["Body"] == {
        "format": "PNG",
        "width": 120,
        "height": 80,
        "original": {"width": 480, "height": 320},
    }


@only_local("its library needs an image of its own")
def test_thumbnail_names_the_wrong_field(answer):
    failed = answer("thumbnail", {"image": "@"})
    assert failed["FunctionError"] == "Unhandled"
    assert failed["Body"]["errorType"] == "InvalidRequest"
    assert failed["Body"]["errorMessage"].startswith("image: ")


def test_shell_answers_from_a_bootstrap_in_sh(answer):
    event = {"text": 'grüße 🔥 \\ " %s $HOME\n', "many": list(range(2000))}
    told = answer("shell", event, LogType="Tail")["Body"]
    assert told["event"] == event
    assert told["kernel"].startswith("Linux ")


@only_local("a program is too large for a config map")
def test_rust_echo_returns_the_bytes_of_its_event(client):
    built = (EXAMPLES / "rust-echo/build/bootstrap").exists()
    assert built, "examples/rust-echo/build/bootstrap is missing: run `make examples` first"
    event = b'{"b": 1.0, "a": [1e400, 12345678901234567890123], "text": "\\u00e9 \xc3\xa9"}'

    def echoed():
        answer = client.invoke(FunctionName="rust-echo", Payload=event)
        return None if "FunctionError" in answer else answer["Payload"].read()

    assert until(echoed, "rust-echo answers within its timeout") == event


@pytest.mark.parametrize(
    "name, error_type",
    [
        ("fails-exception", "ValueError"),
        ("fails-sanitized", "ValueError"),
        ("fails-non-json", "Runtime.MarshalError"),
        ("fails-timeout", "Sandbox.Timedout"),
        ("fails-exit", "Runtime.ExitError"),
        ("fails-init", "KeyError"),
        ("fails-missing-handler", "Runtime.HandlerNotFound"),
        ("fails-syntax", "Runtime.UserCodeSyntaxError"),
        ("fails-memory", "Runtime.ExitError"),
        ("fails-large-response", "Function.ResponseSizeTooLarge"),
    ],
)
def test_each_failure_has_its_type(invoke, answer, name, error_type):
    failed = (invoke if error_type == "Sandbox.Timedout" else answer)(name, {})
    assert (failed["FunctionError"], failed["Body"]["errorType"]) == ("Unhandled", error_type)
