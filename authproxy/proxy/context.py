"""One request on its way: what has become of it so far, and where it stands when a step is done.

start() ─▶ Answered   nothing is left to do
        ─▶ Waiting    something has to be waited for: a task goes on, from where it stands
        ─▶ else       it is with the upstream, whose reply is answered from a callback if that is all there
"""

from typing import TYPE_CHECKING, Any

from authproxy.observe.record import MAX_KEPT_HEAD, Lines, Notes, RequestRecord, request_id
from authproxy.proxy.body import Body
from authproxy.proxy.plain import Section
from authproxy.proxy.request import Request
from authproxy.proxy.route import Route
from authproxy.proxy.send import Outgoing
from authproxy.tokens.token import Token

if TYPE_CHECKING:
    from authproxy.proxy.judge import Site
    from authproxy.proxy.stand_in import Login


new_record = tuple.__new__  # of a named tuple: a third of the time that its own constructor takes


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
    login: "Login | None" = None  # what it is, if it is answered here
    login_body: Body | None = None
    login_query = ""  # of it; nothing tells of either
    injects = False
    token: Token | None = None
    received = 0  # bytes of the request's body
    answer = b""  # the head of the answer, without its empty line

    def __init__(self, request: Request, site: "Site", at: float, started: float) -> None:
        self.request = request
        self.site = site
        self.at = at  # the time of day
        self.started = started

    @property
    def route_name(self) -> str | None:
        return self.route.name if self.route is not None else None

    def answering(self, status: int, sent: int = 0) -> None:
        """Note that an answer has begun to go out, and what of its body went with it, in bytes."""
        self.answer_begun, self.status, self.sent = True, status, sent

    @property
    def id(self) -> str:
        """The id by which the request is known."""
        notes = self.request.notes
        return (notes.id if notes is not None else None) or request_id(self.at, self.started)

    def notes(self) -> Notes:
        """Return where what is out of the ordinary is noted."""
        notes = self.request.notes
        if notes is None:
            notes = self.request.notes = Notes()
        return notes

    def record(self, ended: float) -> RequestRecord:
        """Return what is to be told of it; `ended` is on the clock of `started`."""
        route, request, answer = self.route, self.request, self.answer
        section = request.head.section if request.head is not None else None
        head: Section | Lines
        if section is None or section.size + len(request.target) + len(answer) > MAX_KEPT_HEAD:
            head, answer = self._bounded()
        else:
            head = section
        started = self.started
        return new_record(
            RequestRecord,
            (
                self.at, ended - started, None if route is None else route.name, request.method, self.path,
                self.status, self.sent, self.retried, self.cause, started, request.target, head, answer,
                None if route is None else route.facts, self.token, self.received, request.notes,
            ),
        )  # fmt: skip

    def _bounded(self) -> tuple[Lines, Lines]:
        """Return the header sections of the request and of the answer, as far as they are kept."""
        request, outgoing = self.request, self.outgoing
        if outgoing is not None and outgoing.body is not None:
            self.received = outgoing.body.received
        lines = b"".join([b"%b: %b\r\n" % pair for pair in request.raw_headers])
        room = max(0, MAX_KEPT_HEAD - len(request.target)) // 2
        head, answer = first_lines(lines, room), first_lines(self.answer, room)
        if len(head) < len(lines) or len(answer) < len(self.answer):
            self.notes().cut = True
        return head, answer

    def give_up(self) -> None:
        """Break off: the client is gone, or there will be no answer but our own."""
        if self.outgoing is not None:
            self.outgoing.abort()

    def __repr__(self) -> str:
        return f"<RequestContext {self.request.method} {self.route_name} {self.status or 'under way'}>"


def first_lines(lines: Lines, room: int) -> Lines:
    """Return as many whole lines as have `room`."""
    if len(lines) <= room:
        return lines
    end = lines.rfind(b"\r\n", 0, room)
    return lines[: end + 2] if end >= 0 else b""


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
