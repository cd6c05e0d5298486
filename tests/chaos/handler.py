"""Tells a journal outside of its instance when an event begins and ends, and answers its id.

Each word is waited for, so the journal's order is the order of what happened, and is said once: what
could not be said is an error of the handler's. Two dozen lines, as all of it comes with each claim.
"""

import json
import os
import socket
import time
import uuid

INSTANCE, REVISION, journal = uuid.uuid4().hex, int(os.environ["REVISION"]), None


def note(place, word, call):
    global journal
    if journal is None:
        host, port = place.rsplit(":", 1)
        journal = socket.create_connection((host, int(port)), timeout=20)
        journal.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    said = {"record": word, "id": call, "instance": INSTANCE, "revision": REVISION}
    journal.sendall(json.dumps(said).encode() + b"\n")
    assert journal.recv(1), "the journal has gone"


def lambda_handler(event, context):
    note(event["journal"], "began", event["id"])
    time.sleep(event["seconds"])
    note(event["journal"], "ended", event["id"])
    return event["id"]
