"""A function's log in the tail, in `pilotlight logs` and on the terminal: complete, in order, in time."""

import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faithful.served import bootstrap, code, nodejs, python
from tests.harness.endpoint import IN_CLUSTER, only_local
from tests.harness.patience import until

MEBIBYTE = 1 << 20
EVENT_LIMIT = 256 * 1024

IN_PODS = "the logs are with the pods"

RECORDS_PYTHON = """
import logging, os, sys
logging.getLogger().setLevel(os.environ.get("LEVEL", "INFO"))
logger = logging.getLogger("orders")
print("init prints")
logger.info("init logs\\nin two lines")

def lambda_handler(event, context):
    match event.get("do"):
        case "order":
            for n in range(50):
                print(f"{n} printed")
                logger.info(f"{n} logged\\nbelow")
        case "fail":
            raise ValueError("no stock\\nfor this order")
        case "log":
            logger.debug("too much")
            logger.warning("a {}\\\\n\\nb".format("\\\\"), extra={"order": 7})
            try:
                deeper()
            except ValueError:
                logger.exception("it failed")
        case "progress":
            print("10 %\\r20 %\\r30 %")
        case "odd":
            sys.stdout.buffer.write(b"\\xa5Z\\x00 no frame\\n\\xa5Z\\x00\\x03\\x7f\\xff\\xff\\xff a frame without end\\n")
            sys.stdout.flush()
    return os.environ.get("_LAMBDA_TELEMETRY_LOG_FD")

def deeper():
    raise ValueError("deep")
"""

PRINTS_PYTHON = """
import sys
def lambda_handler(event, context):
    text = event.get("text", "x") * event.get("times", 1)
    for n in range(event.get("lines", 1)):
        print(text + f"THE-END-{n}")
    if event.get("last"):
        sys.stdout.write(event["last"])
        sys.stdout.flush()
    return "ok"
"""

BROKEN_PYTHON = """
import logging
print("init prints")
logging.warning("init warns\\nin two lines")
raise RuntimeError("no table\\nis configured")
"""

RECORDS_NODE = """
export const handler = async (event) => {
  if (event.do === "fail") throw new TypeError("no stock\\nfor this order");
  for (let n = 0; n < 50; n++) {
    process.stdout.write(`${n} written\\n`);
    console.log(`${n} logged\\nbelow`);
  }
  console.error("grün", { a: [1, { b: 2 }] }, new Error("as an argument"));
  console.debug("x".repeat(event.size ?? 0));
  return process.env._LAMBDA_TELEMETRY_LOG_FD ?? null;
};
"""

# Node.js makes standard output non-blocking at its first use. Records must still be written completely.
TORN_NODE = """
export const handler = async ({ size }) => {
  for (let n = 0; n < 3; n++) {
    process.stdout.write("w".repeat(size) + "\\n");
    console.log("l".repeat(size) + "\\nend");
  }
};
"""

RECORDS_RUBY = """
require 'logger'
LOGGER = Logger.new($stdout)
def lambda_handler(event:, context:)
  raise ArgumentError, "no stock\\nfor this order" if event['do'] == 'fail'

  50.times do |n|
    puts "#{n} printed\\nbelow"
    $stdout.write("#{n} written\\n")
  end
  LOGGER.info("first\\nsecond")
  ENV['_LAMBDA_TELEMETRY_LOG_FD']
end
"""

RECORDS_DOTNET = """
using System; using System.Collections.Generic; using Amazon.Lambda.Core;
namespace Example {
    public class Function {
        public object FunctionHandler(Dictionary<string, object> given, ILambdaContext context) {
            if (given.ContainsKey("do")) throw new ArgumentException("no stock\\nfor this order");
            for (var n = 0; n < 50; n++) {
                Console.WriteLine("{0} printed\\nbelow", n);
                Console.Write(n);
                Console.Write(" written");
                Console.WriteLine();
            }
            context.Logger.LogLine("first\\nsecond");
            return Environment.GetEnvironmentVariable("_LAMBDA_TELEMETRY_LOG_FD");
        }
    }
}
"""

