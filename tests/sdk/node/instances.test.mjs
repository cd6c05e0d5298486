// Instances, context and log, seen by the JavaScript SDK: what an instance remembers, how many
// there are, when they go, who is refused. Payloads and failures are in invoke.test.mjs.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ARN, startServer, until } from "./server.mjs";

let server;
before(async () => {
  server = await startServer();
});
after(() => server?.stop());

test("init runs once and globals stay between events", async () => {
  const answers = [];
  for (let call = 0; call < 5; call++) answers.push((await server.invoke("sdk-counts", {})).body);
  assert.deepEqual(answers.map(({ calls }) => calls), [1, 2, 3, 4, 5]);
  assert.equal(new Set(answers.map(({ instance }) => instance)).size, 1);
});

test("ten events at once run in ten instances, which go when idle", async () => {
  const room = await server.room();
  const events = Array(10).fill({ room: room.address });
  const calls = events.map((event) => server.invoke("sdk-meets", event));
  try {
    await until(() => room.entered.length === 10, () => `ten in the room: ${room.entered}`);
    assert.equal(await server.metric("pilotlight_instances", "sdk-meets"), 10);
  } finally {
    room.open();
  }
  const answers = await Promise.all(calls);
  assert.equal(new Set(answers.map(({ body }) => body.instance)).size, 10);

  assert.equal(await server.metric("pilotlight_cold_starts_total", "sdk-meets"), 10);
  await until(
    async () => !(await server.metric("pilotlight_instances", "sdk-meets")),
    () => "all instances are gone after keepAlive (2 s)",
  );
});

test("a second event is refused while the only instance is busy", async () => {
  const room = await server.room();
  const held = server.invoke("sdk-single", { room: room.address });
  try {
    await until(() => room.entered.length, () => "the handler of sdk-single is entered");
    await assert.rejects(server.invoke("sdk-single", {}), (error) => {
      assert.equal(error.name, "TooManyRequestsException");
      assert.equal(error.$metadata.httpStatusCode, 429);
      assert.equal(error.Reason, "ReservedFunctionConcurrentInvocationLimitExceeded");
      assert.equal(error.message, "Rate Exceeded.");
      return true;
    });
  } finally {
    room.open();
  }
  assert.equal((await held).status, 200);
});

test("a reservation of zero refuses every event", async () => {
  for (let call = 0; call < 2; call++) {
    await assert.rejects(server.invoke("sdk-blocked", {}), { name: "TooManyRequestsException" });
  }
});

test("the context describes the call", async () => {
  const custom = { tenant: "grün" };
  const env = { locale: "de" };
  const sent = { custom, env, client: { app_title: "shop" } };
  const ClientContext = Buffer.from(JSON.stringify(sent)).toString("base64");
  const answer = await server.invoke("sdk-context", {}, { ClientContext });
  const { remaining, log_stream_name: stream, ...context } = answer.body;
  assert.ok(remaining > 0 && remaining <= 600_000, `${remaining} ms remain`);
  assert.match(stream, /^\d{4}\/\d\d\/\d\d\/\[\$LATEST\][0-9a-f]{32}$/);
  assert.deepEqual(context, {
    aws_request_id: answer.requestId,
    memory_limit_in_mb: "192",
    function_name: "sdk-context",
    function_version: "$LATEST",
    invoked_function_arn: `${ARN}sdk-context`,
    log_group_name: "/aws/lambda/sdk-context",
    client_context: { custom, env, app_title: "shop" },
  });
});

test("the log tail frames what the handler printed, cold and warm", async () => {
  const event = { lines: ["one", "two"] };
  for (const cold of [true, false]) {
    const answer = await server.invoke("sdk-frames", event, { LogType: "Tail" });
    const id = answer.requestId;
    const lines = answer.log.trimEnd().split("\n");
    const start = lines.indexOf(`START RequestId: ${id} Version: $LATEST`);
    assert.ok(start >= 0, answer.log);
    const framed = lines.slice(start + 1);
    const report = framed.pop();
    assert.deepEqual(framed, ["one", "two", `END RequestId: ${id}`]);
    assert.ok(report.startsWith(`REPORT RequestId: ${id}\tDuration: `), report);
    assert.equal(report.includes("\tInit Duration: "), cold, report);
    assert.ok(Buffer.byteLength(answer.log) <= 4096);
  }
});
