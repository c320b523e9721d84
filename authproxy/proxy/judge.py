"""What is judged of a request before anything is sent: who asks, for which route, and may that go out.

    guard ─▶ router ─▶ a login of the client's? ─▶ placeholders ─▶ allow ─▶ does the credential go with it?

A plain head is judged once, as long as it is remembered; what does not pass there is judged in full, and
refused here.
"""

from collections.abc import Set as AbstractSet
from typing import Protocol

from authproxy.errors import Forbidden, NoRoute
from authproxy.masking import is_secret_header
from authproxy.proxy import guard as guard_rules
from authproxy.proxy import respond
from authproxy.proxy.body import LIMIT_HINT
from authproxy.proxy.context import RequestContext
from authproxy.proxy.guard import CONTENT_LENGTH, TE, Guard
from authproxy.proxy.outgoing import body_of, body_of_length, is_too_large, outgoing_of, show_body
from authproxy.proxy.placeholders import SHORTEST, is_noticed
from authproxy.proxy.plain import PlainHead, PlainReader, Section
from authproxy.proxy.request import RawHeaders, Request
from authproxy.proxy.respond import CONNECTION, EXPECT, PREFLIGHT_METHOD, UPGRADE, is_preflight
from authproxy.proxy.route import Route
from authproxy.proxy.router import NEEDS_CARE, RouteTable, is_plain, path_interpretations, upstream_target
from authproxy.proxy.send import Outgoing
from authproxy.proxy.stand_in import MAX_LOGIN, TOO_LARGE

PARSERS_OWN = ("Sec-WebSocket-Key1",)  # which aiohttp's parser refuses

JUDGED = (
    *guard_rules.JUDGED,
    CONNECTION,
    EXPECT,
    UPGRADE,
    CONTENT_LENGTH,
    TE,
    PREFLIGHT_METHOD,
    *PARSERS_OWN,
)
"""Every header of a request whose value somebody judges."""
READ_PLAINLY = frozenset({"host", "connection", "content-length", "authorization"})
"""Those that `plain` reads. Of `Authorization` only the number is judged: there no name comes twice."""


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


def judge(context: RequestContext) -> bool | None:
    """Judge the request and make it ready to go. Raises `RequestRefused`.

    Returns None; or, when it was answered here (a preflight), whether the connection can go on.
    """
    request, site = context.request, context.site
    if request.target.startswith("/"):
        # For the log, should the guard refuse it: a fragment may hold a token (RFC 6749 §4.2.2).
        context.path = told_path(request)
    if site.guard.has_origins:
        context.origin = site.guard.allowed_origin(request)
    host, target = site.guard.check(request)
    path = context.path = target.partition("?")[0]
    if context.origin is not None and is_preflight(request):
        return respond.send_preflight(context, context.origin)  # browsers send no key with it
    site.guard.check_key(request)
    try:
        route = context.route = site.routes.match(host, path)
    except NoRoute as error:
        error.hint = site.guard.wrong_path(request) or error.hint
        raise
    request.connection.stall_seconds = route.idle_seconds
    if begin_login(context, route, path):
        return None
    target = route.placeholders.taken_out(context, target)
    if route.token_endpoints is not None:
        route.token_endpoints.check(upstream_target(target, strip=route.strip, base=route.base))
    check_allow(route, request.method, path)
    context.injects = injects(request, route)
    if route.unhidden is not None and not context.injects:
        route = context.route = route.unhidden
    context.outgoing = outgoing_of(context, route, target)
    return None


def told_path(request: Request) -> str:
    """Return what is told of a target before it is judged: no query and no fragment."""
    return request.target.partition("#")[0].partition("?")[0]


def check_allow(route: Route, method: str, path: str) -> None:
    """Raise `Forbidden` unless every reading of `path` stays below `route`, which lets it out."""
    if route.allow is None and is_plain(path):
        return
    for reading in path_interpretations(path, route.path):
        if route.allow is not None:
            route.allow.check(method, reading if route.strips else route.path + reading)


def injects(request: Request, route: Route) -> bool:
    """Tell whether the credential is to be added: what a caller brings along may take its place.

    What is removed anyway was not brought along. Raises `Forbidden`.
    """
    if route.credential is None:
        return False
    if route.incoming == "replace":
        return True
    goes = route.request_headers.passes
    brought = route.credential.injection.brought(request.headers, request.target, goes)
    if brought is None:
        return True
    if route.incoming == "reject":
        raise Forbidden(f"requests to this route must not carry {brought}")
    return False


