"""Writing answers to the client: an upstream's reply, whole or as it arrives, a tunnel, or our own word.

Each of them tells whether the client's connection can go on. Nothing here decides what is answered.
"""

import re
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from multidict import istr

from authproxy import logs
from authproxy.errors import AuthproxyError, BadReply, BadRequest, Forbidden, problem_document
from authproxy.net.lingering_close import reset_on_close
from authproxy.observe.record import KeptBody
from authproxy.proxy.body import LAST_CHUNK, chunk
from authproxy.proxy.context import RequestContext
from authproxy.proxy.guard import ORIGIN
from authproxy.proxy.plain import HTTP_1_0, HTTP_1_1
from authproxy.proxy.problem import problem_response
from authproxy.proxy.refusal import refusal_line
from authproxy.proxy.request import Request
from authproxy.proxy.route import Route
from authproxy.proxy.upstream.connection import NO_BODY
from authproxy.proxy.upstream.reply import Reply

if TYPE_CHECKING:
    from authproxy.proxy.json_scanner import JSONScanner, TextScanner

CONNECTION, EXPECT, UPGRADE = istr("Connection"), istr("Expect"), istr("Upgrade")
PREFLIGHT_METHOD = istr("Access-Control-Request-Method")
REASONS = re.compile(r"(?<!^)(?=[A-Z])")  # BadRequest is counted as bad_request
CLIENT_GONE = "the client went away"
BROKEN_OFF = "authproxy ended before the answer was whole (`limits.drain` says how long it waits for that)"
# After these nobody knows where the next request begins, or it may be very far away.
CLOSING_STATUSES = frozenset({400, 408, 413, 431, 500})


# ── an upstream's reply ──────────────────────────────────────────────────────────────────────────


def send_whole(context: RequestContext, route: Route, reply: Reply) -> bool:
    """Send a reply that is all there, in one write."""
    request = context.request
    transport = request.connection.transport
    if transport is None:
        context.cause = CLIENT_GONE
        return False
    body = reply.parts[0] if len(reply.parts) == 1 else b"".join(reply.parts)
    if route.bodies is not None and (scanner := route.bodies.begin(context, reply)) is not None:
        body = scanner.feed(body) + scanner.end()
    plain = reply.plain
    if (
        plain is not None
        and plain.goes_as_it_is
        and plain.status < route.refusals_from
        and request.head is not None
        and request.keep_alive
        and not request.connection.draining
    ):  # what happens most: not a line has to be added
        lines = plain.worked_out.get(route.response_headers) or _own_lines(request, route, reply)
        transport.write(b"%b\r\n%b" % (lines, body))
        context.answer_begun, context.status, context.sent = True, plain.status, len(body)
        context.answer = lines
        if route.facts.bodies:
            shown_body(context, route).add(body)
        return True
    head, keep_alive, chunked = _head(context, route, reply)
    if route.facts.bodies:
        shown_body(context, route).add(body)
    size = len(body)
    if chunked:
        body = (chunk(body) if body else b"") + LAST_CHUNK
    transport.write(head + body)
    context.answering(reply.status, size)
    return keep_alive


async def stream(context: RequestContext, route: Route, reply: Reply) -> bool:
    """Send a reply as it arrives, no faster than the client takes it."""
    scanner = route.bodies.begin(context, reply) if route.bodies is not None else None
    read = reply.read if scanner is None else partial(_read_changed, reply, scanner)
    head, keep_alive, chunked = _head(context, route, reply)
    connection = context.request.connection
    writer = connection.transport
    if writer is None:
        raise ConnectionResetError
    writer.write(head)
    context.answering(reply.status)
    shown = shown_body(context, route) if route.facts.bodies else None
    while parts := await read():
        if connection.transport is None:
            raise ConnectionResetError
        size = sum(map(len, parts))
        if shown is not None:
            for part in parts:
                shown.add(part)
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


async def _read_changed(reply: Reply, scanner: "JSONScanner | TextScanner") -> list[bytes]:
    """Return the next of a body that is changed; nothing at the end. Raises `UpstreamError`."""
    while parts := await reply.read():
        if changed := list(filter(None, map(scanner.feed, parts))):
            return changed
    return list(filter(None, [scanner.end()]))


def _head(context: RequestContext, route: Route, reply: Reply) -> tuple[bytes, bool, bool]:
    """Return the head of the answer, whether the connection goes on, and whether the body is chunked."""
    request, status = context.request, reply.status
    head = answer_lines(context, route, reply)
    if context.origin is not None:
        head += cors_lines(context.origin)
    keep_alive = request.keep_alive and not request.connection.draining
    chunked = False
    if reply.length is None and request.method != "HEAD" and status not in NO_BODY:
        chunked = request.version == HTTP_1_1
        keep_alive = keep_alive and chunked  # HTTP/1.0 learns the end from the connection
        context.framed = chunked
    if chunked:
        head += b"Transfer-Encoding: chunked\r\n"
    if not keep_alive:
        head += b"Connection: close\r\n"
    elif request.version == HTTP_1_0:
        head += b"Connection: keep-alive\r\n"
    context.answer = head
    return head + b"\r\n", keep_alive, chunked


def answer_lines(context: RequestContext, route: Route, reply: Reply) -> bytes:
    """Return status line and header section as the client gets them. Raises `BadReply`."""
    lines = _own_lines(context.request, route, reply)
    if reply.status >= route.refusals_from:
        lines += refusal_line(context, route, reply)
    return lines


