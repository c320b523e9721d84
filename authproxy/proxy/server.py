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
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiohttp import StreamReader
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web import BaseRequest, RequestPayloadError, Server, StreamResponse
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, _ErrInfo

from authproxy import logs
from authproxy.errors import AuthproxyError, BadRequest, ConnectionLimit, HeadersTooLarge, RequestTimeout
from authproxy.proxy.farewell import QUIET, Farewell, close_for_sure
from authproxy.proxy.guard import local_address
from authproxy.proxy.problem import internal_error, problem_response
from authproxy.proxy.tunnel import Tunnel

if TYPE_CHECKING:
    from aiohttp.web_protocol import _RequestFactory, _RequestHandler

_EMPTY_LINE = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"[A-Z]+ [^\r\n]+ HTTP/1\.[01]\r\n")  # whole: a head may begin behind a body
_EIGHT_BIT = re.compile(rb"[\x80-\xff]")
TOO_MANY = "Too many headers"  # how aiohttp says it
MOST_HEADERS = 1000  # lines; the size of the section is limited besides
UNREAD_SECONDS = 60.0  # how long a client may leave an answer unread while it asks for more
LINGER = 2.0  # seconds that a body which nobody wants is read on, so that its connection can be kept
MOST_TURNED_AWAY = 16  # connections over the limit that are seen off at a time; more are just closed
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

    @property
    def local_address(self) -> str | None:
        """The IP address at which the client reached us; None on a Unix socket."""
        return local_address(self.connection.transport)

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

    async def prepare(self, incoming: Incoming) -> None:
        if not self.keep_alive:
            incoming.connection.bow_out(incoming)

    async def write_eof(self) -> None:
        return None


KEEP_ALIVE = cast("StreamResponse", Sent(keep_alive=True))
CLOSE = cast("StreamResponse", Sent(keep_alive=False))


