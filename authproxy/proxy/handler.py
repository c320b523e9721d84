"""One request's way through the proxy.

    guard ─▶ router ─▶ allow ─▶ headers, body ─▶ forward ─▶ relay
      └────────┴─────────┴───────────┴──────────────┴──▶ problem (before a byte of the answer is out)
                                                    relay ──▶ the connection is cut short (after)

The answer is written straight to the client's transport; aiohttp is told that it is out (`server.Sent`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.web import BaseRequest, StreamResponse
from multidict import istr

from authproxy import logs
from authproxy.errors import AuthproxyError, BadRequest, Forbidden, HeadersTooLarge
from authproxy.proxy.body import Body
from authproxy.proxy.forward import Credential, Exchange, Outgoing, Sender
from authproxy.proxy.guard import CONTENT_LENGTH, TE, Guard
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders, listed_in
from authproxy.proxy.problem import problem_response
from authproxy.proxy.router import Allow, RouteTable, is_plain, judged_path, upstream_target
from authproxy.proxy.server import CLOSE, KEEP_ALIVE, ClientConnection
from authproxy.proxy.upstream.connection import NO_BODY, Reply

CONNECTION, EXPECT = istr("Connection"), istr("Expect")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NO_CREDENTIAL = b""
CLIENT_GONE = "the client went away"


@dataclass(frozen=True, slots=True)
class Route:
    """A route, made ready for requests. `credential` is None for plain forwarding; sizes are in bytes."""

    name: str
    host: str | None
    path: str
    strip: str
    base: str
    sender: Sender
    request_headers: RequestHeaders
    response_headers: ResponseHeaders
    credential: Credential | None
    incoming: str = "keep"
    allow: Allow | None = None
    keep_body: int = 0
    idle_seconds: float = 300.0

    @property
    def strips(self) -> bool:
        """Whether the upstream sees the path without the route's prefix."""
        return self.path == "/" or self.strip != ""

    def __repr__(self) -> str:
        return f"<Route {self.name} {self.host or ''}{self.path} to {self.sender.pool.origin}{self.base}>"


@dataclass(slots=True)
class Seen:
    """What the access log says of one request."""

    route: str | None = None
    path: str = "-"
    status: int = 0
    sent: int = 0
    retried: bool = False
    framed: bool = True
    cause: str | None = None


AccessLog = Callable[[str, Seen, float], None]


