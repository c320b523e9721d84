"""Makes a connection for each client, up to a limit, and lets what is in flight finish at the end.

listener ─▶ Entrance ─┐ who answers there: for all routes, or for one whose own listener it is
listener ─▶ Entrance ─┴─▶ ProxyServer: the limit, the deadlines and the end of them all
"""

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from authproxy import logs
from authproxy.errors import AuthproxyError, ConnectionLimit
from authproxy.net.lingering_close import QUIET
from authproxy.proxy.context import Step
from authproxy.proxy.downstream.connection import ClientConnection
from authproxy.proxy.plain import PlainHead
from authproxy.proxy.request import Request

if TYPE_CHECKING:
    from authproxy.proxy.downstream.parser import RequestParser

ACCEPT_TURNS = 4  # of the loop, from a socket that was accepted to its `connection_made`
NEW_SECONDS = 1.0  # that a drain waits for the first request of a connection
MAX_TURNED_AWAY = 16  # connections over the limit that linger at a time; more are just closed


class HeadReader(Protocol):
    """Who reads plain heads."""

    @abstractmethod
    def read(self, data: bytes, /) -> tuple[PlainHead, bytes] | None:
        """Return the head that `data` begins with, and what is behind it, if that is plain and whole."""


class Answerer(Protocol):
    """Who answers requests; the handler."""

    @property
    def reader(self) -> "HeadReader":
        """Who reads plain heads."""

    @abstractmethod
    def start(self, request: Request) -> Step:
        """Begin with a request, as far as nothing has to be waited for."""

    @abstractmethod
    async def finish(self, context: Any) -> bool:
        """Go on from where it stands; tell whether the connection can go on."""

    @abstractmethod
    def lost(self, context: Any) -> None:
        """Break off: the client has gone away, unless its connection has a transport still."""

    @abstractmethod
    def refused(self, error: AuthproxyError, began: float | None) -> bytes:
        """Take note of what was refused before it was a request, and return the answer.

        `began` is when its first byte came, on `perf_counter`; None where none has.
        """


class Entrance:
    """Where the clients of one listener come in, which `answerer` answers.

    `closing` says that this listener is gone: each answer is the last one of its connection.
    """

    __slots__ = ("_server", "answerer", "closing")

    def __init__(self, server: "ProxyServer", answerer: Answerer) -> None:
        self.answerer = answerer
        self.closing = False
        self._server = server

    def __call__(self) -> ClientConnection:
        return self._server.connection(self)

    def close(self) -> None:
        """Have each answer from now on be the last of its connection: the listener is gone."""
        self.closing = True
        self._server.wind_down(lambda each: each.entrance is self)


class ProxyServer:
    """Makes a `ClientConnection` for each connection, up to `limit`; `limit_hint` says how to raise that.

    It, or an `entrance` of it, is what `create_server` wants to be given. `own` has who answers at the
    listeners that are a route's own, by their names. Times are in seconds.
    """

    closing = False

    def __init__(
        self,
        answerer: Answerer,
        *,
        limit: int,
        limit_hint: str | None = None,
        keepalive: float,
        header_bytes: int,
        header_seconds: float,
    ) -> None:
        self.answerer = answerer
        self.own: dict[str, Answerer] = {}
        self.draining = False
        self.connections: set[ClientConnection] = set()
        self._loop = asyncio.get_running_loop()
        self.adjust(
            limit=limit,
            limit_hint=limit_hint,
            keepalive=keepalive,
            header_bytes=header_bytes,
            header_seconds=header_seconds,
        )
        self._turned_away: set[ClientConnection] = set()  # connections over the limit, until they are closed
        self._changed = asyncio.Event()

    def adjust(
        self,
        *,
        limit: int,
        limit_hint: str | None = None,
        keepalive: float,
        header_bytes: int,
        header_seconds: float,
    ) -> None:
        """Go by these limits from now on; connections over a lower one stay."""
        self.keepalive = keepalive
        self.header_bytes = header_bytes
        self.header_seconds = header_seconds
        self._limit = limit
        self._limit_hint = limit_hint

    def __call__(self) -> ClientConnection:
        return ClientConnection(self, self._loop)

    def entrance(self, listener: str) -> "Entrance":
        """Return what makes the connections of one listener."""
        return Entrance(self, self.own.get(listener, self.answerer))

    def connection(self, entrance: "Entrance") -> ClientConnection:
        """Return a connection that came in there."""
        return ClientConnection(self, self._loop, entrance)

    def parser_for(self, connection: ClientConnection) -> "RequestParser":
        """Return a parser for one request."""
        from authproxy.proxy.downstream.parser import parser_for

        return parser_for(connection, self._loop, self.header_bytes)

    def connection_made(self, connection: ClientConnection) -> None:
        connection.draining = self.draining or connection.entrance.closing
        self.connections.add(connection)
        if len(self.connections) - len(self._turned_away) > self._limit:
            self._turned_away.add(connection)
            self._turn_away(connection)

    def _turn_away(self, connection: ClientConnection) -> None:
        error = ConnectionLimit(
            f"this listener has {self._limit} connections open already",
            hint=self._limit_hint,
            retry_after=1,
        )
        connection.refuse(error)
        if len(self._turned_away) > MAX_TURNED_AWAY:
            connection.force_close()

    def connection_lost(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        self._turned_away.discard(connection)
        self.noticed()

    def wind_down(self, which: Callable[[ClientConnection], bool]) -> None:
        """Have the answer that is under way, or the next, be the last of `which` connections."""
        for connection in self.connections:
            connection.draining |= which(connection)

    def noticed(self) -> None:
        """Let the drain see what has changed."""
        if self.draining:
            self._changed.set()

    async def drain(self, seconds: float) -> None:
        """Let what is in flight finish, for up to `seconds`; then close everything.

        The listeners are closed already; whom one has just accepted is about to be a connection here.
        """
        self.draining = True
        self.wind_down(lambda _: True)
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        self._close(lambda each: not (each.in_flight or each.leaving or each.is_new))
        self._loop.call_later(NEW_SECONDS, self._close, lambda each: each.is_new)
        if busy := self._in_flight():
            logs.info("draining", requests=len(busy), seconds=seconds)
        await self._until_none(lambda each: each.in_flight or each.is_new, seconds)
        if busy := self._in_flight():
            logs.warning("drain ran out", broken_off=len(busy))
            for connection in busy:
                connection.end_tunnel()
        # Who was told that this is the end still gets to read it.
        await self._until_none(lambda each: each.leaving or each.in_tunnel, QUIET)
        await self.shutdown(0.1)

    def _close(self, which: Callable[[ClientConnection], bool]) -> None:
        for connection in list(self.connections):
            if which(connection):
                connection.force_close()
        self.noticed()

    async def _until_none(self, waits: Callable[[ClientConnection], bool], seconds: float) -> None:
        """Wait until no connection is one that `waits`, for up to `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(map(waits, self.connections)):
                    self._changed.clear()
                    await self._changed.wait()

    def _in_flight(self) -> list[ClientConnection]:
        return [each for each in self.connections if each.in_flight]

    async def shutdown(self, seconds: float) -> None:
        """Break off what is under way, and close everything; wait for that for up to `seconds`."""
        await asyncio.gather(*(each.shutdown(seconds) for each in self.connections))
