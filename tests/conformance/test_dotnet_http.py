"""The HTTP of .NET's client, with a Runtime API that answers as the supervisor does not but may."""

import json
import socket
import subprocess

import pytest

from tests.conformance.waiting import FINDS
from tests.conformance.waiting_compiled import assembly, dotnet
from tests.harness.endpoint import only_local
from tests.harness.patience import PATIENCE

pytestmark = only_local("it plays the Runtime API itself")
EVENT = b'{"do": "echo"}'


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return dotnet(tmp_path_factory.mktemp("client")).made + "bootstrap.exe"


@pytest.fixture
def runtime(program, tmp_path):
    """A Runtime API that a process with `Finds.cs` calls."""
    (tmp_path / "Finds.dll").write_bytes(assembly((FINDS / "Finds.cs").read_text()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        port = server.getsockname()[1]
        process = subprocess.Popen(
            ["mono", program, "Finds::Finds.Handler::Handle"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}"},
        )
        yield Runtime(server)
        process.kill()
        process.wait()


class Runtime:
    def __init__(self, server):
        self.server, self.connections = server, 0
        self.connect()

    def connect(self):
        self.connection, _ = self.server.accept()
        self.stream = self.connection.makefile("rb")
        self.connections += 1

    def asked(self):
        """The next request, on whatever connection: its line and body."""
        line = self.stream.readline()
        if not line:
            self.connect()
            line = self.stream.readline()
        length = 0
        while header := self.stream.readline().strip():
            name, _, value = header.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return line.split()[1].rpartition(b"/")[2].decode(), self.stream.read(length)

    def answer(self, status, *headers, body=b""):
        headers = [b"HTTP/1.1 %d x" % status, *headers]
        self.connection.sendall(b"\r\n".join(headers) + b"\r\n\r\n" + body)

    def event(self, *headers, body):
        own = b"lambda-runtime-aws-request-id: r", b"lambda-runtime-deadline-ms: 9999999999999"
        self.answer(200, *own, *headers, body=body)

    def invoke(self):
        """An invocation in the usual way."""
        assert self.asked()[0] == "next"
        self.event(b"content-length: %d" % len(EVENT), body=EVENT)
        name, body = self.asked()
        assert (name, json.loads(body)) == ("response", json.loads(EVENT))
        self.answer(202, b"content-length: 0")


def test_one_connection_is_kept(runtime):
    runtime.invoke()
    runtime.invoke()
    assert runtime.connections == 1


def test_a_body_in_chunks(runtime):
    assert runtime.asked()[0] == "next"
    chunks = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in (EVENT[:3], EVENT[3:]))
    runtime.event(b"Transfer-Encoding: Chunked", body=chunks + b"0\r\nTrailer: x\r\n\r\n")
    assert json.loads(runtime.asked()[1]) == json.loads(EVENT)
    runtime.answer(202, b"content-length: 0")
    runtime.invoke()
    assert runtime.connections == 1


def test_an_announced_end_of_the_connection(runtime):
    assert runtime.asked()[0] == "next"
    runtime.event(b"content-length: %d" % len(EVENT), b"Connection: Close", body=EVENT)
    assert runtime.asked()[0] == "response"
    assert runtime.connections == 2
    runtime.answer(202, b"content-length: 0")
    runtime.invoke()


def test_a_refusal_keeps_the_connection(runtime):
    assert runtime.asked()[0] == "next"
    runtime.event(b"content-length: %d" % len(EVENT), body=EVENT)
    assert runtime.asked()[0] == "response"
    runtime.answer(413, b"content-length: 2", body=b"{}")
    runtime.invoke()
