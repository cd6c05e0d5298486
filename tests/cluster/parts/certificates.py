"""The cluster's certificate authority, its identities and their kubeconfigs.

One `openssl req` makes a key and a certificate signed by the authority; elliptic curve keys keep the
dozen of them under a second.
"""

import base64
import json
import subprocess
from pathlib import Path

from .layout import (
    API_ADDRESS,
    API_SERVER,
    API_SERVICE_ADDRESS,
    CLIENT_KUBECONFIG,
    DOMAIN,
    PKI,
    node_address,
    node_name,
)
from .progress import Failed

CA_CERTIFICATE = PKI / "ca.crt"
CA_KEY = PKI / "ca.key"
ACCOUNT_KEY = PKI / "service-account.key"
ACCOUNT_PUBLIC_KEY = PKI / "service-account.pub"

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
BASE_CONFIG = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = set by -subj\n"
USERS = {
    "admin": "/O=system:masters/CN=pilotlight-admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "coredns": "/CN=system:coredns",
    "network-policies": "/CN=system:network-policies",
}


def make_all() -> None:
    PKI.mkdir(parents=True, mode=0o700)
    config().write_text(BASE_CONFIG)
    make_authority()
    make_account_keys()
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
    addresses = [API_SERVICE_ADDRESS, API_ADDRESS, "127.0.0.1"]
    issue("kube-apiserver", "/CN=kube-apiserver", alternatives(["localhost", *names], addresses))
    issue("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    for user, subject in USERS.items():
        issue(user, subject)
        write_kubeconfig(PKI / f"{user}.kubeconfig", user, API_SERVER)
    write_kubeconfig(CLIENT_KUBECONFIG, "admin", API_SERVER)


def make_node(number: int) -> None:
    name = node_name(number)
    if not (PKI / f"{name}.kubeconfig").exists():
        subject = f"/O=system:nodes/CN=system:node:{name}"
        issue(name, subject, alternatives([name], [node_address(number)]))
        write_kubeconfig(PKI / f"{name}.kubeconfig", name, API_SERVER)


def write_kubeconfig(file: Path, user: str, server: str) -> None:
    def embedded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    cluster = {"server": server, "certificate-authority-data": embedded(CA_CERTIFICATE)}
    credentials = {
        "client-certificate-data": embedded(PKI / f"{user}.crt"),
        "client-key-data": embedded(PKI / f"{user}.key"),
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "pilotlight", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "pilotlight", "context": {"cluster": "pilotlight", "user": user}}],
        "current-context": "pilotlight",
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
    file.chmod(0o600)


def make_authority() -> None:
    extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
    request("/CN=pilotlight", CA_CERTIFICATE, CA_KEY, extensions)


def make_account_keys() -> None:
    openssl(
        "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", str(ACCOUNT_KEY)
    )
    openssl("pkey", "-in", str(ACCOUNT_KEY), "-pubout", "-out", str(ACCOUNT_PUBLIC_KEY))


def issue(name: str, subject: str, *extra: str) -> None:
    extensions = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth,clientAuth",
        # Strict clients (Python from 3.13) want to be told which authority.
        "authorityKeyIdentifier=keyid",
        *extra,
    ]
    signer = ["-CA", str(CA_CERTIFICATE), "-CAkey", str(CA_KEY)]
    request(subject, PKI / f"{name}.crt", PKI / f"{name}.key", extensions, *signer)


def alternatives(names: list[str], addresses: list[str]) -> str:
    return "subjectAltName=" + ",".join([*(f"DNS:{n}" for n in names), *(f"IP:{a}" for a in addresses)])


def request(subject: str, certificate: Path, key: Path, extensions: list[str], *options: str) -> None:
    files = ["-keyout", str(key), "-out", str(certificate), "-config", str(config())]
    added = [word for extension in extensions for word in ("-addext", extension)]
    openssl("req", "-x509", *NEW_KEY, "-days", "365", "-subj", subject, *files, *added, *options)


def openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"openssl {arguments[0]}: {done.stderr.strip()}")


def config() -> Path:
    return PKI / "openssl.cnf"
