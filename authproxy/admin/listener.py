"""The admin listener's server: the proxy's own connections, limits and error pages, before the views.

    ClientConnection ──▶ aiohttp's task ──▶ AdminAnswerer ──▶ guard, views
            └─ no HTTP, too large, too slow, too many ──▶ problem

What a caller sent is never repeated in an error page.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from authproxy.errors import (
    AuthproxyError,
    BadRequest,
    BodyTooLarge,
    HeadersTooLarge,
    MethodNotAllowed,
    NoRoute,
)
from authproxy.proxy.downstream.connection import REFUSED, UNREAD_SECONDS, ClientConnection
from authproxy.proxy.downstream.incoming import Incoming
from authproxy.proxy.downstream.server import ProxyServer
from authproxy.proxy.problem import problem_content

FEWEST_CONNECTIONS, MAX_CONNECTIONS = 8, 64  # that it takes, as there are file descriptors
LARGEST_BODY = 64 << 10  # bytes; a form, no more

_REFUSALS: dict[int, AuthproxyError] = {
    404: NoRoute("the admin listener has no such page"),
    405: MethodNotAllowed("that page of the admin listener does not allow this method"),
    413: BodyTooLarge("the body is too large for the admin listener"),
}
"""What is said in place of aiohttp's own pages, by their status."""


class AdminServer(ProxyServer):
    """Serves `application`, which is set up already. Sizes are in bytes, times in seconds."""

    def __init__(
        self,
        application: web.Server,
        *,
        limit: int,
        keepalive: float,
        header_bytes: int,
        header_seconds: float,
    ) -> None:
        super().__init__(
            AdminAnswerer(application.request_handler, header_bytes),
            request_factory=application.request_factory,
            limit=limit,
            limit_hint=None,  # it has a limit of its own
            keepalive=keepalive,
            header_bytes=header_bytes,
            header_seconds=header_seconds,
        )

    def __call__(self) -> RequestHandler:
        return AdminConnection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in; at the limit the one that has been idle for longest makes room for it.

        Else a few who keep theirs open would take `/healthz` away from everybody.
        """
        if len(self._connections) - len(self._turned_away) >= self._limit:
            clients = cast("list[AdminConnection]", self._clients())
            idle = [each for each in clients if each.is_idle]
            if idle:
                oldest = min(idle, key=lambda each: each.idle_since)
                self._turned_away.add(oldest)
                oldest.force_close()
        super().connection_made(handler, transport)


class AdminConnection(ClientConnection):
    """A connection whose client may end its half once it has asked, as `nc -N` does.

    `idle_since` is when its last request was answered, or it was opened; the loop's own clock is too coarse.
    """

    __slots__ = ("_ended", "idle_since")

    def __init__(self, server: ProxyServer, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._ended = False
        self.idle_since = monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether it could be closed without breaking off a request."""
        return self.transport is not None and not self.in_flight and not self.leaving

    def done(self) -> None:
        super().done()
        self.idle_since = monotonic()

    @property
    def is_done_with(self) -> bool:
        """Whether nothing more can be asked on it."""
        return self._ended and not self._messages

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as in `ClientConnection`
        """Note that the client has ended its half; keep ours for the answers to what it has asked."""
        self._ended = self.in_flight and not self.leaving and not self._in_head and self._payload.is_eof()
        return self._ended or None


class AdminAnswerer:
    """Has requests answered by `handler`, an application's, in aiohttp's task."""

    def __init__(self, handler: Callable[..., Awaitable[web.StreamResponse]], header_bytes: int) -> None:
        self._handler = handler
        self._header_bytes = header_bytes

    def quick(self, incoming: Incoming) -> None:
        """Leave the request to aiohttp's task."""
        incoming.connection.hand_over(_Postponed(incoming))

    def refused(self, error: AuthproxyError) -> None:
        """Count nothing: the counts are of what is asked of routes."""

    async def __call__(self, incoming: object) -> web.StreamResponse:
        """Answer a request; who does not take the answer is cut off, and nothing is said of who is gone."""
        request = cast("web.Request", incoming)
        connection = cast("AdminConnection", request.protocol)
        connection.take_over()
        connection.busy = True
        try:
            response = await self._answer(request)
            try:
                async with asyncio.timeout(UNREAD_SECONDS):
                    await response.prepare(request)
                    await response.write_eof()
            except (ConnectionError, TimeoutError):
                connection.force_close()
                return REFUSED
            if connection.is_done_with:
                connection.linger(silent=True)
            elif not response.keep_alive:
                connection.linger(silent=not request.keep_alive and request.content.is_eof())
            return response
        finally:
            connection.done()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        size = len(request.raw_path) + sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
        if size > self._header_bytes:
            return problem(
                HeadersTooLarge(f"the header section is over {self._header_bytes} bytes"), close=True
            )
        if (request.content_length or 0) > LARGEST_BODY:
            return problem(_REFUSALS[413], close=True)
        try:
            return await self._handler(request)
        except (AuthproxyError, web.RequestPayloadError) as fault:
            error = fault if isinstance(fault, AuthproxyError) else BadRequest("the body is malformed")
            return problem(error, close=True)
        except web.HTTPException as error:
            if error.status < 400:
                return error
            refusal = _REFUSALS.get(error.status) or BadRequest("the admin listener cannot read this request")
            response = problem(refusal, close=not request.content.is_eof())
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response


class _Postponed:
    """A request that the fast path did not begin."""

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming

    def give_up(self) -> None:
        """Break off nothing: aiohttp cancels its task."""


def problem(error: AuthproxyError, *, close: bool = False) -> web.Response:
    """Return the answer for `error` (RFC 9457), and with `close` the connection's last."""
    headers, content = problem_content(error, route=None)
    response = web.Response(status=error.status, headers=headers, body=content)
    if close:
        response.force_close()
    return response
