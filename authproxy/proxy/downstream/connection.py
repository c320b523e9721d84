"""One client's connection: bytes in, one request after the other, answers out.

    data ─┬─ a plain head (proxy/plain.py) ─────┬─▶ Request ─▶ start() ─┬─ Answered ─▶ the next one
          └─ anything else: aiohttp's parser ───┘                       ├─ Waiting ─▶ a task: finish()
                                                                        └─ sent ─▶ answered(), proceed()

One request is answered at a time. What comes behind it stays as it is until its turn comes, so that nothing
has to be given back: not a request that was begun, nor the first bytes of another protocol. A parser gets one
head, and its body if that comes in chunks; a body whose length is known needs none.

It knows a list of methods only: it reads `PATCH` in place of any other token, and the request gets its own.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from enum import Enum
from functools import partial
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from authproxy.errors import AuthproxyError, BadRequest, HeadersTooLarge, RequestTimeout
from authproxy.net.lingering_close import LingeringClose, close_or_abort
from authproxy.net.tunnel import Tunnel
from authproxy.proxy.context import Answered, Waiting
from authproxy.proxy.downstream.framing import BODY, EXCESS, HEAD, ROOM, TRAILER, Framing, Malformed, joined
from authproxy.proxy.guard import CONTENT_LENGTH
from authproxy.proxy.plain import HTTP_1_1, PlainHead
from authproxy.proxy.problem import internal_error
from authproxy.proxy.request import NO_BODY, Payload, Request, Stream, Whole

if TYPE_CHECKING:
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

    from authproxy.proxy.downstream.parser import RequestParser
    from authproxy.proxy.downstream.server import Entrance, ProxyServer

_REQUEST_LINE = re.compile(rb"[A-Z]+ [^\r\n]+ HTTP/1\.[01]\r\n")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # any token (RFC 9110 §9.1)
_PARSERS_METHODS = (
    b"GET ", b"POST ", b"PUT ", b"HEAD ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE ",
)  # fmt: skip
_STAND_IN = b"PATCH"  # what the parser reads in place of others; GET may be RTSP's as well, to it
_EMPTY_LINES = re.compile(rb"(?:\r?\n)+")
_EIGHT_BIT = re.compile(rb"[\x80-\xff]")

TLS_HELLO = b"\x16\x03"  # how a client begins that speaks TLS (RFC 8446 §5.1)
HTTPS_CAME = "a client spoke TLS (https://) to a listener of plain http"
USE_HTTP = "call it by http://; with `tls` the addresses of `listen` serve https"
HEADER_TIMEOUT_HINT = "send it faster; `limits.header_timeout` sets the limit"
TRAILER_TOO_LARGE = "the trailer section is too large"
LITTLE_BUT_FRAMING = "the chunks of the body are little but sizes and extensions"
MALFORMED = "the body is malformed"
UNREAD_SECONDS = 60.0  # how long a client may leave an answer unread while it asks for more
DISCARD_SECONDS = 2.0  # that a body which nobody wants is read on, so that its connection can be kept
MAX_AHEAD = 256 << 10  # bytes taken from a client before their turn has come
SMALL_PIECE = 1 << 10  # bytes; of smaller ones no more than MAX_PIECES may wait, as each costs memory too
MAX_PIECES = 1024


class State(Enum):
    """Where a connection stands."""

    IDLE = "between two requests"
    HEAD = "a head is coming in"
    BUSY = "a request is being answered"
    DISCARDING = "an answer is out, and the rest of its request's body is dropped"
    TUNNEL = "it speaks another protocol"
    LINGERING = "our half has ended"
    CLOSED = "it is gone"


IDLE, HEAD_COMES, BUSY = State.IDLE, State.HEAD, State.BUSY
IN_FLIGHT = frozenset({State.HEAD, State.BUSY, State.DISCARDING, State.TUNNEL})


class ClientConnection(asyncio.Protocol):
    """One client's connection, which came in at `entrance`; by default at one where all routes are mounted.

    `stall_seconds` is how long the client may take nothing of what is left for it when it is closed.
    `draining` says that this answer should be the connection's last.
    """

    __slots__ = (
        "_ahead", "_answered_any", "_at", "_began", "_context", "_deadline", "_drained", "_framing",
        "_held", "_lingering_close", "_loop", "_method", "_parser", "_payload", "_server", "_silent",
        "_state", "_stream_paused", "_taker", "_task", "_timer", "_timer_at", "_tunnel", "_turn",
        "_working", "draining", "entrance", "stall_seconds", "transport", "writing_paused",
    )  # fmt: skip

    use_http = USE_HTTP  # says what to do for who speaks TLS where we do not

    def __init__(
        self, server: "ProxyServer", loop: asyncio.AbstractEventLoop, entrance: "Entrance | None" = None
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.writing_paused = False
        self.stall_seconds = UNREAD_SECONDS
        self._server = server
        self.entrance: Entrance | ProxyServer = entrance if entrance is not None else server
        self.draining = False
        self._loop = loop
        self._state = State.IDLE
        self._answered_any = False
        self._began: float | None = None  # when the first byte of the last head came that was not plain
        self._context: Any = None  # of the request that is with the upstream, until a task sees to it
        self._task: asyncio.Task[None] | None = None
        self._framing = Framing(server.header_bytes)
        self._parser: RequestParser | None = None  # while a head, or a body in chunks, is coming in
        self._payload: Payload = NO_BODY  # the body of the last request that came in
        self._method: str | None = None  # of the head that is coming in, if the parser got another
        self._ahead, self._at = b"", 0  # what has come, and how much of it was taken
        self._working = False  # what is ahead is being looked at
        self._turn: asyncio.Handle | None = None  # when more of what is ahead is looked at
        self._held = False  # the client has to wait: too much is ahead
        self._stream_paused = False  # the client has to wait: nobody reads the body
        self._taker: Callable[[bytes], None] | None = None  # of what comes, if it is no request
        self._tunnel: Tunnel | None = None
        self._lingering_close: LingeringClose | None = None
        self._silent = False  # the client has ended its half, or said that this is its last request
        self._drained: asyncio.Future[None] | None = None
        self._deadline = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # ── what the server asks ─────────────────────────────────────────────────────────────────────

    @property
    def in_flight(self) -> bool:
        """Whether a request is being answered, or on its way in."""
        return self._state in IN_FLIGHT

    @property
    def is_new(self) -> bool:
        """Whether nobody has asked anything yet, and we have not closed: somebody is about to."""
        is_open = self.transport is not None and not self.transport.is_closing()
        return is_open and self._state is IDLE and not self._answered_any

    @property
    def in_tunnel(self) -> bool:
        return self._state is State.TUNNEL

    @property
    def leaving(self) -> bool:
        """Whether it only lingers until its client has read the answer."""
        return self._lingering_close is not None

    # ── asyncio.Protocol ─────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._watch(self._server.header_seconds)
        self._server.connection_made(self)

    def data_received(self, data: bytes) -> None:
        if self._state is IDLE and not self._ahead and not self.writing_paused:
            found = self.entrance.answerer.reader.read(data)
            if found is not None:
                self._begin_plain(*found)
                return
        if self._taker is not None:
            self._taker(data)
            return
        if not self._ahead and self._framing.take_inside_body(len(data)):
            self._take_body(data)
            return
        if self._at == len(self._ahead):
            self._ahead, self._at = data, 0
        else:
            self._ahead, self._at = self._ahead[self._at :] + data, 0
        self._go_on()

    def eof_received(self) -> bool:
        if self._tunnel is None or self._lingering_close is not None:
            return False
        self._silent = True
        self._tunnel.end("client")
        return True  # the other half may go on

    def connection_lost(self, exc: Exception | None) -> None:
        if self._tunnel is not None and exc is not None:
            self._tunnel.cut("client")
        self.transport = None
        self._state = State.CLOSED
        for timer in (self._timer, self._turn):
            if timer is not None:
                timer.cancel()
        self._timer = self._turn = None
        self._payload.set_exception(ConnectionResetError("the client is gone"))
        self._resume_writer()
        self._break_off()  # who goes away takes the request along
        self._server.connection_lost(self)

    def pause_writing(self) -> None:
        self.writing_paused = True
        if self._tunnel is not None:
            self._tunnel.pause("client")

    def resume_writing(self) -> None:
        self.writing_paused = False
        self._resume_writer()
        if self._tunnel is not None:
            self._tunnel.resume("client")

    def _resume_writer(self) -> None:
        waiter, self._drained = self._drained, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def drained(self, seconds: float) -> None:
        """Wait until the client has taken enough to go on. Raises `ConnectionError`.

        One that takes nothing for `seconds` is cut off.
        """
        while (transport := self.transport) is not None:
            if not self.writing_paused:
                return
            left = transport.get_write_buffer_size()
            if self._drained is None:
                self._drained = self._loop.create_future()
            done, _ = await asyncio.wait([self._drained], timeout=seconds)
            if not done and transport.get_write_buffer_size() >= left:
                transport.abort()
                raise ConnectionAbortedError(f"the client took nothing for {seconds:g} s")
        raise ConnectionResetError

    # ── one request ──────────────────────────────────────────────────────────────────────────────

    def _begin_plain(self, head: PlainHead, rest: bytes) -> None:
        payload: Payload = NO_BODY
        length = head.section.length
        if length:
            payload = Whole(rest) if len(rest) == length else self._stream_of(length, rest)
        self._payload = payload
        request = Request(self, head.method, head.target, payload, head)
        self._silent = not request.keep_alive
        self._begin(request)

    def _stream_of(self, length: int, beginning: bytes) -> Stream:
        """Return a body of `length` bytes, of which only the `beginning` is here."""
        self._framing.length(length)
        stream = Stream(self)
        if beginning:
            self._framing.take_inside_body(len(beginning))
            stream.feed_data(beginning)
        return stream

    def _begin(self, request: Request) -> None:
        """Have `request` answered."""
        self._state = BUSY
        self._deadline = inf
        step = self.entrance.answerer.start(request)
        if type(step) is Waiting:
            self.proceed(step.context)
        elif type(step) is Answered:
            self.answered(keep_alive=step.keep_alive)
        else:
            self._context = step

    def proceed(self, context: Any) -> None:
        """Go on with a request in a task, unless its client is gone."""
        if self.transport is not None:
            self._context = context
            self._task = self._loop.create_task(self._finish(context))

    async def _finish(self, context: Any) -> None:
        self._context = None  # from here on the answerer sees to it, should the task be cancelled
        keep_alive = await self.entrance.answerer.finish(context)
        self._task = None
        self.answered(keep_alive=keep_alive)

    def answered(self, *, keep_alive: bool) -> None:
        """End a request: its answer is out."""
        self._context = None
        if self.draining:
            self._server.noticed()
        if self.transport is None or self._lingering_close is not None:
            return
        self._answered_any = True
        whole = self._payload is NO_BODY or self._payload.is_eof()
        if not keep_alive or self.draining or self._taker is not None:
            self.linger(silent=self._silent and whole)
        elif not whole:
            self._state = State.DISCARDING
            self._watch(DISCARD_SECONDS)
            self._stream_paused = False  # first: reading would take what is ahead, and read again in there
            self._discard()
            self._go_on()
            self._resume_transport()
        else:
            self._next()

    def _next(self) -> None:
        """Turn to the next request."""
        self._state = IDLE
        self._payload = NO_BODY
        deadline = self._deadline = self._loop.time() + self._server.keepalive  # `_watch`, without a call
        if self._timer is None or self._timer_at > deadline:
            self._set_timer()
        if self._stream_paused:  # for a body that was whole before anybody read it
            self._stream_paused = False
            self._resume_transport()
        if self._ahead:
            self._go_on()

    async def _wait_for_reader(self) -> None:
        """Wait until the client has read enough of its answers to ask for more."""
        with contextlib.suppress(ConnectionError):  # then it is cut off
            await self.drained(UNREAD_SECONDS)
        self._task = None
        self._go_on()

    # ── what is ahead ────────────────────────────────────────────────────────────────────────────

    def _go_on(self) -> None:
        """Take what is ahead, as far as its turn has come; of chunks, only so many that others get theirs."""
        if self._working:
            return
        self._working = True
        try:
            if self._turn is None:
                self._framing.room = ROOM
                self._take_ahead()
        finally:
            self._working = False
        left = len(self._ahead) - self._at
        if not left:
            self._ahead, self._at = b"", 0
        elif self._turn is None and not self._framing.room:
            self._turn = self._loop.call_soon(self._take_turn)
        self._hold(held=left > 0 and (self._turn is not None or left > MAX_AHEAD))

    def _take_turn(self) -> None:
        self._turn = None
        self._go_on()

    def _take_ahead(self) -> None:
        """Take what is ahead, one part at a time: see `framing`."""
        framing = self._framing
        while self._at < len(self._ahead) and not self._stream_paused and framing.room:
            if self._taker is not None:
                rest, self._ahead, self._at = self._ahead[self._at :], b"", 0
                self._taker(rest)
            elif framing.part == HEAD:
                if not self._admit_next() or not self._take_head():
                    return
            elif framing.part == BODY:
                start = self._at
                self._at = framing.end(self._ahead, start)
                self._take_body(self._ahead[start : self._at])
            elif (end := framing.run(self._ahead, self._at)) > self._at:
                run, self._at = self._ahead[self._at : end], end
                self._take_chunks(joined(run))
            else:
                self._take_part_of_chunks()

    def _admit_next(self) -> bool:
        """Give the next request its turn, and tell whether it has come.

        Who does not read would fill our memory: it waits.
        """
        if self._state is not IDLE and self._state is not HEAD_COMES:
            return False
        if self.writing_paused and self._task is None:
            self._task = self._loop.create_task(self._wait_for_reader())
        return self._task is None  # who waits goes on with it

    # ── a head ───────────────────────────────────────────────────────────────────────────────────

    def _take_head(self) -> bool:
        """Take what is ahead of a head; tell whether to go on."""
        before, at = b"", self._at
        if self._parser is None:
            begun = self._begin_head()
            if begun is None:
                return False
            before, at = begun
        end = self._framing.end(self._ahead, self._at)
        piece, self._at = before + self._ahead[at:end], end
        try:
            if self._parser is None:
                self._parser = self._server.parser_for(self)
            head = self._parser.read(piece if piece.isascii() else ascii_target(piece))
        except Malformed as error:
            self._refuse_head(error)
            return False
        except Exception as error:  # noqa: BLE001 - the last stop: no fault of the client's
            self.refuse(internal_error(error))
            return False
        if head is not None:
            self._head_has_come(*head)
        else:
            self._bound_head(self._framing.section)
        return True

    def _begin_head(self) -> tuple[bytes, int] | None:
        """Return what the parser reads for the method, and where it goes on, or None for now."""
        data, at = self._ahead, self._at
        if (lines := _EMPTY_LINES.match(data, at)) is not None:
            at = self._at = lines.end()  # a server should ignore them (RFC 9112 §2.2)
        if at == len(data):
            return None
        if data.startswith(b"\r", at):  # alone it ends no line, though aiohttp's parser would skip it
            if at + 1 < len(data):
                self._refuse_head(Malformed())
            return None
        self._head_begins()
        if data.startswith(_PARSERS_METHODS, at):
            return b"", at
        found = _METHOD.match(data, at)
        if found is None:
            return b"", at
        if found.end() == len(data):  # it may go on
            self._bound_head(len(data) - at)
            return None
        self._method = found[0].decode()
        return _STAND_IN, found.end()

    def _head_begins(self) -> None:
        if self._state is not HEAD_COMES:
            self._state, self._began = HEAD_COMES, perf_counter()
            if self._answered_any or self._deadline == inf:
                self._watch(self._server.header_seconds)

    def _bound_head(self, size: int) -> None:
        """Refuse a head of which `size` bytes are here and no end; aiohttp bounds each line only."""
        if size > self._server.header_bytes:
            self._refuse_head(Malformed(too_large=True))

    def _refuse_head(self, error: Malformed) -> None:
        """Answer what is no request, and close: nobody knows where another one would begin."""
        if error.too_large:
            limit = self._server.header_bytes
            self.refuse(HeadersTooLarge(error.reason) if error.reason else HeadersTooLarge.over(limit))
        elif self._ahead.startswith(TLS_HELLO) and not self._answered_any:
            self.refuse(BadRequest(HTTPS_CAME, hint=self.use_http))
        else:
            self.refuse(BadRequest(error.reason or "the request is not valid HTTP/1.1"))

    def _head_has_come(self, message: "RawRequestMessage", payload: "StreamReader") -> None:
        if not message.chunked:
            self._parser = None
            length = 0 if payload.is_eof() else int(message.headers.get(CONTENT_LENGTH, 0))
            if length:
                self._body_follows(payload, length)
        request = Request.parsed(message, payload, self)
        if self._method is not None:
            request.method, self._method = self._method, None
        if message.chunked:
            self._framing.chunks()
            if message.version != HTTP_1_1:
                # An HTTP/1.0 peer that knows of chunks, or one in between that does not: RFC 9112 §6.1.
                request.keep_alive = False
        self._payload = payload
        self._silent = message.should_close
        self._begin(request)

    def _body_follows(self, payload: "StreamReader", length: int) -> None:
        """Take a body of `length` bytes if it is all there; else expect it."""
        start, end = self._at, self._at + length
        if end > len(self._ahead):
            self._framing.length(length)
            return
        self._at = end
        payload.feed_data(self._ahead[start:end])
        payload.feed_eof()

    # ── a body ───────────────────────────────────────────────────────────────────────────────────

    def _take_body(self, data: bytes) -> None:
        """Take part of a body whose length is known."""
        payload = cast("Stream | StreamReader", self._payload)
        if self._state is not State.DISCARDING:
            payload.feed_data(data)
            self._count_pieces(payload, len(data))
        if self._framing.part == HEAD:
            payload.feed_eof()
            self._body_has_come()

    def _take_part_of_chunks(self) -> None:
        framing, start = self._framing, self._at
        self._at = framing.end(self._ahead, start)
        if framing.part == EXCESS:
            self._break_body(BadRequest(LITTLE_BUT_FRAMING))
            return
        self._take_chunks(self._ahead[start : self._at])
        if framing.part == TRAILER and framing.section > self._server.header_bytes:
            self._break_body(HeadersTooLarge(TRAILER_TOO_LARGE, hint=HeadersTooLarge.LIMIT_HINT))

    def _take_chunks(self, data: bytes) -> None:
        """Have aiohttp parse part of a body in chunks."""
        payload = cast("StreamReader", self._payload)
        if self._parser is None:
            return
        try:
            self._parser.read(data)
        except Malformed as error:
            hint = HeadersTooLarge.LIMIT_HINT
            self._break_body(
                HeadersTooLarge(TRAILER_TOO_LARGE, hint=hint) if error.too_large else BadRequest(MALFORMED)
            )
            return
        if self._state is State.DISCARDING:
            self._discard()
        elif not payload.is_eof():
            self._count_pieces(payload, 0)
        if payload.is_eof():
            self._parser = None  # and with it what it knows of trailers
            self._body_has_come()

    def _body_has_come(self) -> None:
        if self._state is not State.DISCARDING:
            return
        if self.draining and self._at == len(self._ahead):  # else what is ahead is the last
            self._server.noticed()
            self.linger(silent=self._silent)
        else:
            self._next()

    def _break_body(self, error: AuthproxyError) -> None:
        """Let who reads the body know that it is faulty: nobody knows where another request would begin."""
        self._taker = drop
        self._parser = None
        # Not now: aiohttp's stream, which the end of a chunk has just woken, looks for no error before it
        # waits for the next byte.
        self._loop.call_soon(self._payload.set_exception, error)
        if self._state is State.DISCARDING:
            self.linger(silent=False)

    def _discard(self) -> None:
        """Drop what has come of a body that nobody wants."""
        self._payload.read_nowait(-1)

    def _count_pieces(self, payload: "Stream | StreamReader", size: int) -> None:
        """Have a client wait that sends its body in very many pieces to an upstream that does not read."""
        if size < SMALL_PIECE and not self._stream_paused and pieces_in(payload) > MAX_PIECES:
            self.pause_reading()

    # ── who has to wait ──────────────────────────────────────────────────────────────────────────

    @property
    def connected(self) -> bool:
        """Whether more of a body may come; aiohttp's `StreamReader` asks."""
        return self.transport is not None

    def pause_reading(self) -> None:
        """Read no more of a body for now; aiohttp's `StreamReader` says so."""
        self._stream_paused = True
        self._pause_transport()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - aiohttp's
        """Read on; aiohttp's `StreamReader` says so, each time that it was read."""
        if self._stream_paused:
            self._stream_paused = False
            if self._ahead and not self._working:
                self._go_on()
            self._resume_transport()

    def _hold(self, *, held: bool) -> None:
        if held and not self._held:
            self._held = True
            self._pause_transport()
        elif not held and self._held:
            self._held = False
            self._resume_transport()

    def _pause_transport(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def _resume_transport(self) -> None:
        if self._held or self._stream_paused or self.transport is None or self.transport.is_closing():
            return
        self.transport.resume_reading()

    # ── a tunnel ─────────────────────────────────────────────────────────────────────────────────

    def join(self, tunnel: Tunnel) -> None:
        """Hand everything that comes from now on to `tunnel`; what has come already goes first."""
        self._state = State.TUNNEL
        self._tunnel = tunnel
        self._taker = partial(tunnel.feed, "client")
        rest, self._ahead, self._at = self._ahead[self._at :], b"", 0
        self._hold(held=False)
        if rest:
            tunnel.feed("client", rest)  # which may have the client wait

    def end_tunnel(self) -> None:
        """End the tunnel, if there is one; both sides still get what is under way."""
        if self._tunnel is not None:
            self._tunnel.close()

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def linger(self, *, silent: bool) -> None:
        """Close so that the client gets to read what it was sent; `silent` when it will send no more."""
        transport = self.transport
        if transport is None or self._lingering_close is not None:
            return
        if silent:
            self.force_close()
            return
        self._state = State.LINGERING
        self._deadline = inf
        self._lingering_close = LingeringClose(transport, self.stall_seconds)
        self._taker = self._lingering_close.hear
        self._ahead, self._at = b"", 0
        self._held = self._stream_paused = False
        self._resume_transport()

    def force_close(self) -> None:
        """Close; what is written is still sent, to a client that takes it."""
        self._break_off()
        if self.transport is not None:
            close_or_abort(self.transport, self.stall_seconds)

    def _break_off(self) -> "asyncio.Task[None] | None":
        """Break off the request under way, if there is one; return its task, if it has one."""
        task, self._task = self._task, None
        context, self._context = self._context, None
        if task is not None:
            task.cancel()
        if context is not None:
            self.entrance.answerer.lost(context)
        return task

    async def shutdown(self, seconds: float) -> None:
        """Break off what is under way, and close; wait for that for up to `seconds`."""
        task = self._break_off()
        if task is not None and not task.done():
            await asyncio.wait([task], timeout=seconds)
        self.force_close()

    def refuse(self, error: AuthproxyError) -> None:
        """Answer what is not even a request, and close."""
        if self.transport is not None:
            self.transport.write(self.entrance.answerer.refused(error, self._began))
        self.linger(silent=False)

    # ── deadlines: one lazy timer a connection, not one a request ────────────────────────────────

    def _watch(self, seconds: float) -> None:
        deadline = self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer_at > deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if self._deadline == inf or self.transport is None:
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        elif self._state is HEAD_COMES:
            seconds = self._server.header_seconds
            detail = f"the header section took longer than {seconds:g} s"
            self.refuse(RequestTimeout(detail, hint=HEADER_TIMEOUT_HINT))
        elif self._state is State.DISCARDING:
            self.linger(silent=False)
        elif self._state is IDLE:
            self.force_close()

    def __repr__(self) -> str:
        return f"<ClientConnection {self._state.name.lower()}>"


def drop(_data: bytes) -> None:
    """Take what nobody wants."""


def pieces_in(payload: "Stream | StreamReader") -> int:
    """Return how many pieces of a body wait to be read; aiohttp counts bytes, and pieces of chunks only."""
    if isinstance(payload, Stream):
        return payload.pieces
    return len(payload._buffer)  # noqa: SLF001 - there is no public way


def ascii_target(data: bytes) -> bytes:
    """Return a head with the raw 8-bit characters of its request line percent-encoded, if that is whole.

    curl sends a URL as it was typed, and servers take it; aiohttp's parser does not.
    """
    if not _REQUEST_LINE.match(data):
        return data
    line, end, rest = data.partition(b"\r\n")
    return _EIGHT_BIT.sub(lambda found: b"%%%02X" % found[0][0], line) + end + rest
