"""Node.js as the original platform runs it: handlers with callbacks up to 22, modules, V8's heap, the AWS SDK."""

import json

import pytest

from tests.faithful.served import code, nodejs

# Each handler is named for its use of the callback or the context. `event.do` selects one.
CALLBACKS = """
let calls = 0, left;
const handlers = {
  later: (context, callback) => setTimeout(() => callback(null, { calls }), 20),
  error: (context, callback) => callback(new RangeError('no such order')),
  text: (context, callback) => callback('no such order'),
  twice: (context, callback) => { callback(null, 1); callback(null, 2); },
  succeed: (context) => context.succeed({ by: 'succeed' }),
  fail: (context) => setImmediate(() => context.fail(new TypeError('by fail'))),
  done: (context) => context.done(null, { by: 'done' }),
  'done with an error': (context) => context.done(new Error('by done')),
  nothing: () => 'a value that nobody asked for',
  throws: () => { throw new SyntaxError('at once'); },
  'throws later': () => setTimeout(() => { throw new RangeError('later'); }, 20),
  promise: async (context, callback) => 'a promise',
  waits: (context, callback) => {
    const answer = { finished: false };
    setTimeout(() => { answer.finished = true; }, 50);
    callback(null, answer);
  },
  'does not wait': (context, callback) => {
    context.callbackWaitsForEmptyEventLoop = false;
    const before = left;
    left = { finished: false };
    setTimeout(() => { left.finished = true; }, 1);
    callback(null, { before, now: left });
  },
  count: (context, callback) => callback(null, calls),
};
exports.handler = (event, context, callback) => {
  calls += 1;
  return handlers[event.do](context, callback);
};
"""

PROMISES = """
let calls = 0;
export const handler = async (event) => {
  calls += 1;
  switch (event.do) {
    case 'reject': Promise.reject(new Error('forgotten')); return new Promise((done) => setTimeout(done, 60000));
    case 'reject a text': Promise.reject('no error'); return new Promise((done) => setTimeout(done, 60000));
    case 'never': return new Promise(() => {});
    case 'never by callback': return { then() {} };
  }
  return calls;
};
"""

SEVERAL_FILES = {
    "package.json": '{"type": "module"}',
    "src/app.js": "import { word } from './lib/word.js';\nexport const api = { handler: async () => word };\n",
    "src/lib/word.js": "export const word = await Promise.resolve('late');\n",
    "old/package.json": '{"type": "commonjs"}',
    "old/index.js": "exports.handler = async () => typeof require;\n",
}

STREAMS = """
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const { HttpResponseStream, streamifyResponse } = awslambda;
export const handler = streamifyResponse(async (event, out, context) => {
  switch (event.do) {
    case 'pipeline': return pipeline(Readable.from(['[', '1,', '2', ']']), out);
    case 'large': out.write(`"${'x'.repeat(7 << 20)}"`); return out.end();
    case 'fail': throw new RangeError('before the first piece');
    case 'fail late': out.write('{"a":'); throw new RangeError('after the first piece');
    case 'http': {
      const http = HttpResponseStream.from(out, { statusCode: 201, headers: { 'X-Kind': 'stream' } });
      http.write('hello ');
      http.write('world');
      return http.end();
    }
  }
  out.setContentType('application/json');
  out.write('{"a":');
  out.write(JSON.stringify(context.awsRequestId));
  out.end('}');
});
"""

HEAP = """
import v8 from 'node:v8';
export const handler = async () => {
  const { heap_size_limit } = v8.getHeapStatistics();
  return { limit: heap_size_limit / 2 ** 20, gc: typeof globalThis.gc };
};
"""

REQUIRES = {
    "rate.mjs": "export const rate = 7;\n",
    "index.js": "exports.handler = async () => require('./rate.mjs').rate;\n",
}
DETECTED = "import os from 'node:os';\nexport const handler = async () => typeof os.cpus;\n"
OWN_SDK = {
    "node_modules/@aws-sdk/client-s3/package.json": '{"name": "@aws-sdk/client-s3", "main": "index.js"}',
    "node_modules/@aws-sdk/client-s3/index.js": "exports.S3Client = 'own';\n",
}
IMPORTS = """
import { S3Client, PutObjectCommand } from '@aws-sdk/client-s3';
import { DynamoDBDocumentClient } from '@aws-sdk/lib-dynamodb';
export const handler = async () => {
  const { getSignedUrl } = await import('@aws-sdk/s3-request-presigner');
  const client = new S3Client({ region: 'eu-west-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' } });
  const url = await getSignedUrl(client, new PutObjectCommand({ Bucket: 'orders', Key: '1' }));
  return [typeof DynamoDBDocumentClient, new URL(url).hostname];
};
"""
REQUIRED_SDK = """
const { SQSClient, SendMessageCommand } = require('@aws-sdk/client-sqs');
const { marshall } = require('@aws-sdk/util-dynamodb');
exports.handler = async () => [typeof SQSClient, typeof SendMessageCommand, marshall({ a: 1 })];
"""
MISSING = "import 'no-such-package';\nexport const handler = async () => 1;\n"

