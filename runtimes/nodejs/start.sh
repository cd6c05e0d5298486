#!/bin/sh -e
# Becomes a function's Node.js process: start.sh NODE [OPTION...] SCRIPT. Its options are those of the original
# platform, where NODE_OPTIONS may take back the heap's sizes and what is off for modules. A wrapper script may
# put more before SCRIPT.
#
# Names begin with `_pl_`: a function's variable of the same name would get these values.
_pl_node=$1
shift
# 5 % of the function's memory for each half of the young generation, 90 % for the old one: what V8 does not
# count, such as buffers, has little. A function that sets one of them leaves the other to V8.
_pl_young=$((AWS_LAMBDA_FUNCTION_MEMORY_SIZE / 10))
case $NODE_OPTIONS in
*max[-_]semi[-_]space[-_]size* | *max[-_]old[-_]space[-_]size*) ;;
*)
    set -- "--max-semi-space-size=$((_pl_young / 2))" \
        "--max-old-space-size=$((AWS_LAMBDA_FUNCTION_MEMORY_SIZE - _pl_young))" "$@"
    ;;
esac
case $NODE_OPTIONS in *--experimental-require-module*) ;; *) set -- --no-experimental-require-module "$@" ;; esac
case $NODE_OPTIONS in *--experimental-detect-module*) ;; *) set -- --no-experimental-detect-module "$@" ;; esac
# The shell's own.
unset PWD
exec "$_pl_node" --expose-gc --max-http-header-size 81920 "$@"
