"""How failures of a function reach its caller and its log (contract §3).

Every one is an HTTP 200 with FunctionError `Unhandled`; the bodies are exact.
"""

import re

import pytest

from tests.harness.lambda_client import in_time


def failed(answer):
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    return answer["Body"]


def platform_error(answer, error_type, text):
    assert failed(answer) == {
        "errorType": error_type,
        "errorMessage": f"RequestId: {answer['RequestId']} Error: {text}",
    }


def test_an_exception_arrives_with_type_message_trace_and_request_id(invoke):
    answer = invoke("sdk-raises", {})
    body = failed(answer)
    trace = body.pop("stackTrace")
    assert body == {
        "errorType": "ValueError",
        "errorMessage": "order 42 has no lines",
        "requestId": answer["RequestId"],
    }
    assert len(trace) == 1 and "answers.py" in trace[0] and "in raises" in trace[0]


def test_a_sanitized_error_tells_the_caller_where_to_look_and_the_tail_nothing(invoke):
    answer = invoke("sdk-sanitized", {}, LogType="Tail")
    assert failed(answer) == {
        "errorType": "ValueError",
        "errorMessage": "The function failed. Its error is in the function's log under"
        f" RequestId: {answer['RequestId']}",
    }
    words = [line.split(" ", 1)[0] for line in answer["Log"].splitlines()]
    assert words == ["START", "END", "REPORT"], answer["Log"]


def test_an_answer_that_is_not_json_is_a_marshal_error(invoke):
    answer = invoke("sdk-not-json", {})
    assert failed(answer) == {
        "errorType": "Runtime.MarshalError",
        "errorMessage": "Unable to marshal response: Object of type datetime is not JSON serializable",
        "requestId": answer["RequestId"],
        "stackTrace": [],
    }


def test_a_timeout_ends_the_call_and_the_next_one_gets_a_fresh_process(invoke):
    before = in_time(invoke)("sdk-hangs", {})["Body"]
    assert before["calls"] == 1

    answer = invoke("sdk-hangs", {"hang": True}, LogType="Tail")
    platform_error(answer, "Sandbox.Timedout", "Task timed out after 1.00 seconds")
    assert re.search(
        rf"^\d{{4}}-\d\d-\d\dT\S+Z {answer['RequestId']} Task timed out after 1\.00 seconds$",
        answer["Log"],
        re.MULTILINE,
    )
    assert "Status: timeout" in report(answer)

    after = in_time(invoke)("sdk-hangs", {})["Body"]
    assert after["calls"] == 1 and after["instance"] != before["instance"]


@pytest.mark.parametrize(
    "status, text",
    [
        (0, "Runtime exited without providing a reason"),
        (3, "Runtime exited with error: exit status 3"),
    ],
)
def test_leaving_the_process_in_the_handler_is_an_exit_error(invoke, status, text):
    platform_error(invoke("sdk-leaves", {"status": status}), "Runtime.ExitError", text)


def test_too_much_memory_kills_the_process_and_the_report_says_so(invoke):
    answer = invoke("sdk-memory", {"mebibytes": 512}, LogType="Tail")
    platform_error(answer, "Runtime.ExitError", "Runtime exited with error: signal: killed")
    assert "Status: error\tError Type: Runtime.OutOfMemory" in report(answer)


def test_an_exception_at_init_is_the_runtimes_own_body_each_time(invoke):
    for _ in range(2):
        body = failed(invoke("sdk-init-error", {}))
        trace = body.pop("stackTrace")
        assert body == {
            "errorType": "RuntimeError",
            "errorMessage": "no table is configured",
            "requestId": "",
        }
        assert any("lambda_function.py" in frame for frame in trace)


def test_a_missing_handler_is_named(invoke):
    assert failed(invoke("sdk-missing-handler", {})) == {
        "errorType": "Runtime.HandlerNotFound",
        "errorMessage": "Handler 'nope' missing on module 'lambda_function'",
        "requestId": "",
        "stackTrace": [],
    }


def test_a_syntax_error_shows_the_line(invoke):
    body = failed(invoke("sdk-syntax-error", {}))
    assert body["errorType"] == "Runtime.UserCodeSyntaxError"
    assert body["errorMessage"].startswith("Syntax error in module 'lambda_function': ")
    assert "def lambda_handler(event, context)" in body["stackTrace"][0]
    assert body["requestId"] == ""


def report(answer):
    return next(line for line in answer["Log"].splitlines() if line.startswith("REPORT "))
