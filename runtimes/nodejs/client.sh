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
mkdir "$out/client" "$out/build"
# The addon's source is the same in version 3, whose build needs more tools and has an older libcurl.
"$npm" install --prefix "$out/build" --no-audit --no-fund aws-lambda-ric@4.0.2
mv "$out/build/node_modules/aws-lambda-ric/rapid-client.node" "$out/client"
# The other dependencies of version 3 are for its build.
cd "$out/build"
"$npm" pack "aws-lambda-ric@$client"
tar -xzf "aws-lambda-ric-$client.tgz"
cd package
for file in index.mjs dist/index.mjs package.json LICENSE NOTICE THIRD-PARTY-LICENSES; do
    [ ! -e "$file" ] || mv "$file" "$out/client"
done
rm -rf "$out/build"
