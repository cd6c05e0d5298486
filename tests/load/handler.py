"""Reports to a journal outside of its instance when an event begins and ends, and answers with its id.

The handler continues only after the journal has acknowledged a record, so the journal's order is the order of
events. With PRINTS it prints a line before each record, so what the journal has was printed. It sends no record twice: a
missing acknowledgement is a `JournalGone`, an error of the harness that ends the load. This file is short because every
claim contains it.
"""

import json
import os
import socket
import time
import uuid

INSTANCE, REVISION = uuid.uuid4().hex, int(os.environ.get("REVISION", "0"))
PRINTS = "PRINTS" in os.environ
journal, address = None, None


class JournalGone(Exception):
    pass


def note(place, word, call, request=None):
    global journal, address
    if PRINTS:
        print(word, call)
    try:
        if address != place:  # an instance may outlive a run, and the next run has another journal
            host, port = place.rsplit(":", 1)
            journal = socket.create_connection((host, int(port)), timeout=20)
            journal.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            address = place
        said = {"record": word, "id": call, "instance": INSTANCE, "revision": REVISION, "request": request}
        journal.sendall(json.dumps(said).encode() + b"\n")
        if not journal.recv(1):
            raise ConnectionError("the journal closed the connection")
    except OSError as error:
        address = None
        raise JournalGone(f"{place}: {error!r}") from error


def lambda_handler(event, context):
    # All attempts of an asynchronous call must have the request id of its 202.
    note(event["journal"], "began", event["id"], context.aws_request_id if "asynchronous" in event else None)
    time.sleep(event["seconds"])
    note(event["journal"], "ended", event["id"])
    return event["id"]
