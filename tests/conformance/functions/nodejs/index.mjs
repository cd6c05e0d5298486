// What the conformance table asks of a function, in JavaScript: an ES module with top-level await.
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { setTimeout as wait } from "node:timers/promises";

const started = await Promise.resolve(Number(process.hrtime.bigint()) + process.pid);
let calls = 0;

export const handler = async (event, context) => {
  calls += 1;
  switch (event?.do) {
    case "context":
      return {
        requestId: context.awsRequestId,
        functionName: context.functionName,
        functionVersion: context.functionVersion,
        arn: context.invokedFunctionArn,
        memory: context.memoryLimitInMB,
        logGroup: context.logGroupName,
        logStream: context.logStreamName,
        remaining: context.getRemainingTimeInMillis(),
        custom: context.clientContext?.custom ?? null,
      };
    case "surroundings": {
      const file = `${tmpdir()}/note`;
      await writeFile(file, "kept");
      return { variables: { ...process.env }, directory: process.cwd(), kept: await readFile(file, "utf8") };
    }
    case "count":
      return { calls, started };
    case "wait":
      await wait(event.seconds * 1000);
      return { started };
    case "print":
      console.log(event.text);
      return null;
    case "raise":
      throw new RangeError("no such order: grün");
    case "unserialisable":
      return 1n;
    case "size":
      return "x".repeat(event.bytes);
    case "exit":
      process.exit(event.status);
    case "memory": {
      const held = Array.from({ length: event.mebibytes }, () => Buffer.alloc(1 << 20, 1));
      await new Promise((resolve) => setTimeout(resolve, 900_000));
      return held.length;
    }
  }
  return event;
};

export const other = async () => "other";
