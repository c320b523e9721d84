"""An upstream's reply: its head at once, its body as it arrives."""

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

from authproxy.errors import BadReply
from authproxy.proxy.plain import PlainReply, pairs_of

if TYPE_CHECKING:
    from authproxy.proxy.upstream.connection import Connection


class Pipe(Protocol):
    """What takes over a connection that has switched protocols; `side` is always "upstream" here."""

    def feed(self, side: Literal["upstream"], data: bytes) -> None: ...
    def end(self, side: Literal["upstream"]) -> None: ...
    def pause(self, side: Literal["upstream"]) -> None: ...
    def resume(self, side: Literal["upstream"]) -> None: ...
    def cut(self, side: Literal["upstream"]) -> None: ...
    def close(self) -> None: ...


ReplyHeaders = list[tuple[bytes, bytes]]

HIGH_WATER = 128 << 10  # bytes of a body we hold before the upstream has to wait: one read of uvloop's
MAX_HELD = 4096  # pieces of it: an upstream may send very small ones, and each costs memory of its own
MAX_PIECES = 16  # that are left as they came; more are joined


class Reply:
    """An upstream's reply: its head at once, its body as it arrives.

    `length` is the announced size of the body in bytes, None when nobody said; `parts` is what arrived
    and was not read yet. `plain` is the head, if it is plain; `watcher` is called once, with `watched`, when
    there is something to see.
    """

    status = 0
    reason = b""
    length: int | None = None
    plain: PlainReply | None = None
    complete = False
    failure: Exception | None = None
    watcher: Callable[[Any], None] | None = None
    watched: Any = None
    _size = 0
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, connection: "Connection") -> None:
        self.parts: list[bytes] = []
        self._connection: Connection | None = connection

    @cached_property
    def headers(self) -> ReplyHeaders:
        return pairs_of(self.plain.lines) if self.plain is not None else []

    async def head(self) -> None:
        """Wait for the head. Raises `UpstreamError`."""
        while not self.status and self.failure is None:
            await self._wait()
        if self.failure is not None and not self.status:
            raise self.failure

    async def read(self) -> list[bytes]:
        """Return what arrived since the last call; nothing at the end. Raises `UpstreamError`."""
        while not self.parts:
            if self.failure is not None:
                raise self.failure
            if self.complete:
                return []
            await self._wait()
        parts, self.parts, self._size = self.parts, [], 0
        if not self.complete and self._connection is not None:
            self._connection.resume()
        return parts if len(parts) <= MAX_PIECES else [b"".join(parts)]

    def join(self, pipe_to: Callable[[asyncio.Transport], Pipe]) -> Pipe:
        """Make the connection of a 101 a pipe. Raises `UpstreamError` if it is gone already."""
        if self._connection is None:
            raise self.failure or BadReply("the upstream switched protocols and was gone")
        return self._connection.join(pipe_to)

    def close(self) -> None:
        """Have done with this reply: a connection that is still busy with it is closed."""
        if self._connection is not None:
            self._connection.abort()

    # ── what the connection tells ────────────────────────────────────────────────────────────────

    def head_came(self, status: int, reason: bytes, headers: ReplyHeaders, length: int | None) -> None:
        self.status, self.reason, self.headers, self.length = status, reason, headers, length
        self._wake()

    def plain_head_came(self, plain: PlainReply) -> None:
        self.plain = plain
        self.status, self.reason, self.length = plain.status, plain.reason, plain.length
        self._wake()

    def came_whole(self, plain: PlainReply, body: bytes) -> None:
        """Take a reply that is all there."""
        self.plain = plain
        self.status, self.reason, self.length = plain.status, plain.reason, plain.length
        if body:
            self.parts.append(body)
        self.complete = True
        self._connection = None
        if self._waiter is not None:
            self._wake()

    def feed(self, data: bytes) -> bool:
        """Take a piece of the body; tell whether the upstream should pause."""
        self.parts.append(data)
        self._size += len(data)
        self._wake()
        return self._size > HIGH_WATER or len(self.parts) > MAX_HELD

    def join_from(self, first: int) -> None:
        """Join the parts from the number `first` on, which came at once."""
        self.parts[first:] = [b"".join(self.parts[first:])]

    def end(self, failure: Exception | None = None) -> None:
        self.complete = failure is None
        self.failure = failure
        self._connection = None
        self._wake()

    def show(self) -> None:
        """Call the watcher, now that all that has arrived is here."""
        watcher, watched = self.watcher, self.watched
        self.watcher = self.watched = None  # else there would be a circle: what watches has the reply
        if watcher is not None:
            watcher(watched)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def __repr__(self) -> str:
        state = "complete" if self.complete else "failed" if self.failure else "open"
        return f"<Reply {self.status} {state}>"
