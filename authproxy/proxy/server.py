"""aiohttp's low-level server, with what a proxy needs besides.

aiohttp parses requests, keeps connections alive and runs one handler a request. Here are its errors in
our words (its own would repeat what the client sent), a limit on connections, a drain that lets an
upload in flight finish, and two lanes:

    data_received ─▶ parsed ─┬─ plain request, nothing queued ─▶ quick lane: answered from callbacks
                             │                                        │ not all there at once
                             └─ everything else ──────────────▶ slow lane: aiohttp's task a connection

The quick lane only begins what the slow one would begin as well; whatever takes a wait is handed over,
as far as it has come. It leans on how `RequestHandler` queues its messages, hence the narrow bounds on
aiohttp's version.
"""

import asyncio
import re
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiohttp import StreamReader
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web import BaseRequest, Server, StreamResponse
from aiohttp.web_protocol import RequestHandler

from authproxy import logs
from authproxy.errors import AuthproxyError, BadRequest, ConnectionLimit, HeadersTooLarge, RequestTimeout
from authproxy.proxy.problem import internal_error, problem_response
from authproxy.proxy.tunnel import Tunnel

if TYPE_CHECKING:
    from aiohttp.web_protocol import _RequestFactory, _RequestHandler

_EIGHT_BIT = re.compile(rb"[\x80-\xff]")
TOO_MANY = "Too many headers"  # how aiohttp says it
MOST_HEADERS = 1000  # lines; the size of the section is limited besides
UNREAD_SECONDS = 60.0  # how long a client may leave an answer unread while it asks for more
LINGER = 2.0  # seconds that a refused body is read on, so that the client gets to see the refusal
READ_BUFFER = 256 << 10  # bytes of a body taken from a client before it has to wait


class Incoming:
    """A request as aiohttp parsed it, with nothing of what a web application would want besides."""

    __slots__ = (
        "_task", "connection", "headers", "keep_alive", "message", "method", "payload", "raw_headers",
        "target", "version",
    )  # fmt: skip

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: "ClientConnection",
        _writer: AbstractStreamWriter | None = None,
        _task: object = None,
    ) -> None:
        self.message = message
        self.method = message.method
        self.target = message.path
        self.version = message.version
        self.headers = message.headers
        self.raw_headers = message.raw_headers
        self.keep_alive = not message.should_close
        self.payload = payload
        self.connection = connection
        self._task: object = None

    def _finish(self) -> None:
        """Be finished with; aiohttp says so."""

    def _cancel(self, error: BaseException) -> None:
        """Learn from aiohttp that the client is gone."""
        self.payload.set_exception(error)

    def __repr__(self) -> str:
        return f"<Incoming {self.method}>"


class Answerer(Protocol):
    """Who answers requests; the handler."""

    @abstractmethod
    async def __call__(self, incoming: Incoming) -> StreamResponse:
        """Answer in the slow lane; go on where the quick lane has come to."""

    @abstractmethod
    def quick(self, incoming: Incoming) -> None:
        """Answer in the quick lane: end with the connection's `finish` or `hand_over`."""

    @abstractmethod
    def refused(self, error: AuthproxyError) -> None:
        """Take note of a request that was refused before it was one."""


class Begun(Protocol):
    """What the quick lane hands over."""

    incoming: Incoming

    def give_up(self) -> None:
        """Break off: the client is gone."""


class Sent:
    """Tells aiohttp that the response is out already, and whether the connection goes on.

    It stands in for a `StreamResponse`: the handler has written to the transport itself.
    """

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, _request: object) -> None:
        return None

    async def write_eof(self) -> None:
        return None


KEEP_ALIVE = cast("StreamResponse", Sent(keep_alive=True))
CLOSE = cast("StreamResponse", Sent(keep_alive=False))


