"""Callers of a cluster: who shows what may do what, by Kubernetes' own roles.

The release of the suite asks its callers to prove who they are while these tests run.
"""

import http.client
import json
from contextlib import ExitStack, contextmanager

import pytest
import yaml

from tests.harness import manifests, release
from tests.harness.commands import run
from tests.harness.kubectl import FUNCTIONS, apply, kubectl
from tests.harness.patience import PATIENCE, until
from tests.harness.release import CHART, HOST, RELEASE

AUDIENCE = "pilotlight"
ECHO = "def lambda_handler(event, context):\n    return event\n"
GREETING = {"GREETING": "hello"}


@pytest.fixture(scope="module", autouse=True)
def required(installed):
    release.install("--set=auth.mode=required", "--set=auth.audit=all")
    yield
    release.install()


def rules():
    """The rules of the chart's roles, by the last word of their names. Other releases of the cluster have no such roles,
    because they belong to one release."""
    rendered = run(
        "helm",
        "template",
        RELEASE,
        CHART,
        "--show-only=templates/roles.yaml",
        "--set=image=registry.test/none",
    )
    roles = [role for role in yaml.safe_load_all(rendered) if role]
    return {role["metadata"]["name"].rpartition("-")[2]: role["rules"] for role in roles}


@contextmanager
def account_with(name, rules):
    """A service account with these rights in the namespace of the functions."""
    api = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    kubectl("create", "serviceaccount", name)
    apply({**api, "kind": "Role", "rules": rules}, namespace=FUNCTIONS)
    kubectl("create", "rolebinding", name, f"--role={name}", f"--serviceaccount={FUNCTIONS}:{name}")
    try:
        yield name
    finally:
        kubectl(
            "delete",
            *(f"{kind}/{name}" for kind in ("rolebinding", "role", "serviceaccount")),
            "--ignore-not-found",
        )


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


def token(account, audience=AUDIENCE):
    options = [f"--audience={audience}"] if audience else []
    return kubectl("create", "token", account, *options).strip()


def ask(method, path, bearer=None, body=None, **headers):
    connection = http.client.HTTPConnection(HOST, timeout=PATIENCE)
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-amzn-errortype"), answer.read()
    finally:
        connection.close()


def call(name, bearer=None):
    return ask("POST", f"/2015-03-31/functions/{name}/invocations", bearer, body=b'"hi"')


def configuration(name, bearer=None):
    return ask("GET", f"/2015-03-31/functions/{name}/configuration", bearer)


@pytest.fixture(scope="module")
def functions(required):
    names = ["e2e-mine", "e2e-other"]
    for name in names:
        apply(manifests.function(name, ECHO, environment=GREETING))
    yield names
    kubectl("delete", "function", *names)


def until_known(functions, callers):
    """Gateways see a Function some milliseconds after its creation."""
    for name in functions:
        until(lambda: configuration(name, callers["edits"])[0] == 200, f"{name} is known")


def test_each_caller_may_do_what_its_role_says(functions, callers):
    until_known(functions, callers)
    denied = (403, "AccessDeniedException")
    mine, other = functions
    operations = {
        "call mine": lambda who: call(mine, who),
        "call other": lambda who: call(other, who),
        "read other": lambda who: configuration(other, who),
        "list": lambda who: ask("GET", "/2015-03-31/functions", who),
        "state": lambda who: ask("GET", "/pilotlight/v1/state", who),
    }
    allowed = {
        "invokes-one": {"call mine"},
        "invokes": {"call mine", "call other"},
        "views": {"read other", "list", "state"},
        "edits": set(operations),
        "nobody": set(),
    }
    for who, bearer in callers.items():
        for operation, perform in operations.items():
            status, kind, body = perform(bearer)
            expected = (200, None) if operation in allowed[who] else denied
            assert (status, kind) == expected, (who, operation, body)
    assert call(mine, callers["invokes-one"])[2] == b'"hi"'

    def variables(who):
        return json.loads(configuration(mine, callers[who])[2])["Environment"].get("Variables")

    assert variables("views") is None and variables("edits") == GREETING


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
        until(lambda: call("e2e-mine", bearer)[0] == 200, lambda: call("e2e-mine", bearer))
        kubectl("delete", "rolebinding", account)
        until(lambda: call("e2e-mine", bearer)[:2] == (403, "AccessDeniedException"), "the right is gone")
