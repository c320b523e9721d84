"""One connection to an upstream, and the reply that is coming in on it.

    idle ── begin() ──▶ waiting for a head ──▶ receiving a body ──▶ idle again, or closed
                              │                       │
                         deadline: response      deadline: idle

httptools (llhttp) parses; what it lets through although it must not pass is refused here: a length
beside chunked (RFC 9112 §6.3), an encoding other than chunked, a 101 nobody asked for. After any such
fault the connection is never used again. After a 101 that was asked for it is a `pipe` for whatever comes.
"""

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from authproxy.capabilities import is_readable
from authproxy.errors import AuthproxyError, BadReply, RequestTimeout, ResponseTimeout
from authproxy.net.failures import TLS_ALERT
from authproxy.net.http_tunnel import REFUSED
from authproxy.proxy.plain import EMPTY_LINE, PlainReply, read_reply, unchunked
from authproxy.proxy.upstream.forwarding import Forwarding
from authproxy.proxy.upstream.reply import MAX_PIECES, Pipe, Reply, ReplyHeaders

Stage = tuple[type[AuthproxyError], str, str]
"""What passing a deadline means in one stage of an exchange, and what to do about it."""


UPLOADING: Stage = (RequestTimeout, "the client sent nothing of its body to {} for {:g} s", "send it faster")
NOT_TAKEN: Stage = (
    ResponseTimeout,
    "{} took nothing of the upload for {:g} s",
    "check whether it is overloaded",
)
AWAITED: Stage = (
    ResponseTimeout,
    "{} did not answer within {:g} s",
    "raise `timeouts.response` if it may take that long; else check whether it is overloaded",
)
RECEIVING: Stage = (BadReply, "{} sent nothing of its body for {:g} s", "raise `timeouts.idle`")
FAULTY = (
    "it is for the upstream to mend, or for what stands before it: authproxy passes on no reply that "
    "others may read differently"
)
TAKING = (NOT_TAKEN, AWAITED)  # in these an upstream that takes more of the upload is slow, but not stalled
MAX_HEAD = 256 << 10  # bytes, interim replies included; and of what frames a body, without any of it
TURN = 32 << 10  # bytes in very many lines that are parsed in one turn of the loop
MAX_LINES = 1024  # that are parsed at once however long they are; each may be a chunk, and take a callback
SWITCHED = 101
HTTP_1 = frozenset({"1.0", "1.1"})
REASONS = frozenset(status.phrase.encode() for status in HTTPStatus)

_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

NO_BODY = frozenset({204, 304})
CHUNKED_HEAD = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"  # all of a plain head that a parser needs
)


class ClosedUnanswered(BadReply):
    """A kept connection turned out to be dead: not one byte came back."""


