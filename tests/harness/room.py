"""A room in which handlers wait for the test (sdk/functions/rooms.py).

Owns a port of this machine and the messages of handlers. The test decides when they may
continue. Calls that must overlap meet in a room, however long each takes to arrive.
"""

import socketserver
import threading

from tests.harness.paths import REPOSITORY
from tests.harness.patience import PATIENCE

# The handlers' side: a file to add to a function's code.
ROOMS = {"rooms.py": (REPOSITORY / "tests/sdk/functions/rooms.py").read_text()}


class Room:
    """Lets handlers out when `open` is called, or as soon as `size` of them are in."""

    def __init__(self, host, size=None):
        self.entered, self.size = [], size
        self._changed, self._is_open = threading.Condition(), False
        room = self

        class Door(socketserver.StreamRequestHandler):
            def handle(self):
                name = self.rfile.readline().decode().strip()
                if room._wait(name):
                    self.wfile.write(b".")

        self._server = socketserver.ThreadingTCPServer((host, 0), Door)
        self._server.daemon_threads = True
        self.address = "{}:{}".format(*self._server.server_address)
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._serving.start()

    def _wait(self, name):
        with self._changed:
            self.entered.append(name)
            self._is_open |= len(self.entered) == self.size
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._is_open, timeout=PATIENCE)

    def await_entered(self, number):
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.entered) >= number, PATIENCE)
            assert enough, f"{len(self.entered)} of {number} handlers entered within {PATIENCE} s"

    def open(self):
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def close(self):
        self.open()
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()
