#!/bin/sh -e
# Builds the vendor's client into a folder: client.sh FOLDER NODE NPM CLIENT. If Node.js has no headers beside it,
# node-gyp fetches them.
out=$1 node=$2 npm=$3 client=$4
home=$(dirname "$(dirname "$node")")
PATH=$(dirname "$node"):$PATH
export PATH
if [ -e "$home/include/node/node.h" ]; then
    npm_config_nodedir=$home
    export npm_config_nodedir
fi
case $client in
3.3.0) sha256=fb6cd346ec91301e6a02921e60bea1cc8d73cc7ec301191416b95f7d1295e09a ;;
4.0.2) sha256=28e042f42f6da655e72eef9190e4ab566141d2eccc5408429642a730b10b4646 ;;
*) echo "client.sh has no checksum of aws-lambda-ric $client" >&2 && exit 1 ;;
esac
mkdir "$out/client" "$out/build"
cp "$out/client.json" "$out/build/package.json"
cp "$out/client-lock.json" "$out/build/package-lock.json"
# The addon comes from version 4.0.2 for all clients. Version 3 has the same source, but its build needs more tools
# and brings an older libcurl. Its script compiles it; what that needs is locked too.
"$npm" ci --prefix "$out/build" --no-audit --no-fund
mv "$out/build/node_modules/aws-lambda-ric/rapid-client.node" "$out/client"
# Only the client's own files are taken: the other dependencies of version 3 are for its build.
cd "$out/build"
"$npm" pack "aws-lambda-ric@$client"
echo "$sha256  aws-lambda-ric-$client.tgz" | sha256sum --check --quiet
tar -xzf "aws-lambda-ric-$client.tgz"
cd package
for file in index.mjs dist/index.mjs package.json LICENSE NOTICE THIRD-PARTY-LICENSES; do
    [ ! -e "$file" ] || mv "$file" "$out/client"
done
rm -rf "$out/build"
