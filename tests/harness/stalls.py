"""Callers that stall: in the head of a request, in its body, or in reading the answer; HTTP/1.1 and HTTP/2.

Each connection stalls until the gateway closes it, and is opened anew then. HTTP/2 is written in raw frames: a client
library would send whole requests. Used by tests/faithful/test_stalls.py and tests/bench/door.py.
"""

import asyncio
import contextlib
import logging
import os
import resource
import struct
import threading

BODY = 6 * 1024 * 1024
PIECE = 16 * 1024
KINDS = [(version, where) for version in ("http1", "http2") for where in ("head", "body", "read")]
# In seconds. Before a connection that was closed is opened anew.
PAUSE = 0.2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4


def raise_file_limit():
    """Lets this process, and those that it starts, open as many files as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def path_of(function):
    return f"/2015-03-31/functions/{function}/invocations"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """A header without compression and without an entry in the table."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def headers_of(path, length):
    return b"".join(
        [
            literal(b":method", b"POST"),
            literal(b":scheme", b"http"),
            literal(b":authority", b"localhost"),
            literal(b":path", path.encode()),
            literal(b"content-length", str(length).encode()),
        ]
    )


class Http2:
    """One connection, with as much of the protocol as a caller that stalls needs."""

    def __init__(self, reader, writer, window=65535):
        self.reader, self.writer = reader, writer
        self.initial, self.room, self.rooms = 65535, 65535, {}
        self.closed_streams = set()
        self._changed = asyncio.Event()
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        writer.write(PREFACE + frame(SETTINGS, 0, 0, settings))

    async def follow(self):
        """Reads until the gateway closes the connection, and answers settings and pings."""
        while True:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            if kind == SETTINGS and not flags & ACK:
                for place in range(0, len(payload), 6):
                    name, value = struct.unpack_from(">HI", payload, place)
                    if name == INITIAL_WINDOW_SIZE:
                        self.rooms = {key: room + value - self.initial for key, room in self.rooms.items()}
                        self.initial = value
                self.writer.write(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.writer.write(frame(PING, ACK, 0, payload))
            elif kind == WINDOW_UPDATE:
                (more,) = struct.unpack(">I", payload)
                if stream:
                    self.rooms[stream] = self.rooms.get(stream, self.initial) + more
                else:
                    self.room += more
            elif kind == RST_STREAM or (kind in (HEADERS, DATA) and flags & END_STREAM):
                self.closed_streams.add(stream)
            elif kind == GOAWAY:
                return
            self._changed.set()

    def begin(self, stream, path, length):
        self.rooms.setdefault(stream, self.initial)
        self.writer.write(frame(HEADERS, END_HEADERS, stream, headers_of(path, length)))

    async def send(self, stream, size):
        """Sends so much of a body as the gateway's windows let through; returns early if the stream is closed."""
        while size > 0 and stream not in self.closed_streams:
            piece = min(size, PIECE, self.room, self.rooms[stream])
            if piece <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            self.room -= piece
            self.rooms[stream] -= piece
            size -= piece
            self.writer.write(frame(DATA, 0, stream, b" " * piece))
            await self.writer.drain()


async def connect(address):
    host, port = address.split(":")
    return await asyncio.open_connection(host, int(port), limit=PIECE)


async def stall(address, version, where, quiet, large):
    """One connection, from its opening to its end. `quiet` and `large`: functions with a small and a large answer."""
    reader, writer = await connect(address)
    try:
        if version == "http1":
            head = f"POST {path_of(large if where == 'read' else quiet)} HTTP/1.1\r\nhost: localhost\r\n"
            length = BODY if where == "body" else 1
            begun = {
                "head": head,
                "body": f"{head}content-length: {length}\r\n\r\n" + " " * PIECE,
                "read": f"{head}content-length: {length}\r\n\r\n7",
            }
            writer.write(begun[where].encode())
            if where == "read":
                await until_closed(writer)
            else:
                await reader.read()
            return
        http2 = Http2(reader, writer, window=0 if where == "read" else 65535)
        if where == "head":
            # Nothing but the rest of the head may follow, so nothing is answered either.
            writer.write(frame(HEADERS, 0, 1, headers_of(path_of(quiet), 1)))
            await reader.read()
            return
        for stream in range(1, 17, 2):
            if where == "body":
                http2.begin(stream, path_of(quiet), BODY)
                writer.write(frame(DATA, 0, stream, b" " * 1024))
            elif where == "read" and stream < 4:
                http2.begin(stream, path_of(large), 1)
                writer.write(frame(DATA, END_STREAM, stream, b"7"))
        await http2.follow()
    finally:
        writer.transport.abort()


async def until_closed(writer):
    """Waits for the end of a connection whose answer nobody reads."""
    while not writer.transport.is_closing():
        # Bytes that the gateway would ignore after its answer; they fail once it has closed.
        await asyncio.sleep(1)
        writer.write(b"\r\n")


class Stalls:
    """As many connections of all kinds until the end of the `with` block, in a thread of the lowest priority."""

    def __init__(self, address, count, quiet, large):
        self.opened = 0
        self._address, self._count, self._functions = address, count, (quiet, large)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()

    def _run(self):
        # Callers have machines of their own: what the connections cost them must not be taken from the gateway.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        # It would report each byte that is written to a connection which the gateway has closed.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._all())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._main)
        self._loop.close()

    async def _all(self):
        kinds = [KINDS[number % len(KINDS)] for number in range(self._count)]
        await asyncio.gather(*(self._again(*kind) for kind in kinds))

    async def _again(self, version, where):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                self.opened += 1
                await stall(self._address, version, where, *self._functions)
            await asyncio.sleep(PAUSE)


async def bodies_on_one_connection(address, function, count):
    """Begins so many bodies of 6 MiB on one connection of HTTP/2, all but the last byte; returns (sent, closed).

    Bodies that the gateway does not take within 20 s are left as they are.
    """
    reader, writer = await connect(address)
    http2 = Http2(reader, writer)
    following = asyncio.create_task(http2.follow())
    streams = [2 * number + 1 for number in range(count)]

    async def send(stream):
        http2.begin(stream, path_of(function), BODY)
        await http2.send(stream, BODY - 1)

    sending = [asyncio.create_task(send(stream)) for stream in streams]
    done, late = await asyncio.wait([*sending, following], timeout=20, return_when=asyncio.ALL_COMPLETED)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        if not task.cancelled():
            task.exception()
    writer.transport.abort()
    return sum(task in done for task in sending), len(http2.closed_streams)