FUNCTIONS = {
    "callbacks": nodejs(CALLBACKS, "index.js"),
    "callbacks-24": nodejs(CALLBACKS, "index.js", runtime="nodejs24"),
    "promises": nodejs(PROMISES),
    "rejects-at-init": nodejs(
        "Promise.reject(new Error('no table'));\nexports.handler = async () => 1;\n", "index.js"
    ),
    "several-files": code("nodejs22", SEVERAL_FILES, handler="src/app.api.handler"),
    "older-files": code("nodejs22", SEVERAL_FILES, handler="old/index.handler"),
    "requires": code("nodejs22", REQUIRES),
    "requires-24": code("nodejs24", REQUIRES),
    "may-require": code("nodejs22", REQUIRES, environment={"NODE_OPTIONS": "--experimental-require-module"}),
    "imports": nodejs("exports.handler = async () => (await import('./rate.mjs')).rate;\n", "index.js"),
    "not-detected": nodejs(DETECTED, "index.js"),
    "detected": nodejs(
        DETECTED,
        "index.js",
        environment={"NODE_OPTIONS": "--experimental-detect-module --experimental-require-module"},
    ),
    "heap": nodejs(HEAP, memory=128),
    "heap-24": nodejs(HEAP, runtime="nodejs24", memory=128),
    "large-heap": nodejs(HEAP, memory=1024),
    "own-heap": nodejs(HEAP, memory=512, environment={"NODE_OPTIONS": "--max-old-space-size=64"}),
    "streams": nodejs(STREAMS, memory=256),
    "streams-24": nodejs(STREAMS, runtime="nodejs24", memory=256),
    "imports-sdk": nodejs(IMPORTS, memory=256),
    "imports-sdk-24": nodejs(IMPORTS, runtime="nodejs24", memory=256),
    "requires-sdk": nodejs(REQUIRED_SDK, "index.js", memory=256),
    "own-sdk": code(
        "nodejs22",
        {"index.mjs": "export { handler } from './own.mjs';\n"}
        | {
            "own.mjs": "import { S3Client } from '@aws-sdk/client-s3';\nexport const handler = async () => S3Client;\n"
        }
        | OWN_SDK,
    ),
    "imports-nothing": nodejs(MISSING),
}
FUNCTIONS["imports"]["code"]["inline"] |= {"rate.mjs": REQUIRES["rate.mjs"]}
STREAMING = pytest.mark.parametrize("streams", ["streams", "streams-24"])


def failed(served, name, event=None):
    answered = served.invoke(name, event)
    assert answered.get("FunctionError") == "Unhandled", answered["Body"]
    return answered["Body"]["errorType"], answered["Body"]["errorMessage"]


@pytest.mark.parametrize(
    "do, answer",
    [
        ("succeed", {"by": "succeed"}),
        ("done", {"by": "done"}),
        ("twice", 1),
        ("nothing", None),
        ("promise", "a promise"),
        ("waits", {"finished": True}),
    ],
)
def test_a_handler_answers_by_its_callback_or_its_context(served, do, answer):
    assert served.answer("callbacks", {"do": do}) == answer


def test_a_handler_may_call_back_long_after_it_returned(served):
    assert served.answer("callbacks", {"do": "later"})["calls"] >= 1


@pytest.mark.parametrize(
    "do, error",
    [
        ("error", ("RangeError", "no such order")),
        ("text", ("string", "no such order")),
        ("fail", ("TypeError", "by fail")),
        ("done with an error", ("Error", "by done")),
        ("throws", ("SyntaxError", "at once")),
        ("throws later", ("RangeError", "later")),
    ],
)
def test_a_handler_with_a_callback_can_fail_in_every_way(served, do, error):
    assert failed(served, "callbacks", {"do": do}) == error


def test_an_exception_outside_the_handler_ends_the_process(served):
    failed(served, "callbacks", {"do": "throws later"})
    assert served.answer("callbacks", {"do": "count"}) == 1


