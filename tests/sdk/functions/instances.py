"""Handlers that show which instance served an event and what it remembers.

Called through functions.yaml by both SDK suites. Tests and handlers meet in
rooms (rooms.py).
"""

import threading
import uuid

from rooms import enter

INSTANCE = uuid.uuid4().hex  # made at init: a second value is a second process
calls = 0


def count(event, context):
    """Counts the events of this process; with `hang` it never answers."""
    global calls
    calls += 1
    if event.get("hang"):
        threading.Event().wait()
    return {"instance": INSTANCE, "calls": calls}


def meet(event, context):
    """Is in the room of the test until that is opened."""
    enter(event["room"], context.aws_request_id)
    return {"instance": INSTANCE}