class ClientConnection(RequestHandler):
    """One client's connection. `busy` while a request of it is being answered.

    `stall_seconds` is how long the client may take nothing of what is left for it when it is closed.
    """

    __slots__ = (
        "_begun", "_between", "_chunked", "_farewell", "_head_size", "_head_timer", "_idle", "_last_bytes",
        "_payload", "_pieces", "_server", "_silent", "_taker", "_tunnel", "busy",
        "stall_seconds",
    )  # fmt: skip

    def __init__(self, server: "ProxyServer", **settings: Any) -> None:
        super().__init__(server, **settings)
        self._server = server
        self._begun: Begun | None = None  # what the quick lane has under way, or has handed over
        self._idle: asyncio.Future[None] | None = None  # what aiohttp's task waits for, while we answer
        self._tunnel: Tunnel | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._between = True  # two requests: what comes next is a request line
        self._head_size = 0  # bytes of a head that is not complete yet
        self._payload = EMPTY_PAYLOAD  # the body of the last request that came in
        self._chunked = False  # whether that body is still coming in, in chunks
        self._pieces: deque[bytes] = deque()  # what has come, and is yet to be parsed
        self._last_bytes = b""  # of what was cut into pieces: an empty line may have begun there
        self._taker: Callable[[bytes], None] | None = None  # of what comes, if it is no request
        self._farewell: Farewell | None = None
        self._silent = False  # the client has ended its half, or said that this is its last request
        self.busy = False
        self.stall_seconds = UNREAD_SECONDS

    @property
    def draining(self) -> bool:
        """Whether this answer should be the connection's last."""
        return self._server.draining

    @property
    def in_flight(self) -> bool:
        """Whether a request is being answered, or on its way in."""
        return self.busy or not self._between or bool(self._messages)

    @property
    def in_tunnel(self) -> bool:
        return self._tunnel is not None and self.busy

    @property
    def leaving(self) -> bool:
        """Whether it is only being seen off."""
        return self._farewell is not None

    async def drained(self, seconds: float) -> None:
        """Wait until the client has taken enough to go on. Raises `ConnectionError`.

        One that takes nothing for `seconds` is cut off.
        """
        while (transport := self.transport) is not None:
            left = transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(seconds):
                    return await self._drain_helper()
            except TimeoutError:
                if transport.get_write_buffer_size() >= left:
                    transport.abort()
                    raise ConnectionAbortedError(f"the client took nothing for {seconds:g} s") from None
        raise ConnectionResetError

    def done(self) -> None:
        """Note that no request is under way any more."""
        self.busy = False
        self._between = not self._head_size and (self._payload is EMPTY_PAYLOAD or self._payload.is_eof())
        if self._head_size:
            self._watch_head()  # while we answered, nobody could tell how slow it is
        self._server.noticed()

    # ── the quick lane ───────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        end = data.find(_EMPTY_LINE)
        if self._taker is not None or (
            (end == len(data) - 4 or end < 0)
            and data
            and not (self._chunked or self._pieces or self._head_size)
        ):
            self._take(data)
            return
        # A head, and a body in chunks, ends with an empty line. aiohttp's parser gets no more than one of
        # them at a time: it forgets good requests with a bad one behind them, and takes the last trailer of
        # a body for a header of the request that follows.
        if data:
            self._pieces += cut_behind_empty_lines(data, self._last_bytes)
            self._last_bytes = (self._last_bytes + data)[-3:]
        else:
            self._take(data)  # aiohttp has the parser go on with what it holds
        while self._pieces and not self._reading_paused and len(self._messages) < MAX_MSG_QUEUE_SIZE:
            self._take(self._pieces.popleft())

    def _take(self, data: bytes) -> None:
        """Have aiohttp parse `data`, and see to what is complete with it."""
        if self._taker is not None:
            self._taker(data)
            return
        waiter, payload, count = self._waiter, self._payload, self._request_count
        in_head = payload is EMPTY_PAYLOAD or payload.is_eof()
        if in_head and not self._head_size and not data.isascii() and _REQUEST_LINE.match(data):
            data = ascii_target(data)
        if data:
            self._between = False
        # aiohttp's task sees to it, when it is at work, or has to wait for the client to read.
        is_slow = waiter is None or waiter.done() or bool(self._messages) or self._paused
        if not is_slow:
            self._waiter = None  # so that aiohttp parses, but does not wake its task
        RequestHandler.data_received(self, data)
        if not is_slow:
            self._waiter = waiter
        if self._request_count != count:
            self._head_has_come()
        elif in_head and data:
            self._part_of_a_head(len(data))
        if self._chunked and self._payload.is_eof():
            self._chunked = False
            self._parser = self._server.parser_for(self)  # without what it knows of trailers
        if waiter is not None and not is_slow and self._messages and not waiter.done():
            self._begin_answer(waiter)

    def _begin_answer(self, waiter: asyncio.Future[None]) -> None:
        """Answer in the quick lane what it may answer; wake aiohttp's task for anything else."""
        message, payload = self._messages[0]
        if payload is not EMPTY_PAYLOAD or not isinstance(message, RawRequestMessage) or message.upgrade:
            waiter.set_result(None)
            return
        self._messages.popleft()
        self._silent = message.should_close
        self._waiter, self._idle = None, waiter
        self.busy = True
        self._server.answerer.quick(Incoming(message, payload, self))

    def _head_has_come(self) -> None:
        self._head_size = 0
        message, payload = self._messages[-1]
        if isinstance(message, RawRequestMessage):
            self._chunked = message.chunked
        elif not self._payload.is_eof():
            self._payload.set_exception(RequestPayloadError("malformed"))  # aiohttp tells nobody who reads it
        self._payload = payload
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _part_of_a_head(self, size: int) -> None:
        """Bound how long a head may take, and how large it may be: aiohttp bounds each line only."""
        self._head_size += size
        if self._head_size <= self._server.header_bytes:
            self._watch_head()
            return
        self._taker = drop
        error = LineTooLong(b"", self._server.header_bytes)
        self._messages.append((_ErrInfo(400, error, error.message), EMPTY_PAYLOAD))  # it has to wait its turn
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch_head(self) -> None:
        if self._head_timer is None and self.transport is not None:
            self._head_timer = self._loop.call_later(self._server.header_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        """Close on a client that has not ended its header section in time."""
        self._head_timer = None
        if self._waiter is None or self._waiter.done() or self._messages or self.transport is None:
            return
        if not self._between:
            seconds = self._server.header_seconds
            self.refuse(RequestTimeout(f"the header section took longer than {seconds:g} s"))
        elif not self._request_count:  # else that head was there in time, and its request is answered
            self.force_close()

    def _process_keepalive(self) -> None:
        if self._between:
            super()._process_keepalive()
        else:  # a head is coming in, and has a time limit of its own
            self._keepalive_handle = None

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
            self.take_leave(silent=self._silent)
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
        self._taker = partial(tunnel.feed, "client")
        early, self._message_tail = self._message_tail, b""
        for piece in [early, *self._pieces]:
            tunnel.feed("client", piece)
        self._pieces.clear()
        if self._buffer_paused:
            self._resume_reading_for_buffer()

    def end_tunnel(self) -> None:
        """End the tunnel, if there is one; both sides still get what is under way."""
        if self._tunnel is not None:
            self._tunnel.close()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp says None: close
        if self._tunnel is None or self._farewell is not None:
            return None
        self._silent = True
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

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def bow_out(self, incoming: Incoming) -> None:
        """Close after the answer to `incoming`."""
        self.take_leave(silent=self._silent or (not incoming.keep_alive and incoming.payload.is_eof()))

    def take_leave(self, *, silent: bool) -> None:
        """Close so that the client gets to read what it was sent; `silent` when it will send no more."""
        transport = self.transport
        if transport is None or self._farewell is not None:
            return
        if silent:
            self.force_close()
            return
        self._force_close = self._between = True  # aiohttp's task ends
        if self._waiter is not None:
            self._waiter.cancel()
        self._farewell = Farewell(transport, self.stall_seconds)
        self._taker = self._farewell.hear
        if self._reading_paused or self._buffer_paused:
            self._resume_transport_reading()

    def force_close(self) -> None:
        transport = self.transport
        super().force_close()
        if transport is not None:
            close_for_sure(transport, self.stall_seconds)

    def refuse(self, error: AuthproxyError) -> None:
        """Answer what is not even a request, and close."""
        self._server.answerer.refused(error)
        if self.transport is not None:
            self.transport.write(problem_response(error, route=None, close=True))
        self.take_leave(silent=False)

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
        self.refuse(error)
        return CLOSE


class ProxyServer(Server):
    """Makes a `ClientConnection` for each connection, up to `limit`."""

    def __init__(
        self,
        answerer: Answerer,
        *,
        limit: int,
        keepalive: float,
        header_bytes: int,
        header_seconds: float,
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
        self.header_bytes = header_bytes
        self.header_seconds = header_seconds
        self.draining = False
        self._limit = limit
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
            max_headers=MOST_HEADERS,
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
            f"authproxy has {self._limit} connections open already",
            hint="`limits.connections` sets the limit",
            retry_after=1,
        )
        connection.refuse(error)
        if len(self._turned_away) > MOST_TURNED_AWAY:
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


def drop(_data: bytes) -> None:
    """Take what nobody wants."""


def cut_behind_empty_lines(data: bytes, before: bytes) -> list[bytes]:
    """Return `data` in pieces, cut behind each empty line; one may have begun in `before`, its last bytes."""
    whole, first = before + data, len(before)
    cuts = [first]
    end = whole.find(_EMPTY_LINE)
    while end >= 0:
        cuts.append(end + len(_EMPTY_LINE))
        end = whole.find(_EMPTY_LINE, cuts[-1])
    cuts.append(len(whole))
    return [whole[start:stop] for start, stop in pairwise(cuts) if start < stop]


def ascii_target(data: bytes) -> bytes:
    """Return `data` with the raw 8-bit characters of its request line percent-encoded.

    curl sends a URL as it was typed, and servers take it; aiohttp's parser does not.
    """
    line, end, rest = data.partition(b"\r\n")
    return _EIGHT_BIT.sub(lambda found: b"%%%02X" % found[0][0], line) + end + rest
