"""Makes a connection for each client, up to a limit, and lets what is in flight finish at the end."""

import asyncio
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

MAX_TURNED_AWAY = 16  # connections over the limit that linger at a time; more are just closed


class HeadReader(Protocol):
    """Who reads plain heads."""

    @abstractmethod
    def read(self, data: bytes, /) -> PlainHead | None:
        """Return the head that `data` begins with, if that is plain and whole."""


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
        """Break off: the client has gone away."""

    @abstractmethod
    def refused(self, error: AuthproxyError) -> str | None:
        """Take note of a request that was refused before it was one; return its id, if it has one."""


class ProxyServer:
    """Makes a `ClientConnection` for each connection, up to `limit`; `limit_hint` says how to raise that.

    It is what `create_server` wants to be given. Times are in seconds.
    """

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
        self.keepalive = keepalive
        self.header_bytes = header_bytes
        self.header_seconds = header_seconds
        self.draining = False
        self.connections: set[ClientConnection] = set()
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._limit_hint = limit_hint
        self._turned_away: set[ClientConnection] = set()  # connections over the limit, until they are closed
        self._changed = asyncio.Event()

    def __call__(self) -> ClientConnection:
        return ClientConnection(self, self._loop)

    def parser_for(self, connection: ClientConnection) -> "RequestParser":
        """Return a parser for one request."""
        from authproxy.proxy.downstream.parser import parser_for

        return parser_for(connection, self._loop, self.header_bytes)

    def connection_made(self, connection: ClientConnection) -> None:
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

    def noticed(self) -> None:
        """Let the drain see what has changed."""
        if self.draining:
            self._changed.set()

    async def drain(self, seconds: float) -> None:
        """Let what is in flight finish, for up to `seconds`; then close everything."""
        self.draining = True
        for connection in list(self.connections):
            if not connection.in_flight and not connection.leaving:
                connection.force_close()
        if busy := self._in_flight():
            logs.info("draining", requests=len(busy), seconds=seconds)
            if not await self._until(lambda: not self._in_flight(), seconds):
                logs.warning("drain ran out", broken_off=len(self._in_flight()))
                for connection in self._in_flight():
                    connection.end_tunnel()
        # Who was told that this is the end still gets to read it.
        await self._until(lambda: not any(each.leaving or each.in_tunnel for each in self.connections), QUIET)
        await self.shutdown(0.1)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for `condition`, for up to `seconds`; tell whether it came."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _in_flight(self) -> list[ClientConnection]:
        return [each for each in self.connections if each.in_flight]

    async def shutdown(self, seconds: float) -> None:
        """Break off what is under way, and close everything; wait for that for up to `seconds`."""
        await asyncio.gather(*(each.shutdown(seconds) for each in self.connections))
