"""What a handler finds in its environment, and what it writes into the log (contract §2, §3)."""

import base64
import json
import re

import pytest

LOG_STREAM = re.compile(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}")


def test_the_context_describes_the_call(invoke):
    answer = invoke("sdk-context", {})
    context = answer["Body"]
    assert 0 < context.pop("remaining") <= 600_000
    assert LOG_STREAM.fullmatch(context.pop("log_stream_name"))
    assert context == {
        "aws_request_id": answer["RequestId"],
        "memory_limit_in_mb": "192",
        "function_name": "sdk-context",
        "function_version": "$LATEST",
        "invoked_function_arn": "arn:aws:lambda:us-east-1:000000000000:function:sdk-context",
        "log_group_name": "/aws/lambda/sdk-context",
        "client_context": None,
    }


def test_each_call_has_a_request_id_of_its_own(invoke):
    ids = {invoke("sdk-context", {})["Body"]["aws_request_id"] for _ in range(3)}
    assert len(ids) == 3


def test_a_client_context_reaches_the_handler(invoke):
    sent = {"custom": {"tenant": "grün"}, "env": {"locale": "de"}, "client": {"app_title": "shop"}}
    encoded = base64.b64encode(json.dumps(sent).encode()).decode()
    context = invoke("sdk-context", {}, ClientContext=encoded)["Body"]["client_context"]
    assert context == {"custom": {"tenant": "grün"}, "env": {"locale": "de"}, "app_title": "shop"}


def test_the_environment_has_the_variables_of_the_platform_and_the_manifest(invoke):
    answer = invoke("sdk-environment", {})["Body"]
    variables = answer["variables"]
    expected = {
        "AWS_LAMBDA_FUNCTION_NAME": "sdk-environment",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/sdk-environment",
        "AWS_LAMBDA_LOG_FORMAT": "Text",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "_HANDLER": "surroundings.environment",
        "TZ": ":UTC",
        "LANG": "en_US.UTF-8",
        "TABLE_NAME": "orders",
        "GREETING": "grüße",
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert LOG_STREAM.fullmatch(variables["AWS_LAMBDA_LOG_STREAM_NAME"])
    assert re.fullmatch(r"[\w.]+:\d+", variables["AWS_LAMBDA_RUNTIME_API"])
    assert variables["AWS_EXECUTION_ENV"].startswith("AWS_Lambda_python3.")
    assert variables["LAMBDA_TASK_ROOT"] == answer["directory"]


@pytest.mark.parametrize("name", ["AWS_LAMBDA_MAX_CONCURRENCY", "_LAMBDA_TELEMETRY_LOG_FD"])
def test_variables_that_would_switch_the_runtimes_mode_are_absent(invoke, name):
    assert name not in invoke("sdk-environment", {})["Body"]["variables"]


def test_the_log_tail_frames_what_the_handler_printed(invoke):
    cold = invoke("sdk-frames", {"lines": ["one", "two"]}, LogType="Tail")
    lines = framed(cold)
    assert lines[1:-2] == ["one", "two"]
    assert "\tInit Duration: " in lines[-1]
    assert_report(cold, lines[-1])

    warm = invoke("sdk-frames", {"lines": ["three"]}, LogType="Tail")
    lines = framed(warm)
    assert lines[1:-2] == ["three"]
    assert "Init Duration" not in lines[-1]
    assert_report(warm, lines[-1])


def test_the_log_tail_is_the_last_4096_bytes(invoke):
    lines = [f"line {number} " + "é" * 60 for number in range(200)]
    answer = invoke("sdk-prints", {"lines": lines}, LogType="Tail")
    tail = base64.b64decode(answer["LogResult"])
    assert 3000 < len(tail) <= 4096
    assert lines[-1] in answer["Log"] and lines[0] not in answer["Log"]
    assert answer["Log"].rstrip("\n").splitlines()[-1].startswith("REPORT RequestId: ")


def test_the_json_log_format_reports_as_an_object(invoke):
    answer = invoke("sdk-prints-json", {"lines": ["plain"]}, LogType="Tail")
    assert "plain" in answer["Log"].splitlines()
    records = [json.loads(line) for line in answer["Log"].splitlines() if line.startswith("{")]
    report = next(record for record in records if record["type"] == "platform.report")
    assert report["record"]["requestId"] == answer["RequestId"]
    assert report["record"]["status"] == "success"
    assert report["record"]["metrics"]["memorySizeMB"] == 128
    assert report["record"]["metrics"]["durationMs"] > 0


def framed(answer):
    """The lines from START on; a cold start may put its INIT_START before it."""
    lines = answer["Log"].rstrip("\n").splitlines()
    start = f"START RequestId: {answer['RequestId']} Version: $LATEST"
    assert start in lines
    lines = lines[lines.index(start) :]
    assert lines[-2] == f"END RequestId: {answer['RequestId']}"
    return lines


def assert_report(answer, line):
    match = re.fullmatch(
        rf"REPORT RequestId: {answer['RequestId']}\tDuration: (\d+\.\d\d) ms"
        r"\tBilled Duration: (\d+) ms\tMemory Size: 128 MB\tMax Memory Used: (\d+) MB"
        r"\t(?:Init Duration: \d+\.\d\d ms\t)?(?:Cold Start: \w+ \d+\.\d\d ms(?:, \w+ \d+\.\d\d ms)*\t)?",
        line,
    )
    assert match, line
    assert float(match[1]) > 0 and 0 < int(match[3]) < 128
