"""TLS between callers and gateways: certificates that callers verify, their rotation under load, and plain text.

The release of the suite speaks TLS while these tests run: first with the certificate that the controller signs, and then
with one in the form of cert-manager beside plain text.
"""

import base64
import http.client
import json
import socket
import ssl
import subprocess
import threading
import urllib.request

import pytest
from botocore.exceptions import SSLError

from tests.harness import manifests, release
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.patience import PATIENCE, until
from tests.harness.release import HOST, RELEASE, SYSTEM

SECURE = f"https://{HOST}"
SECRET = "e2e-gateway-tls"
FUNCTIONS = "/2015-03-31/functions"
ECHO = "def lambda_handler(event, context):\n    return event\n"
CALLER = """
import boto3
def lambda_handler(event, context):
    answer = boto3.client("lambda").invoke(FunctionName=event["call"], Payload=b'"through the door"')
    return answer["Payload"].read().decode()
"""
NAMES = {"e2e-tls-echo": ECHO, "e2e-tls-caller": CALLER}


@pytest.fixture(scope="module", autouse=True)
def functions(installed):
    """They are known before the gateways ask for TLS. None of them has a pod then."""
    for name, source in NAMES.items():
        apply(manifests.function(name, source))
    release.await_known(NAMES)
    yield
    release.install()
    # The next tests speak plain text.
    release.await_replaced()
    kubectl("delete", "function", *NAMES)


@pytest.fixture(scope="module")
def required(functions, tmp_path_factory):
    """TLS alone, as a new installation has it; where the authorities are."""
    release.install("--set=gateway.tls.mode=required")
    release.await_replaced()
    path = tmp_path_factory.mktemp("authorities") / "ca.crt"

    def published():
        return (get("configmap", f"{RELEASE}-ca", namespace=SYSTEM).get("data") or {}).get("ca.crt")

    path.write_text(until(published, "the authorities are published"))
    return path


def fetched(*options):
    """What curl says of the version of HTTP and of the status."""
    words = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE), "--output", "/dev/null"]
    words += ["--write-out", "%{http_version} %{http_code}", *options]
    return subprocess.run(words, capture_output=True, text=True)


def test_boto3_verifies_the_certificate_that_the_controller_signs(required):
    invoke = invoker(lambda_client(SECURE, verify=str(required)))
    assert invoke("e2e-tls-echo", {"a": 1})["Body"] == {"a": 1}
    with pytest.raises(SSLError):
        lambda_client(SECURE).invoke(FunctionName="e2e-tls-echo", Payload=b"{}")
    # As strict as Python 3.13 is by default.
    context = ssl.create_default_context(cafile=required)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert urllib.request.urlopen(SECURE + FUNCTIONS, timeout=PATIENCE, context=context).status == 200


def test_callers_choose_the_versions_of_http_and_of_tls(required):
    trusting = ["--cacert", str(required)]
    for options, answered in (
        (["--http2"], "2 200"),
        (["--http1.1"], "1.1 200"),
        (["--tls-max", "1.2"], "2 200"),
    ):
        asked = fetched(*options, *trusting, SECURE + FUNCTIONS)
        assert asked.stdout == answered, (options, asked)
    assert fetched("--tls-max", "1.1", *trusting, SECURE + FUNCTIONS).returncode != 0


def test_plain_text_gets_an_answer_that_names_https(required):
    for port in (80, 443):
        connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        connection.request("POST", f"{FUNCTIONS}/e2e-tls-echo/invocations", body=b"{}")
        answer = connection.getresponse()
        assert answer.status == 400
        assert "This port speaks HTTPS" in json.load(answer)["message"]
        connection.close()


def test_a_function_calls_another_one_by_tls_without_knowing_of_it(required):
    invoke = invoker(lambda_client(SECURE, verify=str(required)))
    answered = invoke("e2e-tls-caller", {"call": "e2e-tls-echo"})
    assert json.loads(answered["Body"]) == "through the door", answered


