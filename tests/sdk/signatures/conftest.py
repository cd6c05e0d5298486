"""A judge for each test, and the credentials that it knows."""

import pytest

from tests.sdk.signatures.judged import TOKEN, Judged


@pytest.fixture
def judged():
    judged = Judged()
    yield judged
    judged.stop()


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """The environment of an SDK without anything of this machine's user."""
    none = str(tmp_path / "none")
    environment = {
        "AWS_CONFIG_FILE": none,
        "AWS_SHARED_CREDENTIALS_FILE": none,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def with_key(judged, bare, monkeypatch):
    """The variables that `pilotlight access-key create` prints."""
    key = {"AWS_ACCESS_KEY_ID": judged.key_id, "AWS_SECRET_ACCESS_KEY": judged.secret}
    key["AWS_ENDPOINT_URL"] = judged.endpoint
    for name, value in key.items():
        monkeypatch.setenv(name, value)
    return {**bare, **key}


@pytest.fixture
def with_role(judged, bare, monkeypatch, tmp_path):
    """The variables of a pod with a web identity token, and no keys."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    role = {
        "AWS_ROLE_ARN": "arn:aws:iam::000000000000:role/shop/caller",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ROLE_SESSION_NAME": "test",
        "AWS_ENDPOINT_URL": judged.endpoint,
        # The SDK for Go gets its credentials before it reads the other variable.
        "AWS_ENDPOINT_URL_STS": judged.endpoint,
    }
    for name, value in role.items():
        monkeypatch.setenv(name, value)
    return {**bare, **role}
