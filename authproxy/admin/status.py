"""The state of every route as plain data. Never a token's value, nor any other secret."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from authproxy.errors import LoginRequired, TokenError
from authproxy.tokens.cache import CachedSource

State = Literal["no token needed", "idle", "valid", "failing", "rejected", "login required"]
READY: frozenset[State] = frozenset({"no token needed", "idle", "valid"})


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """One route's token: its state, and the cause and the remedy when that is not well."""

    route: str
    state: State
    cause: str | None = None
    hint: str | None = None

    @property
    def ready(self) -> bool:
        return self.state in READY


def route_status(name: str, source: CachedSource | None) -> RouteStatus:
    """Return the status of the route `name`, whose tokens come from `source` (None: it needs none)."""
    if source is None:
        return RouteStatus(name, "no token needed")
    if source.usable:
        return RouteStatus(name, "valid")
    failure = source.failure
    if failure is None:
        return RouteStatus(name, "idle")
    state: State = "failing"
    if isinstance(failure, LoginRequired):
        state = "login required"
    elif isinstance(failure, TokenError) and failure.rejects:
        state = "rejected"
    return RouteStatus(name, state, failure.detail, failure.hint)


def readiness(routes: Iterable[RouteStatus], *, reasons: bool = True) -> tuple[int, dict[str, object]]:
    """Return the HTTP status and the document of `/readyz`; without `reasons` it holds just states."""
    troubled = [status for status in routes if not status.ready]
    if not troubled:
        return 200, {"ready": True}
    found = {
        each.route: {"state": each.state} | ({"cause": each.cause, "hint": each.hint} if reasons else {})
        for each in troubled
    }
    return 503, {"ready": False, "routes": found}
