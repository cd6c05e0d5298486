"""Serves archives over HTTP to gateways, from this machine or the cluster's client network."""

import hashlib
import http.server
import threading

from tests.harness.addresses import own_address


class Web:
    """Serves what is put into `files`; `asked` lists the requests.

    With `authorization` it answers 401 to requests that have not exactly this header. `refused` has their paths, and
    what they sent in its place.
    """

    def __init__(self, host, authorization=None):
        files, asked, refused = self.files, self.asked, self.refused = {}, [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                sent = self.headers.get("Authorization")
                if authorization and sent != authorization:
                    refused.append((self.path, sent))
                    self.send_error(401)
                    return
                body = files.get(self.path)
                self.send_response(200 if body else 404)
                self.send_header("content-length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self._serving = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._serving.start()
        self.at = f"http://{own_address(host)}:{self._server.server_port}"

    def archive(self, path, content):
        """The `code` of a Function whose archive this is."""
        self.files[path] = content
        return {"archive": {"url": self.at + path, "sha256": hashlib.sha256(content).hexdigest()}}

    def close(self):
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()
