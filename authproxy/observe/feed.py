"""Finished requests for those who watch: in batches, only while somebody does, and never too many at a time.

handler ─▶ Feed.take ─▶ every 50 ms: up to BATCH of them, as plain data, and how many were lost

To make one into plain data, and to send it, costs a good part of what it takes to proxy it. Who needs no more
than a sample of a busy proxy therefore names a `rate`: a bucket of BURST_SECONDS' worth that fills by it.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from authproxy.observe.inspection import summary
from authproxy.observe.record import RequestRecord

DELAY = 0.05  # seconds between two batches
BUSY_DELAY = 0.2  # where no more than a sample is wanted, and the burst is over: each batch is a write
BATCH = 64  # requests in one: what showing them may cost is bounded, whatever the proxy is asked
MAX_WAITING = 512  # requests that wait for their batch
MAX_RATE = int(BATCH / DELAY)  # requests a second
BURST_SECONDS = 10.0

Sink = Callable[[list[dict[str, Any]], int], None]


class Feed:
    """Tells `sink` of the requests that `take` is given: `rate` a second at most, if they go on coming."""

    def __init__(self, sink: Sink, rate: int = MAX_RATE) -> None:
        self.rate = rate
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._credit = BURST_SECONDS * rate  # requests that may still be told, those that wait included
        self._credited_at = self._loop.time()
        self._room = 0
        self._waiting: list[RequestRecord] = []
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, record: RequestRecord) -> None:
        """Tell of a request soon, or count it as lost."""
        if self._timer is None:
            self._make_room()
            self._timer = self._loop.call_later(self._delay(), self._flush)
        if len(self._waiting) < self._room:
            self._waiting.append(record)
        else:
            self._lost += 1

    def _make_room(self) -> None:
        now = self._loop.time()
        more = (now - self._credited_at) * self.rate
        self._credit = min(self._credit + more, BURST_SECONDS * self.rate)
        self._credited_at = now
        self._room = min(MAX_WAITING, int(self._credit))

    def _delay(self) -> float:
        is_burst = self._credit > BURST_SECONDS * self.rate / 2
        return DELAY if is_burst or self.rate * BUSY_DELAY > BATCH else BUSY_DELAY

    def _flush(self) -> None:
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        self._credit -= len(batch)
        self._make_room()
        self._timer = self._loop.call_later(self._delay(), self._flush) if self._waiting else None
        lost, self._lost = self._lost, 0
        self._sink([summary(record) for record in batch], lost)

    def close(self) -> None:
        """Tell nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._waiting = None, []
