// Waits in an unclaimed instance. After the claim, this process is the function's runtime process.
//
// `prestart.mjs` imports it before the client. It loads the addon and the modules of Node.js that the client requires:
// these read no variable when they are loaded. Then it reads a `Begin` (operator/wire/src/prestart.rs) from a descriptor that runtime.toml has opened
// in addition to the standard ones. It returns when environment, arguments and folder are the function's.
//
// The claim may bring libraries with which a fresh process would load other files than this process has loaded. Then
// this process replaces itself with a fresh one. runtime.toml names the variables that Node.js and the C library read
// only once.

import { createRequire } from 'module';

const DESCRIPTOR = 100;
const CLIENT = './client/index.mjs';

// Resolves names as the client does, which finds its addon by a relative name. The modules that the client requires
// are not imported here: an import would freeze the exports that later imports see.
const require = createRequire(import.meta.resolve(CLIENT));
const path = require('node:path');
const { closeSync, readFileSync, readdirSync, realpathSync } = require('node:fs');
const Module = require('node:module');

const SCRIPT = path.join(import.meta.dirname, 'index.mjs');
// The options of Node.js need no comparison: they depend only on variables that `reads` in runtime.toml lists.
const COMMAND = ['/bin/dash', '-e', path.join(import.meta.dirname, 'start.sh'), process.argv0, SCRIPT];

// The modules of Node.js that each version of the client requires, in the client's order.
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
  // Makes the cache of paths look as if Node.js had been started with that script.
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
  // Reads the folders from NODE_PATH and HOME again.
  Module._initPaths();
}

// The state of the loader's folders as the loader may remember it: names of files, or undefined if absent.
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

// Whether the claim brought libraries that a fresh process would load. The loader never looks again for a folder that
// was absent, or for a library that it has loaded.
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
