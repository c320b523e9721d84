"""aiohttp's low-level server, with what a proxy needs besides.

aiohttp parses requests, keeps connections alive and runs one handler a request. Here are its errors in
our words (its own would repeat what the client sent), a limit on connections, a drain that lets an
upload in flight finish, and two lanes:

    data_received ─▶ parsed ─┬─ plain request, nothing queued ─▶ fast path: answered from callbacks
                             │                                        │ not all there at once
                             └─ everything else ──────────────▶ task: aiohttp's task a connection

The fast path only begins what the task would begin as well; whatever takes a wait is handed over,
as far as it has come. It leans on how `RequestHandler` queues its messages, hence the narrow bounds on
aiohttp's version. The parser knows a list of methods only: it reads `PATCH` in place of any other token, and
the message gets its own method back.
"""

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web import BaseRequest, RequestPayloadError, StreamResponse
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, _ErrInfo

from authproxy.errors import AuthproxyError, BadRequest, HeadersTooLarge, RequestTimeout
from authproxy.net.lingering_close import LingeringClose, close_or_abort
from authproxy.net.tunnel import Tunnel
from authproxy.proxy.downstream.framing import EMPTY_LINE, EXCESS, HEAD, ROOM, TRAILER, Framing, joined
from authproxy.proxy.downstream.incoming import Incoming
from authproxy.proxy.guard import CONTENT_LENGTH
from authproxy.proxy.problem import internal_error, problem_response

if TYPE_CHECKING:
    from authproxy.proxy.downstream.server import ProxyServer

_REQUEST_LINE = re.compile(rb"[A-Z]+ [^\r\n]+ HTTP/1\.[01]\r\n")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # any token (RFC 9110 §9.1)
_PARSERS_METHODS = (
    b"GET ", b"POST ", b"PUT ", b"HEAD ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE ",
)  # fmt: skip
_STAND_IN = b"PATCH"  # what the parser reads in place of others; GET may be RTSP's as well, to it
_EMPTY_LINES = re.compile(rb"[\r\n]+")
_EIGHT_BIT = re.compile(rb"[\x80-\xff]")

TOO_MANY = "Too many headers"  # how aiohttp says it
TRAILER_TOO_LARGE = "the trailer section is too large"
LITTLE_BUT_FRAMING = "the chunks of the body are little but sizes and extensions"
MAX_HEADERS = 1000  # lines; the size of the section is limited besides
UNREAD_SECONDS = 60.0  # how long a client may leave an answer unread while it asks for more
READ_BUFFER = 256 << 10  # bytes of a body taken from a client before it has to wait
SMALL_PIECE = 1 << 10  # bytes; of smaller ones no more than MAX_PIECES may wait, as each costs memory too
MAX_PIECES = 1024


class Begun(Protocol):
    """What the fast path hands over."""

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
            incoming.connection.close_after(incoming)

    async def write_eof(self) -> None:
        return None


class Refused(Sent):
    """Says that `refuse` has answered, and has taken leave of the client."""

    async def prepare(self, incoming: object) -> None:  # noqa: ARG002 - aiohttp's signature
        return None


KEEP_ALIVE = cast("StreamResponse", Sent(keep_alive=True))
CLOSE = cast("StreamResponse", Sent(keep_alive=False))
REFUSED = cast("StreamResponse", Refused(keep_alive=False))


