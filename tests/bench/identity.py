"""Counts what identity costs each end of a connection between a gateway and an instance: docs/benchmarks-identity.md.

    make show-identity

`operator/net/examples/identity.rs` is both ends, optimised, each in a process under callgrind, which counts
instructions. The difference of two runs with different numbers of calls, or of connections, is the cost of one.
Instructions are the same on each run of the same program, so no other load disturbs them. Nothing is asserted.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from tests.harness.commit import commit
from tests.harness.paths import REPOSITORY
from tests.harness.patience import until

PROGRAM = REPOSITORY / "target/release/examples/identity"
# (connections, calls on each): the differences are a call, a connection whose session is new, and one that resumes it.
FEW_CALLS, MANY_CALLS, MANY_CONNECTIONS = (1, 100), (1, 1100), (51, 1)
FEW_CONNECTIONS = (1, 1)
ENDS = ("gateway", "instance")


def main():
    command = ["cargo", "build", "--release", "--package=pilotlight-net", "--example=identity"]
    subprocess.run(command, check=True, cwd=REPOSITORY)
    runs = (FEW_CONNECTIONS, FEW_CALLS, MANY_CALLS, MANY_CONNECTIONS)
    counts = {(tls, run): counted(*run, tls) for tls in (False, True) for run in runs}
    print(f"Commit {commit()}. Instructions, in thousands.\n")
    print("| end | what | without TLS | with TLS | difference |")
    print("|---|---|--:|--:|--:|")
    for place, end in enumerate(ENDS):

        def cost(fewer, more, tls, end=place):
            steps = max(more[0] - fewer[0], more[1] - fewer[1])
            return (counts[tls, more][end] - counts[tls, fewer][end]) / steps / 1000

        row(end, "a call", *(cost(FEW_CALLS, MANY_CALLS, tls) for tls in (False, True)))
        resumed = [cost(FEW_CONNECTIONS, MANY_CONNECTIONS, tls) for tls in (False, True)]
        row(end, "a connection that resumes a session, with a call", *resumed)
        first = [counts[tls, FEW_CONNECTIONS][place] / 1000 for tls in (False, True)]
        row(end, "the whole process, with its first connection and a call", *first)


def row(end, what, plain, secure):
    print(f"| {end} | {what} | {plain:.1f} | {secure:.1f} | {secure - plain:.1f} |")


def counted(connections, calls, tls):
    """The instructions of each end, by the order of ENDS."""
    options = ["--tls"] if tls else []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        serving = subprocess.Popen(callgrind(folder / "instance", "serve", folder, connections, *options))
        address = folder / "address"
        until(lambda: address.exists() and address.read_text(), lambda: serving.poll())
        words = ("call", folder, address.read_text(), connections, calls, *options)
        subprocess.run(callgrind(folder / "gateway", *words), check=True)
        assert serving.wait() == 0
        return [instructions(folder / end) for end in ENDS]


def callgrind(out, *words):
    options = ["--tool=callgrind", "--quiet", f"--callgrind-out-file={out}"]
    return ["valgrind", *options, PROGRAM, *(str(word) for word in words)]


def instructions(out):
    return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)[1])


if __name__ == "__main__":
    os.environ.setdefault("RUST_BACKTRACE", "1")
    main()
