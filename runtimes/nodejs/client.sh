#!/bin/sh -e
# Builds the vendor's client into a folder: client.sh FOLDER NODE NPM. Node's own headers lie beside
# it, or node-gyp fetches them.
out=$1 node=$2 npm=$3
home=$(dirname "$(dirname "$node")")
PATH=$(dirname "$node"):$PATH
export PATH
if [ -e "$home/include/node/node.h" ]; then
    npm_config_nodedir=$home
    export npm_config_nodedir
fi
"$npm" install --prefix "$out" --no-audit --no-fund aws-lambda-ric@4.0.2
# What it is built with is not what it runs with.
cd "$out/node_modules"
for package in * .[!.]*; do
    case $package in
    aws-lambda-ric | @aws) ;;
    *) rm -rf "$package" ;;
    esac
done
rm -rf aws-lambda-ric/deps aws-lambda-ric/src aws-lambda-ric/node-addon-api
