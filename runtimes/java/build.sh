#!/bin/sh -e
# Builds a function from a folder: build.sh CODE FOLDER RUNTIME JAVAC MVN HANDLER.
#
#   pom.xml       Maven builds it, unless target/ has a jar with all libraries that is newer than the sources
#   *.java        javac compiles them
#   build.gradle  the function is the jar that Gradle made in build/libs/
#   else          the function is the classes and lib/*.jar, or one jar here, in libs/, target/ or build/libs/
#
# A jar is unpacked, as on the original platform, so that the classes lie at the top.
code=$1 out=$2 runtime=$3 javac=$4 mvn=$5 handler=$6
jar=$(dirname "$(readlink -f "$(command -v "$javac")")")/jar

fail() {
    echo "$*" >&2
    exit 1
}

# Sets `package` to the only jar in folder $1, or to the only one whose name says that it has all libraries.
# Otherwise sets `several` to the names of the jars.
look() {
    package='' several='' whole='' wholes=0
    for one in "$1"/*.jar; do
        [ -f "$one" ] || continue
        case ${one##*/} in
        original-* | *-sources.jar | *-javadoc.jar | *-plain.jar | *-tests.jar | *-test-fixtures.jar) continue ;;
        *-all.jar | *-jar-with-dependencies.jar | *-shaded.jar | *-uber.jar | *-fat.jar | *-aws.jar | *-lambda.jar)
            whole=$one wholes=$((wholes + 1)) ;;
        esac
        package=$one several=${several:+$several, }${one##*/}
    done
    case $several in
    *,*) [ "$wholes" = 1 ] && package=$whole several='' || package='' ;;
    *) several='' ;;
    esac
}

# Like `look`, but fails if there are several.
choose() {
    look "$1"
    [ -z "$several" ] || fail "$1 has several jars ($several): one that holds everything is a package, and \
libraries beside classes lie in lib/. Remove the others or name another folder."
}

unpack() {
    cd "$out"
    "$jar" --extract --file "$1"
    exit 0
}

# Whether jar $1 has classes that folder $2 lacks, such as those of libraries.
holds_more() {
    "$jar" --list --file "$1" | grep '\.class$' | while read -r class; do
        [ -e "$2/$class" ] || echo more
    done | grep -q more
}

if [ -e "$code/pom.xml" ]; then
    look "$code/target"
    if [ -n "$package" ] && holds_more "$package" "$code/target/classes"; then
        newer=$(find "$code" -path "$code/target" -prune -o -type f -newer "$package" \
            \( -name pom.xml -o -path '*/src/*' \) -print | head -n 1)
        [ -n "$newer" ] || unpack "$package"
    fi
    # Maven writes beside the sources.
    work=$out/.work
    mkdir "$work"
    cp -R "$code/." "$work"
    rm -rf "$work/target"
    "$mvn" --quiet --batch-mode --file "$work/pom.xml" -DskipTests package \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out/lib"
    look "$work/target"
    if [ -n "$package" ] && holds_more "$package" "$work/target/classes"; then
        # The jar has the libraries, perhaps under other names, so the copies are not needed.
        rm -rf "$out/lib"
        (unpack "$package")
    else
        cp -R "$work/target/classes/." "$out"
    fi
    rm -rf "$work"
    exit 0
fi
for source in "$code"/*.java; do
    [ -e "$source" ] || break
    cp -R "$code/." "$out"
    "$javac" -encoding UTF-8 -cp "$runtime/lib/*:$code/lib/*" -d "$out" "$code"/*.java
    exit 0
done
if [ -e "$code/build.gradle" ] || [ -e "$code/build.gradle.kts" ]; then
    choose "$code/build/libs"
    [ -z "$package" ] || unpack "$package"
    fail "Gradle is not run here, and build/libs/ has no jar: run its task that makes one jar with all \
libraries, such as \`gradle shadowJar\`."
fi
is_ready=
for one in "$code/$(echo "${handler%%::*}" | tr . /).class" "$code"/lib/*.jar; do
    [ -e "$one" ] && is_ready=1
done
if [ -z "$is_ready" ]; then
    for folder in "$code" "$code/libs" "$code/target" "$code/build/libs"; do
        choose "$folder"
        [ -z "$package" ] || unpack "$package"
    done
fi
cp -R "$code/." "$out"
