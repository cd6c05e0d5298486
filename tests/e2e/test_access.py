"""Callers of a cluster: who shows what may do what, by Kubernetes' own roles.

The release of the suite asks its callers to prove who they are while these tests run.
"""

import http.client
import json

import pytest

from tests.harness import manifests, release
from tests.harness.kubectl import FUNCTIONS, apply, kubectl
from tests.harness.patience import PATIENCE, until
from tests.harness.release import HOST

AUDIENCE = "pilotlight"
ECHO = "def lambda_handler(event, context):\n    return event\n"
GREETING = {"GREETING": "hello"}


@pytest.fixture(scope="module", autouse=True)
def required(installed):
    release.install("--set=auth.mode=required", "--set=auth.audit=all")
    yield
    release.install()


@pytest.fixture(scope="module")
def callers(required):
    """Service accounts, each with one right, and tokens of theirs."""
    made = []
    rights = {
        "invokes": ({"resources": ["functions"], "verbs": ["invoke"], "resourceNames": ["e2e-mine"]}, "Role"),
        "invokes-all": ("pilotlight-invoke", "ClusterRole"),
        "views": ("pilotlight-view", "ClusterRole"),
        "edits": ("pilotlight-edit", "ClusterRole"),
        "nobody": (None, None),
    }
    for name, (rule, kind) in rights.items():
        account = f"e2e-{name}"
        kubectl("create", "serviceaccount", account)
        made.append(f"serviceaccount/{account}")
        if kind == "Role":
            role = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": {"name": account},
                "rules": [{"apiGroups": ["pilotlight.dev"], **rule}],
            }
            apply(role, namespace=FUNCTIONS)
            made.append(f"role/{account}")
            rule = account
        if kind:
            kubectl(
                "create",
                "rolebinding",
                account,
                f"--{kind.lower()}={rule}",
                f"--serviceaccount={FUNCTIONS}:{account}",
            )
            made.append(f"rolebinding/{account}")
    yield {name: token(f"e2e-{name}") for name in rights}
    kubectl("delete", *made)


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
        "invokes": {"call mine"},
        "invokes-all": {"call mine", "call other"},
        "views": {"read other", "list", "state"},
        "edits": set(operations),
        "nobody": set(),
    }
    for who, bearer in callers.items():
        for operation, perform in operations.items():
            status, kind, body = perform(bearer)
            expected = (200, None) if operation in allowed[who] else denied
            assert (status, kind) == expected, (who, operation, body)
    assert call(mine, callers["invokes"])[2] == b'"hi"'

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
    account = "e2e-leaves"
    kubectl("create", "serviceaccount", account)
    kubectl(
        "create",
        "rolebinding",
        account,
        "--clusterrole=pilotlight-invoke",
        f"--serviceaccount={FUNCTIONS}:{account}",
    )
    try:
        bearer = token(account)
        until(lambda: call("e2e-mine", bearer)[0] == 200, lambda: call("e2e-mine", bearer))
        kubectl("delete", "rolebinding", account)
        until(lambda: call("e2e-mine", bearer)[:2] == (403, "AccessDeniedException"), "the right is gone")
    finally:
        kubectl("delete", "serviceaccount", account)
        kubectl("delete", "rolebinding", account, "--ignore-not-found")
