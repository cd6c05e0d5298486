"""A program that cannot be executed is `Runtime.InvalidEntrypoint`, with the kernel's reason."""

import os
import platform
import re
import struct
import tempfile
from pathlib import Path

import pytest

from tests.faithful.served import bootstrap
from tests.harness.endpoint import only_local
from tests.harness.patience import LONGER, until

CODE = Path(tempfile.mkdtemp(prefix="entrypoints-"))
LOADER = re.compile(rb"/lib[^\0]*/ld-linux[^\0]*")


def folder(name, files):
    """Files by name: content and mode; a mode of None makes a folder."""
    made = CODE / name
    made.mkdir()
    for file, (content, mode) in files.items():
        path = made / file
        if mode is None:
            path.mkdir()
            continue
        path.write_bytes(content)
        path.chmod(mode)
    return {"runtime": "custom", "timeout": LONGER, "code": {"path": str(made)}}


def foreign():
    """The head of a program of another architecture."""
    machine = 183 if platform.machine() == "x86_64" else 62
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    return head + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400000, 64, 0, 0, 64, 56, 1, 0, 0, 0)


def without_loader():
    """A program of this machine whose loader does not exist."""
    program = Path("/bin/true").read_bytes()
    loader = LOADER.search(program)[0]
    return program.replace(loader, b"/nowhere/".ljust(len(loader), b"x"))


FORMAT, MISSING = "exec format error", "no such file or directory"
# The program, its mode, and the kernel's reason.
BROKEN = {
    "foreign": (foreign(), 0o755, FORMAT),
    "no-interpreter-named": (b"echo hello\n", 0o755, FORMAT),
    "empty": (b"", 0o755, FORMAT),
    "interpreter-is-nowhere": (b"#!/usr/bin/nonexistent\necho hello\n", 0o755, MISSING),
    "lines-of-windows": (b"#!/bin/sh\r\necho hello\r\n", 0o755, MISSING),
    "loader-is-nowhere": (without_loader(), 0o755, MISSING),
    "not-executable": (b"#!/bin/sh\necho hello\n", 0o644, "permission denied"),
}
ABSENT = {
    "is-a-folder": {"bootstrap": (b"", None), "handler": (b"#!/bin/sh\n", 0o755)},
    "is-not-there": {"handler": (b"#!/bin/sh\n", 0o755)},
}

LOOP = """
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while true; do
  event=$(curl -sS -D head "$api/next")
  id=$(grep -i ^lambda-runtime-aws-request-id head | tr -d '\\r' | cut -d ' ' -f 2)
  curl -sS "$api/$id/response" -d "$(answer "$event")"
done
"""
# Features that bash has and dash lacks. `sh` is bash on the original platform.
PIPES = 'set -euo pipefail; cd "$(mktemp -d)"\n'
BY_SH = {
    "pipefail": "#!/bin/sh\n" + PIPES + 'answer() { echo "$1" | grep -c a; }\n' + LOOP,
    "options": "#!/bin/sh -e\n" + PIPES + "answer() { [[ $1 == *a* ]] && echo true; }\n" + LOOP,
    "by-env": "#!/usr/bin/env sh\n" + PIPES + "answer() { local -a all=(1 2); echo ${#all[@]}; }\n" + LOOP,
    "sourced": "#! /bin/sh\nsource ./part.sh\n" + PIPES + 'answer() { echo "$part"; }\n' + LOOP,
}
ANSWERS = {"pipefail": 1, "options": True, "by-env": 2, "sourced": "sourced"}

FUNCTIONS = {
    **{
        f"entry-{name}": folder(name, {"bootstrap": (text, mode)}) for name, (text, mode, _) in BROKEN.items()
    },
    **{f"entry-{name}": folder(name, files) for name, files in ABSENT.items()},
    **{f"entry-sh-{name}": bootstrap(source) for name, source in BY_SH.items()},
}
FUNCTIONS["entry-sh-sourced"]["code"]["inline"]["part.sh"] = "part='\"sourced\"'\n"


def failed_to_start(answer):
    """Checks the error's form, which is the original platform's. Returns the reason in it."""
    assert answer["FunctionError"] == "Unhandled"
    body = answer["Body"]
    assert body["errorType"] == "Runtime.InvalidEntrypoint"
    before = f"RequestId: {answer['RequestId']} Error: "
    assert body["errorMessage"].startswith(before)
    log = answer["Log"]
    assert body["errorMessage"] in log
    assert re.search(r"^REPORT .*\tStatus: error\tError Type: Runtime\.InvalidEntrypoint", log, re.MULTILINE)
    return body["errorMessage"].removeprefix(before)


@pytest.mark.parametrize("name", BROKEN)
def test_a_program_that_cannot_be_executed_fails_each_call_with_the_reason(served, name):
    for _ in range(2):
        reason = failed_to_start(served.invoke(f"entry-{name}", LogType="Tail"))
        assert re.fullmatch(rf"fork/exec /\S*/bootstrap: {BROKEN[name][2]}", reason)


@pytest.mark.parametrize("name", ABSENT)
def test_code_without_a_bootstrap_fails_each_call_and_names_the_paths_that_were_tried(served, name):
    for _ in range(2):
        reason = failed_to_start(served.invoke(f"entry-{name}", LogType="Tail"))
        assert re.fullmatch(r"Couldn't find valid bootstrap\(s\): \[/\S*/bootstrap.*\]", reason)


@only_local("the lines of pods are with the pods")
def test_the_log_says_that_init_failed_and_what_to_do(served):
    failed_to_start(served.invoke("entry-not-executable", LogType="Tail"))
    init = r"INIT_REPORT Init Duration: \S+ ms\tPhase: init\tStatus: error\tError Type: Runtime.InvalidEntrypoint"
    logs = until(
        lambda: (logs := served.logs("entry-not-executable")) and re.search(init, logs) and logs,
        lambda: served.logs("entry-not-executable"),
    )
    assert "chmod +x" in logs


@pytest.mark.parametrize("name", BY_SH)
def test_a_script_for_sh_has_what_bash_has(served, name):
    assert served.answer(f"entry-sh-{name}", {"a": 1}) == ANSWERS[name]
    assert served.answer(f"entry-sh-{name}", {"a": 2}) == ANSWERS[name]


def teardown_module():
    for path in sorted(CODE.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    os.rmdir(CODE)
