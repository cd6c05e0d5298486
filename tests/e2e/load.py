"""Calls at a steady rate, and a journal of what handlers did with them.

The client sends whatever has become of earlier calls (open loop), and sends
nothing twice: what is tried again is a connection that was not made. Handlers
write to the journal, outside of their instances, and wait for its word, so its
order is the order of what happened.
"""

import http.client
import json
import select
import socket
import socketserver
import threading
import time
from collections import Counter

HANDLER = """
import socket, time, uuid
INSTANCE, journal = uuid.uuid4().hex, None

def note(place, word, call):
    global journal
    if journal is None:
        host, port = place.rsplit(":", 1)
        journal = socket.create_connection((host, int(port)), timeout=20)
    journal.sendall(f"{word} {call} {INSTANCE}\\n".encode())
    assert journal.recv(1)

def lambda_handler(event, context):
    note(event["journal"], "begin", event["call"])
    time.sleep(event["seconds"])
    note(event["journal"], "end", event["call"])
    return event["call"]
"""


class Journal:
    def __init__(self, host):
        self.lines = []  # (word, call, instance)
        journal = self

        class Desk(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    journal.lines.append(tuple(line.decode().split()))
                    self.wfile.write(b".")

        self._server = socketserver.ThreadingTCPServer((host, 0), Desk)
        self._server.daemon_threads = True
        self.address = "{}:{}".format(*self._server.server_address)
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._serving.start()

    def close(self):
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()

    def overlaps(self):
        """Events that began in an instance while another was in it."""
        inside, found = {}, []
        for word, call, instance in list(self.lines):
            if word == "begin":
                if instance in inside:
                    found.append((instance, inside[instance], call))
                inside[instance] = call
            elif inside.get(instance) == call:
                del inside[instance]
        return found


class Load:
    """Runs inside `with`; `report` says what has become of the calls once it is over."""

    def __init__(self, host, function, journal, rate=40, seconds=0.05, connections=16):
        self.place, self.journal, self.rate, self.seconds = host, journal, rate, seconds
        self.path = f"/2015-03-31/functions/{function}/invocations"
        self.answered, self.failed, self.reconnects = [], [], Counter()
        self._stop, self._next, self._turn = threading.Event(), 0, threading.Lock()
        self._callers = [threading.Thread(target=self._call) for _ in range(connections)]

    def __enter__(self):
        self._begin = time.monotonic()
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for caller in self._callers:
            caller.join(60)
        self.took = time.monotonic() - self._begin

    def await_answers(self, number, seconds=30):
        """Returns once `number` more calls are answered."""
        wanted, deadline = len(self.answered) + number, time.monotonic() + seconds
        while len(self.answered) < wanted:
            assert time.monotonic() < deadline, f"not {number} more answers in {seconds} s: {self.failed[:3]}"
            time.sleep(0.05)

    def _call(self):
        connection = None
        while True:
            with self._turn:
                number, self._next = self._next, self._next + 1
            if self._stop.wait(max(0, self._begin + number / self.rate - time.monotonic())):
                return
            connection = self._one(connection, f"call-{number}")

    def _one(self, connection, call):
        begin = time.monotonic()
        try:
            if connection is None or connection.sock is None or has_ended(connection.sock):
                connection = self._connect()
            event = {"call": call, "journal": self.journal.address, "seconds": self.seconds}
            connection.request("POST", self.path, json.dumps(event))
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200 and body == json.dumps(call).encode():
                self.answered.append(call)
            else:
                self.failed.append((call, at(self._begin, begin), answer.status, body.decode()))
            return connection
        except (OSError, http.client.HTTPException) as error:
            self.failed.append((call, at(self._begin, begin), repr(error), at(begin)))
            return None

    def _connect(self):
        """A connection that is not made has started nothing: the Service's endpoint has gone."""
        deadline = time.monotonic() + 10
        while True:
            connection = http.client.HTTPConnection(self.place, timeout=2)
            try:
                connection.connect()
            except OSError as error:
                self.reconnects[repr(error)] += 1
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                connection.sock.settimeout(45)
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection

    def assert_exact(self):
        """None failed, none was lost, none ran twice, never two at once in an instance."""
        begun = Counter(call for word, call, _ in self.journal.lines if word == "begin")
        ended = {call for word, call, _ in self.journal.lines if word == "end"}
        wrong = {
            "failed": self.failed,
            "twice": [call for call, times in begun.items() if times > 1],
            "answered but not run": [call for call in self.answered if call not in ended],
            "two at once": self.journal.overlaps(),
        }
        instances = len({line[2] for line in self.journal.lines})
        print(
            f"{len(self.answered)} calls in {self.took:.1f} s, {instances} instances, "
            f"not connected: {dict(self.reconnects)}"
        )
        for name, found in wrong.items():
            assert not found, f"{name}: {len(found)} of {self._next}, such as {found[:5]}"


def at(begin, now=None):
    return f"{(now or time.monotonic()) - begin:.2f} s"


def has_ended(sock):
    """The other end has closed it: nothing is sent there any more."""
    return bool(select.select([sock], [], [], 0)[0])
