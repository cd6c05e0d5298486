#!/bin/sh -e
# Compiles waiting.c: waiting.sh FILE JAVAC.
out=$1 javac=$2
include=$(dirname "$(dirname "$(readlink -f "$(command -v "$javac")")")")/include
exec gcc -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC "-I$include" "-I$include/linux" -o "$out" \
    "$(dirname "$0")/waiting.c"
