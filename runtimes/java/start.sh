#!/bin/sh -e
# Becomes the function's Java process: start.sh RUNTIME JAVA HANDLER [LAYERS [OPTION...]]. Functions and
# archive.sh start Java by this alone, since the archive fits one class path, by its names and their order.
#
# The class path has the client and nothing of the function's: the client's own class loader has that, below
# this one, as on the original platform. It looks for layers in /opt; LAYERS is where they are instead.
runtime=$1 java=$2 handler=$3 layers=$4
shift "$(($# < 4 ? $# : 4))"
client=com.amazonaws.services.lambda.runtime.api.client classes=
for jar in "$runtime"/lib/*.jar; do
    classes=${classes:+$classes:}$jar
done
# As the original platform, but Java itself needs its 64 MiB too.
memory=$AWS_LAMBDA_FUNCTION_MEMORY_SIZE
heap=$((memory * 85 / 100))
[ "$heap" -gt $((memory - 64)) ] && heap=$((memory - 64))
# An instance lives for short and has little memory: one collector thread, no second compiler. The client
# would unpack its native part into one file of /tmp, under the feet of the instance beside it. Figures for
# tools that none has there would wake the machine 20 times a second.
[ -e "$runtime/client.jsa" ] && set -- "-XX:SharedArchiveFile=$runtime/client.jsa" "$@"
# The shell's own.
unset PWD
exec "$java" "-Xmx${heap}m" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xshare:auto \
    "-D$client.runtimeapi.NativeClient.JNI=$runtime/libaws-lambda-jni.so" \
    -classpath "$classes${layers:+:$layers/java/lib/*}" "$@" "$client.AWSLambda" "$handler"
