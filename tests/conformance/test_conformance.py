"""The conformance table: each case runs for every runtime, and is a row by its description."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.lambda_client import in_time
from tests.harness.patience import LONGER, until

ARN = "arn:aws:lambda:us-east-1:000000000000:function:table"


def failed(answer):
    assert answer["StatusCode"] == 200 and answer["FunctionError"] == "Unhandled", answer
    return answer["Body"]


def report(answer):
    return next(line for line in answer["Log"].splitlines() if line.startswith("REPORT "))


def of_program(runtime):
    if not runtime.other:
        pytest.skip("the code is a program with one entry point")


def test_figures(invoke, clock, figures):
    """cold and warm calls are measured"""
    answers = []
    figures["cold"] = clock(lambda: answers.append(invoke("figures", {}, LogType="Tail")))
    line = report(answers[0])
    figures["init"] = float(re.search(r"Init Duration: ([\d.]+) ms", line)[1])
    figures["memory"] = float(re.search(r"Max Memory Used: (\d+) MB", line)[1])
    figures["warm"] = clock(lambda: answers.append(invoke("figures", {})), 50)
    assert all(answer["Body"] == {} for answer in answers)


@pytest.mark.parametrize(
    "event",
    [
        {"a": [1, 2.5, True, None], "b": {"c": "d"}},
        [],
        "text",
        7,
        {},
    ],
    ids=json.dumps,
)
def test_event_round_trip(invoke, event):
    """the event reaches the default handler and its answer the caller"""
    assert invoke("table", event)["Body"] == event


def test_unicode(invoke):
    """unicode in event and answer"""
    event = {"grüße": '日本語 🔥 é \u0000 \\ " \n'}
    assert invoke("table", event)["Body"] == event


def test_null_event(invoke):
    """a null event"""
    assert invoke("table", None)["Body"] is None


def test_empty_event(client):
    """an empty event is {}"""
    assert json.loads(client.invoke(FunctionName="table")["Payload"].read()) == {}


def test_context(invoke, runtime):
    """each field of the context"""
    sent = {"custom": {"tenant": "grün"}}
    encoded = base64.b64encode(json.dumps(sent).encode()).decode()
    answer = invoke("table", {"do": "context"}, ClientContext=encoded)
    context = answer["Body"]
    assert 0 < context.pop("remaining") <= LONGER * 1000
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", context.pop("logStream"))
    assert context == {
        "requestId": answer["RequestId"],
        "functionName": "table",
        "functionVersion": "$LATEST",
        "arn": ARN,
        "memory": str(runtime.memory),
        "logGroup": "/aws/lambda/table",
        "custom": sent["custom"],
    }


def test_other_handler(invoke, runtime):
    """a handler by name"""
    of_program(runtime)
    assert invoke("other", {})["Body"] == "other"


def test_handler_error(invoke, runtime):
    """a handler's error: type, message, stack trace"""
    answer = invoke("table", {"do": "raise"}, LogType="Tail")
    body = failed(answer)
    assert "\r" not in answer["Log"]
    assert (body["errorType"], body["errorMessage"]) == (runtime.raised, "no such order: grün")
    # Go gives one to panics alone.
    assert runtime.trace is None or body[runtime.trace], body


def test_unserialisable(invoke, runtime):
    """an answer that cannot be written"""
    assert runtime.unserialisable in failed(invoke("table", {"do": "unserialisable"}))["errorType"]


def test_init_error(invoke, runtime):
    """an error at init, at each call"""
    for _ in range(2):
        body = failed(invoke("broken", {}))
        assert body["errorType"] == runtime.init[0] and runtime.init[1] in body["errorMessage"], body


def test_missing_handler(invoke, runtime):
    """a missing handler is named"""
    of_program(runtime)
    body = failed(invoke("missing", {}))
    # The vendor's client for Java gives no type.
    assert body.get("errorType") == runtime.not_found and "nope" in body["errorMessage"], body


