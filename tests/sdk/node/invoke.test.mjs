// The Invoke API and the failures of functions, seen by the JavaScript SDK (contract §3, §4).
// The bodies are exact. Instances and throttles are in instances.test.mjs.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { InvokeCommand } from "@aws-sdk/client-lambda";

import { ARN, startServer, until } from "./server.mjs";

const PAYLOAD_LIMIT = 6_291_556; // bytes, of a synchronous request and of its response

let server;
before(async () => {
  server = await startServer();
});
after(() => server?.stop());

function failed(answer) {
  assert.deepEqual([answer.status, answer.functionError], [200, "Unhandled"]);
  return answer.body;
}

function platformError(answer, errorType, text) {
  const errorMessage = `RequestId: ${answer.requestId} Error: ${text}`;
  assert.deepEqual(failed(answer), { errorType, errorMessage });
}

const report = (answer) => answer.log.split("\n").find((line) => line.startsWith("REPORT "));

test("an event comes back from an echo", async () => {
  const event = { order: 42, text: "grüße 🔥", lines: [1.5, true, null] };
  const answer = await server.invoke("sdk-echo", event);
  assert.deepEqual([answer.status, answer.body], [200, event]);
  assert.deepEqual([answer.functionError, answer.version], [undefined, "$LATEST"]);
});

test("a handler that returns nothing answers null", async () => {
  assert.equal((await server.invoke("sdk-nothing", {})).text, "null");
});

test("an empty payload is an empty event", async () => {
  assert.deepEqual((await server.invoke("sdk-echo")).body, {});
});

for (const name of ["sdk-echo:$LATEST", "000000000000:function:sdk-echo", `${ARN}sdk-echo`]) {
  test(`a function answers to ${name}`, async () => {
    assert.equal((await server.invoke(name, 1)).body, 1);
  });
}

test("an unknown function is not found", async () => {
  await assert.rejects(server.invoke("absent", {}), (error) => {
    assert.equal(error.name, "ResourceNotFoundException");
    assert.equal(error.$metadata.httpStatusCode, 404);
    assert.equal(error.message, `Function not found: ${ARN}absent:$LATEST`);
    assert.equal(error.Type, "User");
    return true;
  });
});

test("a qualifier that does not exist is not found", async () => {
  await assert.rejects(server.invoke("sdk-echo", {}, { Qualifier: "7" }), {
    name: "ResourceNotFoundException",
    message: `Function not found: ${ARN}sdk-echo:7`,
  });
});

test("a payload that is not JSON is refused", async () => {
  const command = new InvokeCommand({ FunctionName: "sdk-echo", Payload: "{" });
  await assert.rejects(server.client.send(command), {
    name: "InvalidRequestContentException",
    message: /^Could not parse request body into json: Could not parse payload into json: /,
  });
});

test("a payload at the limit passes and one byte more is refused", async () => {
  const largest = "x".repeat(PAYLOAD_LIMIT - 2);
  assert.equal((await server.invoke("sdk-length", largest)).body, PAYLOAD_LIMIT - 2);
  await assert.rejects(server.invoke("sdk-length", `${largest}x`), (error) => {
    assert.equal(error.name, "RequestTooLargeException");
    assert.equal(error.$metadata.httpStatusCode, 413);
    return true;
  });
});

test("a response over the limit is a function error", async () => {
  assert.deepEqual(failed(await server.invoke("sdk-sized", { bytes: PAYLOAD_LIMIT + 1 })), {
    errorType: "Function.ResponseSizeTooLarge",
    errorMessage:
      "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
  });
});

test("a dry run executes nothing", async () => {
  const room = await server.room(1);
  const event = (name) => ({ room: room.address, name });
  const answer = await server.invoke("sdk-mark", event("dry"), { InvocationType: "DryRun" });
  assert.deepEqual([answer.status, answer.text], [204, ""]);
  // A real call of the same function afterwards would meet a dry one that ran late.
  await server.invoke("sdk-mark", event("real"));
  assert.deepEqual(room.entered, ["real"]);
});

