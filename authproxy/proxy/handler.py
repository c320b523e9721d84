"""One request's way through the proxy.

    start():   guard ─▶ router ─▶ allow ─▶ headers, body ─▶ token cached? connection at hand? ─▶ sent
    finish():  the rest, where something has to be waited for ─▶ the answer

    any step ──▶ problem (before a byte of the answer is out)
             ──▶ the connection is cut short (after)

`start` waits for nothing. An answer that is all there and stands goes back from the upstream's callback; for
anything else, a token to fetch, a connection to open, a refused token, a long body, a task runs `finish` from
where the request stands. What is worked out of a plain header section is kept with it: see `plain`.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from time import perf_counter, time
from typing import Protocol

from authproxy.errors import (
    AuthproxyError,
    BadRequest,
    ConnectionLimit,
    Forbidden,
    HeadersTooLarge,
    RequestRefused,
    problem_document,
)
from authproxy.masking import is_secret_header
from authproxy.observe.counters import Counters
from authproxy.observe.record import Notes, RequestRecord, Subscriber, request_id
from authproxy.proxy import guard as guard_rules
from authproxy.proxy import respond
from authproxy.proxy.body import LIMIT_HINT, Body, WholeBody
from authproxy.proxy.context import Answered, RequestContext, Step, Waiting
from authproxy.proxy.guard import CONTENT_LENGTH, TE, Guard, split_absolute
from authproxy.proxy.headers import listed_in
from authproxy.proxy.placeholders import SHORTEST, is_noticed
from authproxy.proxy.plain import PlainHead, PlainReader, Section
from authproxy.proxy.problem import internal_error
from authproxy.proxy.request import RawHeaders, Request, Whole
from authproxy.proxy.respond import (
    CLIENT_GONE,
    CONNECTION,
    EXPECT,
    PREFLIGHT_METHOD,
    UPGRADE,
    expects_continue,
    is_preflight,
    reason_of,
    wanted_protocol,
)
from authproxy.proxy.route import Route
from authproxy.proxy.router import NEEDS_CARE, RouteTable, is_plain, path_interpretations, upstream_target
from authproxy.proxy.send import Outgoing
from authproxy.proxy.stand_in import MAX_LOGIN, TOO_LARGE, Login
from authproxy.proxy.upstream.connection import SWITCHED

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_DIGITS = 18  # of a length; aiohttp takes the largest numbers of all for no body
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


class Subscribers:
    """Who is told of each finished request, at whichever listener it came in."""

    __slots__ = ("all",)

    def __init__(self, subscribers: Iterable[Subscriber]) -> None:
        self.all = tuple(subscribers)


class ProxyHandler:
    """Answers requests by `site`, which may be replaced: a request goes on with the one it began with.

    `subscribers` get the record of each finished request. `listener` is where it answers, if that is one of a
    route's own.
    """

    def __init__(self, site: Site, counters: Counters, subscribers: Iterable[Subscriber] = ()) -> None:
        self.counters = counters
        self.listener = ""
        self._subscribers = Subscribers(subscribers)
        self.serve(site)

    def beside(self, site: Site, listener: str) -> "ProxyHandler":
        """Return one for a `listener` that is a route's own; it tells the same subscribers.

        It reads heads by itself: none that was remembered there is taken for a request to another listener.
        """
        made = ProxyHandler(site, self.counters)
        made.listener, made._subscribers = listener, self._subscribers
        return made

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have `subscriber` told of each finished request."""
        self._subscribers.all = (*self._subscribers.all, subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Have `subscriber` told nothing any more."""
        self._subscribers.all = tuple(each for each in self._subscribers.all if each != subscriber)

    def serve(self, site: Site, subscribers: Iterable[Subscriber] | None = None) -> None:
        """Answer by `site` from now on, and tell `subscribers`, if there are others."""
        if subscribers is not None:
            self._subscribers.all = tuple(subscribers)
        self.site = site
        self.forget()

    def forget(self) -> None:
        """Judge the heads anew that were judged before."""
        self.reader = plain_reader(self.site)

    # ── begin ────────────────────────────────────────────────────────────────────────────────────

    def start(self, request: Request) -> Step:
        """Judge the request and send it, as far as nothing has to be waited for."""
        context = RequestContext(request, self.site, time(), perf_counter())
        head = request.head
        try:
            keep_alive = None if head is not None and judge_plain(context, head) else self._judge(context)
            if keep_alive is None:
                return context if self._send_at_once(context) else Waiting(context)
        except Exception as error:  # noqa: BLE001 - the one place where errors become responses
            keep_alive = self._fail(context, error)
        self._tell(context)
        return Answered(keep_alive)

    def _send_at_once(self, context: RequestContext) -> bool:
        """Send the request, if a token and a connection are at hand."""
        route, outgoing = context.route, context.outgoing
        if route is None or outgoing is None:
            return False
        line = b""
        if context.injects and route.credential is not None:
            context.token = route.credential.source.take()
            if context.token is None:
                return False
            line = route.credential.inject(outgoing, context.token)
        reply = route.sender.begin_at_once(outgoing, line)
        if reply is None:
            return False
        reply.watcher, reply.watched = self._look, context
        return True

    def _look(self, context: RequestContext) -> None:
        """Send the answer back if it is all there and stands; else let a task see to it."""
        route, outgoing = context.route, context.outgoing
        if route is None or outgoing is None or outgoing.reply is None:
            raise TypeError("a request that was not sent")
        reply, credential = outgoing.reply, route.credential if context.injects else None
        try:
            if (
                not reply.complete
                or (credential is not None and credential.refuses(reply, outgoing))
                or outgoing.uploads  # the answer came before the whole request
            ):
                context.request.connection.proceed(context)
                return
            if context.token is not None and credential is not None and credential.standing.watching:
                credential.accepted(context.token, reply.status)
            keep_alive = respond.send_whole(context, route, reply)
        except Exception as error:  # noqa: BLE001 - we are in the upstream's callback
            keep_alive = self._fail(context, error)
        self._tell(context)
        context.request.connection.answered(keep_alive=keep_alive)

    # ── finish ───────────────────────────────────────────────────────────────────────────────────

    async def finish(self, context: RequestContext) -> bool:
        """Go on with the request from where it stands; tell whether the connection can go on."""
        try:
            try:
                keep_alive = await self._forward(context)
            finally:  # before we answer ourselves: from here on nobody reads the client's body
                if context.outgoing is not None:
                    await context.outgoing.close()
                    if context.outgoing.body is not None:
                        context.received = context.outgoing.body.received
        except Exception as error:  # noqa: BLE001 - as in `start`
            keep_alive = self._fail(context, error)
        except BaseException:  # the task was cancelled
            self.lost(context)
            raise
        self._tell(context)
        return keep_alive

    async def _forward(self, context: RequestContext) -> bool:
        """Send the request and relay the reply; tell whether the connection can go on."""
        route, outgoing = context.route, context.outgoing
        if context.login is not None and route is not None:
            return await answer_login(context, context.login, route)
        if route is None or outgoing is None:
            raise TypeError("a request that was not judged")
        outgoing.notes = context.notes()
        try:
            if context.injects and route.credential is not None:
                reply = await route.credential.send(outgoing, route.sender, context.token)
            else:
                reply = await route.sender.send(outgoing, b"")
        finally:
            context.retried, context.token = outgoing.retried, outgoing.token
        if context.retried and route.credential is not None:
            outcome = "refused" if route.credential.refuses(reply, outgoing) else "accepted"
            self.counters.retries[route.name, outcome] += 1
        if reply.status == SWITCHED:
            return await respond.tunnel(context, route, reply)
        if reply.complete:
            return respond.send_whole(context, route, reply)
        return await respond.stream(context, route, reply)

    # ── end ──────────────────────────────────────────────────────────────────────────────────────

    def lost(self, context: RequestContext) -> None:
        """Break off: the client has gone away."""
        context.cause = CLIENT_GONE
        context.give_up()
        self._tell(context)

    def _fail(self, context: RequestContext, error: Exception) -> bool:
        """Say what went wrong, while that can still be said; tell whether the connection can go on."""
        context.give_up()
        if not isinstance(error, AuthproxyError) and respond.can_answer(context):
            error = internal_error(error)
        if isinstance(error, AuthproxyError) and respond.can_answer(context):
            self._count(error)
        return respond.send_problem(context, error)

    def _tell(self, context: RequestContext) -> None:
        """Tell of the request. The answer is out: no fault in here may make a second one."""
        try:
            if context.route is None and self.listener:
                context.notes().listener = self.listener
            record = context.record(perf_counter())
            for subscriber in self._subscribers.all:
                subscriber(record)
        except Exception as error:  # noqa: BLE001 - see above
            internal_error(error)

    def refused(self, error: AuthproxyError) -> str:
        """Tell of what was refused before it was a request; return its id."""
        self._count(error)
        at, started, notes = time(), perf_counter(), Notes()
        notes.id = request_id(at, started)
        notes.problem = problem_document(error, request_id=notes.id)
        record = RequestRecord(
            at, 0.0, None, "-", "-", error.status, 0, False, error.detail,  # noqa: FBT003 - it was not retried
            started, "", b"", b"", None, None, 0, notes,
        )  # fmt: skip
        for subscriber in self._subscribers.all:
            subscriber(record)
        return notes.id

    def _count(self, error: AuthproxyError) -> None:
        """Count a request that was not forwarded, by the kind of its refusal."""
        if isinstance(error, RequestRefused | ConnectionLimit):
            self.counters.refused[reason_of(error),] += 1

    # ── before anything is sent ──────────────────────────────────────────────────────────────────

    def _judge(self, context: RequestContext) -> bool | None:
        """Judge the request and make it ready to go. Raises `RequestRefused`.

        Returns None; or, when it was answered here (a preflight), whether the connection can go on.
        """
        request, site = context.request, context.site
        if request.target.startswith("/"):
            # For the log, should the guard refuse it: a fragment may hold a token (RFC 6749 §4.2.2).
            context.path = request.target.partition("#")[0].partition("?")[0]
        if site.guard.has_origins:
            context.origin = site.guard.allowed_origin(request)
        host, target = site.guard.check(request)
        path = context.path = target.partition("?")[0]
        if context.origin is not None and is_preflight(request):
            return respond.send_preflight(context, context.origin)  # browsers send no key with it
        site.guard.check_key(request)
        route = context.route = site.routes.match(host, path)
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


def judge_plain(context: RequestContext, head: PlainHead) -> bool:
    """Judge a request by its head; tell whether it passes.

    The rules are those of `ProxyHandler._judge`. What does not pass is judged once more, in full, and refused
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
        or may_be_brought(route, target, section)
        or (route.allow is not None and not is_allowed(route, method, path))
    ):
        return False
    if route.strip or route.base:
        target = upstream_target(target, strip=route.strip, base=route.base)
    if is_login(route, method, path, target):
        return False
    outgoing = b"%b %b HTTP/1.1\r\n%b" % (method.encode("ascii"), target.encode("ascii"), lines)
    if len(outgoing) > site.header_bytes or is_too_large(section.length, site.body_bytes):
        return False
    head.path, head.outgoing, head.route = path, outgoing, route
    return True


