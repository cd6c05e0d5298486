"""A server that lets `operator/access/examples/judge.rs` decide about each request, and answers as a gateway does.

SDKs connect to it over HTTP. It keeps what they have sent, so that a test can change a part and send it again.
"""

import base64
import http.client
import json
import subprocess
import threading
import time
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.harness.paths import REPOSITORY

TOKEN = "ey.web.identity"
ERRORS = {
    "missing": "MissingAuthenticationTokenException",
    "incomplete": "IncompleteSignatureException",
    "unrecognized": "UnrecognizedClientException",
    "signature": "InvalidSignatureException",
    "expired": "ExpiredTokenException",
}


@dataclass(frozen=True)
class Sent:
    """A request as it came over the connection."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name, value):
        """The same with another value of a header, or without the header."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return replace(self, headers=kept if value is None else (*kept, (name, value)))

    def value(self, name):
        return next((value for other, value in self.headers if other.lower() == name.lower()), None)


@dataclass
class Settings:
    """What the judge knows; a test may change it."""

    ahead: int = 0  # seconds by which its clock is ahead of the SDK's
    session_key: int = 7  # its bytes; another one is that of another release
    expires: int = 2**40  # of the access key


@dataclass
class Judged:
    settings: Settings = field(default_factory=Settings)
    sent: list[Sent] = field(default_factory=list)
    answers: list[dict] = field(default_factory=list)

    def __post_init__(self):
        program = REPOSITORY / "target/debug/examples/judge"
        self.judge = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lock = threading.Lock()
        known = self.ask({})
        self.key_id, self.secret = known["id"], known["secret"]
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.port = self.server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.judge.stdin.close()
        assert self.judge.wait() == 0

    def ask(self, question):
        with self.lock:
            self.judge.stdin.write(json.dumps(question) + "\n")
            self.judge.stdin.flush()
            return json.loads(self.judge.stdout.readline())

    def decide(self, sent):
        """The judge's answer to a request."""
        head = {
            "method": sent.method,
            "target": sent.target,
            "headers": sent.headers,
            "body": base64.b64encode(sent.body).decode(),
            "now": int(time.time()) + self.settings.ahead,
            "sessionKey": self.settings.session_key,
            "expires": self.settings.expires,
            "token": TOKEN,
        }
        return self.ask({"head": head})

    def handler(judged):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                sent = Sent(self.command, self.path, tuple(self.headers.items()), body)
                decided = judged.decide(sent)
                judged.sent.append(sent)
                judged.answers.append(decided)
                status, headers = 200, {"x-amzn-RequestId": "8f3c4a1e-0000-4000-8000-000000000000"}
                if "xml" in decided:
                    status, text = decided["status"], decided["xml"].encode()
                    headers["content-type"] = "text/xml"
                elif "refusal" in decided:
                    status, text = 403, json.dumps({"message": decided["message"]}).encode()
                    headers["x-amzn-ErrorType"] = ERRORS[decided["refusal"]]
                    headers["content-type"] = "application/json"
                else:
                    text = b'{"hello": "world"}'
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        return Handler

    def send(self, sent):
        """Sends a request as it is, and returns status, type of the error and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.putrequest(sent.method, sent.target, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.header("Content-Length", str(len(sent.body))).headers:
            connection.putheader(name, value)
        connection.endheaders(sent.body)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.getheader("x-amzn-ErrorType"), body