class Authority:
    """An authority of the test's own, by openssl."""

    def __init__(self, directory):
        self.directory = directory
        self.certificate = directory / "ca.crt"
        self.openssl("req", "-x509", *EC, "-subj", "/CN=e2e", "-days", "2", *self.out("ca"))
        self.serial = 0

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.directory)

    def out(self, name):
        return ["-keyout", f"{name}.key", "-out", f"{name}.crt"]

    def secret(self):
        """A Secret with the next certificate, in the form of cert-manager, and its serial number."""
        self.serial += 1
        self.openssl("req", "-new", *EC, "-subj", "/CN=e2e", "-keyout", "tls.key", "-out", "tls.csr")
        (self.directory / "names").write_text(f"subjectAltName=DNS:{HOST}\n")
        signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", str(self.serial), "-days", "1"]
        self.openssl("x509", "-req", "-in", "tls.csr", "-extfile", "names", *signer, "-out", "tls.crt")
        return self.stored(), self.serial

    def stored(self, **replaced):
        read = {name: (self.directory / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")}
        data = {name: base64.b64encode(value).decode() for name, value in (read | replaced).items()}
        metadata = {"name": SECRET}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": metadata,
            "data": data,
        }


EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@pytest.fixture(scope="module")
def own(required, tmp_path_factory):
    """TLS with a certificate that somebody else brings, beside plain text."""
    authority = Authority(tmp_path_factory.mktemp("own"))
    secret, _ = authority.secret()
    apply(secret, namespace=SYSTEM)
    release.install("--set=gateway.tls.mode=optional", f"--set=gateway.tls.secretName={SECRET}")
    release.await_replaced()
    yield authority
    kubectl("delete", "secret", SECRET, namespace=SYSTEM)


def served(address, context):
    """The serial number of the certificate that a gateway shows."""
    with (
        socket.create_connection((address, 8080), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as stream,
    ):
        return int(stream.getpeercert()["serialNumber"], 16)


def gateways():
    return [pod["status"]["podIP"] for pod in release.parts("gateway")]


def shown(context):
    return {served(address, context) for address in gateways()}


def metric(name):
    """Its value at each gateway."""
    values = []
    for status in release.statuses():
        text = urllib.request.urlopen(f"{status}/metrics", timeout=PATIENCE).read().decode()
        values += [float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)]
    return values


def test_optional_serves_both(own):
    for endpoint, options in ((SECURE, ["--cacert", str(own.certificate)]), (f"http://{HOST}", [])):
        asked = fetched(*options, endpoint + FUNCTIONS)
        assert asked.stdout.endswith(" 200"), asked
    # Instances verify gateways by the release's authority, whatever certificate the others get.
    invoke = invoker(lambda_client(SECURE, verify=str(own.certificate)))
    answered = invoke("e2e-tls-caller", {"call": "e2e-tls-echo"})
    assert json.loads(answered["Body"]) == "through the door", answered


def test_a_rotation_of_the_secret_loses_no_call_and_restarts_nothing(own):
    context = ssl.create_default_context(cafile=own.certificate)
    client, ended, failures, answered = (
        lambda_client(SECURE, verify=str(own.certificate)),
        threading.Event(),
        [],
        [],
    )

    def keeps_its_connection():
        client.invoke(FunctionName="e2e-tls-echo", Payload=b"1")["Payload"].read()

    def connects_each_time():
        connection = http.client.HTTPSConnection(HOST, timeout=PATIENCE, context=context)
        connection.request("POST", f"{FUNCTIONS}/e2e-tls-echo/invocations", body=b"1")
        assert connection.getresponse().read() == b"1"
        connection.close()

    def call(once):
        while not ended.is_set():
            try:
                once()
                answered.append(once)
            except Exception as error:
                failures.append(repr(error))

    before = {pod["metadata"]["uid"] for pod in release.parts("gateway")}
    callers = [
        threading.Thread(target=call, args=(once,)) for once in (keeps_its_connection, connects_each_time) * 2
    ]
    for caller in callers:
        caller.start()
    try:
        until(lambda: len(answered) > 20, lambda: failures)
        for _ in range(3):
            secret, serial = own.secret()
            apply(secret, namespace=SYSTEM)
            until(lambda serial=serial: shown(context) == {serial}, lambda: (own.serial, shown(context)))
            count = len(answered)
            until(lambda count=count: len(answered) > count + 40, lambda: failures)
    finally:
        ended.set()
        for caller in callers:
            caller.join()
    assert failures == []
    pods = release.parts("gateway")
    assert {pod["metadata"]["uid"] for pod in pods} == before
    assert {status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]} == {0}


def test_a_broken_secret_leaves_the_last_certificate_in_force_and_a_metric_says_so(own):
    context = ssl.create_default_context(cafile=own.certificate)
    good, serial = own.secret()
    apply(good, namespace=SYSTEM)
    until(lambda: shown(context) == {serial}, "the new one is served")
    unusable, expiry = (
        "pilotlight_tls_certificate_unusable",
        "pilotlight_tls_certificate_expiry_timestamp_seconds",
    )
    assert metric(unusable) == [0.0] * len(gateways())
    ends = ssl.cert_time_to_seconds(
        subprocess.run(
            ["openssl", "x509", "-in", "tls.crt", "-noout", "-enddate"],
            cwd=own.directory,
            capture_output=True,
            text=True,
            check=True,
        )
        .stdout.strip()
        .partition("=")[2]
    )
    assert metric(expiry) == [ends] * len(gateways())
    other = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        capture_output=True,
        check=True,
    )
    apply(own.stored(**{"tls.key": other.stdout}), namespace=SYSTEM)
    until(lambda: metric(unusable) == [1.0] * len(gateways()), lambda: metric(unusable))
    assert "tls.key is not the key of the first certificate in tls.crt" in release.logged("gateway", SECRET)
    assert shown(context) == {serial}
    apply(good, namespace=SYSTEM)
    until(lambda: metric(unusable) == [0.0] * len(gateways()), lambda: metric(unusable))
