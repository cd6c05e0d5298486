// A `pilotlight local` of the tests: started, watched through its output, stopped.
// Owns the process, the SDK's client and the files in which tests and handlers meet; each test file
// starts one server. What the tests learn, they learn through HTTP, output and exit code.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";

const repository = fileURLToPath(new URL("../../..", import.meta.url));
const binary = process.env.PILOTLIGHT_BIN ?? join(repository, "target/release/pilotlight");
const fixtures = join(repository, "tests/sdk/functions.yaml");

const READY_WITHIN = 300_000; // ms; the first start on a machine downloads the runtimes
const STOPS_WITHIN = 15_000; // ms
export const ARN = "arn:aws:lambda:us-east-1:000000000000:function:";

/** Polls `condition` and returns its first true value; fails after `ms`. */
export async function until(condition, ms, what) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `not within ${ms} ms: ${what()}`);
    await pause(20);
  }
}

export async function startLocal() {
  assert.ok(existsSync(binary), `${binary} is missing: build it, or name it in PILOTLIGHT_BIN`);
  const server = new LocalServer(
    spawn(binary, ["local", "--listen", "127.0.0.1:0", fixtures], {
      stdio: ["ignore", "pipe", "inherit"],
    }),
  );
  await server.ready();
  return server;
}

class LocalServer {
  lines = [];
  directory = mkdtempSync(join(tmpdir(), "pilotlight-sdk-"));

  constructor(child) {
    this.process = child;
    this.exited = once(child, "exit");
    createInterface({ input: child.stdout }).on("line", (line) => this.lines.push(line));
  }

  async ready() {
    const line = await until(
      () => this.process.exitCode !== null || this.lines.find((line) => line.startsWith("ready: ")),
      READY_WITHIN,
      () => `a line that starts with ready:\n${this.tail()}`,
    );
    assert.notEqual(line, true, `the server ended before it was ready:\n${this.tail()}`);
    this.endpoint = /^ready: (http:\S+) /.exec(line)[1];
    this.client = new LambdaClient({
      endpoint: this.endpoint,
      region: "us-east-1",
      credentials: { accessKeyId: "local", secretAccessKey: "local" },
      maxAttempts: 1,
    });
  }

  /** Invokes with an event as a value; `undefined` sends no payload. */
  async invoke(FunctionName, event, options = {}) {
    const Payload = event === undefined ? undefined : JSON.stringify(event);
    const answer = await this.client.send(new InvokeCommand({ FunctionName, Payload, ...options }));
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
    const text = await (await fetch(`${this.endpoint}/metrics`)).text();
    const samples = text
      .split("\n")
      .filter((line) => line.startsWith(`${name}{`) && line.includes(`function="${fn}"`))
      .map((line) => Number(line.slice(line.lastIndexOf(" "))));
    return samples.length ? samples.reduce((sum, sample) => sum + sample) : undefined;
  }

  /** Interrupts the server as a person would; it ends well and leaves no process behind. */
  async stop() {
    this.client?.destroy();
    const started = descendants(this.process.pid);
    this.process.kill("SIGINT");
    const late = setTimeout(() => this.process.kill("SIGKILL"), STOPS_WITHIN);
    const [code, signal] = await this.exited;
    clearTimeout(late);
    rmSync(this.directory, { recursive: true });
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, this.tail());
    // A killed process needs a moment to vanish; a second is not a lifetime.
    await until(() => !started.some(alive), 1000, () => `gone: ${started.filter(alive)}`);
  }

  tail() {
    return this.lines.slice(-60).join("\n");
  }
}

function descendants(root) {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const parents = pids.map(stat).filter(Boolean);
  const found = [];
  for (let wave = [root]; wave.length; ) {
    wave = parents.filter(({ parent }) => wave.includes(parent)).map(({ pid }) => pid);
    found.push(...wave);
  }
  return found;
}

function alive(pid) {
  const found = stat(pid);
  return found !== undefined && found.state !== "Z";
}

function stat(pid) {
  try {
    // pid (command) state ppid …; the command may hold spaces and parentheses
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state, parent] = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { pid: Number(pid), state, parent: Number(parent) };
  } catch {
    return undefined; // ended while the directory was read
  }
}
