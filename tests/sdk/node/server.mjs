// Whatever serves the functions of this suite, as the tests see it: an SDK client, metrics, and rooms
// in which handlers wait. `pilotlight local` of this test file (local-server.mjs), or with
// PILOTLIGHT_ENDPOINT a cluster that `tests/e2e/serve.py` has told of.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { setTimeout as pause } from "node:timers/promises";

import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";

import { Room } from "./room.mjs";

export const ARN = "arn:aws:lambda:us-east-1:000000000000:function:";

/** Milliseconds that a test waits for anything: a bound that only a broken system meets. */
export const PATIENCE = 300_000;

/** Polls `condition` and returns its first true value; fails after PATIENCE. */
export async function until(condition, what) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `not within ${PATIENCE} ms: ${what()}`);
    await pause(20);
  }
}

export async function startServer() {
  const endpoint = process.env.PILOTLIGHT_ENDPOINT;
  if (endpoint === undefined) return (await import("./local-server.mjs")).startLocal();
  const server = new Server();
  server.host = await ownAddress(new URL(endpoint));
  server.connect(endpoint, process.env.PILOTLIGHT_METRICS.split(","));
  return server;
}

/** The address of this machine that the other end would answer to. */
async function ownAddress({ hostname, port }) {
  const probe = createSocket("udp4");
  await new Promise((done) => probe.connect(Number(port) || 80, hostname, done)); // sends nothing
  const { address } = probe.address();
  probe.close();
  return address;
}

export class Server {
  host = "127.0.0.1"; // where functions reach the tests
  rooms = [];

  /** `statuses`: where each gateway has its metrics. */
  connect(endpoint, statuses) {
    [this.endpoint, this.statuses] = [endpoint, statuses];
    this.client = new LambdaClient({
      endpoint,
      region: "us-east-1",
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
      maxAttempts: 1,
    });
  }

  disconnect() {
    this.client?.destroy();
    this.rooms.forEach((room) => room.close());
  }

  async stop() {
    this.disconnect();
  }

  async room(size) {
    const room = await Room.make(this.host, size);
    this.rooms.push(room);
    return room;
  }

  /** Invokes with an event as a value; `undefined` sends no payload. */
  async invoke(FunctionName, event, options = {}) {
    const Payload = event === undefined ? undefined : JSON.stringify(event);
    const command = new InvokeCommand({ FunctionName, Payload, ...options });
    // An instance may take longer to come up than a call may wait. Such a call has not started.
    const answer = await until(
      () => this.client.send(command).catch((error) => {
        if (error.name !== "ResourceNotReadyException") throw error;
      }),
      () => `an instance of ${FunctionName}`,
    );
    const text = Buffer.from(answer.Payload ?? []).toString();
    return {
      status: answer.StatusCode,
      functionError: answer.FunctionError,
      version: answer.ExecutedVersion,
      requestId: answer.$metadata.requestId,
      text,
      body: text === "" ? undefined : JSON.parse(text),
      log: answer.LogResult && Buffer.from(answer.LogResult, "base64").toString(),
    };
  }

  /** The sum of the samples of `name` that carry this function, undefined without a sample. */
  async metric(name, fn) {
    const texts = this.statuses.map(async (url) => (await fetch(`${url}/metrics`)).text());
    const samples = (await Promise.all(texts))
      .flatMap((text) => text.split("\n"))
      .filter((line) => line.startsWith(`${name}{`) && line.includes(`function="${fn}"`))
      .map((line) => Number(line.slice(line.lastIndexOf(" "))));
    return samples.length ? samples.reduce((sum, sample) => sum + sample) : undefined;
  }
}
