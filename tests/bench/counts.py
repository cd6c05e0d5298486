"""Allocations and system calls of a warm call, counted in the gateway and in the supervisor of each build.

    python -m tests.bench.counts BUILD [BUILD ...] [--calls 4000]

A BUILD is a folder with `pilotlight` and `pilotlight-supervisor`, both optimised. Each serves one function, a
program in Rust, to one client with one connection, which sends one call after the other. `allocations.c`,
preloaded, counts allocations in one run of the calls; strace counts system calls in the next one. A count that
does not depend on the calls, such as a timer's, is in the figures too. Nothing is asserted.
"""

import argparse
import http.client
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.bench.builds import function, name_of
from tests.harness.local_server import LocalServer, children_of
from tests.harness.manifests import as_yaml
from tests.harness.paths import REPOSITORY
from tests.harness.patience import until

RUNTIME = "custom"
PATH = f"/2015-03-31/functions/{name_of(RUNTIME)}/invocations"
EVENT = json.dumps({"answer": 7})
# The programs whose counts are of interest, by the order in which a call reaches them.
PROGRAMS = ("gateway", "supervisor")
# A row of the table that strace prints: how many calls of which system call.
STRACE_ROW = re.compile(r"^\s*(\d+)\s+(\w+)\s*$", re.MULTILINE)
# Rarer system calls are summed up in one column.
RARE = 0.05


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("builds", type=Path, nargs="+")
    parser.add_argument("--calls", type=int, default=4000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        library = folder / "allocations.so"
        source = REPOSITORY / "tests/bench/allocations.c"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        manifest = folder / "functions.yaml"
        manifest.write_text(as_yaml([function(RUNTIME)]))
        print("| build | program | allocations | system calls | of these |")
        print("|---|---|--:|--:|---|")
        for number, build in enumerate(options.builds):
            programs = preloading(folder / str(number), build, library)
            environment = os.environ | {
                name: str(value) for name, value in preloaded(programs, library).items()
            }
            server = LocalServer(
                manifest, program=programs / "pilotlight", environment=environment, has_status=False
            )
            try:
                rows = count(build, server, programs / "counts", options.calls)
            finally:
                server.stop()
            for row in rows:
                print(row, flush=True)


def preloading(folder, build, library):
    """A folder with the build's programs, of which the supervisor starts with the counting library."""
    counts = folder / "counts"
    counts.mkdir(parents=True)
    # A copy, as the gateway looks for the supervisor beside its own program.
    shutil.copy(build / "pilotlight", folder)
    supervisor = folder / "pilotlight-supervisor"
    program = (build / "pilotlight-supervisor").resolve()
    variables = "".join(f'{name}="{value}" ' for name, value in preloaded(folder, library).items())
    # The gateway starts it with an environment of its own making.
    supervisor.write_text(f'#!/bin/sh\nexec env {variables}"{program}" "$@"\n')
    supervisor.chmod(0o755)
    return folder


def preloaded(folder, library):
    return {"COUNTS": folder / "counts", "LD_PRELOAD": library}


def count(build, server, counts, calls):
    """The rows of one build."""
    client = http.client.HTTPConnection(server.endpoint.removeprefix("http://"))
    # The instance is up, and all buffers have grown.
    call(client, calls)
    gateway = server.process.pid
    pids = (gateway, only(children_of(gateway)))
    files = [counts / str(pid) for pid in pids]
    before = [read(file) for file in files]
    call(client, calls)
    allocated = [(read(file) - was) / calls for file, was in zip(files, before, strict=True)]
    return [
        row(build, program, allocations, system_calls(pid, client, calls))
        for program, pid, allocations in zip(PROGRAMS, pids, allocated, strict=True)
    ]


def only(pids):
    (pid,) = pids
    return pid


def call(client, calls):
    for _ in range(calls):
        client.request("POST", PATH, body=EVENT)
        answer = client.getresponse()
        body = answer.read()
        assert (answer.status, "X-Amz-Function-Error" in answer.headers) == (200, False), body


def read(file):
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 8, prot=mmap.PROT_READ) as words:
        return int.from_bytes(words[:8], sys.byteorder)


def system_calls(pid, client, calls):
    """System calls of the process by their names, for each of the calls."""
    with tempfile.NamedTemporaryFile() as table:
        tracer = subprocess.Popen(
            ["strace", "-c", "-f", "-U", "calls,name", "-o", table.name] + ["-p", str(pid)],
            stderr=subprocess.PIPE,
            text=True,
        )
        said = []
        reader = threading.Thread(target=lambda: said.extend(tracer.stderr), daemon=True)
        reader.start()
        until(lambda: is_traced(pid) or tracer.poll() is not None, lambda: "".join(said))
        assert tracer.poll() is None, "".join(said)
        call(client, calls)
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        found = STRACE_ROW.findall(Path(table.name).read_text())
    return {name: int(number) / calls for number, name in found if name != "total"}


def is_traced(pid):
    """A tracer has taken every thread of the process."""
    tasks = [Path(task, "status") for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(re.search(r"^TracerPid:\t[1-9]", task.read_text(), re.MULTILINE) for task in tasks)


def row(build, program, allocations, found):
    often = sorted((name for name in found if found[name] >= RARE), key=lambda name: -found[name])
    listed = ", ".join(f"{name} {found[name]:.2f}" for name in often)
    total = sum(found.values())
    return f"| {os.path.relpath(build)} | {program} | {allocations:.1f} | {total:.1f} | {listed} |"


if __name__ == "__main__":
    main()
