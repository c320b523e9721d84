"""Makes a connection for each client, up to a limit, and lets what is in flight finish at the end."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from aiohttp.http_parser import HttpRequestParser
from aiohttp.web import RequestPayloadError, Server, StreamResponse
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler

from authproxy import logs
from authproxy.errors import AuthproxyError, ConnectionLimit
from authproxy.net.lingering_close import QUIET
from authproxy.proxy.downstream.connection import MAX_HEADERS, READ_BUFFER, ClientConnection
from authproxy.proxy.downstream.incoming import Incoming

if TYPE_CHECKING:
    from aiohttp.web_protocol import _RequestFactory, _RequestHandler


LINGER = 2.0  # seconds that a body which nobody wants is read on, so that its connection can be kept
MAX_TURNED_AWAY = 16  # connections over the limit that linger at a time; more are just closed


class Answerer(Protocol):
    """Who answers requests; the handler."""

    @abstractmethod
    async def __call__(self, incoming: Incoming) -> StreamResponse:
        """Answer in the task; go on where the fast path has come to."""

    @abstractmethod
    def quick(self, incoming: Incoming) -> None:
        """Answer in the fast path: end with the connection's `finish` or `hand_over`."""

    @abstractmethod
    def refused(self, error: AuthproxyError) -> None:
        """Take note of a request that was refused before it was one."""


class ProxyServer(Server):
    """Makes a `ClientConnection` for each connection, up to `limit`; `limit_hint` tells who is one too many.

    `request_factory` makes what `answerer` is called with.
    """

    def __init__(
        self,
        answerer: Answerer,
        *,
        request_factory: Callable[..., object] = Incoming,
        limit: int,
        limit_hint: str | None = None,
        keepalive: float,
        header_bytes: int,
        header_seconds: float,
    ) -> None:
        super().__init__(
            cast("_RequestHandler", answerer),
            request_factory=cast("_RequestFactory", request_factory),
            handler_cancellation=True,  # a client that goes away cancels its upstream request
            keepalive_timeout=keepalive,
            max_line_size=header_bytes,
            max_field_size=header_bytes,
            max_headers=MAX_HEADERS,
            read_bufsize=READ_BUFFER,
            auto_decompress=False,  # bodies are forwarded as they are
            lingering_time=LINGER,
            access_log=None,
        )
        self.answerer = answerer
        self.header_bytes = header_bytes
        self.header_seconds = header_seconds
        self.draining = False
        self._limit = limit
        self._limit_hint = limit_hint
        self._turned_away: set[RequestHandler] = set()  # connections over the limit, until they are closed
        self._changed = asyncio.Event()

    def __call__(self) -> RequestHandler:
        return ClientConnection(self, loop=self._loop, **self._kwargs)

    def parser_for(self, connection: ClientConnection) -> HttpRequestParser:
        """Return a parser as aiohttp makes one for each connection."""
        return HttpRequestParser(
            connection,
            self._loop,
            READ_BUFFER,
            max_line_size=self.header_bytes,
            max_field_size=self.header_bytes,
            max_headers=MAX_HEADERS,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=MAX_MSG_QUEUE_SIZE,
        )

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) - len(self._turned_away) > self._limit:
            self._turned_away.add(handler)
            self._turn_away(cast("ClientConnection", handler))

    def _turn_away(self, connection: ClientConnection) -> None:
        error = ConnectionLimit(
            f"this listener has {self._limit} connections open already",
            hint=self._limit_hint,
            retry_after=1,
        )
        connection.refuse(error)
        if len(self._turned_away) > MAX_TURNED_AWAY:
            connection.force_close()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._loop.call_soon(self._forget, handler)  # aiohttp does so a moment later as well

    def _forget(self, handler: RequestHandler) -> None:
        self._turned_away.discard(handler)
        self.noticed()

    def noticed(self) -> None:
        """Let the drain see what has changed."""
        if self.draining:
            self._changed.set()

    async def drain(self, seconds: float) -> None:
        """Let what is in flight finish, for up to `seconds`; then close everything."""
        self.draining = True
        for connection in self._clients():
            if not connection.in_flight and not connection.leaving:
                connection.force_close()
        if busy := self._in_flight():
            logs.info("draining", requests=len(busy), seconds=seconds)
            if not await self._until(lambda: not self._in_flight(), seconds):
                logs.warning("drain ran out", broken_off=len(self._in_flight()))
                for connection in self._in_flight():
                    connection.end_tunnel()
        # Who was told that this is the end still gets to read it.
        await self._until(lambda: not any(each.leaving or each.in_tunnel for each in self._clients()), QUIET)
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

    def _clients(self) -> list[ClientConnection]:
        return cast("list[ClientConnection]", self.connections)

    def _in_flight(self) -> list[ClientConnection]:
        return [each for each in self._clients() if each.in_flight]
