"""A request as it came in, by the reader of plain heads or by aiohttp's parser: from here on it is one."""

import asyncio
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.observe.record import Notes
from authproxy.proxy.guard import local_address
from authproxy.proxy.plain import HTTP_1_1, PlainHead, Version, pairs_of

if TYPE_CHECKING:
    from aiohttp.http import RawRequestMessage

    from authproxy.proxy.downstream.connection import ClientConnection

RawHeaders = tuple[tuple[bytes, bytes], ...]
MAX_UNREAD = 128 << 10  # bytes of a body that we hold before the client has to wait: one read of uvloop's


class Payload(Protocol):
    """The body of a request, as it arrives; what aiohttp's `StreamReader` has of it."""

    def is_eof(self) -> bool:
        """Whether all of it has arrived."""
        ...

    def at_eof(self) -> bool:
        """Whether all of it has arrived and was read."""
        ...

    def read_nowait(self, size: int = -1) -> bytes:
        """Return what has arrived and was not read yet."""
        ...

    async def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes once there are any; none at the end."""
        ...

    def set_exception(self, exc: BaseException) -> None:
        """Let whoever reads know that the rest will not come."""
        ...


class Whole:
    """A body that is all there."""

    __slots__ = ("_unread", "data")

    def __init__(self, data: bytes) -> None:
        self.data = self._unread = data

    def is_eof(self) -> bool:
        return True

    def at_eof(self) -> bool:
        return not self._unread

    def read_nowait(self, size: int = -1) -> bytes:  # noqa: ARG002 - all of it, whoever asks
        data, self._unread = self._unread, b""
        return data

    async def read(self, size: int = -1) -> bytes:
        return self.read_nowait(size)

    def set_exception(self, exc: BaseException) -> None:
        """Be there all the same."""


class Source(Protocol):
    """Where a body comes from."""

    def pause_reading(self) -> None:
        """Read no more for now."""

    def resume_reading(self) -> None:
        """Read on."""


class Stream:
    """A body that is still to come, in pieces as they come; `source` waits when nobody reads them.

    They are handed on without a copy: only small ones that have piled up are joined. Each time that some are
    read the source is told to read on, whoever had it wait.
    """

    __slots__ = ("_ended", "_failure", "_pieces", "_size", "_source", "_waiter")

    def __init__(self, source: "Source") -> None:
        self._source = source
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def pieces(self) -> int:
        """How many wait to be read."""
        return len(self._pieces)

    def feed_data(self, data: bytes) -> None:
        """Take a piece."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MAX_UNREAD:
            self._source.pause_reading()
        self._wake()

    def feed_eof(self) -> None:
        """Note that this was all."""
        self._ended = True
        self._wake()

    def set_exception(self, exc: BaseException) -> None:
        self._failure = exc
        self._wake()

    def is_eof(self) -> bool:
        return self._ended

    def at_eof(self) -> bool:
        return self._ended and not self._pieces

    def read_nowait(self, size: int = -1) -> bytes:
        if self._failure is not None:
            raise self._failure
        taken: list[bytes] = []
        room = size if size >= 0 else self._size
        while self._pieces and len(self._pieces[0]) <= room:
            taken.append(self._pieces.popleft())
            room -= len(taken[-1])
        if self._pieces and not taken:  # it is longer than was asked for
            piece = self._pieces.popleft()
            taken.append(piece[:room])
            self._pieces.appendleft(piece[room:])
        data = b"".join(taken)  # no copy of a single one
        self._size -= len(data)
        if self._size <= MAX_UNREAD:
            self._source.resume_reading()
        return data

    async def read(self, size: int = -1) -> bytes:
        while not self._pieces and not self._ended and self._failure is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.read_nowait(size)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


NO_BODY = Whole(b"")
"""The body of every request that has none."""


class Request:
    """One request of `connection`: `target` is as it was sent, `payload` its body.

    `head` is its head if that is plain, else `message` is what aiohttp made of it. `keep_alive` tells whether
    the client wants to go on afterwards.
    """

    head: PlainHead | None = None
    message: "RawRequestMessage | None" = None
    version: Version = HTTP_1_1
    keep_alive = True
    notes: Notes | None = None  # what is told of it besides the ordinary

    def __init__(
        self,
        connection: "ClientConnection",
        method: str,
        target: str,
        payload: Payload,
        head: PlainHead | None = None,
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.payload = payload
        if head is not None:
            self.head = head
            self.keep_alive = head.section.keep_alive

    @classmethod
    def parsed(
        cls, message: "RawRequestMessage", payload: Payload, connection: "ClientConnection"
    ) -> "Request":
        """Return the request that aiohttp has parsed."""
        made = cls(connection, message.method, message.path, payload)
        made.message = message
        made.version = message.version
        made.keep_alive = not message.should_close
        made.headers, made.raw_headers = message.headers, message.raw_headers
        return made

    def replace(self, target: str, headers: RawHeaders) -> None:
        """Go on as if it had come with these; it is no plain one any more."""
        self.target, self.head, self.raw_headers = target, None, headers
        pairs = [
            (name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in headers
        ]
        self.headers = CIMultiDictProxy(CIMultiDict(pairs))

    @cached_property
    def raw_headers(self) -> RawHeaders:
        return tuple(pairs_of(self.head.section.lines)) if self.head is not None else ()

    @cached_property
    def headers(self) -> CIMultiDictProxy[str]:
        pairs = [(name.decode("ascii"), value.decode("ascii")) for name, value in self.raw_headers]
        return CIMultiDictProxy(CIMultiDict(pairs))

    @property
    def authority(self) -> str:
        """The value of `Host`; "" when there is none."""
        return self.head.section.authority if self.head is not None else self.headers.get("Host", "")

    @property
    def local_address(self) -> str | None:
        """The IP address at which the client reached us; None on a Unix socket."""
        return local_address(self.connection.transport)

    def __repr__(self) -> str:
        return f"<Request {self.method}>"
