"""Callers that prove who they are: service accounts with rights of Kubernetes' roles, their tokens, and their calls."""

import base64
import http.client
import json
import re
import subprocess
from contextlib import contextmanager

import boto3
import yaml
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.harness.commands import attempt, run
from tests.harness.kubectl import FUNCTIONS, apply, get, kubectl
from tests.harness.paths import PILOTLIGHT
from tests.harness.patience import PATIENCE, until
from tests.harness.release import CHART, ENDPOINT, HOST, RELEASE

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
def account_with(name, rules, home=FUNCTIONS):
    """A service account of the namespace `home` with these rights in the namespace of the functions."""
    api = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    kubectl("create", "serviceaccount", name, namespace=home)
    apply({**api, "kind": "Role", "rules": rules}, namespace=FUNCTIONS)
    kubectl("create", "rolebinding", name, f"--role={name}", f"--serviceaccount={home}:{name}")
    try:
        yield name
    finally:
        kubectl("delete", f"rolebinding/{name}", f"role/{name}", "--ignore-not-found")
        kubectl("delete", "serviceaccount", name, "--ignore-not-found", namespace=home)


@contextmanager
def access_key(account, home=FUNCTIONS):
    """An access key of the account, which the command line makes and revokes: its id and its secret."""
    made = pilotlight("access-key", "create", f"--service-account={home}/{account}")
    assert made.returncode == 0, made
    key_id, secret = re.findall(r"=(\S+)$", made.stdout, re.MULTILINE)
    assert key_id in pilotlight("access-key", "list").stdout
    try:
        yield key_id, secret
    finally:
        revoked = pilotlight("access-key", "revoke", key_id)
        assert revoked.returncode == 0, revoked


def pilotlight(*words, **options):
    """The command line, as a user of the kubeconfig starts it."""
    return attempt(PILOTLIGHT, *words, **options)


def token(account, audience=AUDIENCE, seconds=3600):
    """`seconds`: how long it is valid, 600 at least."""
    options = [f"--duration={seconds}s", *([f"--audience={audience}"] if audience else [])]
    return kubectl("create", "token", account, *options).strip()


def signature(key_id, secret, session=None):
    """What `ask` shows for these credentials: the headers of a signed request."""

    def headers(method, url, body):
        request = AWSRequest(method, url, data=body or b"")
        SigV4Auth(Credentials(key_id, secret, session), "lambda", "us-east-1").add_auth(request)
        return dict(request.headers.items())

    return headers


def session(account, bearer):
    """Temporary credentials of STS for the account, for `signature`; None if the gateways cannot know yet, or the API server
    is away: SDKs repeat these errors."""
    unsigned = boto3.Session(region_name="us-east-1").client(
        "sts", endpoint_url=ENDPOINT, config=Config(signature_version=UNSIGNED, retries={"max_attempts": 0})
    )
    role = f"arn:aws:iam::000000000000:role/{FUNCTIONS}/{account}"
    asked = {"RoleArn": role, "RoleSessionName": "e2e", "WebIdentityToken": bearer}
    try:
        made = unsigned.assume_role_with_web_identity(**asked)["Credentials"]
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("ServiceUnavailable", "IDPCommunicationError"), error
        return None
    return made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]


def ask(method, path, shown=None, body=None, host=HOST, **headers):
    """`shown`: a token, a `signature`, or nothing."""
    connection = http.client.HTTPConnection(host, timeout=PATIENCE)
    if callable(shown):
        headers |= shown(method, f"http://{host}{path}", body)
    elif shown:
        headers["Authorization"] = f"Bearer {shown}"
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-amzn-errortype"), answer.read()
    finally:
        connection.close()


def call(name, shown=None, **options):
    return ask("POST", f"/2015-03-31/functions/{name}/invocations", shown, body=b'"hi"', **options)


@contextmanager
def user_with(name, rights, folder):
    """The kubeconfig of a user with a client certificate, and with these rules in these namespaces, a list of rules for
    each."""
    subprocess.run(
        ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
        + ["-keyout", folder / "user.key", "-out", folder / "user.csr"],
        check=True,
        capture_output=True,
    )

    def encoded(file):
        return base64.b64encode((folder / file).read_bytes()).decode()

    spec = {"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}
    apply(
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {**spec, "request": encoded("user.csr")},
        }
    )
    api = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    try:
        kubectl("certificate", "approve", name)
        signed = until(lambda: get("csr", name)["status"].get("certificate"), f"{name} has a certificate")
        config = json.loads(kubectl("config", "view", "--raw", "--output=json"))
        user = {"client-certificate-data": signed, "client-key-data": encoded("user.key")}
        config["users"] = [
            {"name": context["context"]["user"], "user": user} for context in config["contexts"]
        ]
        (folder / "kubeconfig").write_text(json.dumps(config))
        for namespace, rules in rights.items():
            apply({**api, "kind": "Role", "rules": rules}, namespace=namespace)
            kubectl("create", "rolebinding", name, f"--role={name}", f"--user={name}", namespace=namespace)
        yield folder / "kubeconfig"
    finally:
        kubectl("delete", "csr", name)
        for namespace in rights:
            kubectl(
                "delete",
                f"rolebinding/{name}",
                f"role/{name}",
                "--ignore-not-found",
                namespace=namespace,
            )
