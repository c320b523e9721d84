"""A request as it goes to the upstream: its head, and its body as it comes."""

from authproxy.errors import BadRequest, HeadersTooLarge
from authproxy.proxy.body import LIMIT_HINT, Body, WholeBody
from authproxy.proxy.context import RequestContext
from authproxy.proxy.guard import CONTENT_LENGTH, HOST, TE, split_absolute
from authproxy.proxy.headers import listed_in
from authproxy.proxy.request import Request, Whole
from authproxy.proxy.respond import CONNECTION, EXPECT, UPGRADE, expects_continue
from authproxy.proxy.route import Route
from authproxy.proxy.router import upstream_target
from authproxy.proxy.send import Outgoing
from authproxy.proxy.upgrade import wanted_protocol

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_DIGITS = 18  # of a length; aiohttp takes the largest numbers of all for no body


def outgoing_of(context: RequestContext, route: Route, target: str) -> Outgoing:
    """Return the request as it goes to the upstream. Raises `RequestRefused`."""
    request, limit = context.request, context.site.header_bytes
    method = request.method
    start = f"{method} {upstream_target(target, strip=route.strip, base=route.base)} HTTP/1.1\r\n"
    listed = None
    if CONNECTION in request.headers:
        listed = listed_in(",".join(request.headers.getall(CONNECTION)))
    pairs = request.raw_headers
    if HOST not in request.headers:  # HTTP/1.0, with a whole URL
        pairs = ((b"Host", b""), *pairs)
    head = route.request_headers.head(
        start.encode("utf-8", "surrogateescape"),
        pairs,
        listed=listed,
        replace=context.injects,
        authority=b"" if request.target.startswith("/") else split_absolute(request.target)[0].encode(),
    )
    if len(head) > limit:
        raise HeadersTooLarge.over(limit)
    body = body_of(request, keep=route.keep_body, limit=context.site.body_bytes)
    if body is not None and route.facts.bodies:
        show_body(context, route, body)
    if body is not None and body.chunked:
        head += b"Transfer-Encoding: chunked\r\n"
    protocol = None
    if listed is not None and b"upgrade" in listed and UPGRADE in request.headers:
        protocol = wanted_protocol(request)
    if protocol is not None:
        head += f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n".encode("latin-1", "replace")
    return Outgoing(method, head, body, upgrades=protocol is not None)


def body_of(request: Request, *, keep: int, limit: int | None, hint: str = LIMIT_HINT) -> Body | None:
    """Return the body of a request, None for none; ask for it when the client waits to be asked.

    Raises `BodyTooLarge`, with `hint`, for one that says it is over `limit`.
    """
    headers = request.headers
    waits = EXPECT in headers and expects_continue(request)
    length = headers.get(CONTENT_LENGTH)
    if (length is None and TE not in headers) or length == "0":
        return None
    if length is not None and len(length) > MAX_DIGITS:
        raise BadRequest("Content-Length is too large")
    body = Body(
        request.payload,
        length=int(length) if length is not None else None,
        keep=keep,
        limit=limit,
        hint=hint,
    )
    transport = request.connection.transport
    if waits and not request.payload.is_eof() and transport is not None:
        transport.write(CONTINUE)
    return body


def body_of_length(request: Request, length: int, route: Route, limit: int | None) -> Body | WholeBody:
    """Return the body of a plain request."""
    payload = request.payload
    if isinstance(payload, Whole):
        return WholeBody(payload.data, keep=route.keep_body, limit=limit)
    return Body(payload, length=length, keep=route.keep_body, limit=limit)


def show_body(context: RequestContext, route: Route, body: Body | WholeBody) -> None:
    """Have the inspector get its part of a request's body."""
    kept = context.notes().request_body = route.facts.new_body()
    if isinstance(body, WholeBody):
        kept.add(body.at_hand())
    else:
        body.shown = kept


def is_too_large(length: int | None, limit: int | None) -> bool:
    return limit is not None and length is not None and length > limit
