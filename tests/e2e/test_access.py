"""Callers of a cluster: who shows what may do what, by Kubernetes' own roles.

The release of the suite asks its callers to prove who they are while these tests run.
"""

import json
import os
from contextlib import ExitStack, contextmanager

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.harness import manifests, release
from tests.harness.callers import (
    access_key,
    account_with,
    ask,
    call,
    pilotlight,
    rules,
    session,
    signature,
    token,
    user_with,
)
from tests.harness.kubectl import FUNCTIONS, apply, kubectl
from tests.harness.patience import PATIENCE, until
from tests.harness.release import ENDPOINT, SYSTEM

ECHO = "def lambda_handler(event, context):\n    return event\n"
GREETING = {"GREETING": "hello"}


@pytest.fixture(scope="module", autouse=True)
def required(installed):
    release.install("--set=auth.mode=required", "--set=auth.audit=all")
    release.await_replaced()
    yield
    release.install()


@pytest.fixture(scope="module")
def callers(required):
    """Tokens of service accounts, by what these may do."""
    chosen = rules()
    [invoke] = chosen["invoke"]
    rights = {
        "invokes-one": [{**invoke, "resourceNames": ["e2e-mine"]}],
        "invokes": chosen["invoke"],
        "views": chosen["view"],
        "edits": chosen["edit"],
        "nobody": [],
    }
    with ExitStack() as accounts:
        for name, allowed in rights.items():
            accounts.enter_context(account_with(f"e2e-{name}", allowed))
        yield {name: token(f"e2e-{name}") for name in rights}


def configuration(name, shown=None, **options):
    return ask("GET", f"/2015-03-31/functions/{name}/configuration", shown, **options)


@pytest.fixture(scope="module")
def functions(required):
    names = ["e2e-mine", "e2e-other"]
    for name in names:
        apply(manifests.function(name, ECHO, environment=GREETING))
    yield names
    kubectl("delete", "function", *names)


def until_known(functions, callers):
    """Each gateway sees a Function some milliseconds after its creation."""
    for gateway in release.gateways():
        host = gateway.removeprefix("http://")
        for name in functions:
            until(lambda: configuration(name, callers["edits"], host=host)[0] == 200, f"{name} is known")


@contextmanager
def credential(kind, account, bearer):
    """What the account shows."""
    if kind == "token":
        yield bearer
    elif kind == "session":
        # The gateway with the keys of sessions may be the other one for some milliseconds.
        yield signature(*until(lambda: session(account, bearer), f"a session of {account}"))
    else:
        with access_key(account) as key:
            until_each(*key, is_known, "the key is known")
            yield signature(*key)


def is_known(client):
    try:
        client.list_functions()
    except ClientError as error:
        return error.response["Error"]["Code"] == "AccessDeniedException"
    return True


# What each account may do, with whatever credential.
ALLOWED = {
    "invokes-one": {"call mine"},
    "invokes": {"call mine", "call other"},
    "views": {"read other", "list", "state", "logs"},
    "edits": {"call mine", "call other", "read other", "list", "state", "logs", "values"},
    "nobody": set(),
}


@pytest.mark.parametrize("kind", ["token", "session", "access key"])
def test_each_caller_may_do_what_its_role_says(functions, callers, kind):
    until_known(functions, callers)
    denied = (403, "AccessDeniedException")
    mine, other = functions
    operations = {
        "call mine": lambda who: call(mine, who),
        "call other": lambda who: call(other, who),
        "read other": lambda who: configuration(other, who),
        "list": lambda who: ask("GET", "/2015-03-31/functions", who),
        "state": lambda who: ask("GET", "/pilotlight/v1/state", who),
        "logs": lambda who: ask("GET", f"/pilotlight/v1/functions/{mine}/logs", who),
    }
    for who, bearer in callers.items():
        with credential(kind, f"e2e-{who}", bearer) as shown:
            for operation, perform in operations.items():
                status, refusal, body = perform(shown)
                if operation not in ALLOWED[who]:
                    assert (status, refusal) == denied, (who, operation, body)
                elif operation == "logs":
                    # Whether gateways have the logs of pods is another matter.
                    assert status != 403, (who, body)
                else:
                    assert (status, refusal) == (200, None), (who, operation, body)
            if "call mine" in ALLOWED[who]:
                assert call(mine, shown)[2] == b'"hi"'
            if "read other" in ALLOWED[who]:
                shows = json.loads(configuration(mine, shown)[2])["Environment"].get("Variables")
                assert shows == (GREETING if "values" in ALLOWED[who] else None), who