class ClientConnection(RequestHandler):
    """One client's connection. `busy` while a request of it is being answered.

    `stall_seconds` is how long the client may take nothing of what is left for it when it is closed.
    """

    __slots__ = (
        "_ahead",
        "_at",
        "_begun",
        "_between",
        "_chunked",
        "_framing",
        "_head_timer",
        "_holds",
        "_idle",
        "_lingering_close",
        "_method",
        "_payload",
        "_server",
        "_silent",
        "_taker",
        "_tunnel",
        "_turn",
        "busy",
        "stall_seconds",
    )  # fmt: skip

    def __init__(self, server: "ProxyServer", **settings: Any) -> None:
        super().__init__(server, **settings)
        self._server = server
        self._begun: Begun | None = None  # what the fast path has under way, or has handed over
        self._idle: asyncio.Future[None] | None = None  # what aiohttp's task waits for, while we answer
        self._tunnel: Tunnel | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._between = True  # two requests: what comes next is a request line
        self._framing = Framing(server.header_bytes)
        self._payload = EMPTY_PAYLOAD  # the body of the last request that came in
        self._chunked = False  # whether that body is still coming in, in chunks
        self._ahead, self._at = b"", 0  # what has come, and how much of it the parser has
        self._turn: asyncio.Handle | None = None  # when more of what is ahead is looked at
        self._holds = False  # what came behind a request that may switch protocols, until that is answered
        self._method: str | None = None  # of the head that is coming in, if the parser got another
        self._taker: Callable[[bytes], None] | None = None  # of what comes, if it is no request
        self._lingering_close: LingeringClose | None = None
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
        """Whether it only lingers until its client has read the answer."""
        return self._lingering_close is not None

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
        framing = self._framing
        self._between = (
            framing.part == HEAD
            and not framing.section
            and (not self._ahead or self._at == len(self._ahead))
            and (self._payload is EMPTY_PAYLOAD or self._payload.is_eof())
        )
        if not self._between and self._in_head:
            self._watch_head()  # while we answered, nobody could tell how slow it is
        self._server.noticed()

    # ── the fast path ───────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        framing = self._framing
        if not self._ahead:
            # A whole head and nothing else, part of a body, or no HTTP any more: as it is.
            if (
                framing.part == HEAD
                and not framing.section
                and data.find(EMPTY_LINE) == len(data) - len(EMPTY_LINE)
                and data.startswith(_PARSERS_METHODS)
                and not self._holds
            ):
                self._take(data if data.isascii() else ascii_target(data))
                return
            if self._taker is not None or framing.take_inside_body(len(data)):
                self._take(data)
                return
        if not data:
            self._take(data)  # aiohttp has the parser go on with what it holds
        elif self._at == len(self._ahead):
            self._ahead, self._at = data, 0
        else:
            self._ahead, self._at = self._ahead[self._at :] + data, 0
        self._go_on()

    def _go_on(self) -> None:
        """Have aiohttp parse what is ahead; of chunks, only so many that others get their turn."""
        if self._turn is None:
            self._framing.room = ROOM
            self._parse_ahead()
        if self._at == len(self._ahead):
            self._ahead, self._at = b"", 0
            if self._buffer_paused and len(self._messages) < MAX_MSG_QUEUE_SIZE:
                self._resume_reading_for_buffer()
            return
        if self._turn is None and not self._framing.room:
            self._turn = self._loop.call_soon(self._take_turn)
        if not self._buffer_paused and (
            self._turn is not None or (self._holds and len(self._ahead) - self._at > READ_BUFFER)
        ):
            self._pause_reading_for_buffer()

    def _take_turn(self) -> None:
        self._turn = None
        self._go_on()

    def _parse_ahead(self) -> None:
        """Have aiohttp parse what is ahead, one head or body at a time: see `framing`."""
        framing = self._framing
        while self._at < len(self._ahead) and not self._reading_paused and framing.room:
            if self._taker is not None:
                self._taker(self._ahead[self._at :])
                self._at = len(self._ahead)
            elif len(self._messages) >= MAX_MSG_QUEUE_SIZE or (self._holds and framing.between):
                break
            elif framing.between and not self._ahead.startswith(_PARSERS_METHODS, self._at):
                if not self._begin_head():
                    break
            elif (end := framing.run(self._ahead, self._at)) > self._at:
                run, self._at = self._ahead[self._at : end], end
                self._take(joined(run))
            else:
                self._take_part(self._at)

    def _begin_head(self) -> bool:
        """Take the beginning of a head with a method that the parser does not know; tell whether to go on.

        It reads another method in its place.
        """
        data, at = self._ahead, self._at
        if (lines := _EMPTY_LINES.match(data, at)) is not None:  # a server should ignore them (RFC 9112 §2.2)
            at = self._at = lines.end()
        if at == len(data):
            return False
        found = _METHOD.match(data, at)
        if found is not None and found.end() == len(data):  # it may go on
            self._between = False
            self._part_of_a_head(len(data) - at)
            return False
        if found is None:
            self._take_part(at)
        elif not data.startswith(_PARSERS_METHODS, at):
            self._method = found[0].decode()
            self._take_part(found.end(), _STAND_IN)
        return True

    def _take_part(self, start: int, before: bytes = b"") -> None:
        """Have aiohttp parse what is ahead up to the end of its part, from `start` on, `before` before it."""
        framing, data = self._framing, self._ahead
        head = framing.between
        end = framing.end(data, self._at)
        self._at = end
        if framing.part == EXCESS:
            self._taker = drop
            self._payload.set_exception(BadRequest(LITTLE_BUT_FRAMING))
            return
        piece = before + data[start:end] if before or start or end < len(data) else data
        self._take(ascii_target(piece) if head and not piece.isascii() else piece)
        if framing.part == TRAILER and framing.section > self._server.header_bytes:
            self._taker = drop
            self._payload.set_exception(HeadersTooLarge(TRAILER_TOO_LARGE))

    def _take(self, data: bytes) -> None:
        """Have aiohttp parse `data`, and see to what is complete with it."""
        if self._taker is not None:
            self._taker(data)
            return
        waiter, count = self._waiter, self._request_count
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
        elif self._framing.section and self._framing.part == HEAD:
            self._part_of_a_head(self._framing.section)
        elif self._chunked or 0 < len(data) < SMALL_PIECE:
            self._count_pieces()
        if self._chunked and self._payload.is_eof():
            self._chunked = False
            self._parser = self._server.parser_for(self)  # without what it knows of trailers
        if waiter is not None and not is_slow and self._messages and not waiter.done():
            self._begin_answer(waiter)

    def _count_pieces(self) -> None:
        """Have a client wait that sends its body in very many pieces to an upstream that does not read."""
        payload = self._payload
        if payload.is_eof() or self._reading_paused:
            return
        if len(payload._buffer) > MAX_PIECES:  # noqa: SLF001 - it counts bytes only
            self._reading_paused = True  # until somebody reads
            self._pause_transport_reading()

    def _begin_answer(self, waiter: asyncio.Future[None]) -> None:
        """Answer in the fast path what it may answer; wake aiohttp's task for anything else."""
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
        message, payload = self._messages[-1]
        if isinstance(message, RawRequestMessage):
            self._chunked = message.chunked
            self._holds = bool(message.upgrade)
            if self._method is not None:
                message = message._replace(method=self._method)
                self._method = None
            if payload is not EMPTY_PAYLOAD:
                message = self._body_follows(message)
            if message is not self._messages[-1][0]:
                self._messages[-1] = message, payload
        else:
            self._taker = drop  # nobody knows where another request would begin
            if not self._payload.is_eof():  # aiohttp tells nobody who reads it
                self._payload.set_exception(
                    HeadersTooLarge(TRAILER_TOO_LARGE)
                    if is_too_large(message.exc)
                    else RequestPayloadError("malformed")
                )
        self._payload = payload
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _body_follows(self, message: RawRequestMessage) -> RawRequestMessage:
        """Have the framing follow the body of `message`; return how that is to be taken."""
        if not message.chunked:
            if length := int(message.headers.get(CONTENT_LENGTH, 0)):
                self._framing.length(length)
            return message
        self._framing.chunks()
        if message.version == HttpVersion11:
            return message
        # An HTTP/1.0 peer that knows of chunks, or one in between that does not: RFC 9112 §6.1 wants a close.
        return message._replace(should_close=True)

    @property
    def _in_head(self) -> bool:
        """Whether part of a head has come, a method that may go on included."""
        framing = self._framing
        return framing.part == HEAD and (
            bool(framing.section) or (self._at < len(self._ahead) and not self._holds)
        )

    def _part_of_a_head(self, size: int) -> None:
        """Bound how long a head of `size` bytes so far may take, and how large it may be.

        aiohttp bounds each line only.
        """
        if size <= self._server.header_bytes:
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
        """End a request of the fast path; its answer is out."""
        self._begun = None
        waiter, self._idle = self._idle, None
        self.done()
        if self._parser is None or waiter is None or waiter.done():
            return  # the client is gone already
        self._parser.message_consumed()
        self._waiter = waiter
        if not keep_alive or self._close:
            self.linger(silent=self._silent)
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        if self._messages:
            waiter.set_result(None)

    def hand_over(self, begun: Begun) -> None:
        """Let the task go on with what the fast path has begun."""
        self._begun = begun
        waiter, self._idle = self._idle, None
        if waiter is None or waiter.done():
            begun.give_up()
            return
        self._messages.appendleft((begun.incoming.message, begun.incoming.payload))
        self._waiter = waiter
        waiter.set_result(None)

    def take_over(self) -> Begun | None:
        """Return what the fast path has handed over, if it has."""
        begun, self._begun = self._begun, None
        return begun

    # ── a tunnel ─────────────────────────────────────────────────────────────────────────────────

    def join(self, tunnel: Tunnel) -> None:
        """Hand everything that comes from now on to `tunnel`; what has come already goes first."""
        self._tunnel = tunnel
        self._taker = partial(tunnel.feed, "client")
        tunnel.feed("client", self._ahead[self._at :])
        self._ahead, self._at = b"", 0
        if self._buffer_paused:
            self._resume_reading_for_buffer()

    def end_tunnel(self) -> None:
        """End the tunnel, if there is one; both sides still get what is under way."""
        if self._tunnel is not None:
            self._tunnel.close()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp says None: close
        if self._tunnel is None or self._lingering_close is not None:
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

    def close_after(self, incoming: Incoming) -> None:
        """Close after the answer to `incoming`."""
        self.linger(silent=self._silent or (not incoming.keep_alive and incoming.payload.is_eof()))

    def linger(self, *, silent: bool) -> None:
        """Close so that the client gets to read what it was sent; `silent` when it will send no more."""
        transport = self.transport
        if transport is None or self._lingering_close is not None:
            return
        if silent:
            self.force_close()
            return
        self._force_close = self._between = True  # aiohttp's task ends
        if self._waiter is not None:
            self._waiter.cancel()
        self._lingering_close = LingeringClose(transport, self.stall_seconds)
        self._taker = self._lingering_close.hear
        self._ahead, self._at = b"", 0
        if self._reading_paused or self._buffer_paused:
            self._resume_transport_reading()

    def force_close(self) -> None:
        transport = self.transport
        super().force_close()
        if transport is not None:
            close_or_abort(transport, self.stall_seconds)

    def refuse(self, error: AuthproxyError) -> None:
        """Answer what is not even a request, and close."""
        self._server.answerer.refused(error)
        if self.transport is not None:
            self.transport.write(problem_response(error, route=None, close=True))
        self.linger(silent=False)

    # ── aiohttp's side ───────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._server.header_seconds, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        begun, self._begun = self._begun, None
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self._turn is not None:
            self._turn.cancel()
        super().connection_lost(exc)
        if begun is not None:
            begun.give_up()
        self.done()

    async def finish_response(
        self, request: BaseRequest, resp: StreamResponse, start_time: float | None
    ) -> tuple[StreamResponse, bool]:
        """End a request of the task; what was held back behind it is one now, and no other protocol."""
        finished = await super().finish_response(request, resp, start_time)
        if self._holds and not self._messages and self._tunnel is None:
            self._holds = False
            if self._buffer_paused:
                self._resume_reading_for_buffer()
            self._go_on()
        return finished

    def handle_error(
        self,
        request: BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> StreamResponse:
        """Answer a request that could not be parsed, or a fault of our own; close the connection."""
        if is_too_large(exc):
            error: AuthproxyError = HeadersTooLarge("the header section is too large")
        elif status == 400:
            error = BadRequest("the request is not valid HTTP/1.1")
        else:
            error = internal_error(exc)
        self.refuse(error)
        return REFUSED


def drop(_data: bytes) -> None:
    """Take what nobody wants."""


def is_too_large(error: BaseException | None) -> bool:
    """Whether aiohttp's parser found too long a header line, or too many of them."""
    return isinstance(error, LineTooLong) or TOO_MANY in str(error)


def ascii_target(data: bytes) -> bytes:
    """Return a head with the raw 8-bit characters of its request line percent-encoded, if that is whole.

    curl sends a URL as it was typed, and servers take it; aiohttp's parser does not.
    """
    if not _REQUEST_LINE.match(data):
        return data
    line, end, rest = data.partition(b"\r\n")
    return _EIGHT_BIT.sub(lambda found: b"%%%02X" % found[0][0], line) + end + rest
