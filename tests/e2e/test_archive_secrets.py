"""Archives of servers that want credentials: a Secret has them, for the servers that it lists and no others."""

import base64
import json
from types import SimpleNamespace

import pytest

from tests.e2e.refusal import refusal
from tests.harness import release
from tests.harness.archives import zipped
from tests.harness.kubectl import apply, kubectl
from tests.harness.patience import until
from tests.harness.release import HOST
from tests.harness.state import pods, ready_condition
from tests.harness.web import Web

# Each Secret, by what is special about it. Gateways may read all but the last one.
TOKEN, LOGIN, ELSEWHERE, UNLISTED = "e2e-token", "e2e-login", "e2e-elsewhere", "e2e-unlisted"
READABLE = [TOKEN, LOGIN, ELSEWHERE]
BEARER, PASSWORD = "e2e-bearer-of-archives", "e2e-password-of-archives"

HANDLER = "import shop\ndef lambda_handler(event, context): return shop.WORD"
CODE = zipped({"lambda_function.py": HANDLER, "shop.py": "WORD = 'for holders of a token'"})
LAYERED = zipped({"lambda_function.py": HANDLER})
LAYER = zipped({"python/shop.py": "WORD = 'for users with a password'"})


def secret(name, web, **data):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"hosts": web if isinstance(web, str) else web.at, **data},
    }


def with_secret(code, name):
    return {"archive": {**code["archive"], "secretRef": {"name": name}}}


@pytest.fixture(scope="module")
def servers(installed):
    """A server for the holders of a token, and one for a user with a password."""
    login = base64.b64encode(f"shop:{PASSWORD}".encode()).decode()
    token, login = Web(HOST, f"Bearer {BEARER}"), Web(HOST, f"Basic {login}")
    secrets = [
        secret(TOKEN, token, token=BEARER),
        secret(LOGIN, login, username="shop", password=PASSWORD),
        secret(ELSEWHERE, "http://archives.invalid", token=BEARER),
        secret(UNLISTED, token, token=BEARER),
    ]
    apply(*secrets)
    try:
        release.install(f"--set-json=gateway.fetch.secrets={json.dumps(READABLE)}")
        release.await_replaced()
        yield SimpleNamespace(token=token, login=login)
    finally:
        kubectl("delete", "secret", *(one["metadata"]["name"] for one in secrets))
        release.install()
        for server in (token, login):
            server.close()


def test_a_function_and_its_layers_come_from_servers_that_want_credentials(servers, function, invoke):
    code = with_secret(servers.token.archive("/code.zip", CODE), TOKEN)
    name = function("e2e-token", "", code=code)
    assert invoke(name)["Body"] == "for holders of a token"

    code = with_secret(servers.token.archive("/layered.zip", LAYERED), TOKEN)
    layer = with_secret(servers.login.archive("/layer.zip", LAYER), LOGIN)
    name = function("e2e-login", "", code=code, layers=[layer["archive"]])
    assert invoke(name)["Body"] == "for users with a password"
    # A function that gets another owner meanwhile is fetched by that one too.
    assert set(servers.token.asked) == {"/code.zip", "/layered.zip"}
    assert set(servers.login.asked) == {"/layer.zip"}
    assert servers.token.refused == servers.login.refused == []
    for component in ("gateway", "controller"):
        for value in (BEARER, PASSWORD):
            assert release.logged(component, value) == ""


def test_without_credentials_the_call_fails_and_the_log_says_what_to_check(servers, function, client):
    name = function("e2e-no-secret", "", code=servers.token.archive("/bare.zip", CODE))
    refusal(client, name, "spec.code.archive", "/bare.zip cannot be fetched", "credentials of secretRef")
    assert {sent for path, sent in servers.token.refused if path == "/bare.zip"} == {None}


def test_credentials_for_another_server_are_sent_nowhere(servers, function, client):
    code = with_secret(servers.token.archive("/other.zip", CODE), ELSEWHERE)
    name = function("e2e-elsewhere", "", code=code)
    refusal(client, name, "spec.code.archive: secretRef: its key `hosts` lacks the server of", "/other.zip")
    assert "/other.zip" not in servers.token.asked


def test_a_secret_that_gateways_may_not_read_is_in_the_condition(servers, function, client):
    code = with_secret(servers.token.archive("/unlisted.zip", CODE), UNLISTED)
    name = function("e2e-unlisted", "", code=code)
    refusal(client, name, f"spec.code.archive.secretRef: gateways may not read the Secret {UNLISTED}")
    until(lambda: ready_condition(name).get("reason") == "SecretRefused", lambda: ready_condition(name))
    message = ready_condition(name)["message"]
    assert f"the Secret {UNLISTED}" in message and "gateway.fetch.secrets" in message, message
    assert pods(name) == [] and "/unlisted.zip" not in servers.token.asked
