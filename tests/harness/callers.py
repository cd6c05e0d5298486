"""Callers that prove who they are: service accounts with rights of Kubernetes' roles, their tokens, and their calls."""

import http.client
from contextlib import contextmanager

import yaml

from tests.harness.commands import run
from tests.harness.kubectl import FUNCTIONS, apply, kubectl
from tests.harness.patience import PATIENCE
from tests.harness.release import CHART, HOST, RELEASE

AUDIENCE = "pilotlight"


def rules():
    """The rules of the chart's roles, by the last word of their names. Other releases of the cluster have no such roles,
    because they belong to one release."""
    options = (
        "--show-only=templates/roles.yaml",
        "--set=image=registry.test/none:1",
        "--set=test.image=registry.test/none:1",
        "--kube-version=1.34.0",
    )
    rendered = run("helm", "template", RELEASE, CHART, *options)
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


def token(account, audience=AUDIENCE):
    options = [f"--audience={audience}"] if audience else []
    return kubectl("create", "token", account, *options).strip()


def ask(method, path, bearer=None, body=None, host=HOST, **headers):
    connection = http.client.HTTPConnection(host, timeout=PATIENCE)
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-amzn-errortype"), answer.read()
    finally:
        connection.close()


def call(name, bearer=None, **options):
    return ask("POST", f"/2015-03-31/functions/{name}/invocations", bearer, body=b'"hi"', **options)