class ClientConnection(RequestHandler):
    """One client's connection. `busy` while a request of it is being answered."""

    __slots__ = ("_begun", "_between", "_head_timer", "_idle", "_server", "_tunnel", "busy")

    def __init__(self, server: "ProxyServer", **settings: Any) -> None:
        super().__init__(server, **settings)
        self._server = server
        self._begun: Begun | None = None  # what the quick lane has under way, or has handed over
        self._idle: asyncio.Future[None] | None = None  # what aiohttp's task waits for, while we answer
        self._tunnel: Tunnel | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._between = True  # two requests: what comes next is a request line
        self.busy = False

    @property
    def draining(self) -> bool:
        """Whether this answer should be the connection's last."""
        return self._server.draining

    async def drained(self, seconds: float) -> None:
        """Wait until the client has taken enough to go on. Raises `ConnectionError`."""
        try:
            async with asyncio.timeout(seconds):
                await self._drain_helper()
        except TimeoutError:
            raise ConnectionAbortedError(f"the client took nothing for {seconds:g} s") from None

    def done(self) -> None:
        """Note that no request is under way any more."""
        self.busy = False
        self._between = True
        self._server.noticed()

    # ── the quick lane ───────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.feed("client", data)
            return
        waiter = self._waiter
        if self._between and not data.isascii():
            data = ascii_target(data)
        self._between = False
        if waiter is None or waiter.done() or self._messages or self._paused:  # aiohttp's task sees to it
            super().data_received(data)
            return
        self._waiter = None  # so that aiohttp parses, but does not wake its task
        super().data_received(data)
        self._waiter = waiter
        if not self._messages:
            if self._head_timer is None:
                self._head_timer = self._loop.call_later(self._server.header_seconds, self._head_is_late)
            return
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        message, payload = self._messages[0]
        if payload is not EMPTY_PAYLOAD or not isinstance(message, RawRequestMessage) or message.upgrade:
            waiter.set_result(None)
            return
        self._messages.popleft()
        self._waiter, self._idle = None, waiter
        self.busy = True
        self._server.answerer.quick(Incoming(message, payload, self))

    def _head_is_late(self) -> None:
        """Close on a client that has not ended its header section in time."""
        self._head_timer = None
        if self._waiter is None or self._waiter.done() or self._messages or self.transport is None:
            return
        if self._between and self._request_count:
            return  # that head was there in time, and its request is answered
        if not self._between:
            error = RequestTimeout(f"the header section took longer than {self._server.header_seconds:g} s")
            self.transport.write(problem_response(error, route=None, close=True))
        self.force_close()

    def begin(self, begun: Begun) -> None:
        """Note what is under way, to be broken off when the client goes away."""
        self._begun = begun

    def finish(self, *, keep_alive: bool) -> None:
        """End a request of the quick lane; its answer is out."""
        self._begun = None
        waiter, self._idle = self._idle, None
        self.done()
        if self._parser is None or waiter is None or waiter.done():
            return  # the client is gone already
        self._parser.message_consumed()
        self._waiter = waiter
        if not keep_alive or self._close:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        if self._messages:
            waiter.set_result(None)

    def hand_over(self, begun: Begun) -> None:
        """Let the slow lane go on with what the quick one has begun."""
        self._begun = begun
        waiter, self._idle = self._idle, None
        if waiter is None or waiter.done():
            begun.give_up()
            return
        self._messages.appendleft((begun.incoming.message, begun.incoming.payload))
        self._waiter = waiter
        waiter.set_result(None)

    def take_over(self) -> Begun | None:
        """Return what the quick lane has handed over, if it has."""
        begun, self._begun = self._begun, None
        return begun

    # ── a tunnel ─────────────────────────────────────────────────────────────────────────────────

    def join(self, tunnel: Tunnel) -> None:
        """Hand everything that comes from now on to `tunnel`; what has come already goes first."""
        self._tunnel = tunnel
        early, self._message_tail = self._message_tail, b""
        if early:
            tunnel.feed("client", early)
        if self._buffer_paused:
            self._resume_reading_for_buffer()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp says None: close
        if self._tunnel is None:
            return None
        self._tunnel.end("client")
        return True  # the other half may go on

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._tunnel is not None:
            self._tunnel.pause("client")

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._tunnel is not None:
            self._tunnel.resume("client")

    # ── aiohttp's side ───────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._server.header_seconds, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        begun, self._begun = self._begun, None
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)
        if begun is not None:
            begun.give_up()
        self.done()

    def handle_error(
        self,
        request: BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> StreamResponse:
        """Answer a request that could not be parsed, or a fault of our own; close the connection."""
        if isinstance(exc, LineTooLong) or TOO_MANY in str(exc):
            error: AuthproxyError = HeadersTooLarge("the header section is too large")
        elif status == 400:
            error = BadRequest("the request is not valid HTTP/1.1")
        else:
            error = internal_error(exc)
        self._server.answerer.refused(error)
        if self.transport is not None:
            self.transport.write(problem_response(error, route=None, close=True))
        return CLOSE


class ProxyServer(Server):
    """Makes a `ClientConnection` for each connection, up to `limit`."""

    def __init__(
        self, answerer: Answerer, *, limit: int, keepalive: float, header_bytes: int, header_seconds: float
    ) -> None:
        super().__init__(
            cast("_RequestHandler", answerer),
            request_factory=cast("_RequestFactory", Incoming),
            handler_cancellation=True,  # a client that goes away cancels its upstream request
            keepalive_timeout=keepalive,
            max_line_size=header_bytes,
            max_field_size=header_bytes,
            max_headers=MOST_HEADERS,
            read_bufsize=READ_BUFFER,
            auto_decompress=False,  # bodies are forwarded as they are
            lingering_time=LINGER,
            access_log=None,
        )
        self.answerer = answerer
        self.header_seconds = header_seconds
        self.draining = False
        self._limit = limit
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
            self.answerer.refused(error)
            transport.write(problem_response(error, route=None, close=True))
            handler.force_close()

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


def ascii_target(data: bytes) -> bytes:
    """Return `data` with the raw 8-bit characters of its request line percent-encoded.

    curl sends a URL as it was typed, and servers take it; aiohttp's parser does not.
    """
    line, end, rest = data.partition(b"\r\n")
    return _EIGHT_BIT.sub(lambda found: b"%%%02X" % found[0][0], line) + end + rest
