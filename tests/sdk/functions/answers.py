"""Handlers that answer, or fail, at once; each is one case of the Invoke API.

Called through functions.yaml by both SDK suites. Nothing here keeps state or
waits: that is in instances.py.
"""

import os
import sys
import threading
from datetime import datetime

from rooms import enter


def echo(event, context):
    return event


def nothing(event, context):
    return None


def length(event, context):
    """The number of characters of an event that is a string."""
    return len(event)


def sized(event, context):
    """A JSON string that is `bytes` long with its quotes."""
    return "x" * (event["bytes"] - 2)


def mark(event, context):
    """Enters a room, so that a test can see whether the handler ran."""
    enter(event["room"], event["name"])


def raises(event, context):
    raise ValueError("order 42 has no lines")


def not_json(event, context):
    return datetime(2026, 1, 31)


def leaves(event, context):
    sys.exit(event["status"])


def takes_memory(event, context):
    """Takes `mebibytes` and then waits for the limit to act, or for the timeout."""
    taken = [os.urandom(1 << 20) * 8 for _ in range(event["mebibytes"] // 8)]
    threading.Event().wait()
    return len(taken)