def is_login(route: Route, method: str, path: str, target: str) -> bool:
    """Tell whether a plain request, for the upstream's `target`, is one, to be answered or refused."""
    if route.stand_in is not None and route.stand_in.find(method, path, route.path) is not None:
        return True
    return route.token_endpoints is not None and not route.token_endpoints.lets_through(target)


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


def may_be_brought(route: Route, target: str, section: Section) -> bool:
    """Tell whether a plain request may bring something in a place of ours that is no header."""
    credential = route.credential
    return (
        credential is not None
        and credential.injection.edits
        and route.incoming != "replace"
        and credential.injection.may_be_brought(target, section.names)
    )


def is_allowed(route: Route, method: str, path: str) -> bool:
    """Tell whether `route` lets out what `check_allow` lets out."""
    try:
        check_allow(route, method, path)
    except Forbidden:
        return False
    return True


def is_too_large(length: int | None, limit: int | None) -> bool:
    return limit is not None and length is not None and length > limit


def show_body(context: RequestContext, route: Route, body: Body | WholeBody) -> None:
    """Have the inspector get its part of a request's body."""
    kept = context.notes().request_body = route.facts.new_body()
    if isinstance(body, WholeBody):
        kept.add(body.at_hand())
    else:
        body.shown = kept


def body_of_length(request: Request, length: int, route: Route, limit: int | None) -> Body | WholeBody:
    """Return the body of a plain request."""
    payload = request.payload
    if isinstance(payload, Whole):
        return WholeBody(payload.data, keep=route.keep_body, limit=limit)
    return Body(payload, length=length, keep=route.keep_body, limit=limit)


