"""The last requests: a ring of records, and what somebody may ask of it.

handler ─▶ Recent.add ─▶ (the oldest one goes)
                          ├─▶ newest(Filter)     for the list
                          ├─▶ find(id)           for one
                          └─▶ seconds(route)     for latencies

Adding is one append. All else is worked out when somebody asks.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import unquote

from authproxy.observe.inspection import shown_path
from authproxy.observe.record import ID, RequestRecord

MAX_LIMIT = 500  # requests in one answer: others are served meanwhile

_STATUS = re.compile(r"(?:(?P<one>[0-9]{1,3})|(?P<hundred>[1-5])xx|>=(?P<least>[0-9]{1,3}))\Z", re.IGNORECASE)


class Recent:
    """The last `keep` requests."""

    def __init__(self, keep: int) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=keep)
        self.add: Callable[[RequestRecord], None] = self._records.append
        """Remember one more request; the least that this can cost."""

    @property
    def keep(self) -> int:
        return self._records.maxlen or 0

    def resize(self, keep: int) -> None:
        """Remember `keep` requests from now on."""
        if keep != self._records.maxlen:
            self._records = deque(self._records, maxlen=keep)
            self.add = self._records.append

    def newest(self, wanted: "Filter") -> Iterator[RequestRecord]:
        """Return the requests that are wanted, those that began last first."""
        fitting = [(each.id, each) for each in list(self._records) if wanted.fits(each)]
        fitting.sort(key=lambda pair: pair[0], reverse=True)
        if wanted.before is not None:
            fitting = [pair for pair in fitting if pair[0] < wanted.before]
        return (record for _, record in fitting[: wanted.limit])

    def find(self, wanted: str) -> RequestRecord | None:
        """Return the request of that id."""
        return next((each for each in reversed(self._records) if each.id == wanted), None)

    def seconds(self) -> dict[str, list[float]]:
        """Return how long requests took, by route."""
        found: dict[str, list[float]] = {}
        for each in list(self._records):
            if each.route is not None:
                found.setdefault(each.route, []).append(each.seconds)
        return found

    def __len__(self) -> int:
        return len(self._records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which requests are wanted. What is None does not matter; `least` and `most` bound the status."""

    route: str | None = None
    least: int = 0
    most: int = 999
    method: str | None = None
    q: str | None = None
    before: str | None = None
    limit: int = MAX_LIMIT

    @classmethod
    def of(
        cls,
        *,
        route: str | None = None,
        status: str | None = None,
        method: str | None = None,
        q: str | None = None,
        limit: str | None = None,
        before: str | None = None,
    ) -> Self:
        """Read a filter as it stands in a query. Raises `ValueError`, which says what is wrong with what."""
        least, most = _statuses(status)
        if before is not None and not ID.fullmatch(before):
            raise ValueError("before: should be the id of a request")
        if limit is not None and not re.fullmatch(r"0*[1-9][0-9]*", limit):
            raise ValueError("limit: should be a number of requests, 1 or more")
        return cls(
            route=route,
            least=least,
            most=most,
            method=method.upper() if method is not None else None,
            q=q,
            before=before,
            limit=min(int(limit.lstrip("0")[:9]) if limit else MAX_LIMIT, MAX_LIMIT),
        )

    def fits(self, record: RequestRecord) -> bool:
        """Whether `record` is wanted, `before` and `limit` aside."""
        return (
            self.least <= record.status <= self.most
            and (self.route is None or record.route == self.route)
            and (self.method is None or record.method.upper() == self.method)
            and (self.q is None or self._is_in(shown_path(record)))
        )

    def _is_in(self, path: str) -> bool:
        """Whether `q` is a part of `path` as it is shown, or as people read it."""
        return self.q is not None and (self.q in path or self.q in unquote(path))

    def data(self) -> dict[str, Any]:
        """Return it as plain data, of which `Filter(**data)` makes it again."""
        return asdict(self)


def _statuses(text: str | None) -> tuple[int, int]:
    """Return the least and the most status that `text` asks for. Raises `ValueError`."""
    if text is None:
        return 0, 999
    match = _STATUS.match(text)
    if match is None:
        raise ValueError("status: should be a status such as 404, a class such as 4xx, or >=400")
    if match["hundred"] is not None:
        return int(match["hundred"]) * 100, int(match["hundred"]) * 100 + 99
    return (int(match["least"]), 999) if match["least"] is not None else (int(match["one"]),) * 2


def percentiles(seconds: list[float]) -> dict[str, float | None]:
    """Return what half, 90 % and 99 % of requests took at most, in milliseconds (nearest rank)."""
    ordered = sorted(seconds)

    def at(share: float) -> float | None:
        if not ordered:
            return None
        return round(ordered[max(0, -int(-len(ordered) * share // 1) - 1)] * 1000, 3)

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99)}