def test_timeout(invoke):
    """a timeout, and a fresh process after it"""
    before = in_time(invoke)("short", {"do": "count"})["Body"]
    answer = invoke("short", {"do": "wait", "seconds": 20})
    assert failed(answer) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {answer['RequestId']} Error: Task timed out after 1.00 seconds",
    }
    after = in_time(invoke)("short", {"do": "count"})["Body"]
    assert after["calls"] == 1 and after["started"] != before["started"]


@pytest.mark.parametrize(
    "status, text",
    [
        (0, "Runtime exited without providing a reason"),
        (3, "Runtime exited with error: exit status 3"),
    ],
)
def test_exit(invoke, status, text):
    """a handler that ends its process"""
    answer = invoke("exit", {"do": "exit", "status": status})
    assert failed(answer) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer['RequestId']} Error: {text}",
    }


def test_memory(invoke, runtime):
    """too much memory"""
    answer = invoke("memory", {"do": "memory", "mebibytes": 1024}, LogType="Tail")
    if runtime.memory_error:
        assert failed(answer)["errorType"] == runtime.memory_error
        return
    assert failed(answer)["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert "Error Type: Runtime.OutOfMemory" in report(answer)


def test_large_answer(invoke):
    """an answer of 6 MiB, and one too large"""
    size = 6 * 1024 * 1024
    assert len(invoke("table", {"do": "size", "bytes": size})["Body"]) == size
    body = failed(invoke("table", {"do": "size", "bytes": size + 200}))
    assert body["errorType"] == "Function.ResponseSizeTooLarge"
    assert invoke("table", {"again": 1})["Body"] == {"again": 1}


def test_surroundings(invoke, runtime):
    """environment, working directory, /tmp"""
    answer = invoke("table", {"do": "surroundings"})["Body"]
    variables = answer["variables"]
    expected = {
        "TABLE_NAME": "orders",
        "GREETING": "grüße",
        "TZ": ":UTC",
        "AWS_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "table",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(runtime.memory),
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/table",
        "AWS_EXECUTION_ENV": runtime.execution_environment,
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert variables["LAMBDA_TASK_ROOT"] == answer["directory"]
    assert {"_HANDLER", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_LOG_STREAM_NAME"} <= set(
        variables
    )
    assert answer["kept"] == "kept"


def test_trace(invoke):
    """the trace of the call"""
    answer = invoke("table", {"do": "surroundings"})
    # Java has it as a property: its variables cannot be changed.
    seen = answer["Body"]["variables"].get("_X_AMZN_TRACE_ID") or answer["Body"]["trace"]
    assert seen == answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"]
    assert re.fullmatch(
        r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=1:[0-9a-f]{8}:0", seen
    )


def test_init_once(invoke):
    """globals are kept, and init runs once"""
    first, second = (invoke("figures", {"do": "count"})["Body"] for _ in range(2))
    assert second == {"calls": first["calls"] + 1, "started": first["started"]}


def test_log_lines(invoke):
    """log lines lie between START and END of their request"""
    answer = invoke("table", {"do": "print", "text": "grün wie 🌲"}, LogType="Tail")
    lines = answer["Log"].rstrip("\n").splitlines()
    start = lines.index(f"START RequestId: {answer['RequestId']} Version: $LATEST")
    end = lines.index(f"END RequestId: {answer['RequestId']}")
    assert any("grün wie 🌲" in line for line in lines[start + 1 : end]), lines


def test_concurrent(invoke):
    """ten at once, on several instances"""

    def several():
        """When instances come up one after the other, the first may have served all; then they are up."""
        with ThreadPoolExecutor(10) as pool:
            calls = [pool.submit(invoke, "meet", {"do": "wait", "seconds": 1.5}) for _ in range(10)]
            return len({json.dumps(call.result()["Body"]) for call in calls}) > 1

    until(several, "several instances serve ten calls")