class Connection(asyncio.Protocol):
    """A connection that `pool` lends out for one exchange at a time."""

    def __init__(
        self,
        place: str,
        *,
        on_idle: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
        forwarding: Forwarding | None = None,
        hint: str | None = None,
    ) -> None:
        self.place = place
        self._hint = hint  # what to check where nothing comes that is HTTP
        self.closed = False
        self.exchanges = 0
        self.idle_since = 0.0
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._forwarding = forwarding  # set when a proxy is at the other end
        self._loop = asyncio.get_running_loop()
        self.opened_at = self._loop.time()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = HttpResponseParser(self)
        self._reply: Reply | None = None
        self._sending = False
        self._answered = False  # any byte of a reply arrived in this exchange
        self._version_is_known = False  # to be 1.x: enough of it came at once
        self._is_head = False
        self._may_switch = False
        self._switched = False  # what comes is not HTTP any more
        self._pipe: Pipe | None = None
        self._until_close = False
        self._keep_alive = True
        self._status = 0
        self._reason = b""
        self._headers: ReplyHeaders = []
        self._length: int | None = None
        self._received = 0  # bytes of the body so far
        self._left = 0  # bytes of it that need no parser
        self._seen = 0  # of those received, when last looked at
        self._framed = 0  # bytes since then that were none of the body
        self._chunked = False
        self._head_done = False
        self._head_size = 0
        self._reading_paused = False
        self._ahead = b""  # what has come, and is parsed when others had their turn
        self._turn: asyncio.Handle | None = None  # when that is
        self._drained: asyncio.Future[None] | None = None
        self._writing_paused = False
        self._untaken = 0  # bytes of the upload that the upstream had yet to take when it was last looked at
        self._deadline = 0.0
        self._seconds = 0.0
        self._stage: Stage | None = None
        self._idle_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # ── one exchange ─────────────────────────────────────────────────────────────────────────────

    def begin(
        self,
        data: bytes,
        *,
        method: str,
        response_seconds: float,
        idle_seconds: float,
        more: bool,
        may_switch: bool = False,
    ) -> Reply:
        """Send the first bytes of a request.

        `more` says that its body follows, `may_switch` that it asks for another protocol.
        """
        reply = self._reply = Reply(self)
        self.exchanges += 1
        self._is_head = method == "HEAD"
        self._may_switch = may_switch
        self._sending = more
        self._answered = self._until_close = self._head_done = False
        self._head_size = self._untaken = 0
        self._idle_seconds = idle_seconds
        seconds = self._seconds = idle_seconds if more else response_seconds
        self._stage = UPLOADING if more else AWAITED
        deadline = self._deadline = self._loop.time() + seconds  # `_watch`, without a call
        if self._timer is None or self._timer_at > deadline:
            self._set_timer()
        self._transport.write(self._forwarding.addressed(data) if self._forwarding is not None else data)
        return reply

    async def send(self, data: bytes) -> bool:
        """Send more of the body; wait while the upstream cannot take it. Tell whether to go on."""
        if self.closed or not self._sending:
            return False
        self._transport.write(data)
        if self._writing_paused:
            self._note_upload(NOT_TAKEN)
            self._untaken = self._transport.get_write_buffer_size()
            self._drained = self._loop.create_future()
            await self._drained
        self._note_upload(UPLOADING)
        return not self.closed and self._sending

    def _note_upload(self, stage: Stage) -> None:
        """Begin to wait for the next piece; once there is an answer, its own stage just goes on."""
        if self.closed:
            return
        if not self._head_done:
            self._watch(self._idle_seconds, stage)
        elif self._stage is not None:
            self._deadline = self._loop.time() + self._idle_seconds

    def sent(self, response_seconds: float) -> None:
        """Say that the request is out; from now on the upstream is awaited."""
        self._sending = False
        if self._switched:
            self._tell_of_switch()
        elif self._reply is not None and not self._reply.status:
            self._untaken = self._transport.get_write_buffer_size()
            self._watch(response_seconds, AWAITED)

    def fail(self, failure: Exception) -> None:
        """End the exchange with `failure`, and the connection with it."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.end(failure)
        self.abort()
        if reply is not None:
            reply.show()

    def abort(self) -> None:
        """Close at once."""
        if not self.closed:
            self._transport.abort()
            self._lost()

    def join(self, pipe_to: Callable[[asyncio.Transport], Pipe]) -> Pipe:
        """Hand everything that comes from now on to a pipe; what has come already goes first."""
        reply, self._reply = self._reply, None
        self._stage = None
        pipe = self._pipe = pipe_to(self._transport)
        if reply is not None:
            for part in reply.parts:
                pipe.feed("upstream", part)
            reply.end()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        return pipe

    def is_readable(self) -> bool:
        """Tell whether something has arrived since the last exchange, the end of the connection included."""
        if self.closed:
            return True
        return is_readable(self._transport.get_extra_info("socket").fileno())

    def _pause(self) -> None:
        """Read no more for now: enough is here that nobody has taken."""
        if not self._reading_paused:
            self._reading_paused = True
            if self._turn is None:
                self._transport.pause_reading()

    def resume(self) -> None:
        """Read on: the reply was read."""
        if self._reading_paused and not self.closed:
            self._reading_paused = False
            self._watch(self._idle_seconds, RECEIVING)
            if self._turn is None:
                self._transport.resume_reading()

    # ── asyncio.Protocol ─────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=256 << 10)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        if self._pipe is not None:
            self._pipe.feed("upstream", data)
        elif self._switched and self._reply is not None:  # the pipe is not joined yet
            if self._reply.feed(data):
                self._pause()
        elif self._left:
            self._take(data)
        elif self._turn is not None:
            self._ahead += data
        else:
            reply = self._reply
            if reply is not None and not self._answered:
                data = self._read_plainly(reply, data)
            if data:
                self._read(data)
            if reply is not None and reply.watcher is not None and reply.status:
                reply.show()

    def _read(self, data: bytes) -> None:
        """Parse `data`, in turns if it may take long."""
        if len(data) <= TURN or data.count(b"\n") <= MAX_LINES:
            self._parse(data)
        else:
            self._parse_in_turns(data)

    def _read_plainly(self, reply: Reply, data: bytes) -> bytes:
        """Take a plain head, and the body behind it as far as that needs no parser; return what is left."""
        head, end, body = data.partition(EMPTY_LINE)
        plain = read_reply(head) if end and len(head) <= MAX_HEAD else None
        if plain is None or (plain.status == REFUSED and self._forwarding is not None):
            return data
        length: int | None = plain.length
        if self._is_head or plain.status in NO_BODY:
            length = 0
        elif plain.chunked:
            whole = unchunked(body)
            if whole is None:
                self._reply = Reply(self)  # which nobody reads
                self._parser.feed_data(CHUNKED_HEAD)
                self._reply = reply
                self._begin_body(reply, plain)
                return body
            body, length = whole, len(whole)
        if length is None or len(body) > length:  # it ends with the connection, or there is too much of it
            return data
        if len(body) == length:
            self._reply, self._keep_alive = None, plain.keep_alive
            reply.came_whole(plain, body)
            self._set_free()
            return b""
        self._begin_body(reply, plain)
        self._length = length
        if body:
            self.on_body(body)
        self._left = length - len(body)
        return b""

    def _begin_body(self, reply: Reply, plain: PlainReply) -> None:
        """Take a plain head of which the body is yet to come."""
        self._answered = self._head_done = True
        self._status, self._keep_alive = plain.status, plain.keep_alive
        self._length, self._received = None, 0
        reply.plain_head_came(plain)
        self._watch(self._idle_seconds, RECEIVING)

    def _parse_in_turns(self, data: bytes) -> None:
        """Parse the first of `data`, and the rest when others had their turn, unless it needs no parser."""
        self._parse(data[:TURN])
        if self.closed:
            return
        rest = data[TURN:]
        if self._reply is None:
            self._broken("sent more than it announced")
        elif self._left or self._switched:
            self.data_received(rest)
        else:
            self._ahead = rest
            if not self._reading_paused:
                self._transport.pause_reading()
            self._turn = self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        data, self._ahead = self._ahead, b""
        if self.closed:
            return
        if not self._reading_paused:
            self._transport.resume_reading()
        self.data_received(data)

    def _take(self, data: bytes) -> None:
        """Take the rest of a body whose length is known: there is nothing in it to parse."""
        piece = data[: self._left]  # all of it, as a rule, and then no copy
        self._left -= len(piece)
        self.on_body(piece)
        if self._left:
            if not self._reading_paused:
                self._deadline = self._loop.time() + self._idle_seconds
            return
        self._parser = HttpResponseParser(self)  # the old one still waits for what it has not seen
        self._ended()
        if len(piece) < len(data):
            self._broken("sent more than it announced")

    def _parse(self, data: bytes) -> None:
        if not self._answered:
            self._answered = True
            self._version_is_known = len(data) >= len(b"HTTP/1.")
            if self._reply is None or not b"HTTP/1.".startswith(data[:7]):
                self._not_http(data)
                return
        reply = self._reply
        before = len(reply.parts) if reply is not None else 0
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as switch:
            if rest := data[switch.args[0] :]:
                self.data_received(rest)
        except HttpParserError as error:  # or it sent more than its reply: then that stands
            self._broken(f"sent a faulty reply{_fault(error)}", FAULTY)
        if reply is not None and len(reply.parts) - before > MAX_PIECES:
            reply.join_from(before)
        if self._reply is not None:
            self._check_progress(len(data))

    def _check_progress(self, size: int) -> None:
        """Bound the head; once it is there, see what of the body needs no parser."""
        if not self._head_done:
            self._head_size += size
            if self._head_size > MAX_HEAD:
                self._broken("sent too long a header section")
            return
        if self._length is not None:
            self._left = self._length - self._received
        elif self._received != self._seen:
            self._seen, self._framed = self._received, 0
        else:  # sizes of chunks, extensions, trailers: there could be no end to them
            self._framed += size
            if self._framed > MAX_HEAD:
                self._broken("sent too long a trailer section")
                return
        if not self._reading_paused:
            self._deadline = self._loop.time() + self._idle_seconds

    def eof_received(self) -> bool:
        if self._pipe is not None:
            self._pipe.end("upstream")
        return self._pipe is not None and self._transport.can_write_eof()  # the other half may go on

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pipe is not None and exc is not None:
            self._pipe.cut("upstream")
        elif self._pipe is not None:
            self._pipe.close()
        shown = self._reply  # also if what came before the end completes it
        if self._turn is not None and not self.closed:  # what came before the end counts
            self._turn.cancel()
            self._turn = None
            self._parse(self._ahead)
        reply, self._reply = self._reply, None
        if reply is not None:
            if self._until_close and exc is None:
                reply.end()
            elif not self._answered and self.exchanges > 1:
                reply.end(ClosedUnanswered(f"{self.place} closed a kept connection"))
            elif not reply.status:
                reply.end(BadReply(f"{self.place} closed the connection without an answer", hint=self._hint))
            else:
                reply.end(BadReply(f"{self.place} broke off its body"))
        if not self.closed:
            self._lost()
        if shown is not None:
            shown.show()

    def pause_writing(self) -> None:
        self._writing_paused = True
        if self._pipe is not None:
            self._pipe.pause("upstream")

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._pipe is not None:
            self._pipe.resume("upstream")
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # ── httptools ────────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._reply is None:
            raise HttpParserError("a reply that nobody asked for")
        self._headers = []
        self._reason = b""
        self._length = None
        self._received = self._seen = self._framed = 0
        self._chunked = self._head_done = False

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:  # a trailer: dropped, as `Trailer` is
            return
        self._headers.append((name, value))
        if len(name) == len(b"content-length") and name.lower() == b"content-length":
            self._length = int(value)
        elif len(name) == len(b"transfer-encoding") and name.lower() == b"transfer-encoding":
            if self._chunked or value.lower() != b"chunked":
                raise HttpParserError("a transfer encoding other than chunked")
            self._chunked = True

    def on_headers_complete(self) -> None:
        status = self._status = self._parser.get_status_code()
        self._check_head(status)
        if status == SWITCHED and self._may_switch and self._reply is not None:
            self._head_done = self._switched = True
            if not self._sending:  # else not before the whole request is out (RFC 9110 §7.8)
                self._tell_of_switch()
            return
        if status < 200:  # an interim reply; the answer is yet to come (RFC 9110 §15.2)
            if status == SWITCHED:
                raise HttpParserError("a switch of protocols that nobody asked for")
            self._version_is_known = False  # of what follows
            return
        if status == REFUSED and self._forwarding is not None:
            self.fail(self._forwarding.refusal())
            return
        reply = self._reply
        if reply is None:
            raise HttpParserError("a reply that nobody asked for")
        self._head_done = True
        # Chunks in HTTP/1.0: something on the way may have seen another end (RFC 9112 §6.1).
        self._keep_alive = self._parser.should_keep_alive() and not (
            self._chunked and self._parser.get_http_version() == "1.0"
        )
        bodiless = self._is_head or status in NO_BODY
        self._until_close = not bodiless and not self._chunked and self._length is None
        reply.head_came(status, self._reason, self._headers, self._length)
        self._watch(self._idle_seconds, RECEIVING)
        if bodiless:
            # llhttp waits for what a length announces, even here: this parser is of no further use.
            self._parser = HttpResponseParser(self)
            self._ended()

    def _tell_of_switch(self) -> None:
        if self._reply is not None:
            self._reply.head_came(SWITCHED, self._reason, self._headers, None)
            self._watch(self._idle_seconds, RECEIVING)

    def _check_head(self, status: int) -> None:
        """Refuse what llhttp lets through."""
        if not self._version_is_known and self._parser.get_http_version() not in HTTP_1:
            raise HttpParserError("not HTTP/1.x")
        if not 100 <= status <= 999:
            raise HttpParserError("not a status")
        if self._reason not in REASONS and _CONTROLS.search(self._reason):
            raise HttpParserError("a control character in the reason")
        if self._chunked and self._length is not None:
            raise HttpParserError("a length beside chunked")

    def on_body(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            raise HttpParserError("more than was announced")
        self._received += len(data)
        if reply.feed(data):
            self._pause()
            self._stage = None  # it is the client who is slow now

    def on_message_complete(self) -> None:
        if self._status >= 200 and self._reply is not None and not self._until_close:
            self._ended()

    # ── the end of an exchange ───────────────────────────────────────────────────────────────────

    def _ended(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.end()
        self._set_free()

    def _set_free(self) -> None:
        """Be there for the next exchange, if there can be one."""
        self._stage = None
        if self._sending or not self._keep_alive:
            # An answer before the request was out leaves a connection that nobody can use again.
            self.abort()
            return
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        self._answered = False
        self.idle_since = self._loop.time()
        self._on_idle(self)

    def _lost(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._on_lost(self)

    def _not_http(self, data: bytes) -> None:
        if data.startswith(TLS_ALERT):
            how = f"{self.place} did not answer in HTTP/1.x, but in TLS"
            self.fail(BadReply(how, hint="write https:// in `upstream`"))
        else:
            self.fail(BadReply(f"{self.place} did not answer in HTTP/1.x", hint=self._hint))

    def _broken(self, how: str, hint: str | None = None) -> None:
        self.fail(BadReply(f"{self.place} {how}", hint=hint))

    # ── deadlines: one lazy timer a connection, not one a request ────────────────────────────────

    def _watch(self, seconds: float, stage: Stage) -> None:
        self._deadline = self._loop.time() + seconds
        self._seconds = seconds
        self._stage = stage
        if self._timer is None or self._timer_at > self._deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if self._stage is None or self.closed:
            return
        if self._stage in TAKING and self._transport.get_write_buffer_size() < self._untaken:
            self._untaken = self._transport.get_write_buffer_size()
            self._deadline = self._loop.time() + self._seconds
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            kind, text, hint = self._stage
            self.fail(kind(text.format(self.place, self._seconds), hint=hint))

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self._reply else "idle"
        return f"<Connection {self.place} {state}>"


def _fault(error: HttpParserError) -> str:
    """Return the parser's words, or ours, for what is wrong with a reply; nothing of the reply is in them."""
    ours = error.__context__
    if isinstance(ours, HttpParserError):
        return f": {ours}"
    return "" if isinstance(error, HttpParserCallbackError) else f": {error}"
