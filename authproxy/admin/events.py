"""The live stream: server-sent events (HTML §9.2) for those who watch.

    publish() ─▶ each Stream's queue, bounded ─▶ its own task ─▶ its reader
                      └─ full: the event is lost, and counted

    event: request    one of /api/requests
    event: status     one of the routes of /api/status, when its state changes
    event: lost       {"count": 3}: that many events were not told, because this reader was slow
    : …               a comment, every 15 s

Who does not read holds up nobody: not the proxy, and not the other readers.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

from authproxy.errors import TooManyStreams
from authproxy.observe.feed import MAX_RATE

COMMENT_SECONDS = 15.0
COMMENT = b": authproxy\n\n"
MAX_QUEUED = 256 << 10  # bytes that wait for one reader
MIN_STREAMS = 2
RETRY_SECONDS = 5.0


def event(name: str, data: object) -> bytes:
    """Return an event as it goes over the wire."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


class Stream:
    """What one reader is still to be told. `rate` is how many requests a second are enough for it."""

    def __init__(self, rate: int = MAX_RATE) -> None:
        self.rate = rate
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._ended = False
        self._news = asyncio.Event()

    def tell(self, told: bytes) -> None:
        """Queue an event, or lose it."""
        if self._size + len(told) > MAX_QUEUED:
            self.lose(1)
            return
        if self._lost:
            self._queue_lost()
        self._put(told)

    def lose(self, count: int) -> None:
        """Count events that are not told."""
        self._lost += count
        self._news.set()

    def end(self) -> None:
        """Let the reader have what is queued, and no more."""
        self._ended = True
        self._news.set()

    def _queue_lost(self) -> None:
        count, self._lost = self._lost, 0
        self._put(event("lost", {"count": count}))

    def _put(self, told: bytes) -> None:
        self._queue.append(told)
        self._size += len(told)
        self._news.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield what goes over the wire, until the end; a comment now and then, whatever else is said."""
        yield COMMENT
        now = asyncio.get_running_loop().time
        due = now() + COMMENT_SECONDS
        while True:
            if not self._queue and not self._lost and not self._ended:
                self._news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._news.wait()
            if now() >= due and not self._ended:
                due = now() + COMMENT_SECONDS
                yield COMMENT
            if not self._queue and self._lost:
                self._queue_lost()
            if self._queue:
                told, self._size = b"".join(self._queue), 0
                self._queue.clear()
                yield told
            elif self._ended:
                return


class Streams:
    """Everybody who watches, `limit` at most.

    `watched` hears how many requests a second are wanted, of those who watch by the one who wants most; 0
    when nobody watches any more.
    """

    def __init__(self, watched: Callable[[int], None] = lambda _rate: None) -> None:
        self.limit = MIN_STREAMS
        self._watched = watched
        self._rate = 0
        self._streams: set[Stream] = set()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._streams)

    @contextmanager
    def open(self, rate: int = MAX_RATE) -> Iterator[Stream]:
        """Have one more reader told. Raises `TooManyStreams`."""
        if self._closed or len(self._streams) >= self.limit:
            why = "the proxy is being stopped" if self._closed else f"{self.limit} readers watch already"
            raise TooManyStreams(why, retry_after=RETRY_SECONDS)
        stream = Stream(rate)
        self._streams.add(stream)
        self._tell_rate()
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            self._tell_rate()

    def _tell_rate(self) -> None:
        rate = max((each.rate for each in self._streams), default=0)
        if rate != self._rate:
            self._rate = rate
            self._watched(rate)

    def publish(self, name: str, data: object) -> None:
        """Tell everybody."""
        told = event(name, data) if self._streams else b""
        for stream in self._streams:
            stream.tell(told)

    def lose(self, count: int) -> None:
        """Count events that nobody is told."""
        for stream in self._streams:
            stream.lose(count)

    def end(self) -> None:
        """End every stream; others may begin."""
        for stream in self._streams:
            stream.end()

    def close(self) -> None:
        """End every stream, and begin no other."""
        self._closed = True
        self.end()
