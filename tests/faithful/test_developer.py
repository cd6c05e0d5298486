"""Attacks of a web page in a developer's browser, and of a function's output on the developer's terminal, which fail.

A page may send a request of a simple kind to any address, and with a name that it points at the machine (DNS
rebinding) it reads the answer as well.
"""

import errno
import json
import os
import pty
import subprocess
import urllib.error
import urllib.request
import uuid

import pytest

from tests.faithful.served import python
from tests.harness.endpoint import only_local
from tests.harness.paths import PILOTLIGHT
from tests.harness.patience import PATIENCE
from tests.harness.stalls import path_of

pytestmark = only_local("it is about `pilotlight local` and its command line")

# Sets the terminal's title, and clears the screen.
ESCAPES = "\x1b]0;owned\x07\x1b[2J"
MARKS = """
def lambda_handler(event, context):
    if event.get("file"):
        open(event["file"], "w").close()
    return "ran"
"""
PRINTS = f"def lambda_handler(event, context):\n    print({ESCAPES!r} + 'printed')\n    return {ESCAPES!r}\n"

FUNCTIONS = {
    "marks": python(MARKS, environment={"SECRET": "hunter2"}),
    "prints": python(PRINTS),
}


def asked(served, path, body, **headers):
    """The status and the body of an answer."""
    request = urllib.request.Request(f"{served.endpoint}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "rebound.example"}, 403),
        ({}, 200),
    ],
)
def test_a_web_page_runs_no_function_and_reads_nothing(served, tmp_path, headers, status):
    file = tmp_path / "ran"
    # A form or a script without preflight sends this type.
    headers = {"Content-Type": "text/plain", **headers}
    event = json.dumps({"file": str(file)}).encode()
    assert asked(served, path_of("marks"), event, **headers)[0] == status
    assert file.exists() == (status == 200)
    for path, told in (
        ("/2015-03-31/functions/marks/configuration", "hunter2"),
        ("/pilotlight/v1/functions/marks/logs", "platform"),
    ):
        # The log has something to tell.
        served.answer("marks", {"file": str(tmp_path / uuid.uuid4().hex)})
        found = asked(served, path, None, **headers)
        assert found[0] == status and (told in found[1]) == (status == 200), found


def shown(*words):
    """The bytes that a command of `pilotlight` writes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([PILOTLIGHT, *words], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        # The kernel reports the end of the last writer as an error.
        try:
            while piece := os.read(ours, 65536):
                written += piece
        except OSError as error:
            assert error.errno == errno.EIO, error
        os.close(ours)
    assert process.returncode == 0, written
    return written


@pytest.mark.parametrize(
    "words", [("logs", "prints"), ("invoke", "prints", "--payload", "{}", "--tail")], ids=["logs", "invoke"]
)
def test_the_output_of_a_function_does_not_control_the_terminal(served, words):
    served.answer("prints")
    written = shown(*words, "--endpoint", served.endpoint)
    assert b"printed" in written, written
    for control in (b"\x1b]", b"\x07", b"\x1b[2J"):
        assert control not in written, written