# A custom client that knows the descriptor, and also prints.
OWN_CLIENT = """#!/usr/bin/python3
import http.client, json, os, struct
records = int(os.environ["_LAMBDA_TELEMETRY_LOG_FD"])
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def frame(kind, text, time=b""):
    return struct.pack(">II", kind, len(text)) + time + text

while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    event = api.getresponse()
    asked = json.loads(event.read())
    match asked.get("do"):
        case "old":
            os.write(records, frame(0xA55A0001, b"without\\na time") + frame(0xA55A0003, b"with\\none\\n", bytes(8)))
        case "pieces":
            whole = frame(0xA55A0016, "grün\\nin pieces".encode(), bytes(8))
            for byte in whole:
                os.write(records, bytes([byte]))
        case "large":
            whole = frame(0xA55A0003, ("ü" * asked["size"] + "\\nTHE-END").encode(), bytes(8))
            while whole:
                whole = whole[os.write(records, whole):]
        case "half":
            os.write(records, frame(0xA55A0003, b"x" * 100, bytes(8))[:50])
    path = f"/2018-06-01/runtime/invocation/{event.headers['Lambda-Runtime-Aws-Request-Id']}/response"
    api.request("POST", path, b"1")
    api.getresponse().read()
"""

LATE_END = """#!/usr/bin/python3
import http.client, os, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    event = api.getresponse()
    event.read()
    path = f"/2018-06-01/runtime/invocation/{event.headers['Lambda-Runtime-Aws-Request-Id']}/response"
    api.request("POST", path, b"1")
    api.getresponse().read()
    time.sleep(0.2)
    print("after the answer", flush=True)
"""

ENDS_PYTHON = """
import os, sys, time
def lambda_handler(event, context):
    sys.stdout.write("last words")
    sys.stdout.flush()
    match event["do"]:
        case "exit":
            os._exit(3)
        case "wait":
            time.sleep(600)
"""

LEVELS_PYTHON = """
import logging
def lambda_handler(event, context):
    for level in ("debug", "info", "warning"):
        getattr(logging, level)(level)
"""

LEVELS_NODE = """
export const handler = async () => { for (const level of ["debug", "info", "warn"]) console[level](level); };
"""

JSON = {"logging": {"format": "JSON"}}
FUNCTIONS = {
    "records": python(RECORDS_PYTHON),
    "records-json": python(RECORDS_PYTHON, **JSON),
    "cold": python(RECORDS_PYTHON),
    "prints": python(PRINTS_PYTHON, memory=512),
    "broken": python(BROKEN_PYTHON),
    "records-node": nodejs(RECORDS_NODE),
    "records-node-json": nodejs(RECORDS_NODE, **JSON),
    "records-ruby": code("ruby3.1", {"lambda_function.rb": RECORDS_RUBY}),
    "records-dotnet": code("dotnet", {"Function.cs": RECORDS_DOTNET}),
    "ends": python(ENDS_PYTHON, timeout=1),
    "levels": python(LEVELS_PYTHON),
    "levels-json": python(LEVELS_PYTHON, **JSON),
    "levels-node": nodejs(LEVELS_NODE),
    "levels-node-json": nodejs(LEVELS_NODE, **JSON),
    "torn-node": nodejs(TORN_NODE),
    "own-client": bootstrap(OWN_CLIENT),
    "late-end": bootstrap(LATE_END),
}


def entries(served, name, request_id):
    """The records of one call, as the gateway has them."""
    connection = http.client.HTTPConnection(served.endpoint.removeprefix("http://"))
    connection.request("GET", f"/pilotlight/v1/functions/{name}/logs?request-id={request_id}")
    answer = connection.getresponse()
    lines = [json.loads(line) for line in answer.read().splitlines()]
    connection.close()
    return [entry["text"] for entry in lines if entry.get("requestId") == request_id]


def between(log, request_id):
    """The lines of a tail that the function logged in this call."""
    lines = log.split("\n")
    start = lines.index(f"START RequestId: {request_id} Version: $LATEST")
    return lines[start + 1 : lines.index(f"END RequestId: {request_id}")]


