#!/bin/sh -e
# Becomes the function's Java process: start.sh RUNTIME JAVA HANDLER [LAYERS [OPTION...]]. Functions and
# archive.sh start Java by this alone, since the archive fits one class path, by its names and their order.
#
# The class path has the client and nothing of the function's: the client's own class loader has that, below
# this one, as on the original platform. It looks for layers in /opt; LAYERS is where they are instead.
#
# Names begin with `_pl_`, because an assignment changes a function's variable of the same name.
_pl_runtime=$1 _pl_java=$2 _pl_handler=$3 _pl_layers=$4
shift "$(($# < 4 ? $# : 4))"
_pl_client=com.amazonaws.services.lambda.runtime.api.client _pl_classes=
for _pl_jar in "$_pl_runtime"/lib/*.jar; do
    _pl_classes=${_pl_classes:+$_pl_classes:}$_pl_jar
done
# As the original platform, but Java itself needs its 64 MiB too.
_pl_memory=$AWS_LAMBDA_FUNCTION_MEMORY_SIZE
_pl_heap=$((_pl_memory * 85 / 100))
[ "$_pl_heap" -gt $((_pl_memory - 64)) ] && _pl_heap=$((_pl_memory - 64))
# The client would unpack its native part into one file of /tmp, under the feet of the instance beside it.
set -- "-D$_pl_client.runtimeapi.NativeClient.JNI=$_pl_runtime/libaws-lambda-jni.so" "$@"
[ -e "$_pl_runtime/client.jsa" ] && set -- "-XX:SharedArchiveFile=$_pl_runtime/client.jsa" "$@"
# An instance lives for short and has little memory: one collector thread, no second compiler. Figures for
# tools that none has there would wake the machine 20 times a second. The command line wins over
# JAVA_TOOL_OPTIONS, and two collectors are an error: what the function chooses there is left out.
_pl_own=" $JAVA_TOOL_OPTIONS $JDK_JAVA_OPTIONS "
case $_pl_own in *" -Xmx"* | *MaxHeapSize* | *MaxRAM*) ;; *) set -- "-Xmx${_pl_heap}m" "$@" ;; esac
case $_pl_own in *"-XX:+Use"*"GC "*) ;; *) set -- -XX:+UseSerialGC "$@" ;; esac
case $_pl_own in *Tiered*) ;; *) set -- -XX:TieredStopAtLevel=1 "$@" ;; esac
case $_pl_own in *UsePerfData*) ;; *) set -- -XX:-UsePerfData "$@" ;; esac
case $_pl_own in *" -Xshare:"*) ;; *) set -- -Xshare:auto "$@" ;; esac
set -- "$_pl_java" "$@" -classpath "$_pl_classes${_pl_layers:+:$_pl_layers/java/lib/*}" \
    "$_pl_client.AWSLambda" "$_pl_handler"
# The function's wrapper script: words and statuses are those of operator/core/src/launch.rs.
if [ -n "$AWS_LAMBDA_EXEC_WRAPPER" ]; then
    [ -f "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: does not exist" >&2; exit 127; }
    [ -x "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: is not an executable" >&2; exit 126; }
    set -- "$AWS_LAMBDA_EXEC_WRAPPER" "$@"
fi
# The shell has set it; a function does not have it otherwise.
unset PWD
exec "$@"
