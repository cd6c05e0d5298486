#!/bin/sh -e
# Installs the AWS SDK for JavaScript in the folder with its package.json and lock file: sdk.sh FOLDER NPM.
out=$1 npm=$2
"$npm" ci --prefix "$out" --ignore-scripts --no-audit --no-fund
cd "$out/node_modules"
# Only the CommonJS builds stay, as on the original platform. Node.js loads them for `import` too.
rm -rf .bin .package-lock.json
rm -rf @aws-sdk/*/dist-es @aws-sdk/*/dist-types @smithy/*/dist-es @smithy/*/dist-types
find @aws @aws-sdk @smithy \( -name '*.d.ts' -o -name '*.md' \) -delete