@pytest.mark.parametrize("name", ["records", "records-node", "records-ruby", "records-dotnet"])
def test_an_error_is_one_record_with_newlines(served, name):
    answer = served.invoke(name, {"do": "fail"}, LogType="Tail")
    assert "no stock\nfor this order" in answer["Body"]["errorMessage"]
    assert "\r" not in answer["Log"] and "no stock" in answer["Log"]
    if not IN_CLUSTER:
        error = [text for text in entries(served, name, answer["RequestId"]) if "no stock" in text]
        assert len(error) == 1 and "\r" not in error[0]
        assert "\r" not in served.logs(name)
        assert not any("\r" in line for line in served.server.lines)


def test_a_stack_trace_has_a_line_for_each_frame(served):
    answer = served.invoke("records", {"do": "fail"}, LogType="Tail")
    lines = between(answer["Log"], answer["RequestId"])
    at = lines.index("[ERROR] ValueError: no stock")
    assert lines[at + 1] == "for this order"
    assert lines[at + 2] == "Traceback (most recent call last):"
    assert lines[at + 3].startswith('\u00a0\u00a0File "')


@pytest.mark.parametrize(
    "name, second",
    [
        ("records", "printed"),
        ("records-node", "written"),
        ("records-ruby", "written"),
        ("records-dotnet", "written"),
    ],
)
def test_printed_and_logged_lines_keep_their_order(served, name, second):
    answer = served.invoke(name, {"do": "order"} if name == "records" else {}, LogType="Tail")
    # The tail has only the last lines.
    lines = answer["Log"].split("\n")
    numbers = [
        int(line.split()[-2]) for line in lines if line.endswith((" " + second, " logged", " printed"))
    ]
    assert len(numbers) > 20 and numbers == sorted(numbers)
    # The function itself does not see the descriptor.
    assert answer["Body"] is None


@only_local(IN_PODS)
@pytest.mark.parametrize("name", ["records-ruby", "records-dotnet"])
def test_one_call_of_a_logger_is_one_record(served, name):
    answer = served.invoke(name, {})
    texts = entries(served, name, answer["RequestId"])
    assert [text for text in texts if text.endswith("first\nsecond")], texts
    assert "7 printed\nbelow" in texts and "7 written" in texts
    if name == "records-ruby":
        logged = next(text for text in texts if text.endswith("first\nsecond"))
        assert answer["RequestId"] in logged and logged.startswith("I, [")


@only_local(IN_PODS)
def test_a_record_is_kept_as_it_was_logged(served):
    answer = served.invoke("records", {"do": "log"})
    texts = entries(served, "records", answer["RequestId"])
    assert any(text.startswith("[WARNING]\t") and text.endswith("\ta \\\\n\nb") for text in texts), texts
    failed = next(text for text in texts if "it failed" in text)
    assert failed.startswith("[ERROR]\t") and failed.endswith("\nValueError: deep") and "Traceback" in failed
    assert not any("too much" in text for text in texts)
    # Further lines are indented, so that none looks like a record.
    assert "\ta \\\\n\n    b\n" in served.logs("records")


@only_local(IN_PODS)
def test_json_records_are_kept_as_the_clients_write_them(served):
    answer = served.invoke("records-json", {"do": "log"})
    texts = [json.loads(text) for text in entries(served, "records-json", answer["RequestId"])]
    warning = next(text for text in texts if text.get("level") == "WARNING")
    assert (warning["message"], warning["order"], warning["logger"]) == ("a \\\\n\nb", 7, "orders")
    assert warning["requestId"] == answer["RequestId"]
    failed = next(text for text in texts if text.get("level") == "ERROR")
    assert (failed["message"], failed["errorType"], failed["errorMessage"]) == (
        "it failed",
        "ValueError",
        "deep",
    )

    failed = served.invoke("records-json", {"do": "fail"})
    texts = [json.loads(text) for text in entries(served, "records-json", failed["RequestId"])]
    error = next(text for text in texts if text.get("level") == "ERROR")
    assert error["errorMessage"] == "no stock\nfor this order" and error["stackTrace"]

    answer = served.invoke("records-node-json", {})
    texts = entries(served, "records-node-json", answer["RequestId"])
    records = [json.loads(text) for text in texts if text.startswith("{")]
    messages = [record["message"] for record in records if record.get("level") == "INFO"]
    assert messages == [f"{n} logged\nbelow" for n in range(50)]


