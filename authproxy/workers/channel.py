"""Messages of any length between processes, over a datagram socket pair that outlives either."""

import asyncio
import contextlib
import json
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

DATAGRAM = 32 << 10  # bytes of a message in one datagram; longer ones go in several

Message = dict[str, Any]


class Channel:
    """One end of a datagram socket pair, for messages of any length; `hear` gets those that come.

    Each datagram is a piece of a message: WHO NUMBER LEFT and its bytes, LEFT being how many pieces follow.
    Both ends outlive the process that writes: what one that died has left incomplete is never heard of. What
    the socket does not take now waits here, so nothing is lost while the other side is slow.
    """

    def __init__(self, sock: socket.socket, hear: Callable[["Channel", Message], None]) -> None:
        self._sock = sock
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._who = time.monotonic_ns()
        self._number = 0
        self._to_send: deque[bytes] = deque()
        self._incomplete: tuple[bytes, list[bytes]] = (b"", [])  # of whom and which, and its pieces
        sock.setblocking(False)  # noqa: FBT003 - the standard library's way
        self._loop.add_reader(sock, self._read)

    def send(self, message: Message) -> None:
        """Send `message`, now or as soon as the other side has taken what was sent before."""
        self._number += 1
        data = json.dumps(message).encode()
        pieces = [data[start : start + DATAGRAM] for start in range(0, len(data), DATAGRAM)]
        waits = bool(self._to_send)
        for left, piece in zip(reversed(range(len(pieces))), pieces, strict=True):
            self._to_send.append(b"%d %d %d %b" % (self._who, self._number, left, piece))
        if not waits:
            self._write()
            if self._to_send:
                self._loop.add_writer(self._sock, self._write_more)

    def _write_more(self) -> None:
        self._write()
        if not self._to_send:
            self._loop.remove_writer(self._sock)

    def _write(self) -> None:
        try:
            while self._to_send:
                self._sock.send(self._to_send[0])
                self._to_send.popleft()
        except BlockingIOError:
            pass
        except OSError:  # the other end is gone for good
            self._to_send.clear()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self._sock.recv(2 * DATAGRAM):
                self._take(data)

    def _take(self, data: bytes) -> None:
        who, number, left, piece = data.split(b" ", 3)
        message = who + b" " + number
        of, pieces = self._incomplete
        pieces = [*pieces, piece] if of == message else [piece]
        if left != b"0":
            self._incomplete = message, pieces
            return
        self._incomplete = b"", []
        try:
            whole = json.loads(b"".join(pieces))
        except ValueError:
            return  # its first pieces went to a process that is gone
        self._hear(self, whole)
