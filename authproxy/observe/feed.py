"""Finished requests for those who watch: in batches, only while somebody does, and never too many at a time.

handler ─▶ Feed.take ─▶ every 50 ms: up to BATCH of them, as plain data, and how many were lost
"""

import asyncio
from collections.abc import Callable
from typing import Any

from authproxy.observe.inspection import summary
from authproxy.observe.record import RequestRecord

DELAY = 0.05  # seconds between two batches
BATCH = 64  # requests in one: what showing them may cost is bounded, whatever the proxy is asked
MAX_WAITING = 512  # requests that wait for their batch

Sink = Callable[[list[dict[str, Any]], int], None]


class Feed:
    """Tells `sink` of the requests that `take` is given."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._waiting: list[RequestRecord] = []
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, record: RequestRecord) -> None:
        """Tell of a request soon, or count it as lost."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        self._waiting.append(record)
        if self._timer is None:
            self._timer = self._loop.call_later(DELAY, self._flush)

    def _flush(self) -> None:
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        self._timer = self._loop.call_later(DELAY, self._flush) if self._waiting else None
        lost, self._lost = self._lost, 0
        self._sink([summary(record) for record in batch], lost)

    def close(self) -> None:
        """Tell nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._waiting = None, []
