#!/bin/sh -e
# Builds the vendor's client into a folder: client.sh FOLDER NODE NPM CLIENT. Node's own headers lie beside
# it, or node-gyp fetches them.
out=$1 node=$2 npm=$3 client=$4
home=$(dirname "$(dirname "$node")")
PATH=$(dirname "$node"):$PATH
export PATH
if [ -e "$home/include/node/node.h" ]; then
    npm_config_nodedir=$home
    export npm_config_nodedir
fi
# The addon's source is the same in version 3, whose build needs more tools and has an older libcurl.
addon=aws-lambda-ric@4.0.2
package=node_modules/aws-lambda-ric
mkdir "$out/client" "$out/build" "$out/build/script"
"$npm" install --prefix "$out/build" --no-audit --no-fund "$addon"
mv "$out/build/$package/rapid-client.node" "$out/client"
"$npm" install --prefix "$out/build/script" --no-audit --no-fund --ignore-scripts "aws-lambda-ric@$client"
cd "$out/build/script/$package"
for file in index.mjs dist/index.mjs package.json LICENSE NOTICE THIRD-PARTY-LICENSES; do
    [ ! -e "$file" ] || mv "$file" "$out/client"
done
rm -rf "$out/build"
