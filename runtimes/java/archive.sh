#!/bin/sh -e
# Makes RUNTIME/client.jsa, an archive of the client's classes that Java maps into memory, from a run of the
# client against Rehearsal.java: archive.sh RUNTIME JAVA JAVAC [ROOT]. An existing archive that Java accepts is
# kept. Java accepts it only if the same Java made it and the jars have the same paths, so it is made at its final
# place. For an image in the folder ROOT, the image's Java makes it.
runtime=$1 java=$2 javac=$3 root=$4
export LC_ALL=C.UTF-8 AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512 AWS_LAMBDA_FUNCTION_NAME=rehearsal \
    AWS_LAMBDA_FUNCTION_VERSION=1 AWS_LAMBDA_LOG_GROUP_NAME=none AWS_LAMBDA_LOG_STREAM_NAME=none
unset CLASSPATH JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS _JAVA_OPTIONS

# Starts Java with the client, in the folder with the handler's classes.
start() {
    set -- sh -e "$runtime/start.sh" "$runtime" "$java" 'Rehearsal$Handler' "" "$@"
    if [ -z "$root" ]; then
        (cd "$work" && exec "$@")
        return
    fi
    # Without /proc Java does not find its own libraries.
    home=$(dirname "$(dirname "$(chroot "$root" readlink -f "$java")")")
    chroot "$root" env -C "${work#"$root"}" "LD_LIBRARY_PATH=$home/lib:$home/lib/server:$home/lib/jli" "$@"
}

work=$(mktemp -d "$root/tmp/archive.XXXXXX")
api=
trap 'rm -rf "$work"; [ -z "$api" ] || kill "$api" 2>/dev/null || :' EXIT
if [ -e "$root$runtime/client.jsa" ] && start -Xshare:on -version >"$work/log" 2>&1; then
    exit
fi
javac=$(readlink -f "$(command -v "$javac")")
"$javac" -encoding UTF-8 -cp "$root$runtime/lib/*" -d "$work" "$root$runtime/Rehearsal.java"
mkfifo "$work/address"
"$(dirname "$javac")/java" -cp "$work" Rehearsal >"$work/address" &
api=$!
read -r AWS_LAMBDA_RUNTIME_API <"$work/address"
export AWS_LAMBDA_RUNTIME_API
rm -f "$root$runtime/client.jsa"
if ! start "-XX:ArchiveClassesAtExit=${work#"$root"}/client.jsa" >"$work/log" 2>&1; then
    cat "$work/log" >&2
    exit 1
fi
chmod 644 "$work/client.jsa"
mv "$work/client.jsa" "$root$runtime/client.jsa"
