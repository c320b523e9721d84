"""The admin listener's server: the proxy's own connections, limits and error pages, before the views.

    ClientConnection ──▶ its task ──▶ AdminAnswerer ──▶ guard, views
            └─ no HTTP, too large, too slow, too many ──▶ problem

What a caller sent is never repeated in an error page.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.http import StreamWriter

from authproxy import logs
from authproxy.errors import (
    AuthproxyError,
    BadRequest,
    BodyTooLarge,
    HeadersTooLarge,
    MethodNotAllowed,
    NoRoute,
)
from authproxy.observe.record import request_id
from authproxy.proxy.context import Waiting
from authproxy.proxy.downstream.connection import UNREAD_SECONDS, ClientConnection, State
from authproxy.proxy.downstream.server import NEW_SECONDS, ProxyServer
from authproxy.proxy.problem import internal_error, problem_content, problem_response
from authproxy.proxy.request import Request

if TYPE_CHECKING:
    from aiohttp.base_protocol import BaseProtocol

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
            AdminAnswerer(application, lambda: self.header_bytes),
            limit=limit,
            limit_hint=None,  # it has a limit of its own
            keepalive=keepalive,
            header_bytes=header_bytes,
            header_seconds=header_seconds,
        )

    def __call__(self) -> ClientConnection:
        return AdminConnection(self, self._loop)

    def connection_made(self, connection: ClientConnection) -> None:
        """Take a connection in; at the limit the one that has been idle for longest makes room for it.

        Else a few who keep theirs open would take `/healthz` away from everybody.
        """
        if len(self.connections) - len(self._turned_away) >= self._limit:
            clients = cast("set[AdminConnection]", self.connections)
            idle = [each for each in clients if each.is_idle]
            if idle:
                oldest = min(idle, key=lambda each: each.idle_since)
                self._turned_away.add(oldest)
                oldest.force_close()
        super().connection_made(connection)

    def retire(self) -> None:
        """Let who is connected now have the answer they wait for and no other: their listener is gone."""
        clients = [cast("AdminConnection", each) for each in self.connections]
        for each in clients:
            each.draining = True
            if each.is_idle and not each.is_new:
                each.force_close()
        self._loop.call_later(NEW_SECONDS, self._close, lambda each: each.is_new and each in clients)


class AdminConnection(ClientConnection):
    """A connection whose client may end its half once it has asked, as `nc -N` does; but see `has_no_end`.

    `idle_since` is when its last request was answered, or it was opened; the loop's own clock is too coarse.
    What aiohttp's requests and answers ask their connection for is here as well.
    """

    ssl_context = None
    max_field_size = max_headers = 8190  # of the parts of a form, of which no page takes any

    def __init__(self, server: ProxyServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop)
        self._ended = self._endless = False
        self.idle_since = monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether it could be closed without breaking off a request."""
        return self.transport is not None and not self.in_flight and not self.leaving

    def answered(self, *, keep_alive: bool) -> None:
        self.idle_since = monotonic()
        if self._ended and self._at == len(self._ahead):  # nothing more can be asked on it
            keep_alive, self._silent = False, True
        super().answered(keep_alive=keep_alive)

    def eof_received(self) -> bool:
        """Note that the client has ended its half; keep ours for the answers to what it has asked."""
        self._ended = (
            self.in_flight and not self.leaving and self._state is not State.HEAD and self._payload.is_eof()
        )
        return self._ended and not self._endless

    def has_no_end(self) -> None:
        """Break the answer under way off when the client ends its half.

        A socket that is closed says no more than that, until something has been written to it twice.
        """
        self._endless = True
        if self._ended:
            self.force_close()

    # ── what aiohttp asks ────────────────────────────────────────────────────────────────────────

    @cached_property
    def peername(self) -> object:
        return self.transport.get_extra_info("peername") if self.transport is not None else None

    @cached_property
    def sockname(self) -> object:
        return self.transport.get_extra_info("sockname") if self.transport is not None else None

    @property
    def _paused(self) -> bool:
        return self.writing_paused

    async def _drain_helper(self) -> None:
        await self.drained(UNREAD_SECONDS)


class NothingPlain:
    """Leaves every head to the parser: aiohttp's requests are made of what that returns."""

    def read(self, _data: bytes) -> None:
        return None


class AdminAnswerer:
    """Has requests answered by `application`, in a task each; `header_bytes` may change."""

    def __init__(self, application: web.Server, header_bytes: Callable[[], int]) -> None:
        self.reader = NothingPlain()
        self._handler: Callable[..., Awaitable[web.StreamResponse]] = application.request_handler
        self._request: Callable[..., web.Request] = cast("Any", application.request_factory)
        self._header_bytes = header_bytes

    def start(self, request: Request) -> Waiting:
        """Leave the request to the task."""
        return Waiting(request)

    def lost(self, context: Request) -> None:
        """Break off nothing: the task is cancelled."""

    def refused(self, error: AuthproxyError, began: float | None) -> bytes:  # noqa: ARG002 - the proxy's
        """Return the answer, which is not counted and remembered: that is what is asked of routes."""
        return problem_response(error, route=None, close=True, request_id=noted(error, None))

    async def finish(self, context: Request) -> bool:
        """Answer a request; who does not take the answer is cut off, and nothing is said of who is gone."""
        connection = cast("AdminConnection", context.connection)
        writer = StreamWriter(cast("BaseProtocol", connection), asyncio.get_running_loop())
        request = self._request(context.message, context.payload, connection, writer, asyncio.current_task())
        try:
            response = await self._answer(request)
        except ConnectionError:  # of a stream: its reader has gone, or takes nothing
            connection.force_close()
            return False
        except Exception as error:  # noqa: BLE001 - the last stop
            response = problem(internal_error(error), close=True)
        if connection.draining or not context.keep_alive:
            response.force_close()
        try:
            async with asyncio.timeout(UNREAD_SECONDS):
                await response.prepare(request)
                await response.write_eof()
        except (ConnectionError, TimeoutError):
            connection.force_close()
            return False
        return bool(response.keep_alive)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        size = len(request.raw_path) + sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
        if size > (most := self._header_bytes()):
            return problem(HeadersTooLarge.over(most), close=True)
        if (request.content_length or 0) > LARGEST_BODY:
            return problem(_REFUSALS[413], close=True)
        try:
            return await self._handler(request)
        except (AuthproxyError, web.RequestPayloadError) as fault:
            error = fault if isinstance(fault, AuthproxyError) else BadRequest("the body is malformed")
            return problem(error, close=not request.content.is_eof())
        except web.HTTPException as error:
            if error.status < 400:
                return error
            refusal = _REFUSALS.get(error.status) or BadRequest("the admin listener cannot read this request")
            response = problem(refusal, close=not request.content.is_eof())
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response


def noted(error: AuthproxyError, route: str | None) -> str:
    """Log what is refused here, and return the id by which the log knows it."""
    known = request_id(time(), perf_counter())
    facts = {"route": route, "status": error.status, "cause": error.detail, "hint": error.hint, "id": known}
    told = {name: fact for name, fact in facts.items() if fact is not None}
    logs.info("request to the admin listener refused", **told)
    return known


def problem(error: AuthproxyError, *, route: str | None = None, close: bool = False) -> web.Response:
    """Return the answer for `error` (RFC 9457), and with `close` the connection's last."""
    headers, content = problem_content(error, route=route, request_id=noted(error, route))
    response = web.Response(status=error.status, headers=headers, body=content)
    if close:
        response.force_close()
    return response
