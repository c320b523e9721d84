"""What one process has counted: plain numbers, cheap to add to, easy to send and to add up.

    handler ─▶ requests, durations, retries, refusals ┐
    backoff ─▶ token requests                         ├─▶ snapshot() ─▶ (the broker) ─▶ /metrics
    pools ─▶ connections, when asked                  ┘

Names and labels are made of these in `authproxy.admin.metrics`, where somebody wants to read them.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, MutableMapping
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
        self.requests: Counter[Key] = Counter()  # (route, method, status)
        self.retries: Counter[Key] = Counter()  # (route, outcome)
        self.refused: Counter[Key] = Counter()  # (reason,)
        self.token_requests: Counter[Key] = Counter()  # (route, outcome)
        self.seconds: defaultdict[Key, float] = defaultdict(float)  # (route,), summed durations
        self.buckets: dict[str, list[int]] = {}  # route: requests within each bound, and above the last

    def request(self, record: RequestRecord) -> None:
        """Count a request, if a route was found for it."""
        route, method, seconds = record.route, record.method, record.seconds
        if route is None:
            return
        self.requests[route, method if method in METHODS else OTHER, str(record.status)] += 1
        self.seconds[route,] += seconds
        buckets = self.buckets.get(route)
        if buckets is None:
            buckets = self.buckets[route] = [0] * (len(BOUNDS) + 1)
        buckets[bisect_left(BOUNDS, seconds)] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return everything as plain data."""
        counters = {name: [[*key, count] for key, count in getattr(self, name).items()] for name in COUNTERS}
        return counters | {"buckets": {route: list(counts) for route, counts in self.buckets.items()}}

    def add(self, snapshot: dict[str, Any]) -> None:
        """Add what another process has counted."""
        for name in COUNTERS:
            counter: MutableMapping[Key, float] = getattr(self, name)
            for *key, count in snapshot[name]:
                counter[tuple(key)] += count  # each of them begins at 0
        for route, counts in snapshot["buckets"].items():
            mine = self.buckets.setdefault(route, [0] * len(counts))
            self.buckets[route] = [one + other for one, other in zip(mine, counts, strict=True)]


COUNTERS = ("requests", "retries", "refused", "token_requests", "seconds")


def total(snapshots: Iterable[dict[str, Any]]) -> Counters:
    """Return the sum of several processes' counts."""
    counters = Counters()
    for snapshot in snapshots:
        counters.add(snapshot)
    return counters
