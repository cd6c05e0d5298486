"""Parts that know each other: who proves nothing is served by none, and a renewal of certificates breaks nothing."""

import base64
import http.client
import json
import ssl
import subprocess
import threading

import pytest

from tests.harness import release
from tests.harness.commands import attempt
from tests.harness.kubectl import FUNCTIONS, get, kubectl
from tests.harness.lambda_client import lambda_client
from tests.harness.patience import PATIENCE, until
from tests.harness.release import ENDPOINT, LEASE_PORT, RELEASE, SYSTEM, parts
from tests.harness.state import is_full, pods, waiting

HANDLER = """
import time
def lambda_handler(event, context):
    time.sleep(event.get("sleep", 0))
    return event
"""
PARTS_PORT = 8082
# The Secrets of the release.
AUTHORITY, IDENTITY = f"{RELEASE}-authority", f"{RELEASE}-identity"


def address(pod):
    return pod["status"]["podIP"]


def asked(host, port, method, path, context=None):
    """The status of the answer; `None` if the connection was not served. Who is not there at all is a failure."""
    kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
    options = {"context": context} if context else {}
    connection = kind(host, port, timeout=PATIENCE, **options)
    try:
        connection.connect()
        connection.request(method, path, body=b"{}")
        return connection.getresponse().status
    except (ConnectionResetError, http.client.RemoteDisconnected, BrokenPipeError, ssl.SSLError):
        return None
    finally:
        connection.close()


def strangers(directory):
    """A client without TLS, one with TLS and no certificate, and one that signed a gateway's certificate itself."""
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
    forged = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    forged.check_hostname, forged.verify_mode = False, ssl.CERT_NONE
    certificate, key = directory / "tls.crt", directory / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    name = "gateway.pilotlight.internal"
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    forged.load_cert_chain(certificate, key)
    return {"plain": None, "anonymous": anonymous, "forged": forged}


@pytest.fixture
def live(warm_pool, function, invoke):
    """An instance of a function, and a pod that waits in a pool."""
    pool = warm_pool("e2e-walls", size=2)
    name = function("e2e-walled", HANDLER)
    assert invoke(name, {"a": 1})["Body"] == {"a": 1}
    [instance] = until(lambda: pods(name), lambda: kubectl("get", "pods", "--show-labels"))
    until(lambda: is_full(pool), lambda: kubectl("get", "warmpool,pods"))
    unclaimed = waiting(pool)[0]
    # Identity is for networks that enforce no policies, and this one does.
    with release.without_walls():
        yield name, instance, unclaimed


def test_a_stranger_is_served_by_no_port_for_parts(live, invoke, tmp_path):
    name, instance, unclaimed = live
    tried = {
        (address(instance), LEASE_PORT): [
            ("GET", "/status"),
            ("GET", "/identity"),
            ("POST", "/lease"),
            ("POST", "/claim"),
            ("POST", "/drain"),
        ],
        (address(unclaimed), LEASE_PORT): [("GET", "/identity"), ("POST", "/claim"), ("POST", "/drain")],
    }
    for gateway in parts("gateway"):
        tried[address(gateway), PARTS_PORT] = [
            ("GET", "/pilotlight/v1/demand"),
            ("GET", "/pilotlight/v1/state"),
            ("POST", "/pilotlight/v1/invoke"),
        ]
    for kind, context in strangers(tmp_path).items():
        for (host, port), requests in tried.items():
            for method, path in requests:
                answered = asked(host, port, method, path, context)
                assert answered is None, f"{kind}: {method} {host}:{port}{path} answered {answered}"
    # Nobody was drained: the same instance answers, and the pod still waits.
    assert invoke(name, {"a": 2})["Body"] == {"a": 2}
    assert [pod["metadata"]["uid"] for pod in pods(name)] == [instance["metadata"]["uid"]]
    ready = get("pod", unclaimed["metadata"]["name"])["status"]["conditions"]
    assert {"Ready": "True"}.items() <= {one["type"]: one["status"] for one in ready}.items()


def test_the_token_of_a_pod_names_it_and_opens_nothing_else(function, invoke):
    source = """
def lambda_handler(event, context):
    return open("/var/run/secrets/pilotlight.dev/identity/token").read()
"""
    name = function("e2e-token", source)
    token = invoke(name, {})["Body"]
    claims = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert claims["aud"] == ["pilotlight.dev/instance"]
    [pod] = until(lambda: pods(name), lambda: kubectl("get", "pods", "--show-labels"))
    assert claims["kubernetes.io"]["pod"]["uid"] == pod["metadata"]["uid"]
    refused = subprocess.run(
        ["kubectl", f"--token={token}", "--kubeconfig=/dev/null", *server(), "get", "pods"],
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0 and "Unauthorized" in refused.stderr, refused


def server():
    """The API server, without the credentials of the tests."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--output=json"))
    return [f"--server={config['clusters'][0]['cluster']['server']}", "--insecure-skip-tls-verify"]


def secret(name):
    return get("secret", name, namespace=SYSTEM)


def test_a_new_certificate_loses_no_call(function):
    """The record of what is signed is taken away, so the same authority signs again, while calls of two functions go on."""
    names = [function(f"e2e-renewed-{which}", HANDLER) for which in ("a", "b")]
    client, ended, failures, answered = lambda_client(ENDPOINT), threading.Event(), [], []

    def call(name):
        while not ended.is_set():
            try:
                answer = client.invoke(FunctionName=name, Payload=json.dumps({"sleep": 0.05}))
                (failures if "FunctionError" in answer else answered).append(name)
            except Exception as error:
                failures.append(repr(error))

    callers = [threading.Thread(target=call, args=(name,)) for name in names for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        until(lambda: len(answered) > 20, lambda: failures)
        before = secret(IDENTITY)["data"]["tls.crt"]
        kubectl(
            "patch",
            "secret",
            IDENTITY,
            "--type=json",
            "--patch",
            REMOVED.format("signed.json"),
            namespace=SYSTEM,
        )
        until(lambda: secret(IDENTITY)["data"]["tls.crt"] != before, lambda: secret(IDENTITY)["metadata"])
        count = len(answered)
        until(lambda: len(answered) > count + 40, lambda: failures)
    finally:
        ended.set()
        for caller in callers:
            caller.join()
    assert failures == []


REMOVED = '[{{"op": "remove", "path": "/data/{}"}}]'


def can_read(account, name):
    words = ("auth", "can-i", "get", f"secret/{name}", f"--as=system:serviceaccount:{account}")
    return attempt("kubectl", f"--namespace={SYSTEM}", *words).stdout.strip() == "yes"


def test_the_keys_of_the_release_are_for_its_parts_alone():
    gateway, controller = f"{SYSTEM}:{RELEASE}-gateway", f"{SYSTEM}:{RELEASE}-controller"
    assert can_read(controller, AUTHORITY) and can_read(controller, IDENTITY)
    assert can_read(gateway, IDENTITY) and not can_read(gateway, AUTHORITY)
    for name in (AUTHORITY, IDENTITY):
        assert not can_read(f"{FUNCTIONS}:default", name)
