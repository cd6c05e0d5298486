"""`pilotlight access-key` with a real API server: what it makes, shows and deletes, and what it says when it cannot."""

import json
import os

import pytest

from tests.harness.commands import attempt, run
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.paths import PILOTLIGHT

KEYS = f"e2e-keys-{os.environ.get('PILOTLIGHT_SUITE', 'own')}"  # the namespace of this file
ACCOUNT = f"{KEYS}/outside"


@pytest.fixture(scope="module")
def keys():
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": KEYS}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "outside"}}
    apply(namespace)
    apply(account, namespace=KEYS)
    yield KEYS
    kubectl("delete", "namespace", KEYS, "--wait=false")


def command(*words):
    return [PILOTLIGHT, "access-key", *words, f"--namespace={KEYS}"]


def refused(*words):
    done = attempt(*words)
    assert done.returncode == 2, done
    return done.stderr


def test_a_key_is_made_listed_and_revoked(keys):
    made = attempt(*command("create", f"--service-account={ACCOUNT}", "--expires=2h"))
    assert made.returncode == 0, made
    variables = dict(line.removeprefix("export ").split("=", 1) for line in made.stdout.splitlines())
    key, secret = variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
    assert len(secret) == 40 and secret not in made.stderr
    stored = get("secret", f"access-key-{key.lower()}", namespace=KEYS)
    assert stored["type"] == "pilotlight.dev/access-key" and stored["immutable"]

    line = next(line for line in run(*command("list")).splitlines() if line.startswith(key))
    assert line.split()[2:] == ["valid", ACCOUNT]
    assert secret not in line

    assert run(*command("revoke", key)) == f"{key} is revoked\n"
    assert key not in run(*command("list"))
    assert f"has no access key {key}" in refused(*command("revoke", key))


def test_what_cannot_be_done_says_why(keys):
    missing = refused(*command("create", f"--service-account={KEYS}/nobody"))
    assert f"there is no service account {KEYS}/nobody" in missing
    words = [PILOTLIGHT, "access-key", "create", f"--service-account={ACCOUNT}", "--namespace=e2e-none"]
    assert "there is no namespace e2e-none" in refused(*words)
    assert "no id of an access key" in refused(*command("revoke", "access-key-x"))
    assert "90d, 12h or 30m" in refused(*command("create", f"--service-account={ACCOUNT}", "--expires=never"))
    assert json.loads(kubectl("get", "secrets", "--output=json", namespace=KEYS))["items"] == []