class ProxyHandler:
    """Answers requests by `routes`, behind `guard`. `body_limit` and `header_limit` are in bytes."""

    def __init__(
        self,
        guard: Guard,
        routes: RouteTable[Route],
        *,
        header_limit: int,
        body_limit: int | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        self.guard = guard
        self.routes = routes
        self._header_limit = header_limit
        self._body_limit = body_limit
        self._access_log = access_log
        self._loop = asyncio.get_running_loop()

    async def __call__(self, request: BaseRequest) -> StreamResponse:
        connection = cast("ClientConnection", request.protocol)
        connection.busy = True
        started = self._loop.time()
        seen = Seen()
        try:
            keep_alive = await self._answer(request, seen)
        except asyncio.CancelledError:
            seen.cause = seen.cause or CLIENT_GONE
            raise
        except Exception as error:  # noqa: BLE001 - the one place where errors become responses
            keep_alive = self._fail(request, seen, error)
        finally:
            if self._access_log is not None:
                self._access_log(request.method, seen, self._loop.time() - started)
            connection.done()
        return KEEP_ALIVE if keep_alive else CLOSE

    def _fail(self, request: BaseRequest, seen: Seen, error: Exception) -> bool:
        """Say what went wrong, while that can still be said; tell whether the connection can go on."""
        transport = request.transport
        if transport is None or isinstance(error, ConnectionError):
            seen.cause = CLIENT_GONE
            return False
        if seen.status:  # the answer has begun: cutting it short is all that can still be said
            seen.cause = error.detail if isinstance(error, AuthproxyError) else type(error).__name__
            logs.warning("answer broken off", route=seen.route, cause=seen.cause)
            transport.close() if seen.framed else transport.abort()
            return False
        if not isinstance(error, AuthproxyError):
            logs.logger.error("internal error", exc_info=error)
            error = AuthproxyError("something went wrong inside authproxy; its log has the place")
        seen.status, seen.cause = error.status, error.detail
        # A malformed request, or one whose body is still to come, takes its connection with it.
        keep_alive = request.keep_alive and error.status not in {400, 431, 500} and request.content.is_eof()
        transport.write(
            problem_response(error, route=seen.route, close=not keep_alive, body=request.method != "HEAD")
        )
        return keep_alive

    async def _answer(self, request: BaseRequest, seen: Seen) -> bool:
        """Forward the request and relay the reply; tell whether the connection can go on."""
        host, target = self.guard.check(request)
        origin = self.guard.allowed_origin(request) if self.guard.has_origins else None
        path = target.partition("?")[0]
        seen.path = path
        if origin is not None and is_preflight(request):
            return self._send_preflight(request, seen, origin)
        route = self.routes.match(host, path)
        seen.route = route.name
        if route.allow is not None or not is_plain(path):
            judged = judged_path(path, route.path)
            if route.allow is not None:
                route.allow.check(
                    request.method, judged if route.strip or route.path == "/" else route.path + judged
                )
        outgoing, injects = self._outgoing(request, route, target)
        if route.credential is not None and injects:
            exchange = await route.credential.send(outgoing, route.sender)
        else:
            exchange = await route.sender.send(outgoing, NO_CREDENTIAL)
        seen.retried = outgoing.retried
        try:
            return await self._relay(request, route, exchange, seen, origin)
        finally:
            if not exchange.finished:
                await exchange.close()

    def _outgoing(self, request: BaseRequest, route: Route, target: str) -> tuple[Outgoing, bool]:
        """Return the request for the upstream, and whether the credential is to be added to it."""
        headers = request.headers
        injects = route.credential is not None
        if (
            route.credential is not None
            and route.incoming != "replace"
            and route.credential.header in headers
        ):
            if route.incoming == "reject":
                raise Forbidden(f"requests to this route must not carry {route.credential.header}")
            injects = False  # the caller brought its own: neither touched nor repeated
        connection = headers.get(CONNECTION)
        start = f"{request.method} {upstream_target(target, strip=route.strip, base=route.base)} HTTP/1.1\r\n"
        head = route.request_headers.head(
            start.encode("utf-8", "surrogateescape"),
            request.raw_headers,
            listed=listed_in(",".join(headers.getall(CONNECTION))) if connection is not None else frozenset(),
            replace=injects,
        )
        if len(head) > self._header_limit:
            raise HeadersTooLarge(f"the header section is over {self._header_limit} bytes")
        body = self._body(request, route)
        if body is not None and body.chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        return Outgoing(request.method, head, body), injects

    def _body(self, request: BaseRequest, route: Route) -> Body | None:
        length = request.headers.get(CONTENT_LENGTH)
        if length is None and TE not in request.headers:
            return None
        size = int(length) if length is not None else None
        if size == 0:
            return None
        body = Body(request.content, length=size, keep=route.keep_body, limit=self._body_limit)
        if EXPECT in request.headers and request.version == HttpVersion11:
            if request.headers[EXPECT].lower() != "100-continue":
                raise BadRequest("the only expectation that is known is 100-continue")
            if not request.content.is_eof() and request.transport is not None:
                request.transport.write(CONTINUE)
        return body

    # ── the answer ───────────────────────────────────────────────────────────────────────────────

    async def _relay(
        self, request: BaseRequest, route: Route, exchange: Exchange, seen: Seen, origin: str | None
    ) -> bool:
        reply = exchange.reply
        seen.status = reply.status
        transport = request.transport
        if transport is None:
            return False
        head = route.response_headers.head(reply.status, reply.reason, reply.headers)
        if origin is not None:
            head += cors_lines(origin)
        keep_alive, framing, chunked = self._framing(request, reply)
        head += framing
        if reply.complete:  # all of it has arrived: one write
            parts = reply.parts
            seen.sent = sum(map(len, parts))
            body = b"".join(parts)
            if chunked:
                body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
            transport.write(head + body)
            return keep_alive
        seen.framed = chunked or reply.length is not None
        transport.write(head)
        await self._stream(request, route, reply, seen, chunked=chunked)
        return keep_alive

    async def _stream(
        self, request: BaseRequest, route: Route, reply: Reply, seen: Seen, *, chunked: bool
    ) -> None:
        writer, transport = request.writer, request.transport
        while parts := await reply.read():
            if transport is None or transport.is_closing():
                raise ConnectionResetError
            size = sum(map(len, parts))
            seen.sent += size
            if chunked:
                parts = [b"%x\r\n" % size, *parts, b"\r\n"]
            transport.writelines(parts)
            if request.protocol.writing_paused:
                async with asyncio.timeout(route.idle_seconds):
                    await writer.drain()
        if chunked and transport is not None:
            transport.write(b"0\r\n\r\n")

    def _framing(self, request: BaseRequest, reply: Reply) -> tuple[bool, bytes, bool]:
        """Return whether the connection goes on, the lines that frame the body, and whether it is chunked."""
        keep_alive = request.keep_alive and not cast("ClientConnection", request.protocol).draining
        bodiless = request.method == "HEAD" or reply.status in NO_BODY
        chunked = False
        if not bodiless and reply.length is None:
            chunked = request.version == HttpVersion11
            keep_alive = keep_alive and chunked  # HTTP/1.0 learns the end from the connection
        lines = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        if not keep_alive:
            lines += b"Connection: close\r\n"
        elif request.version == HttpVersion10:
            lines += b"Connection: keep-alive\r\n"
        return keep_alive, lines + b"\r\n", chunked

    def _send_preflight(self, request: BaseRequest, seen: Seen, origin: str) -> bool:
        """Answer a CORS preflight ourselves (Fetch §3.2): the upstream has no say in who may call us."""
        seen.status = 204
        wanted = request.headers.get("Access-Control-Request-Headers", "")
        lines = f"Access-Control-Allow-Methods: {request.headers['Access-Control-Request-Method']}\r\n"
        if wanted:
            lines += f"Access-Control-Allow-Headers: {wanted}\r\n"
        head = b"HTTP/1.1 204 No Content\r\n" + lines.encode("latin-1", "replace") + cors_lines(origin)
        if request.transport is not None:
            request.transport.write(head + b"Access-Control-Max-Age: 600\r\n\r\n")
        return request.keep_alive


def is_preflight(request: BaseRequest) -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def cors_lines(origin: str) -> bytes:
    """Return the lines that let a page of `origin` read the answer."""
    lines = f"Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin\r\n"
    return lines.encode("latin-1", "replace")
