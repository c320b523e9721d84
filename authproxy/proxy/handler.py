"""One request's way through the proxy.

    start():   guard ─▶ router ─▶ allow ─▶ headers, body ─▶ token cached? connection at hand? ─▶ sent
    finish():  the rest, where something has to be waited for ─▶ the answer

    any step ──▶ problem (before a byte of the answer is out)
             ──▶ the connection is cut short (after)

`start` waits for nothing. An answer that is all there and stands goes back from the upstream's callback; for
anything else, a token to fetch, a connection to open, a refused token, a long body, a task runs `finish` from
where the request stands. What is worked out of a plain header section is kept with it: see `plain`.
"""

from collections.abc import Callable, Iterable
from time import perf_counter, time

from authproxy.errors import (
    AuthproxyError,
    ConnectionLimit,
    RequestRefused,
    problem_document,
)
from authproxy.observe.counters import Counters
from authproxy.observe.record import Notes, RequestRecord, Subscriber, request_id
from authproxy.proxy import respond, upgrade
from authproxy.proxy.context import Answered, RequestContext, Step, Waiting
from authproxy.proxy.judge import Site, judge, judge_plain, plain_reader
from authproxy.proxy.problem import internal_error, problem_response
from authproxy.proxy.request import Request
from authproxy.proxy.respond import (
    BROKEN_OFF,
    CLIENT_GONE,
    reason_of,
)
from authproxy.proxy.route import Route
from authproxy.proxy.stand_in import Login
from authproxy.proxy.upstream.connection import SWITCHED


class Subscribers:
    """Who is told of each finished request, at whichever listener it came in.

    `secured` is told of each handshake in forward mode: of which host, and which one the client has named.
    """

    __slots__ = ("all", "secured")

    def __init__(self, subscribers: Iterable[Subscriber]) -> None:
        self.all = tuple(subscribers)
        self.secured: Callable[[str, str | None], None] | None = None


class ProxyHandler:
    """Answers requests by `site`, which may be replaced: a request goes on with the one it began with.

    `subscribers` get the record of each finished request. `listener` is where it answers, if that is one of a
    route's own.
    """

    def __init__(
        self, site: Site, counters: Counters, subscribers: "Iterable[Subscriber] | Subscribers" = ()
    ) -> None:
        self.counters = counters
        self.listener = ""
        self._subscribers = subscribers if isinstance(subscribers, Subscribers) else Subscribers(subscribers)
        self.serve(site)

    def beside(self, site: Site, listener: str) -> "ProxyHandler":
        """Return one for a `listener` that is a route's own; it tells the same subscribers.

        It reads heads by itself: none that was remembered there is taken for a request to another listener.
        """
        made = ProxyHandler(site, self.counters, self._subscribers)
        made.listener = listener
        return made

    @property
    def subscribers(self) -> Subscribers:
        """Who is told of each finished request; whoever has it tells the same."""
        return self._subscribers

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
            keep_alive = None if head is not None and judge_plain(context, head) else judge(context)
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
                or (
                    reply.status >= route.refusals_from
                    and credential is not None
                    and credential.refuses(reply, outgoing)
                )
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
            return await upgrade.tunnel(context, route, reply)
        if reply.complete:
            return respond.send_whole(context, route, reply)
        return await respond.stream(context, route, reply)

    # ── end ──────────────────────────────────────────────────────────────────────────────────────

    def lost(self, context: RequestContext) -> None:
        """Break off: the client has gone away, or we are about to."""
        context.cause = CLIENT_GONE if context.request.connection.transport is None else BROKEN_OFF
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

    def refused(self, error: AuthproxyError, began: float | None) -> bytes:
        """Tell of what was refused before it was a request; return the answer, the connection's last."""
        self._count(error)
        ended, notes = perf_counter(), Notes()
        started = began if began is not None else ended
        at = time() - (ended - started)
        notes.id = request_id(at, started)
        notes.problem = problem_document(error, request_id=notes.id)
        notes.steps.append(("refused", error.title, ended))
        answer = problem_response(error, route=None, close=True, request_id=notes.id)
        head, _, body = answer.partition(b"\r\n\r\n")
        record = RequestRecord(
            at, ended - started, None, "-", "-", error.status, len(body), False,  # noqa: FBT003 - not retried
            error.detail, started, "", b"", head + b"\r\n", None, None, 0, notes,
        )  # fmt: skip
        for subscriber in self._subscribers.all:
            subscriber(record)
        return answer

    def _count(self, error: AuthproxyError) -> None:
        """Count a request that was not forwarded, by the kind of its refusal."""
        if isinstance(error, RequestRefused | ConnectionLimit):
            self.counters.refused[reason_of(error),] += 1


async def answer_login(context: RequestContext, login: Login, route: Route) -> bool:
    """Answer a login here; tell whether the connection can go on."""
    if route.stand_in is None or route.credential is None:
        raise TypeError("a login of a route that has none")
    return await route.stand_in.answer(context, login, route.credential)