def test_who_shows_nothing_or_a_token_for_another_audience_is_refused(functions, callers):
    until_known(functions, callers)
    edits = "e2e-edits"
    for bearer, expected in [
        (None, "MissingAuthenticationTokenException"),
        ("nonsense", "UnrecognizedClientException"),
        # The API server's own audience: it would open everything that the account may do.
        (token(edits, audience=None), "UnrecognizedClientException"),
        (token(edits, audience="somebody-else"), "UnrecognizedClientException"),
        (callers["edits"][:-8] + "AAAAAAAA", "UnrecognizedClientException"),
    ]:
        status, kind, body = call("e2e-mine", bearer)
        assert (status, kind) == (403, expected), body
    # Each of them has a line in the log of a gateway.
    for reason in ("missing", "unrecognized"):
        until(
            lambda: release.logged("gateway", f'reason="{reason}"'),
            lambda: release.logged("gateway", "audit"),
        )


def test_a_right_that_was_taken_away_ends_within_a_minute(functions, callers):
    until_known(functions, callers)
    with account_with("e2e-leaves", rules()["invoke"]) as account:
        bearer = token(account)
        hosts = [gateway.removeprefix("http://") for gateway in release.gateways()]
        for host in hosts:
            until(lambda: call("e2e-mine", bearer, host=host)[0] == 200, f"served by {host}")
        kubectl("delete", "rolebinding", account)
        # Each gateway remembers what it was told, and asks again while the answer is used.
        denied = (403, "AccessDeniedException")
        for host in hosts:
            until(lambda: call("e2e-mine", bearer, host=host)[:2] == denied, f"refused by {host}")


# --- signatures


def sdk(service, endpoint=ENDPOINT, **credentials):
    """A client of boto3 with these credentials and no others."""
    session = boto3.Session(region_name="us-east-1", **credentials)
    config = Config(retries={"max_attempts": 0}, read_timeout=PATIENCE)
    return session.client(service, endpoint_url=endpoint, config=config)


def refused(call, *arguments, **options):
    with pytest.raises(ClientError) as refused:
        call(*arguments, **options)
    return refused.value.response["Error"]["Code"]


def invoke(client, name):
    return json.loads(client.invoke(FunctionName=name, Payload=b'"hi"')["Payload"].read())


def until_each(key_id, secret, condition, what):
    """Each gateway sees a new key, and the end of one, for itself."""
    for gateway in release.gateways():
        client = sdk("lambda", gateway, aws_access_key_id=key_id, aws_secret_access_key=secret)
        until(lambda: condition(client), f"{what} by {gateway}")


def is_accepted(client):
    try:
        return invoke(client, "e2e-mine") == "hi"
    except ClientError as error:
        assert error.response["Error"]["Code"] == "UnrecognizedClientException", error


def test_an_sdk_outside_calls_with_an_access_key_until_it_is_revoked(functions, callers):
    until_known(functions, callers)
    with access_key("e2e-invokes-one") as (key_id, secret):
        until_each(key_id, secret, is_accepted, "the key is known")
        client = sdk("lambda", aws_access_key_id=key_id, aws_secret_access_key=secret)
        assert refused(client.invoke, FunctionName="e2e-other") == "AccessDeniedException"
        assert refused(client.list_functions) == "AccessDeniedException"
        wrong = sdk("lambda", aws_access_key_id=key_id, aws_secret_access_key=secret[::-1])
        assert refused(wrong.invoke, FunctionName="e2e-mine") == "InvalidSignatureException"
        me = sdk("sts", aws_access_key_id=key_id, aws_secret_access_key=secret).get_caller_identity()
        assert me["Arn"].endswith(f":user/{FUNCTIONS}/e2e-invokes-one"), me
    until_each(key_id, secret, lambda client: not is_accepted(client), "the key is refused")


def test_what_was_changed_after_it_was_signed_is_refused(functions, callers):
    until_known(functions, callers)
    with access_key("e2e-edits") as (key_id, secret):
        until_each(key_id, secret, is_accepted, "the key is known")
        client = sdk("lambda", aws_access_key_id=key_id, aws_secret_access_key=secret)

        def changed(change):
            # After the signature, before the request is sent.
            client.meta.events.register_first("before-send.lambda.Invoke", change)
            try:
                return refused(client.invoke, FunctionName="e2e-mine", Payload=b'"hi"', ClientContext="e30=")
            finally:
                client.meta.events.unregister("before-send.lambda.Invoke", change)

        def body(request, **_):
            request.body = b'"ho"'

        def header(request, **_):
            request.headers["X-Amz-Client-Context"] = "e30gIA=="

        def path(request, **_):
            request.url = request.url.replace("e2e-mine", "e2e-other")

        def query(request, **_):
            request.url += "?Qualifier=%24LATEST"

        for change in (body, header, path, query):
            assert changed(change) == "InvalidSignatureException", change.__name__
        assert invoke(client, "e2e-mine") == "hi"


