"""What one process has counted: plain numbers, cheap to add to, easy to send and to add up.

    handler ─▶ requests, durations, retries, refusals ┐
    backoff ─▶ token requests                         ├─▶ snapshot() ─▶ (the broker) ─▶ /metrics
    body_rewriting ─▶ bodies that went untouched      │
    pools ─▶ connections, when asked                  ┘

Names and labels are made of these in `authproxy.admin.metrics`, where somebody wants to read them.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from authproxy.observe.record import RequestRecord

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the duration histogram, in seconds."""


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"  # any other method: clients must not be able to make up time series

Key = tuple[str, ...]


class Counters:
    """Counts of one process, or the sum of several."""

    def __init__(self) -> None:
        self.routes: defaultdict[str, RouteCounts] = defaultdict(RouteCounts)
        self.retries: Counter[Key] = Counter()  # (route, outcome)
        self.refused: Counter[Key] = Counter()  # (reason,)
        self.token_requests: Counter[Key] = Counter()  # (route, outcome)
        self.untouched: Counter[Key] = Counter()  # (route, reason)
        self.tunnels: Counter[Key] = Counter()  # (outcome,)
        self.tunnel_bytes: Counter[Key] = Counter()  # (direction,)
        self.tunnels_open: Counter[Key] = Counter()  # (), which goes down as well

    def request(self, record: RequestRecord) -> None:
        """Count a request, if a route was found for it."""
        _, seconds, route, method, _, status = record[:6]
        if route is None:
            return
        counts = self.routes[route]
        counts.answers[method if method in METHODS else OTHER, status] += 1
        counts.seconds += seconds
        counts.buckets[bisect_left(BOUNDS, seconds)] += 1

    @property
    def requests(self) -> dict[Key, int]:
        """How many requests there were, by route, method and status."""
        return {
            (route, method, str(status)): count
            for route, counts in self.routes.items()
            for (method, status), count in counts.answers.items()
        }

    @property
    def seconds(self) -> dict[Key, float]:
        """How long they took, all together, by route."""
        return {(route,): counts.seconds for route, counts in self.routes.items()}

    @property
    def buckets(self) -> dict[str, list[int]]:
        """By route, how many took no longer than each of the bounds, and than none of them."""
        return {route: counts.buckets for route, counts in self.routes.items()}

    def snapshot(self) -> dict[str, Any]:
        """Return everything as plain data."""
        counters = {name: [[*key, count] for key, count in getattr(self, name).items()] for name in COUNTERS}
        routes = {
            route: {
                "answers": [[*key, count] for key, count in counts.answers.items()],
                "seconds": counts.seconds,
                "buckets": list(counts.buckets),
            }
            for route, counts in self.routes.items()
        }
        return counters | {"routes": routes}

    def add(self, snapshot: dict[str, Any]) -> None:
        """Add what another process has counted."""
        for name in COUNTERS:
            counter: Counter[Key] = getattr(self, name)
            for *key, count in snapshot[name]:
                counter[tuple(key)] += count
        for route, told in snapshot["routes"].items():
            counts = self.routes[route]
            for method, status, count in told["answers"]:
                counts.answers[method, status] += count
            counts.seconds += told["seconds"]
            counts.buckets = [one + other for one, other in zip(counts.buckets, told["buckets"], strict=True)]


class RouteCounts:
    """The requests of one route."""

    __slots__ = ("answers", "buckets", "seconds")

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()  # (method, status)
        self.seconds = 0.0  # summed durations
        self.buckets = [0] * (len(BOUNDS) + 1)  # requests within each bound, and above the last


COUNTERS = (
    "retries", "refused", "token_requests", "untouched", "tunnels", "tunnel_bytes", "tunnels_open",
)  # fmt: skip


def total(snapshots: Iterable[dict[str, Any]]) -> Counters:
    """Return the sum of several processes' counts."""
    counters = Counters()
    for snapshot in snapshots:
        counters.add(snapshot)
    return counters
