#!/bin/sh -e
# Installs the AWS SDK for JavaScript beside the package.json and the lock file that name it: sdk.sh FOLDER NPM.
out=$1 npm=$2
"$npm" ci --prefix "$out" --ignore-scripts --no-audit --no-fund
cd "$out/node_modules"
# Node.js loads the CommonJS builds for `import` too, and the original platform has only these.
rm -rf .bin .package-lock.json
rm -rf @aws-sdk/*/dist-es @aws-sdk/*/dist-types @smithy/*/dist-es @smithy/*/dist-types
find @aws @aws-sdk @smithy \( -name '*.d.ts' -o -name '*.md' \) -delete
