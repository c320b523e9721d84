"""aiohttp's low-level server, with what a proxy needs besides.

aiohttp parses requests, keeps connections alive and runs one handler a request. Here are its errors in
our words (its own would repeat what the client sent), a limit on connections, and a drain that lets an
upload in flight finish.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp.http_exceptions import LineTooLong
from aiohttp.web import BaseRequest, Server, StreamResponse
from aiohttp.web_protocol import RequestHandler

from authproxy import logs
from authproxy.errors import AuthproxyError, BadRequest, ConnectionLimit, HeadersTooLarge
from authproxy.proxy.problem import problem_response

Handler = Callable[[BaseRequest], Awaitable[StreamResponse]]

MOST_HEADERS = 1000  # lines; the size of the section is limited besides
READ_BUFFER = 256 << 10  # bytes of a body taken from a client before it has to wait


class Sent:
    """Tells aiohttp that the response is out already, and whether the connection goes on.

    It stands in for a `StreamResponse`: the handler has written to the transport itself.
    """

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, _request: BaseRequest) -> None:
        return None

    async def write_eof(self) -> None:
        return None


KEEP_ALIVE = cast("StreamResponse", Sent(keep_alive=True))
CLOSE = cast("StreamResponse", Sent(keep_alive=False))


class ClientConnection(RequestHandler):
    """One client's connection. `busy` while a request of it is being answered."""

    __slots__ = ("_server", "busy")

    def __init__(self, server: "ProxyServer", **settings: Any) -> None:
        super().__init__(server, **settings)
        self._server = server
        self.busy = False

    @property
    def draining(self) -> bool:
        """Whether this answer should be the connection's last."""
        return self._server.draining

    def done(self) -> None:
        """Note that no request is under way any more."""
        self.busy = False
        self._server.noticed()

    def handle_error(
        self,
        request: BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> StreamResponse:
        """Answer a request that could not be parsed, or a fault of our own; close the connection."""
        if isinstance(exc, LineTooLong):
            error: AuthproxyError = HeadersTooLarge("a line of the header section is too long")
        elif status == 400:
            error = BadRequest("the request is not valid HTTP/1.1")
        else:
            logs.logger.error("internal error", exc_info=exc)
            error = AuthproxyError("something went wrong inside authproxy; its log has the place")
        if self.transport is not None:
            self.transport.write(problem_response(error, route=None, close=True))
        return CLOSE


class ProxyServer(Server):
    """Makes a `ClientConnection` for each connection, up to `limit`."""

    def __init__(self, handler: Handler, *, limit: int, keepalive: float, header_bytes: int) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,  # a client that goes away cancels its upstream request
            keepalive_timeout=keepalive,
            max_line_size=header_bytes,
            max_field_size=header_bytes,
            max_headers=MOST_HEADERS,
            read_bufsize=READ_BUFFER,
            auto_decompress=False,  # bodies are forwarded as they are
            access_log=None,
        )
        self._limit = limit
        self.draining = False
        self._emptied: asyncio.Event | None = None

    def __call__(self) -> RequestHandler:
        return ClientConnection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > self._limit:
            error = ConnectionLimit(
                f"authproxy has {self._limit} connections open already",
                hint="`limits.connections` sets the limit",
                retry_after=1,
            )
            transport.write(problem_response(error, route=None, close=True))
            handler.force_close()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        cast("ClientConnection", handler).done()

    def noticed(self) -> None:
        """End the drain when nothing is in flight any more."""
        if self._emptied is not None and not self._busy():
            self._emptied.set()

    async def drain(self, seconds: float) -> None:
        """Let what is in flight finish, for up to `seconds`; then close everything."""
        self.draining = True
        self._emptied = asyncio.Event()
        busy = self._busy()
        for connection in self.connections:
            if connection not in busy:
                connection.force_close()
        if busy:
            logs.info("draining", requests=len(busy), seconds=seconds)
            try:
                async with asyncio.timeout(seconds):
                    await self._emptied.wait()
            except TimeoutError:
                logs.warning("drain ran out", broken_off=len(self._busy()))
        await self.shutdown(0.1)

    def _busy(self) -> list[RequestHandler]:
        return [each for each in self.connections if cast("ClientConnection", each).busy]
