// Lets `import` find packages in the folders of NODE_PATH, as the Node.js of the original platform does:
// layers and the AWS SDK are there. Node.js itself looks there for `require` alone.
//
// It is asked after Node.js found nothing, so what the function brings comes first.

import { createRequire } from 'module';

// An import of one of Node.js's own modules would fix what later imports find in it.
const require = createRequire(import.meta.url);
const Module = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

// The name of a package, and perhaps a path in it: neither a path, nor a URL, nor a package's own `#name`.
const PACKAGE = /^[^./#][^:]*$/;

function resolve(specifier, context, next) {
  try {
    return next(specifier, context);
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND' || !PACKAGE.test(specifier)) throw error;
    const folders = (process.env.NODE_PATH ?? '').split(path.delimiter).filter(Boolean);
    for (const folder of folders) {
      try {
        return inFolder(folder, specifier, context, next);
      } catch {
        // The error that counts is the first: it names the file that imports.
      }
    }
    throw error;
  }
}

function inFolder(folder, specifier, context, next) {
  if (path.basename(folder) === 'node_modules') {
    // As if a file beside the folder imported it, by the same conditions.
    const parentURL = pathToFileURL(path.join(path.dirname(folder), 'NODE_PATH')).href;
    return next(specifier, { ...context, parentURL });
  }
  const file = createRequire(path.join(folder, 'NODE_PATH')).resolve(`./${specifier}`);
  return next(pathToFileURL(file).href, context);
}

Module.registerHooks?.({ resolve });
