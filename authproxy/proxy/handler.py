"""One request's way through the proxy.

    guard ─▶ router ─▶ allow ─▶ headers, body ─▶ forward ─▶ relay
      └────────┴─────────┴───────────┴──────────────┴──▶ problem (before a byte of the answer is out)
                                                    relay ──▶ the connection is cut short (after)

Up to `forward` nothing waits, so both ways (see `server`) take that way alike. With a token held and a
connection at hand the fast path sends at once; an answer that is all there goes straight back. Anything
else, a refused token, a long body, a fault, goes on in the task from where it stands.
"""

import asyncio
import re
import socket
import struct
from collections.abc import Iterable
from time import perf_counter, time
from typing import Protocol, cast

from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.web import StreamResponse
from multidict import istr

from authproxy import logs
from authproxy.errors import (
    AuthproxyError,
    BadReply,
    BadRequest,
    ConnectionLimit,
    Forbidden,
    HeadersTooLarge,
    RequestRefused,
)
from authproxy.net.tunnel import Tunnel
from authproxy.observe.counters import Counters
from authproxy.observe.record import RequestRecord, Subscriber
from authproxy.proxy.body import LAST_CHUNK, Body, chunk
from authproxy.proxy.downstream.connection import CLOSE, KEEP_ALIVE, UNREAD_SECONDS
from authproxy.proxy.downstream.incoming import Incoming
from authproxy.proxy.guard import CONTENT_LENGTH, TE, Guard, split_absolute
from authproxy.proxy.headers import RawHeaders, listed_in
from authproxy.proxy.problem import internal_error, problem_response
from authproxy.proxy.route import Route
from authproxy.proxy.router import RouteTable, is_plain, path_interpretations, upstream_target
from authproxy.proxy.send import Outgoing
from authproxy.proxy.upstream.connection import NO_BODY, SWITCHED
from authproxy.proxy.upstream.reply import Reply
from authproxy.tokens.token import Token

CONNECTION, EXPECT, UPGRADE = istr("Connection"), istr("Expect"), istr("Upgrade")
# HTTP of any version, and what it would be spoken over; `h2c-14`, `h3-29` and `TLS/1.2` are such names too.
HTTP_ITSELF = re.compile(r"(?:https?|h[0-9]+c?|hq|quic|tls|ssl)(?![a-z])")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
REASONS = re.compile(r"(?<!^)(?=[A-Z])")  # BadRequest is counted as bad_request
CLIENT_GONE = "the client went away"
MAX_DIGITS = 18  # of a length; aiohttp takes the largest numbers of all for no body
CLOSING_STATUSES = frozenset({400, 431, 500})  # after these nobody knows where the next request begins


class RequestContext:
    """One request on its way, and what the access log will say of it."""

    __slots__ = (
        "answer_begun", "cause", "framed", "incoming", "injects", "origin", "outgoing", "path", "retried",
        "route", "sent", "site", "started", "status", "token",
    )  # fmt: skip

    def __init__(self, incoming: Incoming, site: "Site", started: float) -> None:
        self.incoming = incoming
        self.site = site
        self.started = started
        self.route: Route | None = None
        self.path = "-"
        self.answer_begun = False  # whether anything of an answer is out; only who writes it says so
        self.status = 0  # of that answer
        self.sent = 0  # bytes of its body that are out
        self.retried = False
        self.framed = True  # whether the client can tell a short body from a whole one
        self.cause: str | None = None
        self.origin: str | None = None  # the foreign web origin that may read the answer
        self.outgoing: Outgoing | None = None
        self.injects = False
        self.token: Token | None = None

    @property
    def route_name(self) -> str | None:
        return self.route.name if self.route is not None else None

    def answering(self, status: int, sent: int = 0) -> None:
        """Note that an answer has begun to go out, and what of its body went with it, in bytes."""
        self.answer_begun, self.status, self.sent = True, status, sent

    def record(self, now: float, ended: float) -> RequestRecord:
        """Return what is to be told of it; `now` is the time of day, `ended` is on the clock of `started`."""
        return RequestRecord(
            now,
            ended - self.started,
            self.route_name,
            self.incoming.method,
            self.path,
            self.status,
            self.sent,
            self.retried,
            self.cause,
        )

    def give_up(self) -> None:
        """Break off: the client is gone, or there will be no answer but our own."""
        if self.outgoing is not None:
            self.outgoing.abort()

    def __repr__(self) -> str:
        return f"<RequestContext {self.incoming.method} {self.route_name} {self.status or 'under way'}>"


