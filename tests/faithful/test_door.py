"""A function calls another with the SDK's defaults, through the loopback door of its instance."""

import pytest

from tests.faithful.served import nodejs, python
from tests.harness.endpoint import only_local
from tests.harness.local_server import pilotlight

CALLER = """\
import concurrent.futures, json, os, urllib.error, urllib.request

def call(name, payload, headers={}):
    url = os.environ["AWS_ENDPOINT_URL_LAMBDA"] + f"/2015-03-31/functions/{name}/invocations"
    request = urllib.request.Request(url, json.dumps(payload).encode(), headers, method="POST")
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answer = error
    body = answer.read()
    names = ("x-amz-function-error", "x-amz-executed-version", "x-amzn-errortype", "x-amz-log-result")
    return {"status": answer.status, "body": json.loads(body or "null"),
            "headers": {name: answer.headers[name] for name in names if answer.headers[name]}}

def lambda_handler(event, context):
    if "environment" in event:
        return {name: os.environ.get(name) for name in event["environment"]}
    if "size" in event:
        found = call("echo", {"text": "x" * event["size"]})
        return [found["status"], len(found["body"]["text"])]
    if "times" in event:
        with concurrent.futures.ThreadPoolExecutor(event["times"]) as pool:
            found = list(pool.map(lambda n: call("echo", {"n": n}), range(event["times"])))
        return sorted(one["body"]["n"] for one in found)
    return call(event["call"], event.get("payload"), event.get("headers") or {})
"""

ECHO = """\
def lambda_handler(event, context):
    if event.get("fail"):
        raise ValueError("no such order")
    if event.get("say"):
        print(event["say"])
    return event
"""

SDK = """\
import json

def lambda_handler(event, context):
    try:
        import boto3
    except ImportError:
        return None
    answer = boto3.client("lambda").invoke(FunctionName="echo", Payload=json.dumps(event))
    found = [answer["StatusCode"], answer.get("FunctionError"), json.load(answer["Payload"])]
    try:
        boto3.client("lambda").invoke(FunctionName="nobody")
    except boto3.client("lambda").exceptions.ResourceNotFoundException as error:
        found.append(str(error))
    return found
"""

# Calls itself, although its only instance already has an event.
ITSELF = (
    CALLER
    + """
def lambda_handler(event, context):
    return call(context.function_name, {"inner": True}) if not event.get("inner") else "inner"
"""
)

NODE = """\
exports.handler = async (event) => {
  const url = `${process.env.AWS_ENDPOINT_URL_LAMBDA}/2015-03-31/functions/echo/invocations`;
  const answer = await fetch(url, { method: 'POST', body: JSON.stringify(event) });
  return [answer.status, await answer.json()];
};
"""

NODE_SDK = """\
exports.handler = async (event) => {
  let sdk;
  try {
    sdk = require('@aws-sdk/client-lambda');
  } catch {
    return null;
  }
  const call = new sdk.InvokeCommand({ FunctionName: 'echo', Payload: JSON.stringify(event) });
  const answer = await new sdk.LambdaClient().send(call);
  return [answer.StatusCode, JSON.parse(Buffer.from(answer.Payload).toString())];
};
"""

# Calls itself, or the next one of a circle, until a call is refused.
CIRCLE = (
    CALLER
    + """
def lambda_handler(event, context):
    runs = event.get("runs", []) + [context.function_name]
    found = call(os.environ["NEXT"], {"runs": runs})
    return found["body"] if found["status"] == 200 else [runs, found]
"""
)

CREDENTIALS = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]

# Each call of a circle needs an instance of its own.
ROOM = {"reserved": 20, "queue": 0}