def _own_lines(request: Request, route: Route, reply: Reply) -> bytes:
    """Return the upstream's own lines."""
    rules = route.response_headers
    try:
        if reply.plain is not None and reply.status != 204:
            return rules.plain(reply.plain, request)
        headers = reply.headers
        if reply.status == 204:  # a length there would be waited for by some (RFC 9110 §8.6)
            headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
        return rules.head(reply.status, reply.reason, headers, request)
    except ValueError as error:  # what the upstream wrote cannot be read: nothing else comes in here
        raise BadReply("the upstream sent a header that cannot be passed on") from error


# ── our own word ─────────────────────────────────────────────────────────────────────────────────


def can_answer(context: RequestContext) -> bool:
    """Whether there is somebody to answer, and nothing of an answer is out."""
    transport = context.request.connection.transport
    return transport is not None and not transport.is_closing() and not context.answer_begun


def send_problem(context: RequestContext, error: Exception) -> bool:
    """Say what went wrong, while that can still be said."""
    request = context.request
    transport = request.connection.transport
    if transport is None or transport.is_closing():
        context.cause = CLIENT_GONE
        return False
    context.cause = error.detail if isinstance(error, AuthproxyError) else type(error).__name__
    if context.answer_begun or not isinstance(error, AuthproxyError):
        # The answer has begun: cutting it short is all that can still be said.
        logs.warning("answer broken off", route=context.route_name, cause=context.cause)
        if not context.framed:
            reset_on_close(transport)
        transport.close()
        return False
    keep_alive = (
        request.keep_alive
        and not request.connection.draining
        and error.status not in CLOSING_STATUSES
        and request.method != "CONNECT"  # what follows may be meant for the tunnel
    )
    answer = problem_response(
        error,
        route=context.route_name,
        close=not keep_alive,
        body=request.method != "HEAD",
        more=cors_lines(context.origin) if context.origin is not None else b"",
        request_id=context.id,
        login=context.login is not None,
    )
    transport.write(answer)
    head, _, body = answer.partition(b"\r\n\r\n")
    context.answer = head + b"\r\n"
    context.answering(error.status, len(body))
    note_refusal(context, error)
    return keep_alive


def note_refusal(context: RequestContext, error: AuthproxyError) -> None:
    """Note what was answered here, and which web page was refused."""
    notes = context.notes()
    notes.problem = problem_document(error, route=context.route_name, request_id=context.id)
    notes.steps.append(("refused", error.title, perf_counter()))
    if isinstance(error, Forbidden):
        notes.page = context.request.headers.get(ORIGIN)


def shown_body(context: RequestContext, route: Route) -> KeptBody:
    """Return where the inspector gets its part of an answer's body."""
    notes = context.notes()
    notes.response_body = route.facts.new_body()
    return notes.response_body


def send_document(context: RequestContext, content: bytes) -> bool:
    """Answer a login ourselves, with a JSON document that nobody keeps."""
    request = context.request
    transport = request.connection.transport
    if transport is None:
        context.cause = CLIENT_GONE
        return False
    keep_alive = request.keep_alive and not request.connection.draining
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
    head += b"Content-Length: %d\r\n" % len(content)
    if context.origin is not None:
        head += cors_lines(context.origin)
    if not keep_alive:
        head += b"Connection: close\r\n"
    elif request.version == HTTP_1_0:
        head += b"Connection: keep-alive\r\n"
    body = content if request.method != "HEAD" else b""
    transport.write(b"%b\r\n%b" % (head, body))
    context.answer = head
    context.answering(200, len(body))
    return keep_alive


def send_preflight(context: RequestContext, origin: str) -> bool:
    """Answer a CORS preflight ourselves (Fetch §3.2): the upstream has no say in who may call us."""
    request = context.request
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    lines = f"Access-Control-Allow-Methods: {request.headers[PREFLIGHT_METHOD]}\r\n"
    if wanted:
        lines += f"Access-Control-Allow-Headers: {wanted}\r\n"
    head = b"HTTP/1.1 204 No Content\r\n" + lines.encode("latin-1", "replace") + cors_lines(origin)
    transport = request.connection.transport
    keep_alive = request.keep_alive and not request.connection.draining
    if transport is not None:
        head += b"" if keep_alive else b"Connection: close\r\n"
        context.answer = head + b"Access-Control-Max-Age: 600\r\n"
        transport.write(context.answer + b"\r\n")
        context.answering(204)
        context.notes().steps.append(("preflight", "answered by authproxy", perf_counter()))
    return keep_alive


def reason_of(error: AuthproxyError) -> str:
    """Return how a refusal is counted."""
    return REASONS.sub("_", type(error).__name__).lower()


# ── what a request wants ─────────────────────────────────────────────────────────────────────────


def expects_continue(request: Request) -> bool:
    """Whether the client waits for a 100 before it sends its body (RFC 9110 §10.1.1). Raises `BadRequest`."""
    if request.version != HTTP_1_1:
        return False
    if any(value.lower() != "100-continue" for value in request.headers.getall(EXPECT)):
        raise BadRequest("the only expectation that is known is 100-continue")
    return True


def is_preflight(request: Request) -> bool:
    return request.method == "OPTIONS" and PREFLIGHT_METHOD in request.headers


def cors_lines(origin: str) -> bytes:
    """Return the lines that let a page of `origin` read the answer."""
    lines = f"Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin\r\n"
    return lines.encode("latin-1", "replace")
