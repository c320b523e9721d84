"""How a route stands with its upstream: whether that refuses even a token just renewed, and who was told.

    a refusal ─▶ Standing.note() ─▶ logged once a cause ─▶ lasting? then the route is `refused`
    a success ─▶ Standing.recover() ─▶ it is not any more

In a worker each of them is told to the broker, which logs, and tells the other workers: a route is refused in
all of them or in none.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from authproxy import logs

MAX_CAUSES = 64  # of one route that are remembered as told


@dataclass(frozen=True, slots=True)
class Refusal:
    """An upstream's no: its `status`, what was `sent`, in words, and a `hint`; `at` is in epoch seconds.

    `cause` is the same for refusals that need not be told again. `lasts` says that another token would not
    help.
    """

    status: int
    cause: str
    sent: str
    hint: str | None
    at: float
    lasts: bool = False

    @property
    def detail(self) -> str:
        return f"the upstream answered {self.status} to {self.sent}"


Report = Callable[[str, Refusal | None], None]
"""Told of a route, and of a refusal that is news, or None for a success after one that lasted."""


@dataclass(slots=True, eq=False)
class Standing:
    """How one route stands. `watching` says that somebody has to hear of the next success."""

    name: str
    report: Report
    refused: Refusal | None = None
    watching: bool = False
    _told: set[str] = field(default_factory=set)

    def note(self, refusal: Refusal) -> None:
        """Take note of a refusal; report it if it is news."""
        is_news = refusal.cause not in self._told or (refusal.lasts and self.refused is None)
        if is_news:
            self.take(refusal)
            self.report(self.name, refusal)

    def recover(self) -> None:
        """Take note of a success; report it if the route was refused."""
        if self.refused is not None:
            self.take(None)
            self.report(self.name, None)

    def take(self, refusal: Refusal | None) -> bool:
        """Go by what happened here or in another process; tell whether the route's state is another one."""
        before = self.refused
        if refusal is None:
            self.refused = None
            self._told.clear()
        else:
            if len(self._told) < MAX_CAUSES:
                self._told.add(refusal.cause)
            if refusal.lasts and before is None:
                self.refused, self.watching = refusal, True
        return (before is None) != (self.refused is None)


class Standings:
    """The standing of every route, by name; it is another one when the credential is another one.

    `remote` is who is told of news instead of the log: the broker, in a worker. `changed` is called whenever
    a route is refused, or is not any more.
    """

    def __init__(self) -> None:
        self.remote: Report | None = None
        self.changed: Callable[[], None] = lambda: None
        self._standings: dict[str, tuple[str, Standing]] = {}

    def of(self, name: str, key: str) -> Standing:
        """Return the standing of the route `name`, whose credential is `key`."""
        known = self._standings.get(name)
        if known is None or known[0] != key:
            known = self._standings[name] = key, Standing(name, self._report)
        return known[1]

    def refused(self) -> dict[str, Refusal]:
        """Return why routes are refused, by name."""
        return {
            name: standing.refused
            for name, (_, standing) in self._standings.items()
            if standing.refused is not None
        }

    def take(self, name: str, refusal: Refusal | None) -> None:
        """Go by what another process has told of."""
        known = self._standings.get(name)
        if known is not None and known[1].take(refusal):
            self.changed()

    def hear(self, name: str, refusal: Refusal | None) -> None:
        """Go by what a worker reports: it is news once, whichever of them says it first."""
        known = self._standings.get(name)
        if known is None:
            return
        if refusal is None:
            known[1].recover()
        else:
            known[1].note(refusal)

    def _report(self, name: str, refusal: Refusal | None) -> None:
        if self.remote is not None:
            self.remote(name, refusal)
        elif refusal is None:
            logs.info("the upstream accepts the route's credential again", route=name)
        else:
            logs.warning(
                "refused by the upstream",
                route=name,
                status=refusal.status,
                sent=refusal.sent,
                hint=refusal.hint,
            )
        self.changed()
