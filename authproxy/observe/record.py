"""What is known of one request once it is answered; made once, and handed to everybody who wants to know.

handler ─▶ RequestRecord ─┬─▶ counters.py     what /metrics shows
                          ├─▶ access_log.py   a line of the log
                          └─▶ recent.py       what the admin API shows of the last requests

A record refers to what the request has made anyway. Whatever costs something (ids, masking, JSON) is made of it
when somebody asks.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from authproxy.tokens.source import Origin
from authproxy.tokens.token import Token

MAX_KEPT_HEAD = 32 << 10  # bytes of a request's and its answer's head together that a record refers to
SLOTS = 1 << 32  # of 100 ns each, by which the ids of one millisecond differ
ID_DIGITS = 11 + 8 + 4  # hexadecimal: the millisecond, the slot, the process

Lines = bytes  # header lines, each with its end


class Section(Protocol):
    """The header section of a plain request."""

    lines: list[bytes]


@dataclass(frozen=True, slots=True, eq=False)
class RouteFacts:
    """What is told of a route's requests: where they go, and which of their headers nobody may see.

    `url_of` makes the upstream's URL of a path; `secret_headers` are in lower case; up to `bodies` bytes of
    each body are kept.
    """

    name: str
    url_of: Callable[[str], str]
    secret_headers: frozenset[str] = frozenset()
    bodies: int = 0


class KeptBody:
    """The beginning of a body, up to `limit` bytes; `size` counts all that there was."""

    __slots__ = ("data", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.limit = limit
        self.size = 0

    def add(self, piece: bytes) -> None:
        room = self.limit - len(self.data)
        self.size += len(piece)
        if room > 0:
            self.data += piece if len(piece) <= room else piece[:room]

    @property
    def cut(self) -> bool:
        """Whether there was more than is here."""
        return self.size > len(self.data)

    def drop(self) -> None:
        """Keep nothing any longer, so that there is room for others."""
        self.data = bytearray()


class Notes:
    """What else is to be told of a request to which something happened that is out of the ordinary.

    `steps` are (what, detail, moment of its end), on the clock of `RequestRecord.started`. `id` is set where it
    is known before the request. `problem` is what was answered here. `cut` tells that not all of the heads was
    kept.
    """

    __slots__ = ("cut", "id", "origin", "page", "problem", "request_body", "response_body", "steps")

    def __init__(self, known_id: str | None = None) -> None:
        self.id = known_id
        self.steps: list[tuple[str, str, float]] = []
        self.origin: Origin = "held"
        self.page: str | None = None  # the web origin of a page that was refused
        self.problem: dict[str, object] | None = None
        self.request_body: KeptBody | None = None
        self.response_body: KeptBody | None = None
        self.cut = False


class RequestRecord(NamedTuple):
    """One finished request.

    `at` is when it began, in epoch seconds, `seconds` how long it took. `route` is None when it was refused
    before one was found, `status` is 0 when nothing was answered. `sent` counts the bytes of the answer's body
    that went out, `received` those of the request's that came; `cause` says what went wrong, if something did.
    `started` is on a clock of its own. `target` is as it came, `head` the request's header section, `answer` the
    head of the answer: only what shows them to people (`inspection.py`) looks at these, and masks them. `token` is
    what was added.
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
    token: Token | None
    received: int
    notes: Notes | None

    @property
    def ended(self) -> float:
        """When the answer was out, in epoch seconds."""
        return self.at + self.seconds

    @property
    def id(self) -> str:
        """The id by which the log, the admin API and a problem's document call it."""
        known = self.notes.id if self.notes is not None else None
        return known or request_id(self.at, self.started)

    def __repr__(self) -> str:
        return f"<RequestRecord {self.id} {self.method} {self.route} {self.status}>"


def request_id(at: float, started: float) -> str:
    """Return the id of a request of this process. Ids sort as their requests began, in whatever process."""
    return f"{int(at * 1000):011x}{int(started * 1e7) % SLOTS:08x}{_process.tag}"


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
