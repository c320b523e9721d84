"""The state of every route as plain data. Never a token's value, nor any other secret.

    no_token_needed   nothing is added
    idle              no token is cached, and none was wanted yet
    valid             one is
    renewing          one is being obtained
    failing           none can be had; the next try is known
    rejected          none can be had: the token endpoint says no to the credential
    refused           the upstream says no to a token that was just renewed, or that cannot be
    login_required    none can be had until a person logs in

`failing`, `rejected` and `login_required` are only where no usable token is left; else the token's own state
has `trouble` beside it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Literal

from authproxy.errors import AuthproxyError, LoginRequired, TokenError
from authproxy.observe.standing import Refusal
from authproxy.times import rfc3339
from authproxy.tokens.cache import CachedSource

State = Literal[
    "no_token_needed", "idle", "valid", "renewing", "failing", "rejected", "refused", "login_required"
]
STATES: tuple[State, ...] = (
    "no_token_needed", "idle", "valid", "renewing", "failing", "rejected", "refused", "login_required",
)  # fmt: skip
NOT_READY: frozenset[State] = frozenset({"failing", "rejected", "login_required"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, when that was, and what to do. `error` is an OAuth error code."""

    detail: str
    hint: str | None = None
    error: str | None = None
    at: float | None = None

    def document(self) -> dict[str, object]:
        return {"detail": self.detail, "hint": self.hint, "error": self.error, "at": rfc3339(self.at)}


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """One route's token: its state since when, and the trouble that there is. Times are epoch seconds."""

    route: str
    state: State
    trouble: Trouble | None = None
    since: float | None = None
    expires_at: float | None = None
    renewed_at: float | None = None
    next_try_at: float | None = None

    @property
    def ready(self) -> bool:
        return self.state not in NOT_READY

    def document(self) -> dict[str, object]:
        """Return it as the admin API tells it."""
        return {
            "state": self.state,
            "since": rfc3339(self.since),
            "expires_at": rfc3339(self.expires_at),
            "renewed_at": rfc3339(self.renewed_at),
            "next_try_at": rfc3339(self.next_try_at),
            "trouble": self.trouble.document() if self.trouble is not None else None,
        }


def route_status(
    name: str, source: CachedSource | None, refusal: Refusal | None = None, *, started_at: float = 0.0
) -> RouteStatus:
    """Return the status of the route `name`, whose tokens come from `source` (None: it needs none).

    `refusal` is why the upstream refuses what it is sent, if it does.
    """
    if source is None:
        return RouteStatus(name, "no_token_needed", since=started_at or None)
    state, since = _state(source, refusal)
    failed = source.trouble
    trouble = None
    if state == "refused" and refusal is not None:
        trouble = Trouble(refusal.detail, refusal.hint, None, refusal.at)
    elif failed is not None:
        trouble = Trouble(failed.error.detail, failed.error.hint, failed.error.error, failed.at)
    return RouteStatus(
        name,
        state,
        trouble,
        since=since,
        expires_at=source.expires_at,
        renewed_at=source.renewed_at,
        next_try_at=failed.next_try_at if failed is not None else None,
    )


def _state(source: CachedSource, refusal: Refusal | None) -> tuple[State, float]:
    """Return the state, and since when it is."""
    failed = source.trouble
    if failed is not None and not source.usable:
        return _of_failure(failed.error), max(failed.since, source.ended_at or -inf)
    if refusal is not None:
        return "refused", refusal.at
    if source.renewing:
        return "renewing", source.since
    if source.usable:
        return "valid", source.kept_at
    return "idle", source.ended_at or source.since


def _of_failure(failure: AuthproxyError) -> State:
    if isinstance(failure, LoginRequired):
        return "login_required"
    return "rejected" if isinstance(failure, TokenError) and failure.rejects else "failing"


def readiness(routes: Iterable[RouteStatus], *, reasons: bool = True) -> tuple[int, dict[str, object]]:
    """Return the HTTP status and the document of `/readyz`; without `reasons` it holds just states."""

    def told(statuses: list[RouteStatus]) -> dict[str, object]:
        return {each.route: {"state": each.state} | (_reasons(each) if reasons else {}) for each in statuses}

    routes = list(routes)
    troubled = [status for status in routes if not status.ready]
    refused = [status for status in routes if status.state == "refused"]
    warnings: dict[str, object] = {"warnings": told(refused)} if refused else {}
    if not troubled:
        return 200, {"ready": True} | warnings
    return 503, {"ready": False, "routes": told(troubled)} | warnings


def _reasons(status: RouteStatus) -> dict[str, object]:
    trouble = status.trouble
    return {
        "cause": trouble.detail if trouble is not None else None,
        "hint": trouble.hint if trouble is not None else None,
    }
