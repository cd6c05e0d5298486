// What a handler can find out about its process, for the comparison of test_prestart.py.

const child_process = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const Module = require('node:module');
const os = require('node:os');
const perf_hooks = require('node:perf_hooks');
const { Worker } = require('node:worker_threads');

// Before anything that this file does.
const LOADED = [...process.moduleLoadList];
const CACHE = Object.keys(require.cache);
const STACK = new Error('here').stack;
const LISTENERS = listeners();
const RESOURCES = process.getActiveResourcesInfo();

function listeners() {
  return process.eventNames().map((name) => [String(name), process.listenerCount(name)]);
}

function status(...names) {
  const lines = fs.readFileSync('/proc/self/status', 'utf8').split('\n');
  return lines.filter((line) => names.includes(line.split(':')[0]));
}

function descriptors() {
  const found = {};
  for (const name of fs.readdirSync('/proc/self/fd')) {
    try {
      const target = fs.readlinkSync(`/proc/self/fd/${name}`).split(':[')[0];
      found[name] = [target, /flags:\s*(\d+)/.exec(fs.readFileSync(`/proc/self/fdinfo/${name}`, 'utf8'))[1]];
    } catch {
      // the one that lists them
    }
  }
  return found;
}

function describe(object) {
  const properties = Object.getOwnPropertyDescriptors(object);
  return Reflect.ownKeys(properties).map((key) => {
    const { value, get, set, ...flags } = properties[key];
    return [String(key), typeof value, Boolean(get), Boolean(set), flags];
  });
}

function moduleTree(module) {
  const { id, path, filename, loaded, paths, children } = module;
  return { id, path, filename, loaded, paths, children: children.map((child) => child.id) };
}

// The modules of Node.js's own that have been imported: an import fixes what later ones find.
async function imported() {
  const functions = {
    fs: 'linkSync', http: 'get', module: 'findSourceMap', net: 'isIPv6', os: 'loadavg', path: 'relative',
    process: 'umask', url: 'domainToUnicode', util: 'toUSVString', worker_threads: 'receiveMessageOnPort',
  };
  const names = [];
  for (const [id, name] of Object.entries(functions)) {
    const module = require(id);
    const before = module[name];
    module[name] = 'patched';
    if ((await import(id))[name] !== 'patched') names.push(id);
    module[name] = before;
  }
  return names;
}

function inWorker() {
  const code = `
    const { parentPort } = require('node:worker_threads');
    parentPort.postMessage([Object.entries(process.env).sort(), process.argv, process.execArgv, Object.keys(require.cache)]);`;
  return new Promise((resolve, reject) => {
    new Worker(code, { eval: true }).on('message', resolve).on('error', reject);
  });
}

async function find() {
  const inherited = { stdio: ['inherit', 'pipe', 'inherit'], encoding: 'utf8' };
  const signals = status('SigBlk', 'SigIgn', 'SigCgt', 'ShdPnd', 'SigPnd');
  const tasks = fs.readdirSync('/proc/self/task');
  const threads = tasks.map((id) => fs.readFileSync(`/proc/self/task/${id}/comm`, 'utf8'));
  return {
    descriptors: descriptors(),
    // start.sh's shell hands them on in an order of its own.
    environment: Object.entries(process.env).sort(),
    subprocess: child_process.execFileSync('env', inherited).split('\n').sort().join('\n'),
    subprocess_descriptors: child_process.execFileSync('ls', ['-l', '/proc/self/fd'], inherited)
      .match(/\d+ -> \S+/g).map((line) => line.replace(/[:[\d]+\]$|\/proc\/\d+/, '')),
    another: child_process.execFileSync(process.execPath, ['-p', 'process.execArgv'], inherited),
    argv: process.argv,
    argv0: process.argv0,
    exec: [process.execPath, process.execArgv],
    title: process.title,
    directory: process.cwd(),
    main: [require.main === undefined, process.mainModule === undefined],
    cache: CACHE,
    cached: Object.values(require.cache).map(moduleTree),
    parent: [moduleTree(module), module.parent && moduleTree(module.parent)],
    addon: Object.values(require.cache).filter(({ id }) => id.endsWith('.node'))
      .map((addon) => [moduleTree(addon), addon.parent && describe(addon.parent)]),
    path_cache: Object.entries(Module._pathCache),
    paths: [Module.globalPaths, require.resolve.paths('anything')],
    extensions: Object.keys(require.extensions),
    loaded: LOADED,
    loaded_now: [...process.moduleLoadList],
    imported: await imported(),
    globals: describe(globalThis),
    process: describe(process),
    console: describe(console),
    awslambda: describe(globalThis.awslambda ?? {}),
    listeners: LISTENERS,
    listeners_now: listeners(),
    resources: RESOURCES,
    handles: process._getActiveHandles().map((handle) => handle.constructor.name),
    signals,
    user: [process.getuid(), process.getgid(), process.getgroups()],
    rights: status('CapEff', 'NoNewPrivs', 'Seccomp'),
    umask: process.umask(),
    limits: fs.readFileSync('/proc/self/limits', 'utf8'),
    group: [status('NSpgid')[0].split('\t')[1] === String(process.pid), os.getPriority()],
    name: fs.readFileSync('/proc/self/comm', 'utf8'),
    threads: threads.sort(),
    stdin: [
      process.stdin.constructor.name, process.stdin.fd, process.stdin.isTTY, process.stdin.readableFlowing,
      fs.readFileSync(0, 'utf8'),
    ],
    stdout: [process.stdout.constructor.name, process.stdout.writableHighWaterMark, process.stdout.isTTY],
    time: [
      new Date(0).toString(), new Date(2e12).getTimezoneOffset(), Intl.DateTimeFormat().resolvedOptions(),
      new Date(0).toLocaleString(),
    ],
    locale: [(1234567.891).toLocaleString(), ['ä', 'z', 'a'].sort(new Intl.Collator().compare)],
    versions: process.versions,
    features: process.features,
    warnings: [process.noDeprecation, process.throwDeprecation, process.traceDeprecation],
    errors: [Error.stackTraceLimit, typeof Error.prepareStackTrace],
    stack: STACK,
    stack_now: new Error('now').stack,
    worker: await inWorker(),
    proxies: [require('node:http').globalAgent.options, require('node:https').globalAgent.options],
    entries: perf_hooks.performance.getEntries().length,
    preloaded: process._preload_modules,
    exit: [process.exitCode, process._exiting],
  };
}

function draw() {
  return {
    random: Math.random(), uuid: crypto.randomUUID(), bytes: crypto.randomBytes(8).toString('hex'),
    web: globalThis.crypto.getRandomValues(new Uint32Array(2)), process: process.pid,
  };
}

function kernel() {
  const read = (name) => fs.readFileSync(`/proc/self/${name}`, 'utf8').split('\0').slice(0, -1);
  return { cmdline: read('cmdline'), environ: read('environ').sort(), uptime: process.uptime() };
}

// No library is an addon: what is said of one that the loader has found is another thing.
function load(name) {
  try {
    process.dlopen({ exports: {} }, name);
  } catch (error) {
    return error.message;
  }
}

exports.handler = async (event) => {
  switch (event.do) {
    case 'find':
      return find();
    case 'draw':
      return draw();
    case 'kernel':
      return kernel();
    case 'fail':
      throw new RangeError('as it was asked to');
    case 'load':
      return load(event.library);
    case 'whose':
      return require(event.module).whose;
    case 'options':
      return process.execArgv;
    case 'threads':
      // Those of libuv's pool are all there, or none.
      await fs.promises.stat('/');
      return fs.readdirSync('/proc/self/task').length;
  }
};
