#!/bin/sh -e
# Puts the vendor's client into a folder: client.sh FOLDER JAVAC MVN. The jars are in lib; the native library for
# this machine lies beside lib.
out=$1 javac=$2 mvn=$3
"$mvn" --quiet --batch-mode --file "$out/client.xml" dependency:copy-dependencies "-DoutputDirectory=$out/lib"
# Java rejects its archive of classes (archive.sh) if the time of a jar has changed, so all jars get a fixed time.
touch -d @0 "$out"/lib/*.jar
case $(uname -m) in
aarch64 | arm64) machine=aarch_64 ;;
*) machine=x86_64 ;;
esac
native=jni/libaws-lambda-jni.linux-$machine.so
cd "$out"
"$(dirname "$(readlink -f "$(command -v "$javac")")")/jar" --extract --file lib/aws-lambda-java-runtime-interface-client-*.jar "$native"
mv "$native" libaws-lambda-jni.so
rmdir jni
