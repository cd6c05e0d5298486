// Lets `import` find packages in the folders of NODE_PATH, such as layers and the AWS SDK, as on the original
// platform. Node.js itself looks there only for `require`.
//
// The hook runs after Node.js has found nothing, so the function's own packages come first. Node.js 20 has only
// hooks that run in a thread of their own: there it loads this file a second time.

import { createRequire } from 'module';

// An import of one of Node.js's own modules would fix what later imports find in it.
const require = createRequire(import.meta.url);
const Module = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

// The name of a package, and perhaps a path in it: neither a path, nor a URL, nor a package's own `#name`.
const PACKAGE = /^[^./#][^:]*$/;
const IN_THREAD = '?thread';

function resolve(specifier, context, next) {
  try {
    return next(specifier, context);
  } catch (error) {
    for (const place of places(specifier, context, error)) {
      try {
        return next(...place);
      } catch {
        // The error that counts is the first: it names the file that imports.
      }
    }
    throw error;
  }
}

async function resolveInThread(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    for (const place of places(specifier, context, error)) {
      try {
        return await next(...place);
      } catch {
        // As above.
      }
    }
    throw error;
  }
}

// The arguments of `next` for each folder.
function* places(specifier, context, error) {
  if (error.code !== 'ERR_MODULE_NOT_FOUND' || !PACKAGE.test(specifier)) return;
  for (const folder of (process.env.NODE_PATH ?? '').split(path.delimiter).filter(Boolean)) {
    if (path.basename(folder) === 'node_modules') {
      // As if a file beside the folder imported it, by the same conditions.
      const parentURL = pathToFileURL(path.join(path.dirname(folder), 'NODE_PATH')).href;
      yield [specifier, { ...context, parentURL }];
    } else {
      const file = fileIn(folder, specifier);
      if (file) yield [pathToFileURL(file).href, context];
    }
  }
}

function fileIn(folder, specifier) {
  try {
    return createRequire(path.join(folder, 'NODE_PATH')).resolve(`./${specifier}`);
  } catch {
    return undefined;
  }
}

if (Module.registerHooks) {
  Module.registerHooks({ resolve });
} else if (!import.meta.url.endsWith(IN_THREAD)) {
  Module.register(`./packages.mjs${IN_THREAD}`, import.meta.url);
}

export { resolveInThread as resolve };
