#!/bin/sh -e
# Compiles a function: build.sh CODE FOLDER RUNTIME MCS HANDLER. The handler names the assembly. The compiler
# gets references to the assemblies beside the code, and the options in an mcs.rsp.
code=$1 out=$2 runtime=$3 mcs=$4 assembly=${5%%::*}
cp -R "$code/." "$out"
cd "$code"
set -- -optimize -debug -target:library "-out:$out/$assembly.dll"
[ -e mcs.rsp ] && set -- "$@" @mcs.rsp
core=$runtime/Amazon.Lambda.Core.dll
for reference in *.dll; do
    [ -e "$reference" ] && set -- "$@" "-r:$reference"
    [ "$reference" = Amazon.Lambda.Core.dll ] && core=
done
[ -n "$core" ] && set -- "$@" "-r:$core"
exec "$mcs" "$@" ./*.cs
