"""Messages of any length between processes, over a datagram socket pair that outlives either.

File descriptors may go with a message (SCM_RIGHTS, unix(7)).
"""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from authproxy.capabilities import recv_fds, send_fds

DATAGRAM = 32 << 10  # bytes of a message in one datagram; longer ones go in several
MAX_DESCRIPTORS = 250  # with one message; Linux takes 253

Message = dict[str, Any]


class Pieces:
    """Cuts messages in pieces, and puts those of the other side together again.

    Each datagram is a piece of a message: WHO NUMBER LEFT and its bytes, LEFT being how many pieces follow.
    Both ends outlive the process that writes: what one that died has left incomplete is never heard of.
    """

    def __init__(self) -> None:
        self._who = time.monotonic_ns()
        self._number = 0
        self._incomplete: tuple[bytes, list[bytes]] = (b"", [])  # of whom and which, and its pieces
        self._descriptors: list[int] = []  # that came with them

    @property
    def complete(self) -> bool:
        """Whether no message has begun and not ended."""
        return not self._incomplete[0]

    def of(self, message: Message) -> Iterator[bytes]:
        """Yield the pieces of `message`."""
        self._number += 1
        data = json.dumps(message).encode()
        pieces = [data[start : start + DATAGRAM] for start in range(0, len(data), DATAGRAM)]
        for left, piece in zip(reversed(range(len(pieces))), pieces, strict=True):
            yield b"%d %d %d %b" % (self._who, self._number, left, piece)

    def take(self, data: bytes, descriptors: list[int]) -> Message | None:
        """Take a piece; return its message once that is whole, `descriptors` in it if some came along."""
        who, number, left, piece = data.split(b" ", 3)
        message = who + b" " + number
        of, pieces = self._incomplete
        if of != message:
            self._let_go()
            pieces = []
        self._descriptors += descriptors
        pieces = [*pieces, piece]
        if left != b"0":
            self._incomplete = message, pieces
            return None
        self._incomplete = b"", []
        try:
            whole: Message = json.loads(b"".join(pieces))
        except ValueError:
            self._let_go()
            return None  # its first pieces went to a process that is gone
        if self._descriptors:
            whole["descriptors"], self._descriptors = self._descriptors, []
        return whole

    def close(self) -> None:
        """Close the descriptors of what is incomplete."""
        self._let_go()

    def _let_go(self) -> None:
        _close(self._descriptors)
        self._descriptors = []


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return a piece, and the descriptors that came with it, which are ours then. Raises OSError."""
    if recv_fds is None:
        return sock.recv(2 * DATAGRAM), []
    data, descriptors, _, _ = recv_fds(sock, 2 * DATAGRAM, MAX_DESCRIPTORS)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's way
    return data, descriptors


def _duplicates(descriptors: Iterable[int]) -> list[int]:
    """Return descriptors of our own for the same files: by the time they go, the others may be closed."""
    made: list[int] = []
    try:
        made.extend(os.dup(each) for each in descriptors)
    except BaseException:
        _close(made)
        raise
    return made


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Channel:
    """One end of a datagram socket pair, for messages of any length; `hear` gets those that come.

    What the socket does not take now waits here, so nothing is lost while the other side is slow.
    """

    def __init__(self, sock: socket.socket, hear: Callable[["Channel", Message], None]) -> None:
        self._sock = sock
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._pieces = Pieces()
        self._to_send: deque[tuple[bytes, list[int]]] = deque()
        sock.setblocking(False)  # noqa: FBT003 - the standard library's way
        self._loop.add_reader(sock, self._read)

    def send(self, message: Message, descriptors: Iterable[int] = ()) -> None:
        """Send `message`, now or as soon as the other side has taken what was sent before.

        `descriptors` go with it, and need not stay open. Raises OSError when there are too few of them left.
        """
        waits = bool(self._to_send)
        along = _duplicates(descriptors)
        for piece in self._pieces.of(message):
            self._to_send.append((piece, along))
            along = []
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
                piece, descriptors = self._to_send[0]
                if descriptors:
                    send_fds(self._sock, [piece], descriptors)
                else:
                    self._sock.send(piece)
                self._to_send.popleft()
                _close(descriptors)
        except BlockingIOError:
            pass
        except OSError:  # the other end is gone for good
            for _, descriptors in self._to_send:
                _close(descriptors)
            self._to_send.clear()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                data, descriptors = receive(self._sock)
                if not data:
                    return
                if (message := self._pieces.take(data, descriptors)) is not None:
                    self._hear(self, message)