@only_local(IN_PODS)
@pytest.mark.parametrize(
    "name, expected",
    [
        ("levels", ["warning"]),
        ("levels-json", ["info", "warning"]),
        ("levels-node", ["debug", "info", "warn"]),
        ("levels-node-json", ["info", "warn"]),
    ],
)
def test_functions_with_json_logs_log_from_info_on(served, name, expected):
    answer = served.invoke(name, {})
    logged = entries(served, name, answer["RequestId"])
    messages = [
        json.loads(text).get("message") if text.startswith("{") else text.split("\t")[-1] for text in logged
    ]
    assert [message for message in messages if message in ("debug", "info", "warning", "warn")] == expected


@only_local(IN_PODS)
def test_records_are_complete_beside_output_that_waits_for_space_in_the_pipe(served):
    answer = served.invoke("torn-node", {"size": 400_000})
    text = "".join(entries(served, "torn-node", answer["RequestId"])[1:-2])
    # Node.js writes standard output when the pipe has room, but a record is written before its call returns.
    assert text.count("l" * 400_000 + "\nend") == 3 and text.count("l") == 1_200_000


@only_local(IN_PODS)
def test_carriage_returns_that_a_function_prints_are_its_own(served):
    answer = served.invoke("records", {"do": "progress"})
    assert "10 %\r20 %\r30 %" in entries(served, "records", answer["RequestId"])


def test_the_tail_of_a_cold_call_begins_with_init(served):
    answer = served.invoke("cold", {}, LogType="Tail")
    lines = answer["Log"].split("\n")
    assert lines[0].startswith("INIT_START Runtime Version: python3.11")
    assert lines[1] == "init prints" and lines[2].startswith("[INFO]\t") and lines[3] == "in two lines"
    assert lines[4] == f"START RequestId: {answer['RequestId']} Version: $LATEST"
    assert lines[-1] == "" and "\tInit Duration: " in lines[-2]
    warm = served.invoke("cold", {}, LogType="Tail")
    assert warm["Log"].startswith(f"START RequestId: {warm['RequestId']} ")


@pytest.mark.parametrize("call", ["first", "second"])
def test_the_tail_after_a_failed_init_shows_the_output_of_init(served, call):
    answer = served.invoke("broken", {}, LogType="Tail")
    assert answer["Body"]["errorType"] == "RuntimeError"
    lines = answer["Log"].split("\n")
    at = lines.index("init prints")
    assert lines[at - 1].startswith("INIT_START Runtime Version: python3.11")
    assert "in two lines" in lines and "[ERROR] RuntimeError: no table" in lines and "is configured" in lines
    assert any(line.startswith("INIT_REPORT ") for line in lines)
    assert any(line.startswith("REPORT ") for line in lines)
    assert "\r" not in answer["Log"]


def test_the_tail_is_the_last_4_kb(served):
    answer = served.invoke("prints", {"text": "ü", "times": 10_000}, LogType="Tail")
    log = answer["Log"].encode()
    assert 4093 <= len(log) <= 4096 and log.startswith("ü".encode())
    assert "üTHE-END-0\n" in answer["Log"] and answer["Log"].rstrip("\n\t").split("\n")[-1].startswith(
        "REPORT "
    )


@only_local(IN_PODS)
@pytest.mark.parametrize(
    "text, times, sizes",
    [
        ("A", EVENT_LIMIT - 9, [EVENT_LIMIT]),
        ("A", 700_000, [EVENT_LIMIT, EVENT_LIMIT, 700_009 - 2 * EVENT_LIMIT]),
        # A character of three bytes, so that the limit lies inside one.
        ("€", 100_000, [EVENT_LIMIT - 1, 300_009 - EVENT_LIMIT + 1]),
    ],
)
def test_a_large_line_becomes_several_events(served, text, times, sizes):
    answer = served.invoke("prints", {"text": text, "times": times, "last": "no end of a line"})
    texts = entries(served, "prints", answer["RequestId"])[1:-2]
    assert [len(text.encode()) for text in texts[:-1]] == sizes
    assert "".join(texts[:-1]) == text * times + "THE-END-0" and texts[-1] == "no end of a line"


