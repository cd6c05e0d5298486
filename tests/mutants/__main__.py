"""Shows that a test fails when its mechanism is taken out: each in-process test of the gateway, and some others.

A mutant is one edit of the sources (`table.py`). Each is made in a copy of the repository below
`target/mutants`, built, and held against the one test that is said to need the mechanism. A mutant that the
test does not notice, that does not compile or whose text has changed is an error. The unchanged copy goes
first: there every test must pass.

    python3 -m tests.mutants                    all of them, about 10 s each
    python3 -m tests.mutants lost shutdown      those whose test or file has one of these words
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
COPY = ROOT / "target/mutants"
# A folder of its own: cargo identifies packages by their path within the repository, and would take a
# mutant for what the repository's own build has made.
CARGO = "cargo test --quiet --locked --all-features --lib --target-dir=target"
# The limits of a test and of a build, in seconds: a build takes minutes on a busy machine.
TEST_LIMIT = 600
BUILD_LIMIT = 3600


def copy() -> None:
    """Makes the copy what the working tree is, and touches only files that differ: cargo goes by times."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        source, target = ROOT / name, COPY / name
        if not source.is_file():
            continue
        content = source.read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(source.stat().st_mode)


def mutated(mutant: Mutant, text: str) -> str:
    found = text.count(mutant.old)
    if found != 1:
        sys.exit(f"{mutant.file} has {found} times, not once: {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)


def cargo(package: str, *arguments: str, limit: int) -> tuple[int | None, str]:
    """Returns the exit code, or None after the limit, and what was printed."""
    running = subprocess.Popen(
        [*CARGO.split(), f"--package={package}", *arguments],
        cwd=COPY,
        env=os.environ | {"RUST_BACKTRACE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test that hangs is a child of cargo's, and ends with the group.
        start_new_session=True,
    )
    try:
        printed, _ = running.communicate(timeout=limit)
        return running.returncode, printed
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        return None, running.communicate()[0]


def failure(package: str, test: str) -> str | None:
    """Runs one test; says how it failed, or None."""
    name = test if "::tests::" in test else f"tests::{test}"
    code, printed = cargo(package, "--", "--exact", name, limit=TEST_LIMIT)
    if code is None:
        return f"it does not end within {TEST_LIMIT} s"
    if code == 0:
        if "1 passed" not in printed:
            sys.exit(f"no test ran for {test}:\n{printed}")
        return None
    said = re.search(r"panicked at .*?:\n(.*?)(?:\nnote:|\n\n)", printed, re.DOTALL)
    return " ".join(said[1].split())[:200] if said else "it failed without a word"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="only mutants whose test or file has one of these words")
    words = parser.parse_args().words
    mutants = [m for m in MUTANTS if not words or any(word in m.test or word in m.file for word in words)]
    for mutant in mutants:
        mutated(mutant, (ROOT / mutant.file).read_text())
    copy()
    for package in sorted({mutant.package for mutant in mutants}):
        code, printed = cargo(package, limit=BUILD_LIMIT)
        if code != 0:
            sys.exit(f"the tests of {package} fail without any mutant:\n{printed}")
    unnoticed = 0
    for mutant in mutants:
        target = COPY / mutant.file
        before = target.read_text()
        try:
            target.write_text(mutated(mutant, before))
            code, printed = cargo(mutant.package, "--no-run", limit=BUILD_LIMIT)
            if code != 0:
                sys.exit(f"the mutant of {mutant.file} does not compile:\n{printed}")
            noticed = failure(mutant.package, mutant.test)
        finally:
            target.write_text(before)
        unnoticed += noticed is None
        print(f"{mutant.test}\n    {mutant.what}: {noticed or 'NOT NOTICED'}", flush=True)
    print(f"{len(mutants) - unnoticed} of {len(mutants)} mutants were noticed")
    sys.exit(1 if unnoticed else 0)


if __name__ == "__main__":
    main()