def plain_reader(site: Site) -> PlainReader:
    """Return who reads the plain heads of requests to `site`."""
    judged = {name.lower() for name in JUDGED} - READ_PLAINLY
    key = site.guard.key_header
    return PlainReader(judged, key=key, limit=site.header_bytes)


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


def outgoing_of(context: RequestContext, route: Route, target: str) -> Outgoing:
    """Return the request as it goes to the upstream. Raises `RequestRefused`."""
    request, limit = context.request, context.site.header_bytes
    method = request.method
    start = f"{method} {upstream_target(target, strip=route.strip, base=route.base)} HTTP/1.1\r\n"
    listed = None
    if CONNECTION in request.headers:
        listed = listed_in(",".join(request.headers.getall(CONNECTION)))
    head = route.request_headers.head(
        start.encode("utf-8", "surrogateescape"),
        request.raw_headers,
        listed=listed,
        replace=context.injects,
        authority=b"" if request.target.startswith("/") else split_absolute(request.target)[0].encode(),
    )
    if len(head) > limit:
        raise HeadersTooLarge(f"the header section is over {limit} bytes")
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


def begin_login(context: RequestContext, route: Route, path: str) -> bool:
    """Tell whether the request is a login that is answered here, and have it be. Raises `RequestRefused`."""
    if route.stand_in is None:
        return False
    context.login = route.stand_in.find(context.request.method, path, route.path)
    if context.login is None:
        return False
    context.notes().login = True
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


async def answer_login(context: RequestContext, login: Login, route: Route) -> bool:
    """Answer a login here; tell whether the connection can go on."""
    if route.stand_in is None or route.credential is None:
        raise TypeError("a login of a route that has none")
    return await route.stand_in.answer(context, login, route.credential)


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