class Site(Protocol):
    """What requests are answered by. The limits are in bytes."""

    @property
    def guard(self) -> Guard: ...
    @property
    def routes(self) -> RouteTable[Route]: ...
    @property
    def header_bytes(self) -> int: ...
    @property
    def body_bytes(self) -> int | None: ...


class ProxyHandler:
    """Answers requests by `site`, which may be replaced: a request goes on with the one it began with.

    `subscribers` get the record of each finished request.
    """

    def __init__(self, site: Site, counters: Counters, subscribers: Iterable[Subscriber] = ()) -> None:
        self.site = site
        self.counters = counters
        self._subscribers = tuple(subscribers)

    # ── the fast path ───────────────────────────────────────────────────────────────────────────

    def quick(self, incoming: Incoming) -> None:
        """Answer without a task, as far as nothing has to be waited for."""
        context = RequestContext(incoming, self.site, perf_counter())
        begun = False
        try:
            done = self._prepare(context)
            if done is None:
                begun = self._begin_at_once(context)
        except Exception as error:  # noqa: BLE001 - the one place where errors become responses
            done = self._fail(context, error)
        if done is not None:
            self._end(context, keep_alive=done)
        elif begun:
            incoming.connection.begin(context)
        else:
            incoming.connection.hand_over(context)

    def _begin_at_once(self, context: RequestContext) -> bool:
        """Send the request, if a token and a connection are at hand."""
        route, outgoing = context.route, context.outgoing
        assert route is not None and outgoing is not None  # noqa: S101, PT018 - prepared
        line = b""
        if context.injects and route.credential is not None:
            context.token = route.credential.source.take()
            if context.token is None:
                return False
            line = route.credential.line(context.token)
        exchange = route.sender.begin_at_once(outgoing, line)
        if exchange is None:
            return False
        reply = exchange.reply
        reply.watcher = lambda: self._look(context, reply)
        return True

    def _look(self, context: RequestContext, reply: Reply) -> None:
        """Send the answer back if it is all there and stands; else let the task see to it."""
        try:
            route = context.route
            assert route is not None  # noqa: S101 - begun
            credential = route.credential
            if not reply.complete or (
                context.injects and credential is not None and credential.refuses(reply.status)
            ):
                context.incoming.connection.hand_over(context)
                return
            if context.token is not None and credential is not None:
                credential.accepted(context.token)
            keep_alive = self._send_whole(context, reply)
        except Exception as error:  # noqa: BLE001 - we are in the upstream's callback
            keep_alive = self._fail(context, error)
        self._end(context, keep_alive=keep_alive)

    def _end(self, context: RequestContext, *, keep_alive: bool) -> None:
        self._log(context)
        context.incoming.connection.finish(keep_alive=keep_alive)

    def _log(self, context: RequestContext) -> None:
        """Tell of the request. The answer is out: no fault in here may make a second one."""
        try:
            record = context.record(time(), perf_counter())
            for subscriber in self._subscribers:
                subscriber(record)
        except Exception as error:  # noqa: BLE001 - see above
            internal_error(error)

    def refused(self, error: AuthproxyError) -> None:
        """Count a request that was not forwarded, by the kind of its refusal."""
        if isinstance(error, RequestRefused | ConnectionLimit):
            self.counters.refused[REASONS.sub("_", type(error).__name__).lower(),] += 1

    # ── the task ────────────────────────────────────────────────────────────────────────────

    async def __call__(self, incoming: Incoming) -> StreamResponse:
        """Answer `incoming`; go on where the fast path has come to."""
        connection = incoming.connection
        handed_over = cast("RequestContext | None", connection.take_over())
        context = handed_over or RequestContext(incoming, self.site, perf_counter())
        connection.busy = True
        try:
            try:
                if connection.writing_paused:  # who pipelines and does not read would fill our memory
                    await connection.drained(UNREAD_SECONDS)
                done = None if handed_over is not None else self._prepare(context)
                keep_alive = await self._forward(context) if done is None else done
            finally:  # before we answer ourselves: from here on nobody reads the client's body
                if context.outgoing is not None:
                    await context.outgoing.close()
        except asyncio.CancelledError:
            context.cause = CLIENT_GONE
            raise
        except Exception as error:  # noqa: BLE001 - as in the fast path
            keep_alive = self._fail(context, error)
        finally:
            self._log(context)
            connection.done()
        return KEEP_ALIVE if keep_alive else CLOSE

    async def _forward(self, context: RequestContext) -> bool:
        """Send the request and relay the reply; tell whether the connection can go on."""
        route, outgoing = context.route, context.outgoing
        assert route is not None and outgoing is not None  # noqa: S101, PT018 - prepared
        try:
            if context.injects and route.credential is not None:
                exchange = await route.credential.send(outgoing, route.sender, context.token)
            else:
                exchange = await route.sender.send(outgoing, b"")
        finally:
            context.retried = outgoing.retried
        if context.retried and route.credential is not None:
            outcome = "refused" if route.credential.refuses(exchange.reply.status) else "accepted"
            self.counters.retries[route.name, outcome] += 1
        if exchange.reply.status == SWITCHED:
            return await self._tunnel(context, route, exchange.reply)
        if exchange.reply.complete:
            return self._send_whole(context, exchange.reply)
        return await self._stream(context, route, exchange.reply)

    # ── before anything is sent ──────────────────────────────────────────────────────────────────

    def _prepare(self, context: RequestContext) -> bool | None:
        """Judge the request and make it ready to go. Raises `RequestRefused`.

        Returns None; or, when it was answered here (a preflight), whether the connection can go on.
        """
        incoming, site = context.incoming, context.site
        if incoming.target.startswith("/"):
            context.path = incoming.target.partition("?")[0]  # for the log, should the guard refuse it
        if site.guard.has_origins:
            context.origin = site.guard.allowed_origin(incoming)
        host, target = site.guard.check(incoming)
        path = context.path = target.partition("?")[0]
        if context.origin is not None and is_preflight(incoming):
            return self._send_preflight(context, context.origin)  # browsers send no key with it
        site.guard.check_key(incoming)
        route = context.route = site.routes.match(host, path)
        incoming.connection.stall_seconds = route.idle_seconds
        if route.allow is not None or not is_plain(path):
            for judged in path_interpretations(path, route.path):
                if route.allow is not None:
                    route.allow.check(incoming.method, judged if route.strips else route.path + judged)
        context.injects = self._injects(incoming, route)
        context.outgoing = self._outgoing(context, route, target)
        return None

    @staticmethod
    def _injects(incoming: Incoming, route: Route) -> bool:
        """Tell whether the credential is to be added: what a caller brings along may take its place.

        What is removed anyway was not brought along.
        """
        if route.credential is None:
            return False
        if route.incoming == "replace" or route.credential.header not in incoming.headers:
            return True
        if route.request_headers.removes_credential:
            return True
        if route.incoming == "reject":
            raise Forbidden(f"requests to this route must not carry {route.credential.header}")
        return False

    def _outgoing(self, context: RequestContext, route: Route, target: str) -> Outgoing:
        incoming, limit = context.incoming, context.site.header_bytes
        method = incoming.method
        start = f"{method} {upstream_target(target, strip=route.strip, base=route.base)} HTTP/1.1\r\n"
        listed = None
        if CONNECTION in incoming.headers:
            listed = listed_in(",".join(incoming.headers.getall(CONNECTION)))
        head = route.request_headers.head(
            start.encode("utf-8", "surrogateescape"),
            incoming.raw_headers,
            listed=listed,
            replace=context.injects,
            authority=b"" if incoming.target.startswith("/") else split_absolute(incoming.target)[0].encode(),
        )
        if len(head) > limit:
            raise HeadersTooLarge(f"the header section is over {limit} bytes")
        body = self._body(incoming, route, context.site.body_bytes)
        if body is not None and body.chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        upgrades = listed is not None and b"upgrade" in listed and UPGRADE in incoming.headers
        if upgrades and incoming.headers[UPGRADE].lower() != "websocket":
            incoming.keep_alive = False  # aiohttp loses what came behind it in the same piece
        protocol = wanted_protocol(incoming) if upgrades else None
        if protocol is not None:
            head += f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n".encode("latin-1", "replace")
        return Outgoing(method, head, body, upgrades=protocol is not None)

    @staticmethod
    def _body(incoming: Incoming, route: Route, limit: int | None) -> Body | None:
        headers = incoming.headers
        waits = EXPECT in headers and expects_continue(incoming)
        length = headers.get(CONTENT_LENGTH)
        if (length is None and TE not in headers) or length == "0":
            return None
        if length is not None and len(length) > MAX_DIGITS:
            raise BadRequest("Content-Length is too large")
        body = Body(
            incoming.payload,
            length=int(length) if length is not None else None,
            keep=route.keep_body,
            limit=limit,
        )
        transport = incoming.connection.transport
        if waits and not incoming.payload.is_eof() and transport is not None:
            transport.write(CONTINUE)
        return body

    # ── the answer ───────────────────────────────────────────────────────────────────────────────

    def _send_whole(self, context: RequestContext, reply: Reply) -> bool:
        """Send a reply that is all there, in one write; tell whether the connection can go on."""
        head, keep_alive, chunked = self._head(context, reply)
        transport = context.incoming.connection.transport
        if transport is None:
            context.cause = CLIENT_GONE
            return False
        body = b"".join(reply.parts)
        size = len(body)
        if chunked:
            body = (chunk(body) if body else b"") + LAST_CHUNK
        transport.write(head + body)
        context.answering(reply.status, size)
        return keep_alive

    async def _stream(self, context: RequestContext, route: Route, reply: Reply) -> bool:
        """Send a reply as it arrives, no faster than the client takes it."""
        head, keep_alive, chunked = self._head(context, reply)
        connection = context.incoming.connection
        writer = connection.transport
        if writer is None:
            raise ConnectionResetError
        writer.write(head)
        context.answering(reply.status)
        while parts := await reply.read():
            if connection.transport is None:
                raise ConnectionResetError
            size = sum(map(len, parts))
            writer.writelines([b"%x\r\n" % size, *parts, b"\r\n"] if chunked else parts)
            context.sent += size
            if connection.writing_paused:
                left = min(context.sent, writer.get_write_buffer_size())
                context.sent -= left  # it is not out until the client takes it
                await connection.drained(route.idle_seconds)
                context.sent += left
        if chunked:
            writer.write(LAST_CHUNK)
        return keep_alive

    async def _tunnel(self, context: RequestContext, route: Route, reply: Reply) -> bool:
        """Pass the switch of protocols on, and then bytes both ways until one side is gone."""
        connection = context.incoming.connection
        client = connection.transport
        if client is None:
            raise ConnectionResetError
        protocol = b", ".join(value for name, value in reply.headers if name.lower() == b"upgrade")
        if not protocols(protocol.decode("latin-1")) <= protocols(wanted_protocol(context.incoming) or ""):
            raise BadReply("the upstream switched to a protocol that was not asked for")
        context.framed = False
        head = passed_on(context.incoming, route, reply, reply.headers)

        def switch(upstream: asyncio.Transport) -> Tunnel:
            client.write(head + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n")
            context.answering(reply.status)
            return Tunnel(client, upstream, route.idle_seconds)

        with cast("Tunnel", reply.join(switch)) as tunnel:
            try:
                connection.join(tunnel)
                await tunnel.closed()
            finally:
                context.sent = tunnel.moved
        return False

    def _head(self, context: RequestContext, reply: Reply) -> tuple[bytes, bool, bool]:
        """Return the head of the answer, whether the connection goes on, and whether the body is chunked."""
        incoming, route = context.incoming, context.route
        assert route is not None  # noqa: S101 - it was forwarded
        headers = reply.headers
        if reply.status == 204:  # a length there would be waited for by some (RFC 9110 §8.6)
            headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
        head = passed_on(incoming, route, reply, headers)
        if context.origin is not None:
            head += cors_lines(context.origin)
        keep_alive = incoming.keep_alive and not incoming.connection.draining
        chunked = False
        if reply.length is None and incoming.method != "HEAD" and reply.status not in NO_BODY:
            chunked = incoming.version == HttpVersion11
            keep_alive = keep_alive and chunked  # HTTP/1.0 learns the end from the connection
            context.framed = chunked
        if chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        if not keep_alive:
            head += b"Connection: close\r\n"
        elif incoming.version == HttpVersion10:
            head += b"Connection: keep-alive\r\n"
        return head + b"\r\n", keep_alive, chunked

    def _fail(self, context: RequestContext, error: Exception) -> bool:
        """Say what went wrong, while that can still be said; tell whether the connection can go on."""
        context.give_up()
        incoming = context.incoming
        transport = incoming.connection.transport
        if transport is None or transport.is_closing():
            context.cause = CLIENT_GONE
            return False
        if context.answer_begun:  # the answer has begun: cutting it short is all that can still be said
            context.cause = error.detail if isinstance(error, AuthproxyError) else type(error).__name__
            logs.warning("answer broken off", route=context.route_name, cause=context.cause)
            if not context.framed:
                reset_on_close(transport)
            transport.close()
            return False
        if not isinstance(error, AuthproxyError):
            error = internal_error(error)
        self.refused(error)
        context.cause = error.detail
        keep_alive = (
            incoming.keep_alive
            and error.status not in CLOSING_STATUSES
            and incoming.method != "CONNECT"  # what follows may be meant for the tunnel
            and incoming.payload.is_eof()
        )
        answer = problem_response(
            error,
            route=context.route_name,
            close=not keep_alive,
            body=incoming.method != "HEAD",
            more=cors_lines(context.origin) if context.origin is not None else b"",
        )
        transport.write(answer)
        context.answering(error.status, len(answer.partition(b"\r\n\r\n")[2]))
        return keep_alive

    def _send_preflight(self, context: RequestContext, origin: str) -> bool:
        """Answer a CORS preflight ourselves (Fetch §3.2): the upstream has no say in who may call us."""
        incoming = context.incoming
        wanted = incoming.headers.get("Access-Control-Request-Headers", "")
        lines = f"Access-Control-Allow-Methods: {incoming.headers['Access-Control-Request-Method']}\r\n"
        if wanted:
            lines += f"Access-Control-Allow-Headers: {wanted}\r\n"
        head = b"HTTP/1.1 204 No Content\r\n" + lines.encode("latin-1", "replace") + cors_lines(origin)
        transport = incoming.connection.transport
        if transport is not None:
            head += b"" if incoming.keep_alive else b"Connection: close\r\n"
            transport.write(head + b"Access-Control-Max-Age: 600\r\n\r\n")
            context.answering(204)
        return incoming.keep_alive


def passed_on(incoming: Incoming, route: Route, reply: Reply, headers: RawHeaders) -> bytes:
    """Return status line and header section as the client gets them. Raises `BadReply`."""
    try:
        return route.response_headers.head(reply.status, reply.reason, headers, incoming)
    except ValueError as error:  # what the upstream wrote cannot be read: nothing else comes in here
        raise BadReply("the upstream sent a header that cannot be passed on") from error


def reset_on_close(transport: asyncio.Transport) -> None:
    """Have the connection end with a reset: where its end is the body's, anything else looks whole."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def expects_continue(incoming: Incoming) -> bool:
    """Whether the client waits for a 100 before it sends its body (RFC 9110 §10.1.1). Raises `BadRequest`."""
    if incoming.version != HttpVersion11:
        return False
    if any(value.lower() != "100-continue" for value in incoming.headers.getall(EXPECT)):
        raise BadRequest("the only expectation that is known is 100-continue")
    return True


def wanted_protocol(incoming: Incoming) -> str | None:
    """Return the protocol that a request which lists `upgrade` wants to switch to, or None.

    HTTP itself is none: in a tunnel of HTTP/2 nobody would judge the requests.
    """
    protocol = incoming.headers.get(UPGRADE)
    if protocol is None or incoming.version != HttpVersion11:
        return None
    return None if any(map(HTTP_ITSELF.match, protocols(protocol))) else protocol


def protocols(upgrade: str) -> set[str]:
    """Return the protocols that an `Upgrade` header names; `{""}` for none."""
    return {word.strip().lower() for word in upgrade.split(",")}


def is_preflight(incoming: Incoming) -> bool:
    return incoming.method == "OPTIONS" and "Access-Control-Request-Method" in incoming.headers


def cors_lines(origin: str) -> bytes:
    """Return the lines that let a page of `origin` read the answer."""
    lines = f"Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin\r\n"
    return lines.encode("latin-1", "replace")
