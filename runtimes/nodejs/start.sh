#!/bin/sh -e
# Becomes a function's Node.js process: start.sh NODE [OPTION...] SCRIPT. Its options are those of the original
# platform; NODE_OPTIONS may override the heap's sizes and the settings for modules. A wrapper script gets Node.js,
# its options and SCRIPT as arguments, and may insert options before the last.
#
# Names begin with `_pl_`, because an assignment changes a function's variable of the same name.
_pl_node=$1
shift
# 5 % of the function's memory for each half of the young generation, 90 % for the old one. Memory that V8 does not
# count, such as buffers, has little room. If the function sets one of the sizes, V8 chooses the other.
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
# Starts the function's wrapper script. Texts and exit statuses are the same as in operator/core/src/launch.rs.
if [ -n "$AWS_LAMBDA_EXEC_WRAPPER" ]; then
    [ -f "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: does not exist" >&2; exit 127; }
    [ -x "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: is not an executable" >&2; exit 126; }
    set -- "$AWS_LAMBDA_EXEC_WRAPPER" "$@"
fi
# The shell has set PWD, and a function must not see it.
unset PWD
exec "$@"
