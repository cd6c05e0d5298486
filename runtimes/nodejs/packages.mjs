// Lets `import` find packages in the folders of NODE_PATH, such as layers and the AWS SDK, as on the original
// platform. Node.js itself looks there only for `require`.
//
// The hook looks only if Node.js has found nothing, so the function's own packages come first. Node.js 20 runs hooks
// only in a separate thread, which loads this file a second time.

import { createRequire } from 'module';

// These modules are not imported: an import would freeze the exports that later imports see.
const require = createRequire(import.meta.url);
const Module = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

// Matches the name of a package with an optional path in it, but no relative path, URL or `#name`.
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
        // The first error is thrown in the end, because it names the importing file.
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

// Yields the arguments of `next` for each folder.
function* places(specifier, context, error) {
  if (error.code !== 'ERR_MODULE_NOT_FOUND' || !PACKAGE.test(specifier)) return;
  for (const folder of (process.env.NODE_PATH ?? '').split(path.delimiter).filter(Boolean)) {
    if (path.basename(folder) === 'node_modules') {
      // Resolves the package as if a file beside the folder imported it, under the same conditions.
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
