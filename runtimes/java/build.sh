#!/bin/sh -e
# Compiles a function: build.sh CODE FOLDER RUNTIME JAVAC MVN. With a pom.xml Maven does, and classes
# and lib/*.jar lie as in an archive for the original platform; without, javac alone.
code=$1 out=$2 runtime=$3 javac=$4 mvn=$5
if [ -e "$code/pom.xml" ]; then
    # Maven writes beside the sources.
    work=$out/.work
    mkdir "$work"
    cp -R "$code/." "$work"
    rm -rf "$work/target"
    "$mvn" --quiet --batch-mode --file "$work/pom.xml" -DskipTests package \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out/lib"
    cp -R "$work/target/classes/." "$out"
    rm -rf "$work"
else
    cp -R "$code/." "$out"
    "$javac" -encoding UTF-8 -cp "$runtime/lib/*:$code/lib/*" -d "$out" "$code"/*.java
fi