def begin_login(context: RequestContext, route: Route, path: str) -> bool:
    """Tell whether the request is a login that is answered here, and have it be. Raises `RequestRefused`."""
    if route.stand_in is None:
        return False
    context.login = route.stand_in.find(context.request.method, path, route.path)
    if context.login is None:
        return False
    context.notes().login = True
    context.login_query = context.request.target.partition("?")[2]
    request, limit = context.request, context.site.body_bytes
    try:
        small = limit is not None and limit < MAX_LOGIN
        context.login_body = body_of(
            request, keep=0, limit=limit if small else MAX_LOGIN, hint=LIMIT_HINT if small else TOO_LARGE
        )
    finally:  # whatever becomes of it, nothing of what the client logged in with is told
        also = route.facts.secret_headers
        request.replace(request.target.partition("?")[0], without_secrets(request.raw_headers, also))
    return True


def without_secrets(headers: RawHeaders, also: AbstractSet[str]) -> RawHeaders:
    """Return `headers` but those that hold secrets; `also` are names that do here, in lower case."""
    texts = [(pair, pair[0].decode("latin-1"), pair[1].decode("latin-1")) for pair in headers]
    return tuple(pair for pair, name, value in texts if not is_secret_header(name, value, also))


# ── plain heads ──────────────────────────────────────────────────────────────────────────────────


def plain_reader(site: Site) -> PlainReader:
    """Return who reads the plain heads of requests to `site`."""
    judged = {name.lower() for name in JUDGED} - READ_PLAINLY
    key = site.guard.key_header
    return PlainReader(judged, key=key, limit=site.header_bytes)


def judge_plain(context: RequestContext, head: PlainHead) -> bool:
    """Judge a request by its head; tell whether it passes.

    The rules are those of `judge`. What does not pass is judged once more, in full, and refused
    there. All that is judged stands in the head: so it is judged once, as long as the head is remembered.
    """
    request, site = context.request, context.site
    if head.route is None and not judge_head(head, site):
        return False
    route: Route = head.route
    body = None
    if head.section.length:
        body = body_of_length(request, head.section.length, route, site.body_bytes)
        context.received = head.section.length
        if route.facts.bodies:
            show_body(context, route, body)
    context.path, context.route = head.path, route
    context.injects = route.credential is not None
    context.outgoing = Outgoing(head.method, head.outgoing, body)
    request.connection.stall_seconds = route.idle_seconds
    return True


def judge_head(head: PlainHead, site: Site) -> bool:
    """Judge a plain head; tell whether it passes, and keep with it what it comes to."""
    section, method, target = head.section, head.method, head.target
    path = target.partition("?")[0]
    if not (section.host or passes(section, site.guard)) or NEEDS_CARE(path):
        return False
    if section.noticed or (len(target) > SHORTEST and is_noticed(target.encode("ascii"))):
        return False
    route = site.routes.find(section.host, path)
    lines = (section.worked_out.get(route) or lines_for(section, route)) if route is not None else None
    if (
        route is None
        or lines is None
        or (route.looks_closer and may_be_brought(route, target, section))
        or (route.allow is not None and not is_allowed(route, method, path))
    ):
        return False
    line = head.line
    if route.strip or route.base:
        target = upstream_target(target, strip=route.strip, base=route.base)
        line = f"{method} {target} HTTP/1.1".encode("ascii")
    if route.has_logins and is_login(route, method, path, target):
        return False
    outgoing = b"%b\r\n%b" % (line, lines)
    if len(outgoing) > site.header_bytes or is_too_large(section.length, site.body_bytes):
        return False
    head.path, head.outgoing, head.route = path, outgoing, route
    return True


def passes(section: Section, guard: Guard) -> bool:
    """Tell whether `guard` lets a plain section in; remember that it does."""
    host = guard.known_host(section.authority)
    if host is None or not guard.is_admitted(section.key):
        return False
    section.host = host
    return True


def lines_for(section: Section, route: Route) -> bytes | None:
    """Return the lines of a plain section as they go to the route's upstream; None if that is not plain."""
    if route not in section.worked_out:
        section.worked_out[route] = route.request_headers.plain(section, route.incoming)
    return section.worked_out[route]


def is_login(route: Route, method: str, path: str, target: str) -> bool:
    """Tell whether a plain request, for the upstream's `target`, is one, to be answered or refused."""
    if route.stand_in is not None and route.stand_in.find(method, path, route.path) is not None:
        return True
    return route.token_endpoints is not None and not route.token_endpoints.lets_through(target)


def may_be_brought(route: Route, target: str, section: Section) -> bool:
    """Tell whether a plain request may bring something in a place of ours that is no header."""
    return route.credential is not None and route.credential.injection.may_be_brought(target, section.names)


def is_allowed(route: Route, method: str, path: str) -> bool:
    """Tell whether `route` lets out what `check_allow` lets out."""
    try:
        check_allow(route, method, path)
    except Forbidden:
        return False
    return True
