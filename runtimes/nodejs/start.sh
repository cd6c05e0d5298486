#!/bin/sh -e
# Becomes a function's Node.js process: start.sh NODE [OPTION...] SCRIPT. Its options are those of the original
# platform, where NODE_OPTIONS may take back the heap's sizes and what is off for modules. A wrapper script sees
# Node.js, its options and SCRIPT, and may put more options before the last.
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
set -- "$_pl_node" --expose-gc --max-http-header-size 81920 "$@"
# The function's wrapper script: words and statuses are those of operator/core/src/launch.rs.
if [ -n "$AWS_LAMBDA_EXEC_WRAPPER" ]; then
    [ -f "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: does not exist" >&2; exit 127; }
    [ -x "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: is not an executable" >&2; exit 126; }
    set -- "$AWS_LAMBDA_EXEC_WRAPPER" "$@"
fi
# The shell's own.
unset PWD
exec "$@"
