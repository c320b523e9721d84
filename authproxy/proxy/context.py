"""One request on its way: what has become of it so far, and where it stands when a step is done.

start() ─▶ Answered   nothing is left to do
        ─▶ Waiting    something has to be waited for: a task goes on, from where it stands
        ─▶ else       it is with the upstream, whose reply is answered from a callback if that is all there
"""

from typing import TYPE_CHECKING, Any

from authproxy.observe.record import RequestRecord
from authproxy.proxy.request import Request
from authproxy.proxy.route import Route
from authproxy.proxy.send import Outgoing
from authproxy.tokens.token import Token

if TYPE_CHECKING:
    from authproxy.proxy.handler import Site


class RequestContext:
    """One request on its way, and what will be told of it."""

    route: Route | None = None
    path = "-"
    answer_begun = False  # whether anything of an answer is out; only who writes it says so
    status = 0  # of that answer
    sent = 0  # bytes of its body that are out
    retried = False
    framed = True  # whether the client can tell a short body from a whole one
    cause: str | None = None
    origin: str | None = None  # the foreign web origin that may read the answer
    outgoing: Outgoing | None = None
    injects = False
    token: Token | None = None

    def __init__(self, request: Request, site: "Site", started: float) -> None:
        self.request = request
        self.site = site
        self.started = started

    @property
    def route_name(self) -> str | None:
        return self.route.name if self.route is not None else None

    def answering(self, status: int, sent: int = 0) -> None:
        """Note that an answer has begun to go out, and what of its body went with it, in bytes."""
        self.answer_begun, self.status, self.sent = True, status, sent

    def record(self, now: float, ended: float) -> RequestRecord:
        """Return what is to be told of it; `now` is the time of day, `ended` is on the clock of `started`."""
        route = self.route
        return RequestRecord(
            now,
            ended - self.started,
            route.name if route is not None else None,
            self.request.method,
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
        return f"<RequestContext {self.request.method} {self.route_name} {self.status or 'under way'}>"


class Answered:
    """The answer is out; `keep_alive` tells whether the connection can go on."""

    __slots__ = __match_args__ = ("keep_alive",)

    def __init__(self, keep_alive: bool) -> None:  # noqa: FBT001 - it is all there is
        self.keep_alive = keep_alive


class Waiting:
    """The request waits for something. `context` is the answerer's own."""

    __slots__ = __match_args__ = ("context",)

    def __init__(self, context: Any) -> None:
        self.context = context


Step = Answered | Waiting | Any
"""Anything but the first two is the context, the answerer's own, of a request that is with the upstream."""
