"""The Invoke API seen by boto3: payloads, names, types and refusals (contract §4)."""

import json
import subprocess
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

from tests.harness.patience import PATIENCE

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
PAYLOAD_LIMIT = 6_291_556  # bytes, of a synchronous request and of its response


def test_an_event_comes_back_from_an_echo(invoke):
    event = {"order": 42, "lines": [1.5, True, None], "note": ""}
    answer = invoke("sdk-echo", event)
    assert (answer["StatusCode"], answer["Body"]) == (200, event)
    assert "FunctionError" not in answer and "LogResult" not in answer
    assert answer["ExecutedVersion"] == "$LATEST"


def test_inline_sources_import_each_other(invoke):
    assert invoke("sdk-inline")["Body"] == "inline"


def test_a_handler_that_returns_nothing_answers_null(invoke):
    assert invoke("sdk-nothing", {})["Bytes"] == b"null"


def test_an_empty_payload_is_an_empty_event(client):
    assert json.loads(client.invoke(FunctionName="sdk-echo")["Payload"].read()) == {}


@pytest.mark.parametrize("text", ["grüße", "炎", "🔥", "\u2028 and \u0000", '"\\'])
def test_text_of_any_script_survives_the_round_trip(client, text):
    event = json.dumps({"text": text}, ensure_ascii=False).encode()
    answer = client.invoke(FunctionName="sdk-echo", Payload=event)
    assert json.loads(answer["Payload"].read()) == {"text": text}


@pytest.mark.parametrize(
    "name",
    [
        "sdk-echo",
        "sdk-echo:$LATEST",
        "000000000000:function:sdk-echo",
        "000000000000:function:sdk-echo:$LATEST",
        ARN + "sdk-echo",
        ARN + "sdk-echo:$LATEST",
    ],
)
def test_a_function_answers_to_each_form_of_its_name(invoke, name):
    assert invoke(name, {"a": 1})["Body"] == {"a": 1}


def test_the_latest_version_is_a_qualifier(invoke):
    answer = invoke("sdk-echo", 1, Qualifier="$LATEST")
    assert (answer["Body"], answer["ExecutedVersion"]) == (1, "$LATEST")


def test_a_qualifier_that_does_not_exist_is_not_found(client):
    with pytest.raises(client.exceptions.ResourceNotFoundException) as refused:
        client.invoke(FunctionName="sdk-echo", Qualifier="7")
    assert refused.value.response["Error"]["Message"] == f"Function not found: {ARN}sdk-echo:7"


def test_an_unknown_function_is_not_found(client, server):
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="absent")
    status, headers, body = raw_invoke(server, "absent", b"{}")
    assert status == 404
    assert headers["x-amzn-ErrorType"] == "ResourceNotFoundException"
    assert body == {"Message": f"Function not found: {ARN}absent:$LATEST", "Type": "User"}


@pytest.mark.parametrize("payload", [b"{", b"{'a': 1}", b"[1,]", b"\xff", b"1 2"])
def test_a_payload_that_is_not_json_is_refused(client, payload):
    with pytest.raises(client.exceptions.InvalidRequestContentException) as refused:
        client.invoke(FunctionName="sdk-echo", Payload=payload)
    assert status_of(refused) == 400
    assert refused.value.response["Error"]["Message"].startswith(
        "Could not parse request body into json: Could not parse payload into json: "
    )


def test_a_payload_at_the_limit_passes(client):
    answer = client.invoke(FunctionName="sdk-length", Payload=json_string(PAYLOAD_LIMIT))
    assert json.loads(answer["Payload"].read()) == PAYLOAD_LIMIT - 2


def test_a_payload_over_the_limit_is_refused(client):
    with pytest.raises(client.exceptions.RequestTooLargeException) as refused:
        client.invoke(FunctionName="sdk-length", Payload=json_string(PAYLOAD_LIMIT + 1))
    assert status_of(refused) == 413


def test_a_response_at_the_limit_passes(invoke):
    answer = invoke("sdk-sized", {"bytes": PAYLOAD_LIMIT})
    assert "FunctionError" not in answer
    assert len(answer["Bytes"]) == PAYLOAD_LIMIT


def test_a_response_over_the_limit_is_a_function_error(invoke):
    answer = invoke("sdk-sized", {"bytes": PAYLOAD_LIMIT + 1})
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert answer["Body"] == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert invoke("sdk-sized", {"bytes": 10})["Body"] == "x" * 8


def test_a_dry_run_executes_nothing(client, invoke, room):
    place = room(size=1)
    dry = client.invoke(
        FunctionName="sdk-mark",
        InvocationType="DryRun",
        Payload=json.dumps({"room": place.address, "name": "dry"}),
    )
    assert (dry["StatusCode"], dry["Payload"].read()) == (204, b"")
    # A real call of the same function afterwards would meet a dry one that ran late.
    invoke("sdk-mark", {"room": place.address, "name": "real"})
    assert place.entered == ["real"]


def test_a_dry_run_of_an_unknown_function_is_not_found(client):
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="absent", InvocationType="DryRun")


def test_an_unknown_invocation_type_is_refused(client):
    with pytest.raises(ClientError) as refused:
        client.invoke(FunctionName="sdk-echo", InvocationType="Later")
    assert status_of(refused) == 400


def json_string(size):
    """A JSON string that is `size` bytes long with its quotes."""
    return b'"' + b"x" * (size - 2) + b'"'


def status_of(refused):
    return refused.value.response["ResponseMetadata"]["HTTPStatusCode"]


def raw_invoke(server, name, payload):
    """The bytes on the wire, before botocore changes the casing of keys."""
    request = urllib.request.Request(
        f"{server.endpoint}/2015-03-31/functions/{name}/invocations", payload, method="POST"
    )
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, json.load(answer)


def test_clients_may_speak_http_2_without_tls(server):
    url = f"{server.endpoint}/2015-03-31/functions/sdk-echo/invocations"
    answer = subprocess.run(
        [
            "curl",
            "--silent",
            "--http2-prior-knowledge",
            "--write-out",
            " %{http_version}",
            "--data",
            '{"a":1}',
            url,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert answer.stdout == '{"a": 1} 2'
