"""SDKs in pods that have nothing but a service account: what each needs, the pod, and what it has said.

The pod is the example of docs/access.md, so that what users copy is what is tested. Runs in the cluster's client network.
"""

import base64
import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.harness.kubectl import SUITE, apply, get, kubectl
from tests.harness.paths import REPOSITORY
from tests.harness.patience import until
from tests.harness.release import HOST, IMAGES, RELEASE, SYSTEM, VERSION

HERE = REPOSITORY / "tests/sdk/callers"
CLIENTS = HERE / "clients"
DOCUMENT = REPOSITORY / "docs/access.md"
BUILT = REPOSITORY / "target/sdk/callers/built"
FOLDER = "/opt/callers"  # where BUILT is in the image
IMAGE = f"{IMAGES}/callers:{VERSION}"
ARCHIVE = REPOSITORY / "target/sdk/callers/callers.tar"
PLACE = f"callers-{SUITE}" if SUITE else "callers"  # the namespace of callers, which has no Functions
ENDPOINT = f"https://{HOST.removesuffix('.svc.cluster.local')}"
AUTHORITIES = "pilotlight-ca"
FILES = "/etc/pilotlight"  # where the pod has them


@dataclass(frozen=True)
class Sdk:
    """A client: its command with the folder of the clients, and how it gets the authorities."""

    name: str
    command: tuple[str, ...]
    # The variable that has the path of the authorities.
    authorities: str = "AWS_CA_BUNDLE"
    variables: dict[str, str] = field(default_factory=dict)
    image: str = IMAGE

    def environment(self, folder, files):
        """The variables beside those of the example, for clients in `folder` and authorities in `files`."""
        placed = {name: value.replace("{folder}", str(folder)) for name, value in self.variables.items()}
        if self.authorities == "JAVA_TOOL_OPTIONS":
            store = "-Djavax.net.ssl.trustStore={}/trust.p12 -Djavax.net.ssl.trustStorePassword=changeit"
            return {**placed, self.authorities: store.format(files)}
        return {**placed, self.authorities: f"{files}/ca.crt"}

    def words(self, folder):
        return [word.replace("{folder}", str(folder)) for word in self.command]


PYTHON = {"PYTHONPATH": "{folder}/python"}
SDKS = [
    Sdk("boto3", ("python3", "{folder}/clients/python.py"), variables=PYTHON),
    Sdk(
        "AWS CLI",
        ("bash", "{folder}/clients/cli.sh"),
        variables={**PYTHON, "AWS": "python3 -m awscli", "HOME": "/tmp"},
    ),
    Sdk(
        "JavaScript v3",
        ("{folder}/node/node", "{folder}/clients/javascript.mjs"),
        authorities="NODE_EXTRA_CA_CERTS",
        variables={"PACKAGES": "{folder}/node"},
    ),
    Sdk("Go v2", ("{folder}/go",)),
    Sdk("Rust", ("{folder}/rust",), authorities="SSL_CERT_FILE"),
    Sdk(
        "Java 2",
        ("{folder}/java/platform/bin/java", "-cp", "{folder}/java/classes:{folder}/java/jars/*", "Caller"),
        authorities="JAVA_TOOL_OPTIONS",
    ),
]
# In the image of a runtime, which has boto3 anyway, so that `make test` needs no other image.
REPRESENTATIVE = Sdk(
    "boto3",
    ("python3", "-c", (CLIENTS / "python.py").read_text()),
    variables={"PYTHONPATH": "/var/runtime"},
    image=f"{IMAGES}/python3.11:{VERSION}",
)


def example():
    """The specification of the pod in docs/access.md."""
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    [block] = [block for block in blocks if "AWS_WEB_IDENTITY_TOKEN_FILE" in block]
    return yaml.safe_load(block)["spec"]


def pod(sdk, name, account, function):
    """The example with this client in place of the user's program."""
    spec = example()
    [container] = spec["containers"]
    own = {
        "AWS_ROLE_ARN": f"arn:aws:iam::000000000000:role/{PLACE}/{account}",
        "AWS_ENDPOINT_URL_STS": ENDPOINT,
        "AWS_ENDPOINT_URL_LAMBDA": ENDPOINT,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "FUNCTION": function,
    }
    given = {one["name"]: one["value"] for one in container["env"]}
    assert given.pop("AWS_CA_BUNDLE") == f"{FILES}/ca.crt"
    assert set(given) <= {*own, "AWS_WEB_IDENTITY_TOKEN_FILE"}, given
    values = {**given, **own, **sdk.environment(FOLDER, FILES)}
    container |= {
        "image": sdk.image,
        "imagePullPolicy": "IfNotPresent",
        "command": sdk.words(FOLDER),
        "env": [{"name": name, "value": value} for name, value in values.items()],
    }
    # Only the projected token of the example: no other one of the account is in the pod.
    spec |= {"serviceAccountName": account, "restartPolicy": "Never", "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def authorities():
    """What callers verify gateways by, as the release has published it."""

    def published():
        found = get("configmap", f"{RELEASE}-ca", namespace=SYSTEM)
        return (found.get("data") or {}).get("ca.crt")

    return until(published, "the authorities are published")


def trust_store(certificates):
    """The same for Java."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "trust.p12"
        begin = "-----BEGIN CERTIFICATE-----"
        for number, one in enumerate(certificates.split(begin)[1:]):
            file = Path(folder) / f"{number}.crt"
            file.write_text(begin + one)
            words = ["keytool", "-importcert", "-noprompt", "-storetype", "PKCS12", "-storepass", "changeit"]
            words += ["-alias", str(number), "-file", file, "-keystore", store]
            subprocess.run(words, check=True, capture_output=True)
        return store.read_bytes()


def publish(for_java=False):
    """Copies the authorities to where the callers are: a pod reads only ConfigMaps of its own namespace."""
    certificates = authorities()
    copied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": AUTHORITIES}}
    copied["data"] = {"ca.crt": certificates}
    if for_java:
        copied["binaryData"] = {"trust.p12": base64.b64encode(trust_store(certificates)).decode()}
    apply(copied, namespace=PLACE)
    return certificates


def said(text):
    """What a client has printed, as values."""
    lines = [line for line in text.splitlines() if line.startswith('{"')]
    assert lines, text
    return json.loads(lines[-1])


def in_a_pod(sdk, account, function):
    """Runs the client in a pod of its own, and returns what it has printed."""
    name = f"{account}-{re.sub('[^a-z0-9]+', '-', sdk.name.lower())}"
    apply(pod(sdk, name, account, function), namespace=PLACE)
    try:
        until(lambda: phase(name) in ("Succeeded", "Failed"), lambda: f"{name} has ended: {state(name)}")
        log = kubectl("logs", name, namespace=PLACE)
        assert phase(name) == "Succeeded", log
        return said(log)
    finally:
        kubectl("delete", "pod", name, "--wait=false", namespace=PLACE)


def phase(name):
    return get("pod", name, namespace=PLACE)["status"].get("phase")


def state(name):
    return kubectl("describe", "pod", name, namespace=PLACE)


def outside(sdk, key_id, secret, function, files):
    """Runs the client with an access key and nothing else of Kubernetes, and returns what it has printed."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(files),
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL_STS": ENDPOINT,
        "AWS_ENDPOINT_URL_LAMBDA": ENDPOINT,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "FUNCTION": function,
        **sdk.environment(BUILT, files),
    }
    done = subprocess.run(sdk.words(BUILT), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return said(done.stdout)
