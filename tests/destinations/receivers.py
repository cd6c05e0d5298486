"""Real receivers of records, on loopback: a server of SQS's protocol, one of S3's, one of NATS, and a web server.

ElasticMQ comes from Maven Central, with all that it runs with (`elasticmq/pom.xml`). versitygw and the NATS server are built
from their Go modules, as the programs of the cluster are.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3

from tests.harness.paths import REPOSITORY
from tests.harness.patience import until

HERE = Path(__file__).parent
BIN = REPOSITORY / "target/cluster/bin"
JARS = REPOSITORY / "target/elasticmq"
KEYS = {"AWS_ACCESS_KEY_ID": "records", "AWS_SECRET_ACCESS_KEY": "hunter2hunter2"}
ELASTICMQ = """
include classpath("application.conf")
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-hostname = "127.0.0.1", bind-port = {port}, sqs-limits = strict }}
rest-stats {{ enabled = false }}
queues {{ done {{}} }}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def built(part):
    """A program that `tests/cluster/cluster build` makes, once."""
    subprocess.run([REPOSITORY / "tests/cluster/cluster", "build", part], check=True)


class Authority:
    """Signs a certificate for loopback, and is no authority of the platform."""

    def __init__(self, folder):
        self.pem, self.certificate, self.key = (folder / name for name in ("ca.crt", "tls.crt", "tls.key"))
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        own = ["-keyout", folder / "ca.key", "-out", self.pem, "-subj", "/CN=authority"]
        run([*new, *own, "-addext", "keyUsage=critical,keyCertSign"])
        signed = ["-CA", self.pem, "-CAkey", folder / "ca.key", "-subj", "/CN=receiver"]
        names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
        run([*new, *signed, *names, "-keyout", self.key, "-out", self.certificate])


def run(command):
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def running(command, folder, is_ready, **options):
    """A process, from when it is ready until `with` ends."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, **options)
    try:

        def ready():
            assert process.poll() is None, log.read_text()
            return is_ready(log.read_text())

        until(ready, log.read_text)
        yield process
    finally:
        process.terminate()
        process.wait()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def client(service, port, **keys):
    given = keys or KEYS
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
    )


def jars():
    """ElasticMQ's jars, from Maven's own cache after the first time."""
    wanted = (HERE / "elasticmq/pom.xml").read_text()
    stamp = JARS / "pom.xml"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(JARS, ignore_errors=True)
        copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={JARS}"]
        pom = f"--file={HERE / 'elasticmq/pom.xml'}"
        subprocess.run(["mvn", "--quiet", "--batch-mode", pom, *copy], check=True)
        stamp.write_text(wanted)
    return JARS


@contextmanager
def elasticmq(folder):
    port = free_port()
    (folder / "elasticmq.conf").write_text(ELASTICMQ.format(port=port))
    command = ["java", "-Dconfig.file=elasticmq.conf", "-cp", f"{jars()}/*", "org.elasticmq.server.Main"]
    with running(command, folder, lambda log: re.search(r"server .* started in", log)):
        yield client("sqs", port)


@contextmanager
def versitygw(folder):
    built("versitygw")
    port = free_port()
    (folder / "buckets").mkdir()
    command = [BIN / "versitygw", f"--port=127.0.0.1:{port}", "posix", folder / "buckets"]
    root = {"ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]}
    with running(command, folder, lambda _: answers(port), env={**os.environ, **root}):
        yield client("s3", port)


class Nats:
    """A NATS server, and what a subscriber has got."""

    def __init__(self, port, login, authority=None):
        self.url = f"nats://127.0.0.1:{port}"
        self.received = []
        self.stream = socket.create_connection(("127.0.0.1", port))
        if authority:
            self.url = self.url.replace("nats:", "tls:")
            assert self.stream.makefile("rb", buffering=0).readline().startswith(b"INFO ")
            context = ssl.create_default_context(cafile=authority.pem)
            self.stream = context.wrap_socket(self.stream, server_hostname="127.0.0.1")
        self.file = self.stream.makefile("rb")
        connect = {"verbose": False, "headers": True, **login}
        self.stream.sendall(f"CONNECT {json.dumps(connect)}\r\nSUB > 1\r\nPING\r\n".encode())
        while not self.line().startswith(b"PONG"):
            pass
        threading.Thread(target=self.read, daemon=True).start()

    def line(self):
        line = self.file.readline()
        assert line and not line.startswith(b"-ERR"), line
        return line

    def read(self):
        while line := self.file.readline():
            match line.split():
                case [b"PING"]:
                    self.stream.sendall(b"PONG\r\n")
                case [b"HMSG", subject, _, head, size]:
                    body = self.file.read(int(size) + 2)
                    self.received.append((subject.decode(), body[: int(head)].decode(), body[int(head) : -2]))


@contextmanager
def nats(folder, login=None, config="", authority=None):
    """`login`: what a client shows; `config`: the server's."""
    built("nats")
    port = free_port()
    if authority:
        config += f'\ntls {{ cert_file: "{authority.certificate}", key_file: "{authority.key}" }}'
    (folder / "nats.conf").write_text(f'listen: "127.0.0.1:{port}"\n{config}\n')
    command = [BIN / "nats-server", "--config=nats.conf"]
    with running(command, folder, lambda log: "Server is ready" in log):
        server = Nats(port, login or {}, authority)
        yield server
        server.stream.close()


class Web:
    """A web server that keeps what it gets, and answers as it was told. It listens at an address of this machine."""

    def __init__(self, authority=None, address="127.0.0.1"):
        self.received = []
        self.status, self.head, self.body = 202, {}, b""
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                web.received.append((self.path, dict(self.headers), body))
                self.send_response(web.status)
                for name, value in {"content-length": len(web.body), **web.head}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(web.body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer((address, 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{address}:{self.server.server_port}"
        if authority:
            self.url = self.url.replace("http:", "https:")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.certificate, authority.key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
