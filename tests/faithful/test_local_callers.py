"""Local mode that asks its callers who they are: SDKs sign with the key that it prints, the command line shows a token."""

import json
import os
import subprocess

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.harness.endpoint import only_local
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, function
from tests.harness.paths import PILOTLIGHT
from tests.harness.patience import PATIENCE

pytestmark = only_local("it is about `pilotlight local`")

KEY = r"AWS_ACCESS_KEY_ID=(\S+) AWS_SECRET_ACCESS_KEY=(\S+) PILOTLIGHT_TOKEN=(\S+)"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    manifest = tmp_path_factory.mktemp("functions") / "function.yaml"
    echo = function("echo", "def lambda_handler(event, context):\n    return event\n")
    manifest.write_text(as_yaml([echo]))
    server = LocalServer(manifest, arguments=["--auth=required"])
    yield server
    server.stop()


def client(server, key_id, secret):
    config = Config(retries={"max_attempts": 0}, read_timeout=PATIENCE)
    keys = {"aws_access_key_id": key_id, "aws_secret_access_key": secret}
    return boto3.client(
        "lambda", endpoint_url=server.endpoint, region_name="us-east-1", config=config, **keys
    )


def command(server, *words, **environment):
    return subprocess.run(
        [PILOTLIGHT, *words, f"--endpoint={server.endpoint}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_an_sdk_signs_with_the_key_that_was_printed(server):
    key_id, secret, _ = server.wait_for_line(KEY).groups()
    for event in ({"a": 1}, {"text": "ünï" * 10_000}):
        answer = client(server, key_id, secret).invoke(FunctionName="echo", Payload=json.dumps(event))
        assert json.load(answer["Payload"]) == event
    for keys, code in [
        ((key_id, "wrong"), "InvalidSignatureException"),
        (("test", "test"), "UnrecognizedClientException"),
    ]:
        with pytest.raises(ClientError) as refused:
            client(server, *keys).invoke(FunctionName="echo")
        assert refused.value.response["Error"]["Code"] == code


def test_the_command_line_shows_the_token_that_was_printed(server):
    *_, token = server.wait_for_line(KEY).groups()
    done = command(server, "invoke", "echo", "--payload", '"hi"', PILOTLIGHT_TOKEN=token)
    assert (done.returncode, done.stdout) == (0, '"hi"'), done
    done = command(server, "invoke", "echo")
    assert done.returncode == 2 and "--token" in done.stderr, done