def test_an_sdk_gets_credentials_by_itself_for_the_token_of_its_service_account(
    functions, callers, tmp_path, monkeypatch
):
    until_known(functions, callers)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    role = "arn:aws:iam::000000000000:role/{}/{}"
    token_file = tmp_path / "token"
    token_file.write_text(callers["invokes-one"])
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token_file))
    monkeypatch.setenv("AWS_ROLE_ARN", role.format(FUNCTIONS, "e2e-invokes-one"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", ENDPOINT)
    # The gateway with the keys of sessions may be the other one for some milliseconds.
    me = until(lambda: identity(), "credentials")
    assert f":assumed-role/{FUNCTIONS}/e2e-invokes-one/" in me["Arn"], me
    client = sdk("lambda")
    for _ in range(10):
        assert invoke(client, "e2e-mine") == "hi"
    assert refused(client.invoke, FunctionName="e2e-other") == "AccessDeniedException"

    # Another account's role, and a token for the API server.
    monkeypatch.setenv("AWS_ROLE_ARN", role.format(FUNCTIONS, "e2e-edits"))
    assert refused(sdk("lambda").list_functions) == "AccessDenied"
    monkeypatch.setenv("AWS_ROLE_ARN", role.format(FUNCTIONS, "e2e-invokes-one"))
    token_file.write_text(token("e2e-invokes-one", audience=None))
    assert refused(sdk("lambda").list_functions) == "InvalidIdentityToken"


def identity():
    try:
        return sdk("sts").get_caller_identity()
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ServiceUnavailable", error


# --- the command line


@pytest.fixture(scope="module")
def developer(callers, tmp_path_factory):
    """The environment of the command line of a user with a client certificate, whose rights are those that
    docs/access.md names and no others."""
    accounts = [f"e2e-{who}" for who in callers]
    makes_tokens = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}
    reaches = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]},
    ]
    rights = {FUNCTIONS: [{**makes_tokens, "resourceNames": accounts}], SYSTEM: reaches}
    with user_with(f"e2e-developer-{FUNCTIONS}", rights, tmp_path_factory.mktemp("developer")) as kubeconfig:
        yield {**os.environ, "KUBECONFIG": str(kubeconfig)}


def test_each_account_may_do_what_its_role_says_from_the_command_line(functions, callers, developer):
    """By a port-forward, and with tokens that the cluster makes for the user of the kubeconfig."""
    until_known(functions, callers)
    mine, other = functions
    operations = {
        "call mine": ["invoke", mine, "--payload", '"hi"'],
        "call other": ["invoke", other, "--payload", '"hi"'],
        "list": ["top", "--once"],
        "logs": ["logs", mine],
    }
    for who in callers:
        reach = [f"--cluster={SYSTEM}", f"--service-account={FUNCTIONS}/e2e-{who}"]
        for operation, words in operations.items():
            done = pilotlight(*words, *reach, env=developer)
            if operation not in ALLOWED[who]:
                assert done.returncode == 2, (who, operation, done)
                assert "AccessDeniedException" in done.stderr, (who, operation, done)
            elif operation == "logs":
                assert "AccessDeniedException" not in done.stderr, (who, done)
            else:
                assert done.returncode == 0, (who, operation, done)
                assert not operation.startswith("call") or done.stdout == '"hi"', done


def test_the_rights_of_the_kubeconfig_decide_as_whom_the_command_line_calls(functions, callers, developer):
    until_known(functions, callers)
    # The token alone, at an address.
    views = ["--endpoint", ENDPOINT, f"--service-account={FUNCTIONS}/e2e-views"]
    state = pilotlight("top", "--once", *views, env=developer)
    assert state.returncode == 0 and "e2e-mine" in state.stdout, state
    # An account that is there, whose tokens the user may not make.
    other = pilotlight(
        "invoke", "e2e-mine", f"--service-account={FUNCTIONS}/default", "--endpoint", ENDPOINT, env=developer
    )
    assert other.returncode == 2 and "e2e-developer" in other.stderr, other
    nobody = pilotlight("invoke", "e2e-mine", "--endpoint", ENDPOINT)
    assert nobody.returncode == 2 and "--service-account" in nobody.stderr, nobody
    missing = pilotlight("invoke", "e2e-mine", "--service-account=e2e-not-there", "--endpoint", ENDPOINT)
    assert missing.returncode == 2 and "e2e-not-there" in missing.stderr, missing