test("an asynchronous invocation is accepted, and runs", async () => {
  const room = await server.room(1);
  const event = { room: room.address, name: "event" };
  let answer;
  // A queue that was just installed may not be ready yet.
  const isAccepted = async () => {
    answer = await server.invoke("sdk-mark", event, { InvocationType: "Event" }).catch((error) => {
      if (error.name !== "ServiceException") throw error;
    });
    return answer !== undefined;
  };
  await until(isAccepted, () => "the event is accepted");
  assert.deepEqual([answer.status, answer.text], [202, ""]);
  await until(() => room.entered.length === 1, () => "the handler of sdk-mark is entered");
  assert.deepEqual(room.entered, ["event"]);
});

test("an exception arrives with type, message, trace and request id", async () => {
  const answer = await server.invoke("sdk-raises", {});
  const { stackTrace, ...rest } = failed(answer);
  assert.deepEqual(rest, {
    errorType: "ValueError",
    errorMessage: "order 42 has no lines",
    requestId: answer.requestId,
  });
  assert.match(stackTrace[0], /answers\.py.*in raises/s);
});

test("a sanitized error tells the caller where to look and the tail nothing", async () => {
  const answer = await server.invoke("sdk-sanitized", {}, { LogType: "Tail" });
  const place = `under RequestId: ${answer.requestId}`;
  assert.deepEqual(failed(answer), {
    errorType: "ValueError",
    errorMessage: `The function failed. Its error is in the function's log ${place}`,
  });
  const words = answer.log.trimEnd().split("\n").map((line) => line.split(" ")[0]);
  assert.deepEqual(words, ["START", "END", "REPORT"]);
});

test("an answer that is not JSON is a marshal error", async () => {
  const answer = await server.invoke("sdk-not-json", {});
  assert.deepEqual(failed(answer), {
    errorType: "Runtime.MarshalError",
    errorMessage:
      "Unable to marshal response: Object of type datetime is not JSON serializable",
    requestId: answer.requestId,
    stackTrace: [],
  });
});

/** An answer of sdk-hangs: on a slow machine a call may be over the limit of a second by itself. */
const counted = () =>
  until(
    async () => {
      const answer = await server.invoke("sdk-hangs", {});
      return answer.functionError === undefined && answer;
    },
    () => "an answer within the limit",
  );

test("a timeout ends the call and the next one meets a fresh process", async () => {
  const first = (await counted()).body;
  const answer = await server.invoke("sdk-hangs", { hang: true }, { LogType: "Tail" });
  platformError(answer, "Sandbox.Timedout", "Task timed out after 1.00 seconds");
  assert.match(report(answer), /Status: timeout/);
  const next = (await counted()).body;
  assert.deepEqual([first.calls, next.calls], [1, 1]);
  assert.notEqual(first.instance, next.instance);
});

for (const [status, text] of [
  [0, "Runtime exited without providing a reason"],
  [3, "Runtime exited with error: exit status 3"],
]) {
  test(`leaving the process with status ${status} is an exit error`, async () => {
    platformError(await server.invoke("sdk-leaves", { status }), "Runtime.ExitError", text);
  });
}

test("too much memory kills the process and the report says so", async () => {
  const answer = await server.invoke("sdk-memory", { mebibytes: 512 }, { LogType: "Tail" });
  platformError(answer, "Runtime.ExitError", "Runtime exited with error: signal: killed");
  assert.match(report(answer), /Status: error\tError Type: Runtime\.OutOfMemory/);
});

test("an exception at init is the runtime's own body", async () => {
  const { stackTrace, ...rest } = failed(await server.invoke("sdk-init-error", {}));
  assert.deepEqual(rest, {
    errorType: "RuntimeError",
    errorMessage: "no table is configured",
    requestId: "",
  });
  assert.match(stackTrace.join(""), /lambda_function\.py/);
});

test("a handler that is missing is named", async () => {
  assert.deepEqual(failed(await server.invoke("sdk-missing-handler", {})), {
    errorType: "Runtime.HandlerNotFound",
    errorMessage: "Handler 'nope' missing on module 'lambda_function'",
    requestId: "",
    stackTrace: [],
  });
});

test("a syntax error says so", async () => {
  const { errorType, requestId } = failed(await server.invoke("sdk-syntax-error", {}));
  assert.deepEqual([errorType, requestId], ["Runtime.UserCodeSyntaxError", ""]);
});