FUNCTIONS = {
    "caller": python(CALLER, memory=256),
    "echo": python(ECHO, memory=256),
    "sdk": python(SDK, memory=256),
    "itself": python(ITSELF, concurrency={"reserved": 1, "queue": 0}),
    "round": python(CIRCLE, environment={"NEXT": "round"}, timeout=120, concurrency=ROOM),
    "there": python(CIRCLE, environment={"NEXT": "back"}, timeout=120, concurrency=ROOM),
    "back": python(CIRCLE, environment={"NEXT": "there"}, timeout=120, concurrency=ROOM),
    "allowed": python(
        CIRCLE,
        environment={"NEXT": "allowed"},
        recursiveLoop="Allow",
        concurrency={"reserved": 18, "queue": 0},
        timeout=120,
    ),
    "node": nodejs(NODE, "index.js"),
    "node-sdk": nodejs(NODE_SDK, "index.js", memory=512),
    "proxied": python(
        CALLER, environment={"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    ),
    "elsewhere": python(CALLER, environment={"AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:9"}),
    "all-elsewhere": python(CALLER, environment={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
    "own-credentials": python(CALLER, environment={"AWS_PROFILE": "mine"}),
}


def test_an_sdk_without_settings_calls_another_function(served):
    """boto3.client("lambda") needs no endpoint, no region and no credentials"""
    found = served.answer("sdk", {"n": 1})
    if found is None:
        pytest.skip("the runtime has no boto3")
    assert found[:3] == [200, None, {"n": 1}]
    assert "Function not found" in found[3]


def test_answers_keep_their_status_and_headers(served):
    """the function gets the gateway's answer unchanged"""
    found = served.answer("caller", {"call": "echo", "payload": {"n": 1}})
    assert found["status"] == 200 and found["body"] == {"n": 1}
    assert found["headers"]["x-amz-executed-version"] == "$LATEST"
    log = {"call": "echo", "payload": {"say": "hello"}, "headers": {"x-amz-log-type": "Tail"}}
    assert served.answer("caller", log)["headers"]["x-amz-log-result"]
    dry = {"call": "echo", "payload": {}, "headers": {"x-amz-invocation-type": "DryRun"}}
    assert served.answer("caller", dry)["status"] == 204


def test_the_caller_sees_errors_of_the_other_function(served):
    """a function error is no error of the call, but a missing function is"""
    failed = served.answer("caller", {"call": "echo", "payload": {"fail": True}})
    assert failed["status"] == 200 and failed["headers"]["x-amz-function-error"] == "Unhandled"
    assert failed["body"]["errorMessage"] == "no such order"
    missing = served.answer("caller", {"call": "nobody"})
    assert (missing["status"], missing["headers"]["x-amzn-errortype"]) == (404, "ResourceNotFoundException")


def test_bodies_of_megabytes_pass_both_ways(served):
    """the door has no limit of its own: the gateway's limit of payloads applies"""
    assert served.answer("caller", {"size": 5_000_000}) == [200, 5_000_000]


def test_many_calls_at_the_same_time_pass(served):
    """each call has its own connection"""
    assert served.answer("caller", {"times": 8}) == list(range(8))


def test_a_function_that_calls_itself_without_room_is_throttled(served):
    """the gateway refuses the inner call at once, and the outer call continues"""
    found = served.answer("itself")
    assert found["status"] == 429
    assert found["body"]["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"


@only_local("a circle of 33 calls would take 33 pods")
def test_calls_that_go_round_in_a_circle_are_stopped(served):
    """a function is called 16 times by what it has called, also if others are between"""
    for name, most in (("round", 16), ("there", 33)):
        runs, refused = served.answer(name)
        assert (refused["status"], refused["headers"]["x-amzn-errortype"]) == (
            400,
            "RecursiveInvocationException",
        )
        assert "recursiveLoop" in refused["body"]["Message"]
        assert len(runs) == most


@only_local("18 calls would take 18 pods")
def test_a_function_may_allow_that_its_calls_go_round(served):
    runs, refused = served.answer("allowed")
    assert (len(runs), refused["status"]) == (18, 429), "its instances are the limit"


def test_other_languages_pass_the_same_door(served):
    """a Node.js function calls the door with the built-in `fetch`"""
    assert served.answer("node", {"n": 2}) == [200, {"n": 2}]


def test_the_javascript_sdk_without_settings_calls_another_function(served):
    """new LambdaClient() needs no endpoint, no region and no credentials"""
    found = served.answer("node-sdk", {"n": 3})
    if found is None:
        pytest.skip("the runtime has no @aws-sdk/client-lambda")
    assert found == [200, {"n": 3}]


def test_the_door_is_only_on_the_loopback_interface(served):
    """the door listens on loopback only, and AWS_ENDPOINT_URL stays unset"""
    found = served.answer(
        "caller", {"environment": ["AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL", *CREDENTIALS]}
    )
    assert found.pop("AWS_ENDPOINT_URL_LAMBDA").startswith("http://127.0.0.1:")
    assert found.pop("AWS_ENDPOINT_URL") is None
    assert all(found.values()), "an SDK signs with them"


def test_endpoints_and_credentials_of_the_function_take_precedence(served):
    """a function that sets another endpoint keeps it"""
    names = {"environment": ["AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL", *CREDENTIALS]}
    assert served.answer("elsewhere", names)["AWS_ENDPOINT_URL_LAMBDA"] == "http://127.0.0.1:9"
    assert served.answer("all-elsewhere", names)["AWS_ENDPOINT_URL_LAMBDA"] is None
    own = served.answer("own-credentials", names)
    assert [own[name] for name in CREDENTIALS] == [None, None, None]


def test_a_proxy_of_the_function_is_not_used_for_the_door(served):
    found = served.answer("proxied", {"call": "echo", "payload": {"say": "past the proxy"}})
    assert "past the proxy" in str(found)


@only_local("its logs are asked for by the name of one server")
def test_a_call_through_the_door_is_logged_like_any_other(served):
    """the other function's log has its lines"""
    served.answer("caller", {"call": "echo", "payload": {"say": "through the door"}})
    done = pilotlight("logs", "echo", "--endpoint", served.endpoint)
    assert "through the door" in done.stdout
