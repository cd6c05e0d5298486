// Waits in an unclaimed instance; from the claim on this process is the function's.
//
// `prestart.mjs` imports it before the client. It loads what the client loads and what reads no
// variable as it is loaded; then it reads a `Begin` (operator/wire/src/prestart.rs) from a descriptor that
// runtime.toml has put beside the standard ones. It returns when environment, arguments and folder are
// the function's.
//
// A process that starts only now might find something else than this one found, by libraries that came
// with the claim. Then it starts that process in its own place. runtime.toml names the variables that
// Node.js and the C library read once.

import { createRequire } from 'module';

const DESCRIPTOR = 100;
const CLIENT = './client/index.mjs';

// By the name under which the client looks for its addon. What the client requires is not imported: an
// import would fix what a later one finds.
const require = createRequire(import.meta.resolve(CLIENT));
const path = require('node:path');
const { closeSync, readFileSync, readdirSync, realpathSync } = require('node:fs');
const Module = require('node:module');

const SCRIPT = path.join(import.meta.dirname, 'index.mjs');
// A process that runs this has been started with the same options, as `reads` in runtime.toml lists the variables
// that they depend on.
const COMMAND = ['/bin/dash', '-e', path.join(import.meta.dirname, 'start.sh'), process.argv0, SCRIPT];

// The modules of Node.js that the client requires, by its version, in its order.
const REQUIRED = {
  3: ['net', 'assert', 'http'],
  4: ['net', 'http', 'os', 'util', 'worker_threads'],
};

function main() {
  const lookedIn = loaderFolders();
  load();
  const text = readFileSync(DESCRIPTOR, 'utf8');
  closeSync(DESCRIPTOR);
  if (text === '') process.exit(0);
  const { command, taskRoot, environment } = JSON.parse(text);
  process.chdir(taskRoot);
  if (command.join('\0') !== COMMAND.join('\0') || librariesCame(lookedIn)) {
    process.execve(command[0], command, Object.fromEntries(environment));
  }
  setEnvironment(environment);
  process.argv.splice(1, process.argv.length, SCRIPT);
}

function load() {
  // Node.js would have looked up that script.
  delete Module._pathCache[`${process.argv[1]}\0`];
  Module._pathCache[`${SCRIPT}\0`] = realpathSync(SCRIPT);
  const description = path.join(import.meta.dirname, 'client', 'package.json');
  const { version } = JSON.parse(readFileSync(description, 'utf8'));
  for (const name of REQUIRED[version.split('.')[0]]) require(`node:${name}`);
  require('./rapid-client.node');
}

function setEnvironment(variables) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const [name, value] of variables) process.env[name] = value;
  // The folders that it has taken from NODE_PATH and HOME.
  Module._initPaths();
}

// What the loader may know of its folders: names, or that there is no such folder.
function loaderFolders() {
  const folders = (process.env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean);
  return folders.map((folder) => [folder, namesIn(folder)]);
}

function namesIn(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return undefined;
  }
}

// The loader looks no more for a folder that it has missed, nor for what it has loaded.
function librariesCame(lookedIn) {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  const loaded = new Set(maps.map((line) => line.slice(line.lastIndexOf('/') + 1)));
  return lookedIn.some(([folder, before]) => {
    const came = (namesIn(folder) ?? []).filter((name) => !before?.includes(name));
    const counts = before ? (name) => loaded.has(name) : (name) => name.includes('.so');
    return came.some((name) => name === 'glibc-hwcaps' || counts(name));
  });
}

main();
