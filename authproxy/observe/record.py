"""What is known of one request once it is answered; made once, and handed to everybody who wants to know.

handler ─▶ RequestRecord ─┬─▶ counters.py     what /metrics shows
                          ├─▶ access_log.py   a line of the log
                          └─▶ recent.py       what the admin API shows of the last requests

A record refers to what the request has made anyway. Whatever costs something (ids, masking, JSON) is made
of it when somebody asks.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from weakref import ref

MAX_KEPT_HEAD = 32 << 10  # bytes of a request's and its answer's head together that a record refers to
MAX_KEPT_BODIES = 32 << 20  # bytes of bodies in all
SLOT_BITS = 20  # of 100 ns each: they tell apart what a coarse clock, or one that was set back, does not
SLOTS = (1 << SLOT_BITS) - 1
ID = re.compile(r"[0-9a-f]{22}")  # the microsecond and the slot in 18 digits (until 2112), and the process

INTERCEPTED = "forward "  # how the listener of a host begins to which the forward proxy has the requests

Lines = bytes  # header lines, each with its end


class Section(Protocol):
    """The header section of a plain request."""

    lines: list[bytes]


class Added(Protocol):
    """The token that was added; `issued_at` is in epoch seconds, 0 when nobody said."""

    @property
    def value(self) -> str: ...
    @property
    def issued_at(self) -> float: ...


@dataclass(frozen=True, slots=True, eq=False)
class RouteFacts:
    """What is told of a route's requests: where they go, and which of their headers nobody may see.

    `url_of` makes the upstream's URL of a path; `secret_headers` are in lower case; `hosts` are those of all
    routes' upstreams, with their ports; up to `bodies` bytes of each body are kept, as far as there is a
    `budget`. `secrets` may stand in what comes back, besides what was `sent` of the token. `base`
    is the path of `upstream`. `listener` is the route's own one, if they came in there, or where what goes to
    its host is `INTERCEPTED`.
    """

    name: str
    url_of: Callable[[str], str]
    secret_headers: frozenset[str] = frozenset()
    bodies: int = 0
    hosts: frozenset[str] = frozenset()
    budget: "BodyBudget | None" = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    base: str = ""
    listener: str = ""
    sent: Callable[[Any], Iterable[str]] = lambda token: (token.value,)

    def new_body(self) -> "KeptBody":
        """Return where the beginning of a body is kept."""
        return (self.budget or BodyBudget()).new(self.bodies)


class BodyBudget:
    """How many bytes of bodies are kept in all: what is over makes the oldest ones go."""

    def __init__(self, limit: int = MAX_KEPT_BODIES) -> None:
        self.held = 0
        self._limit = limit
        self._bodies: deque[ref[KeptBody]] = deque()  # the oldest first; some are gone already

    def new(self, limit: int) -> "KeptBody":
        """Return where up to `limit` bytes of one body are kept."""
        made = KeptBody(limit, self)
        self._bodies.append(ref(made))
        return made

    def grown(self, size: int) -> None:
        """Take note that `size` bytes more are kept."""
        self.held += size
        while self.held > self._limit and self._bodies:
            oldest = self._bodies.popleft()()
            if oldest is not None:
                oldest.drop()


class KeptBody:
    """The beginning of a body, up to `limit` bytes; `size` counts all that there was."""

    __slots__ = ("__weakref__", "_budget", "data", "limit", "size")

    def __init__(self, limit: int, budget: BodyBudget) -> None:
        self.data = bytearray()
        self.limit = limit
        self.size = 0
        self._budget = budget

    def add(self, piece: bytes) -> None:
        room = self.limit - len(self.data)
        self.size += len(piece)
        if room > 0:
            kept = piece[:room]
            self.data += kept
            self._budget.grown(len(kept))

    @property
    def cut(self) -> bool:
        """Whether there was more than is here."""
        return self.size > len(self.data)

    def drop(self) -> None:
        """Keep nothing any longer, so that there is room for others."""
        self._budget.held -= len(self.data)
        self.data, self.limit = bytearray(), 0

    def __del__(self) -> None:
        self._budget.held -= len(self.data)


class Notes:
    """What else is to be told of a request to which something out of the ordinary happened.

    `steps` are (what, detail, moment of its end), on the clock of `RequestRecord.started`. `id` is set where
    it is known before the request. `origin` is how the request came by its token, `page` the web origin of a
    page that was refused, `problem` what was answered here. `cut` tells that not all of the heads was kept,
    `login` that it was a client's own login, which was answered here. `listener` is the route's own one at
    which a request came in that did not come as far as to its route. `forward` is what became of a request
    to the forward proxy that is no route's: "tunnelled" or "forwarded".
    """

    __slots__ = (
        "cut",
        "forward",
        "id",
        "listener",
        "login",
        "origin",
        "page",
        "problem",
        "request_body",
        "response_body",
        "steps",
    )

    def __init__(self, known_id: str | None = None) -> None:
        self.id = known_id
        self.steps: list[tuple[str, str, float]] = []
        self.origin = "held"
        self.page: str | None = None
        self.problem: dict[str, object] | None = None
        self.request_body: KeptBody | None = None
        self.response_body: KeptBody | None = None
        self.listener = self.forward = ""
        self.cut = False
        self.login = False


class RequestRecord(NamedTuple):
    """One finished request.

    `at` is when it began, in epoch seconds, `seconds` how long it took, `started` is on a clock of its own.
    `route` is None when it was refused before one was found, `status` is 0 when nothing was answered. `sent`
    counts the bytes of the answer's body that went out, `received` those of the request's that came; `cause`
    says what went wrong, if something did. `token` is what was added. `target` is as it came, `head` the
    request's header section, `answer` the answer's head: who shows them (`inspection.py`) masks them.
    """

    at: float
    seconds: float
    route: str | None
    method: str
    path: str
    status: int
    sent: int
    retried: bool
    cause: str | None
    started: float
    target: str
    head: "Section | Lines"
    answer: Lines
    facts: RouteFacts | None
    token: Added | None
    received: int
    notes: Notes | None

    @property
    def ended(self) -> float:
        """When the answer was out, in epoch seconds."""
        return self.at + self.seconds

    @property
    def listener(self) -> str:
        """The listener at which it came in, if that is a route's own; else ""."""
        if self.facts is not None:
            return self.facts.listener
        return self.notes.listener if self.notes is not None else ""

    @property
    def forward(self) -> str | None:
        """What became of a request to the forward proxy: intercepted, tunnelled or forwarded; else None."""
        if self.listener.startswith(INTERCEPTED):
            return "intercepted"
        return (self.notes.forward or None) if self.notes is not None else None

    @property
    def origin(self) -> str:
        """The origin that an intercepted request was for, as https://HOST:PORT; "" for any other."""
        return self.listener.removeprefix(INTERCEPTED) if self.forward == "intercepted" else ""

    @property
    def id(self) -> str:
        """The id by which the log, the admin API and a problem's document call it."""
        notes = self.notes
        if notes is not None and notes.id is not None:
            return notes.id
        return request_id(self.at, self.started)

    def __repr__(self) -> str:
        return f"<RequestRecord {self.id} {self.method} {self.route} {self.status}>"


def request_id(at: float, started: float) -> str:
    """Return the id of a request of this process. Ids sort as their requests began, in whatever process."""
    number = int(at * 1e6) << SLOT_BITS | int(started * 1e7) & SLOTS
    return number.to_bytes(9, "big").hex() + _process.tag  # a format would take twice the time


class _Process:
    """What tells the ids of this process from those of another, after a fork as well."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.tag = os.urandom(2).hex()


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.renew)

Subscriber = Callable[[RequestRecord], Any]
