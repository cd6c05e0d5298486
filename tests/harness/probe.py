"""Tries connections: run by the test, by pods and by functions, so it uses Python's own library only."""

import errno
import select
import socket

# In seconds: how long a connection that must succeed is given, and how much longer the others.
GIVEN = 240
LONGER = 3


def begin(place):
    host, _, port = place.rpartition(":")
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.setblocking(False)
    one.connect_ex((host, int(port)))
    return one


def settle(pending, seconds):
    """The results of these connections, {PLACE: SOCKET}, once none has come for that time; they are closed."""
    found = {}
    while pending and (settled := select.select([], list(pending.values()), [], seconds)[1]):
        for place in [place for place, one in pending.items() if one in settled]:
            with pending.pop(place) as one:
                failed = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            found[place] = errno.errorcode[failed] if failed else "connected"
    for one in pending.values():
        one.close()
    return found


def probe(closed, opened):
    """The results of connections to HOST:PORT. Those of `closed` begin first, and are given time after those of `opened`
    have succeeded. So their silence has neither a slow network nor a busy machine as its cause."""
    tried = {place: begin(place) for place in closed}
    found = settle({place: begin(place) for place in opened}, GIVEN)
    found |= settle(tried, LONGER)
    return {place: found.get(place, "silence") for place in [*closed, *opened]}
