"""The AWS CLI, and the SDKs for JavaScript and Go: unmodified, with a key and with a role."""

import os
import subprocess

import pytest

from tests.harness.paths import REPOSITORY

HERE = REPOSITORY / "tests/sdk/signatures"
ARNS = {
    "access-key": "arn:aws:iam::000000000000:user/shop/caller",
    "session": "arn:aws:sts::000000000000:assumed-role/shop/caller/test",
}


@pytest.fixture(scope="session")
def programs():
    """The command of each client."""
    go = REPOSITORY / "target/sdk/go-client"
    subprocess.run(["go", "build", "-o", go, "."], cwd=HERE / "go", check=True)
    return {
        "JavaScript": ["node", HERE / "client.mjs"],
        "CLI": ["sh", HERE / "client.sh", REPOSITORY / "target/venv/bin/aws"],
        "Go": [go],
    }


@pytest.mark.parametrize("name", ["JavaScript", "CLI", "Go"])
@pytest.mark.parametrize("credential", ["access-key", "session"])
def test_an_sdk_proves_who_calls(request, judged, programs, name, credential):
    variables = request.getfixturevalue("with_key" if credential == "access-key" else "with_role")
    # Nothing else of this process: the proxies and keys of a developer's shell are not meant.
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(programs[name], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The client of the JavaScript suite is that of Lambda alone.
    assert name == "JavaScript" or ARNS[credential] in done.stdout
    assert done.stdout.count("world") == 2
    calls = [answer for answer in judged.answers if "xml" not in answer]
    assert [answer.get("credential") for answer in calls] == [credential] * 2, judged.answers
