"""Serves the real handler over HTTP, as much of the Invoke API as a load sees of it. An event runs before its 202.

    function_server.py [JOURNAL]        prints its port; ends with its standard input

Each request has an instance of its own while it runs: the handler's module, loaded once more if none is
idle. With JOURNAL the handlers are given that address in place of the event's.
"""

import http.server
import importlib.util
import json
import os
import sys
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace

HANDLER = Path(__file__).resolve().parents[1] / "handler.py"
idle = []


def load():
    spec = importlib.util.spec_from_file_location("handler", HANDLER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Invocation(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if sys.argv[1:]:
            event["journal"] = sys.argv[1]
        try:
            instance = idle.pop()
        except IndexError:
            instance = load()
        headers, request = {}, str(uuid.uuid4())
        try:
            answer = instance.lambda_handler(event, SimpleNamespace(aws_request_id=request))
        except Exception as error:
            answer = {"errorType": type(error).__name__, "errorMessage": str(error)}
            headers = {"X-Amz-Function-Error": "Unhandled"}
        idle.append(instance)
        body = json.dumps(answer).encode()
        if self.headers["x-amz-invocation-type"] == "Event":
            body = b""
        self.send_response(200 if body else 202)
        self.send_header("x-amzn-requestid", request)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Invocation)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
os._exit(0)
