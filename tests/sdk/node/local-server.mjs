// A `pilotlight local` of the tests: started, watched through its output, stopped.
// Owns the process; each test file starts one server. What the tests learn, they learn through HTTP
// (server.mjs), output and exit code.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { PATIENCE, Server, until } from "./server.mjs";

const repository = fileURLToPath(new URL("../../..", import.meta.url));
const binary = process.env.PILOTLIGHT_BIN ?? join(repository, "target/release/pilotlight");
const fixtures = join(repository, "tests/sdk/functions.yaml");

export async function startLocal() {
  assert.ok(existsSync(binary), `${binary} is missing: build it, or name it in PILOTLIGHT_BIN`);
  const server = new LocalServer(
    spawn(binary, ["local", "--listen=127.0.0.1:0", "--status=127.0.0.1:0", fixtures], {
      stdio: ["ignore", "pipe", "inherit"],
    }),
  );
  await server.ready();
  return server;
}

class LocalServer extends Server {
  lines = [];

  constructor(child) {
    super();
    this.process = child;
    this.exited = once(child, "exit");
    createInterface({ input: child.stdout }).on("line", (line) => this.lines.push(line));
  }

  async ready() {
    const line = await until(
      () => this.process.exitCode !== null || this.lines.find((line) => line.startsWith("ready: ")),
      () => `a line that starts with ready:\n${this.tail()}`,
    );
    assert.notEqual(line, true, `the server ended before it was ready:\n${this.tail()}`);
    const status = this.lines.find((line) => line.startsWith("probes and metrics: "));
    this.connect(/^ready: (http:\S+) /.exec(line)[1], [/(http:\S+)/.exec(status)[1]]);
  }

  /** Interrupts the server as a person would; it ends well and leaves no process behind. */
  async stop() {
    this.disconnect();
    const started = descendants(this.process.pid);
    this.process.kill("SIGINT");
    const late = setTimeout(() => this.process.kill("SIGKILL"), PATIENCE);
    const [code, signal] = await this.exited;
    clearTimeout(late);
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, this.tail());
    // A killed process needs a moment to vanish.
    await until(() => !started.some(alive), () => `gone: ${started.filter(alive)}`);
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