@only_local(IN_PODS)
@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_a_large_record_becomes_several_events(served, size):
    answer = served.invoke("own-client", {"do": "large", "size": size})
    texts = entries(served, "own-client", answer["RequestId"])[1:-2]
    assert "".join(texts) == "ü" * size + "\nTHE-END"
    assert all(len(text.encode()) <= EVENT_LIMIT for text in texts)


@only_local(IN_PODS)
@pytest.mark.parametrize("lines, times", [(5, MEBIBYTE), (5 * 1024, 1000)])
def test_nothing_is_lost_of_5_mib_that_are_printed_at_once(served, lines, times):
    answer = served.invoke("prints", {"text": "B", "times": times, "lines": lines})
    texts = entries(served, "prints", answer["RequestId"])[1:-2]
    assert sum(text.count("B") for text in texts) == lines * times
    ends = re.findall(r"THE-END-(\d+)", "".join(texts))
    assert ends == [str(n) for n in range(lines)]


@only_local(IN_PODS)
@pytest.mark.parametrize(
    "do, expected",
    [("old", ["without\na time", "with\none"]), ("pieces", ["grün\nin pieces"])],
)
def test_frames_of_all_kinds_are_read(served, do, expected):
    answer = served.invoke("own-client", {"do": do})
    assert entries(served, "own-client", answer["RequestId"])[1:-2] == expected


@only_local(IN_PODS)
def test_a_frame_without_an_end_does_not_hide_later_output(served):
    request_ids = [
        served.invoke("own-client", {"do": do})["RequestId"] for do in ["half", "", "old", "", "old"]
    ]
    texts = [entries(served, "own-client", request_id)[1:-2] for request_id in request_ids]
    assert texts[-1] == ["without\na time", "with\none"]
    assert "x" * 34 in "".join(text for some in texts for text in some)
    served.invoke("records", {"do": "odd"})
    for _ in range(2):
        answer = served.invoke("records", {"do": "progress"})
    assert "10 %\r20 %\r30 %" in entries(served, "records", answer["RequestId"])
    assert "a frame without end" in served.logs("records")


@only_local(IN_PODS)
def test_the_log_right_after_an_answer_has_all_of_the_call(served):
    for n in range(20):
        answer = served.invoke("prints", {"text": f"call {n}"})
        log = served.logs("prints", "--request-id", answer["RequestId"])
        assert f"call {n}THE-END-0\n" in log
        assert f"END RequestId: {answer['RequestId']}\n" in log and "\tMax Memory Used: " in log


@only_local(IN_PODS)
@pytest.mark.parametrize("do", ["exit", "wait", "answer"])
def test_the_log_right_after_the_end_of_a_process_has_its_last_output(served, do):
    # On a slow machine each of them may also end by the timeout.
    statuses = {"exit": {"error", "timeout"}, "wait": {"timeout"}, "answer": {"", "timeout"}}
    for _ in range(3):
        answer = served.invoke("ends", {"do": do})
        texts = entries(served, "ends", answer["RequestId"])
        assert "last words" in texts and texts[-1].startswith("REPORT ")
        assert texts[-1].partition("\tStatus: ")[2].partition("\t")[0] in statuses[do]


@only_local(IN_PODS)
def test_the_log_right_after_calls_of_several_instances_has_all_of_them(served):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: served.invoke("prints", {"text": f"at once {n} "}), range(24)))
    log = served.logs("prints")
    for n, answer in enumerate(answers):
        assert f"{answer['RequestId']} at once {n} THE-END-0\n" in log
        assert f"REPORT RequestId: {answer['RequestId']}\t" in log


@only_local(IN_PODS)
def test_the_log_right_after_an_answer_waits_for_work_of_the_runtime_after_it(served):
    for _ in range(3):
        answer = served.invoke("late-end", {})
        texts = entries(served, "late-end", answer["RequestId"])
        assert texts[-1].startswith("REPORT ") and "after the answer" in texts


@only_local(IN_PODS)
def test_the_terminal_shows_a_record_of_several_lines_as_lines(served):
    served.invoke("records", {"do": "log"})

    def shown():
        return any(line == "    ValueError: deep" for line in served.server.lines)

    until(shown, "the trace is on the terminal")
