"""Where a handler and its test meet, be they on one machine or in one cluster.

A room is a port on which the test listens (harness/room.py, node/room.mjs). Who
enters says a name, and is let out when the test opens the room.
"""

import socket

PATIENCE = 600  # seconds; the test gives up before


def enter(room, name):
    """Says in `room`, a HOST:PORT, that it is here; returns when the room is opened."""
    host, port = room.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as door:
        door.sendall(f"{name}\n".encode())
        if not door.recv(1):
            raise ConnectionError("the test has left the room")
