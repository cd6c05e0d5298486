"""Handlers that show which instance served an event and what it remembers.

Called through functions.yaml by both SDK suites. Tests and handlers meet in
files: a handler leaves a mark, and waits for one with a bound.
"""

import threading
import time
import uuid
from pathlib import Path

INSTANCE = uuid.uuid4().hex  # made at init: a second value is a second process
calls = 0


def count(event, context):
    """Counts the events of this process; with `hang` it never answers."""
    global calls
    calls += 1
    if event.get("hang"):
        threading.Event().wait()
    return {"instance": INSTANCE, "calls": calls}


def hold(event, context):
    """Says through the file `entered` that it runs, and runs until `release` exists."""
    Path(event["entered"]).touch()
    await_condition(Path(event["release"]).exists)
    return {"instance": INSTANCE}


def meet(event, context):
    """Returns once `instances` events are inside this handler at the same time."""
    directory = Path(event["directory"])
    (directory / context.aws_request_id).touch()
    await_condition(lambda: len(list(directory.iterdir())) >= event["instances"])
    return {"instance": INSTANCE}


def await_condition(condition):
    deadline = time.monotonic() + 25
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the other side of the test did not come within 25 s")
        time.sleep(0.01)
