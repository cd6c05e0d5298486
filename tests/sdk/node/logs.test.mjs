// The CloudWatch Logs API, seen by the JavaScript SDK (contract §10). boto3 and the command line of AWS are in
// python/test_cloudwatch.py.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import {
  CloudWatchLogsClient,
  DescribeLogGroupsCommand,
  StartLiveTailCommand,
  paginateFilterLogEvents,
} from "@aws-sdk/client-cloudwatch-logs";

import { startServer } from "./server.mjs";

const GROUP = "/aws/lambda/sdk-prints";

let server, logs;
before(async () => {
  server = await startServer();
  logs = new CloudWatchLogsClient({
    endpoint: server.endpoint,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
    // StartLiveTail would go to another host.
    disableHostPrefix: true,
    maxAttempts: 1,
  });
});
after(() => {
  logs?.destroy();
  return server?.stop();
});

test("printed lines are found, page by page", async () => {
  const word = `w${randomUUID().replaceAll("-", "")}`;
  const lines = [1, 2, 3].map((number) => `${word} ${number}`);
  await server.invoke("sdk-prints", { lines });
  const found = [];
  const pages = paginateFilterLogEvents({ client: logs, pageSize: 2 }, { logGroupName: GROUP, filterPattern: word });
  for await (const page of pages) found.push(...page.events.map((event) => event.message));
  assert.deepEqual(found, lines);
});

test("a live tail has what is printed meanwhile", async () => {
  const word = `w${randomUUID().replaceAll("-", "")}`;
  const { logGroups } = await logs.send(new DescribeLogGroupsCommand({ logGroupNamePrefix: GROUP }));
  const tail = await logs.send(
    new StartLiveTailCommand({ logGroupIdentifiers: [logGroups[0].logGroupArn], logEventFilterPattern: word }),
  );
  const seen = [];
  for await (const frame of tail.responseStream) {
    if (frame.sessionStart) await server.invoke("sdk-prints", { lines: [`${word} printed`, "another"] });
    seen.push(...(frame.sessionUpdate?.sessionResults ?? []).map((event) => event.message));
    if (seen.length > 0) break;
  }
  assert.deepEqual(seen, [`${word} printed`]);
});

test("a group that does not exist is an error of the SDK's type", async () => {
  const pages = paginateFilterLogEvents({ client: logs }, { logGroupName: "/aws/lambda/absent" });
  await assert.rejects(pages.next(), { name: "ResourceNotFoundException" });
});
