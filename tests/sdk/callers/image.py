#!/usr/bin/env python3
"""Builds the clients and packs them into one image, target/sdk/callers/callers.tar.

    python -m tests.sdk.callers.image

Needs the registries of Python, npm, Go, crates.io and Maven. `make show-callers` runs it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.harness.paths import IMAGE_BUILD, REPOSITORY
from tests.sdk.callers.pods import ARCHIVE, BUILT, CLIENTS, FOLDER, HERE, IMAGE

REQUIREMENTS = REPOSITORY / "tests/requirements.txt"
PACKER = REPOSITORY / "tests/cluster/image"
NODE = REPOSITORY / "tests/sdk/node"
# What the SDK for Java asks of the Java platform, as `jdeps` lists it, and elliptic curves for TLS.
MODULES = "java.base,java.logging,java.naming,java.xml,java.management,java.security.jgss,jdk.crypto.ec,jdk.net,jdk.unsupported"


def run(*words, **options):
    subprocess.run([str(word) for word in words], check=True, **options)


def main():
    BUILT.mkdir(parents=True, exist_ok=True)
    copied()
    python()
    javascript()
    run("go", "build", "-o", BUILT / "go", "./caller", cwd=REPOSITORY / "tests/sdk/signatures/go")
    rust()
    java()
    run(sys.executable, IMAGE_BUILD, "roots", "python3.11")
    [root] = (REPOSITORY / "target/images/roots").glob("python3.11-*")
    layer = BUILT.parent / "layer"
    shutil.rmtree(layer, ignore_errors=True)
    place = layer / FOLDER.lstrip("/")
    place.mkdir(parents=True)
    for part in BUILT.iterdir():
        # Links instead of copies: the packer reads the files.
        run("cp", "--archive", "--link", part, place)
    ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
    run(PACKER, "--tag", IMAGE, "--layer", root, "--layer", layer, "--user", "1000", ARCHIVE)
    print(ARCHIVE.relative_to(REPOSITORY))


def copied():
    shutil.rmtree(BUILT / "clients", ignore_errors=True)
    shutil.copytree(CLIENTS, BUILT / "clients")


def python():
    """boto3 and AWS's command line, in the versions that the suites use."""
    words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--no-compile"]
    named = [line for line in REQUIREMENTS.read_text().splitlines() if line.startswith(("boto3=", "awscli="))]
    run(sys.executable, *words, "--target", BUILT / "python", *named)


def javascript():
    run("make", "--silent", "-C", REPOSITORY, "tests/sdk/node/node_modules/.package-lock.json")
    shutil.rmtree(BUILT / "node", ignore_errors=True)
    (BUILT / "node").mkdir()
    shutil.copytree(NODE / "node_modules", BUILT / "node/node_modules", symlinks=True)
    program = Path(shutil.which("node")).resolve()
    shutil.copy(program, BUILT / "node/node")


def rust():
    target = REPOSITORY / "target/sdk/rust"
    run("cargo", "build", "--quiet", "--locked", "--target-dir", target, cwd=HERE / "rust")
    run("strip", "-o", BUILT / "rust", target / "debug/pilotlight-caller")


def java():
    """The jars, the class, and as much of the Java platform as they need."""
    made = BUILT / "java"
    shutil.rmtree(made, ignore_errors=True)
    fetch = [
        "mvn",
        "--quiet",
        "--batch-mode",
        "--file",
        HERE / "java/pom.xml",
        "dependency:copy-dependencies",
    ]
    run(*fetch, f"-DoutputDirectory={made}/jars")
    run("javac", "-cp", f"{made}/jars/*", "-d", made / "classes", HERE / "java/src/Caller.java")
    run("jlink", "--add-modules", MODULES, "--strip-debug", "--output", made / "platform")


if __name__ == "__main__":
    main()