def test_a_handler_need_not_wait_and_its_remaining_work_runs_with_the_next_call(served):
    assert served.answer("callbacks", {"do": "does not wait"})["now"] == {"finished": False}
    served.answer("callbacks", {"do": "later"})
    assert served.answer("callbacks", {"do": "does not wait"})["before"] == {"finished": True}


def test_a_callback_is_refused_from_node_24_on(served):
    assert failed(served, "callbacks-24", {"do": "later"})[0] == "Runtime.CallbackHandlerDeprecated"


@pytest.mark.parametrize("do, message", [("reject", "Error: forgotten"), ("reject a text", "no error")])
def test_an_unhandled_rejection_fails_the_call_and_ends_the_process(served, do, message):
    assert failed(served, "promises", {"do": do}) == ("Runtime.UnhandledPromiseRejection", message)
    assert served.answer("promises") == 1


def test_an_unhandled_rejection_as_the_code_loads_fails_init(served):
    assert failed(served, "rejects-at-init") == ("Runtime.UnhandledPromiseRejection", "Error: no table")


@pytest.mark.parametrize("do", ["never", "never by callback"])
def test_a_promise_that_never_settles_answers_null_once_no_work_is_left(served, do):
    assert served.answer("promises", {"do": do}) is None
    assert served.answer("promises") > 1, "the process goes on"


def test_handlers_may_be_in_folders_of_either_kind_of_module(served):
    assert served.answer("several-files") == "late"
    assert served.answer("older-files") == "function"


@pytest.mark.parametrize("name", ["requires", "requires-24"])
def test_an_es_module_cannot_be_required(served, name):
    kind, message = failed(served, name)
    assert kind == "Error" and "require() of ES Module" in message


def test_an_es_module_can_be_required_with_node_options(served):
    assert served.answer("may-require") == 7


def test_an_es_module_is_imported_by_a_commonjs_one(served):
    assert served.answer("imports") == 7


def test_the_kind_of_a_module_is_not_detected_from_its_syntax(served):
    kind, message = failed(served, "not-detected")
    assert kind == "Runtime.UserCodeSyntaxError" and "outside a module" in message
    assert served.answer("detected") == "function"


@pytest.mark.parametrize(
    "name, least, most", [("heap", 110, 160), ("heap-24", 110, 160), ("large-heap", 900, 1300)]
)
def test_the_heap_follows_the_functions_memory(served, name, least, most):
    answer = served.answer(name)
    assert least <= answer["limit"] <= most
    assert answer["gc"] == "function"


def test_node_options_set_the_heap(served):
    assert served.answer("own-heap")["limit"] < 200


@STREAMING
def test_a_streamed_answer_arrives_whole(served, streams):
    answered = served.invoke(streams, {})
    assert answered["Body"] == {"a": answered["RequestId"]}
    assert served.answer(streams, {"do": "pipeline"}) == [1, 2]


@STREAMING
def test_a_stream_for_http_arrives_with_its_prelude(served, streams):
    served.answer(streams, {})
    answer = served.client.invoke(FunctionName=streams, Payload=json.dumps({"do": "http"}))
    prelude, body = answer["Payload"].read().split(b"\0" * 8)
    assert json.loads(prelude) == {"statusCode": 201, "headers": {"X-Kind": "stream"}}
    assert body == b"hello world"


@STREAMING
@pytest.mark.parametrize(
    "do, message", [("fail", "before the first piece"), ("fail late", "after the first piece")]
)
def test_a_stream_that_fails_is_an_error(served, streams, do, message):
    assert failed(served, streams, {"do": do}) == ("RangeError", message)
    assert "a" in served.answer(streams, {})


def test_a_streamed_answer_has_the_same_limit_as_any_other(served):
    assert failed(served, "streams", {"do": "large"})[0] == "Function.ResponseSizeTooLarge"
    assert "a" in served.answer("streams", {})


@pytest.mark.parametrize("name", ["imports-sdk", "imports-sdk-24"])
def test_the_aws_sdk_is_imported_without_a_manifest(served, name):
    assert served.answer(name) == ["function", "orders.s3.eu-west-1.amazonaws.com"]


def test_the_aws_sdk_is_required_without_a_manifest(served):
    assert served.answer("requires-sdk") == ["function", "function", {"a": {"N": "1"}}]


def test_a_functions_own_version_of_the_sdk_takes_precedence(served):
    assert served.answer("own-sdk") == "own"


def test_a_missing_package_is_named_with_the_file_that_imports_it(served):
    kind, message = failed(served, "imports-nothing")
    assert kind == "Error" and "no-such-package" in message and "index.mjs" in message
