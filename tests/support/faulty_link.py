"""A TCP link with a fault in it, to stand between any two: the proxy and an upstream, a client and the proxy.

    near side ──── request ────▶ FaultyLink ──── request ────▶ 127.0.0.1:port
              ◀──── answer ─────            ◀──── answer ─────

    async with FaultyLink(port, Reset(at=1000)) as link:
        link.port                   where to connect instead of `port`
        await link.struck.wait()    until the fault has hit a connection

`request` and `answer` are the directions; what the bytes mean is no matter here. A socket is read only when
there is somewhere to put what it holds, so pressure from one side is felt on the other.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Literal, Self

Direction = Literal["request", "answer"]

PIECE = 64 << 10  # bytes carried at a time
SMALL_PIECE = 4 << 10  # the same on a slow link
BUFFER = 16 << 10  # bytes that the kernel takes from a side that nobody reads from
SEGMENT = 1440  # bytes, as over Ethernet; with those of loopback the kernel holds megabytes for the sender
SEEN = 0.05  # seconds in which the bytes before a reset are seen, before the reset overtakes them


@dataclass(frozen=True, slots=True)
class Latency:
    """Each piece is held back for `seconds`, both ways."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Slow:
    """Small pieces, `bytes_per_second` in each direction."""

    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Reset:
    """After `at` bytes of one direction both sides get a reset."""

    at: int
    of: Direction = "answer"


@dataclass(frozen=True, slots=True)
class Truncate:
    """After `at` bytes of one direction both sides get the end of the stream."""

    at: int
    of: Direction = "answer"


@dataclass(frozen=True, slots=True)
class BlackHole:
    """After `at` bytes of one direction nothing comes any more, and nothing is read; both sides stay open."""

    at: int
    of: Direction = "answer"


Fault = Latency | Slow | Reset | Truncate | BlackHole


class _Struck(Exception):
    """The fault has hit this connection."""


class FaultyLink:
    """Forwards connections to `port` on loopback, each of them with `fault`; None forwards faithfully."""

    def __init__(self, port: int, fault: Fault | None = None) -> None:
        self.fault = fault
        self.struck = asyncio.Event()
        self._target = ("127.0.0.1", port)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        _narrow(self._listener)  # and so are those that it accepts
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._listener.close()

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self) -> None:
        while True:
            near, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            connected = self._start(self._connect(near))
            # One that is cancelled before its first step closes nothing itself.
            connected.add_done_callback(lambda _, near=near: near.close())

    async def _connect(self, near: socket.socket) -> None:
        with near, socket.socket() as far:
            _narrow(far)
            far.settimeout(0)
            try:
                await asyncio.get_running_loop().sock_connect(far, self._target)
                if getattr(self.fault, "at", None) == 0:
                    raise _Struck  # noqa: TRY301 - before anything is carried, the request included
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._carry("request", near, far))
                    both.create_task(self._carry("answer", far, near))
            except* _Struck:
                await self._strike(near, far)
            except* ConnectionError:  # one side was reset: so is the other
                _reset(near, far)

    async def _carry(self, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        """Carry one direction to its end, or to where the fault strikes."""
        loop, size = asyncio.get_running_loop(), SMALL_PIECE if isinstance(self.fault, Slow) else PIECE
        left = self._whole(direction)
        while left is None or left > 0:
            piece = await loop.sock_recv(source, size if left is None else min(size, left))
            if not piece:
                _end(sink)
                return
            await self._check_wait(len(piece))
            await loop.sock_sendall(sink, piece)
            left = None if left is None else left - len(piece)
        raise _Struck

    def _whole(self, direction: Direction) -> int | None:
        """Return how many bytes pass before the fault strikes; None when it does not strike this way."""
        match self.fault:
            case Reset() | Truncate() | BlackHole() if self.fault.of == direction:
                return self.fault.at
        return None

    async def _check_wait(self, size: int) -> None:
        match self.fault:
            case Latency(seconds):
                await asyncio.sleep(seconds)
            case Slow(bytes_per_second):
                await asyncio.sleep(size / bytes_per_second)

    async def _strike(self, near: socket.socket, far: socket.socket) -> None:
        match self.fault:
            case Reset():
                await asyncio.sleep(SEEN)
                _reset(near, far)
                self.struck.set()
            case Truncate():
                _end(near, far)
                self.struck.set()
                await asyncio.gather(_swallow(near), _swallow(far))
            case BlackHole():
                self.struck.set()
                await asyncio.Event().wait()  # until the link is closed


def _narrow(sock: socket.socket) -> None:
    """Have the kernel hold little between the one who sends and us, so that what we do is felt there."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)


def _reset(*sides: socket.socket) -> None:
    """Close each with a reset: with a linger of no seconds, that is what a close is."""
    for side in sides:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        side.close()


def _end(*sides: socket.socket) -> None:
    """Say to each that no more will come."""
    for side in sides:
        with contextlib.suppress(OSError):  # it is gone already
            side.shutdown(socket.SHUT_WR)


async def _swallow(side: socket.socket) -> None:
    """Read to the end: closed with something unread, a socket would reset."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(side, PIECE):
            pass
