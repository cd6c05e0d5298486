#!/bin/sh -e
# Becomes the function's Java process: start.sh RUNTIME JAVA HANDLER [LAYERS [OPTION...]]. Both functions and
# archive.sh start Java with this script, because the archive requires the same class path in the same order.
#
# The class path has only the client. The client's own class loader loads the function's classes and asks the class
# path first, as on the original platform. It looks for layers in /opt; LAYERS names another folder.
#
# Names begin with `_pl_`, because an assignment changes a function's variable of the same name.
_pl_runtime=$1 _pl_java=$2 _pl_handler=$3 _pl_layers=$4
shift "$(($# < 4 ? $# : 4))"
_pl_client=com.amazonaws.services.lambda.runtime.api.client _pl_classes=
for _pl_jar in "$_pl_runtime"/lib/*.jar; do
    _pl_classes=${_pl_classes:+$_pl_classes:}$_pl_jar
done
# 85 % as on the original platform, but at least 64 MiB are left for Java itself.
_pl_memory=$AWS_LAMBDA_FUNCTION_MEMORY_SIZE
_pl_heap=$((_pl_memory * 85 / 100))
[ "$_pl_heap" -gt $((_pl_memory - 64)) ] && _pl_heap=$((_pl_memory - 64))
# By default the client unpacks its native library to a fixed file in /tmp, which local instances would share.
set -- "-D$_pl_client.runtimeapi.NativeClient.JNI=$_pl_runtime/libaws-lambda-jni.so" "$@"
[ -e "$_pl_runtime/client.jsa" ] && set -- "-XX:SharedArchiveFile=$_pl_runtime/client.jsa" "$@"
# An instance is short-lived and has little memory, so Java gets one collector thread and only the first compiler.
# UsePerfData would wake Java 20 times a second for tools that an instance does not have. The command line overrides
# JAVA_TOOL_OPTIONS, and two collectors are an error, so the script leaves out options that the function sets there.
_pl_own=" $JAVA_TOOL_OPTIONS $JDK_JAVA_OPTIONS "
case $_pl_own in *" -Xmx"* | *MaxHeapSize* | *MaxRAM*) ;; *) set -- "-Xmx${_pl_heap}m" "$@" ;; esac
case $_pl_own in *"-XX:+Use"*"GC "*) ;; *) set -- -XX:+UseSerialGC "$@" ;; esac
case $_pl_own in *Tiered*) ;; *) set -- -XX:TieredStopAtLevel=1 "$@" ;; esac
case $_pl_own in *UsePerfData*) ;; *) set -- -XX:-UsePerfData "$@" ;; esac
case $_pl_own in *" -Xshare:"*) ;; *) set -- -Xshare:auto "$@" ;; esac
set -- "$_pl_java" "$@" -classpath "$_pl_classes${_pl_layers:+:$_pl_layers/java/lib/*}" \
    "$_pl_client.AWSLambda" "$_pl_handler"
# Starts the function's wrapper script. Texts and exit statuses are the same as in operator/core/src/launch.rs.
if [ -n "$AWS_LAMBDA_EXEC_WRAPPER" ]; then
    [ -f "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: does not exist" >&2; exit 127; }
    [ -x "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: is not an executable" >&2; exit 126; }
    set -- "$AWS_LAMBDA_EXEC_WRAPPER" "$@"
fi
# The shell has set PWD, and a function must not see it.
unset PWD
exec "$@"
