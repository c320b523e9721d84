"""A byte tunnel, after the upstream said 101: what comes in on one side goes out on the other, unread.

    client ◀──────▶ ClientConnection ── Tunnel ── Connection ◀──────▶ upstream

Either side may end its half (`half-close`); the tunnel is over when both have, or one is gone. A side that
does not take what it is sent stops the other from sending.
"""

import asyncio
from typing import Literal

Side = Literal["client", "upstream"]


class Tunnel:
    """Joins two transports. `moved` counts the bytes that went to the client."""

    def __init__(self, client: asyncio.Transport, upstream: asyncio.Transport) -> None:
        self._ends: dict[Side, asyncio.Transport] = {"client": client, "upstream": upstream}
        self._over: dict[Side, bool] = {"client": False, "upstream": False}
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._closed = self._loop.create_future()
        self.moved = 0

    def feed(self, side: Side, data: bytes) -> None:
        """Take bytes that came from `side`."""
        self._last = self._loop.time()
        if side == "upstream":
            self.moved += len(data)
        self._ends[_other(side)].write(data)

    def end(self, side: Side) -> None:
        """Note that `side` has no more to say."""
        self._over[side] = True
        beyond = self._ends[_other(side)]
        if all(self._over.values()) or not beyond.can_write_eof():
            self.close()
        else:
            beyond.write_eof()

    def pause(self, side: Side) -> None:
        """Note that `side` cannot take more for now."""
        self._ends[_other(side)].pause_reading()

    def resume(self, side: Side) -> None:
        """Note that `side` takes more again."""
        self._ends[_other(side)].resume_reading()

    def close(self) -> None:
        """End it; what was written is still delivered."""
        if not self._closed.done():
            self._closed.set_result(None)

    async def closed(self, idle_seconds: float) -> None:
        """Wait for the end, or for `idle_seconds` without a byte."""
        while not self._closed.done():
            left = self._last + idle_seconds - self._loop.time()
            if left <= 0:
                return
            await asyncio.wait([self._closed], timeout=left)

    def __repr__(self) -> str:
        return f"<Tunnel {'closed' if self._closed.done() else 'open'} {self.moved} bytes to the client>"


def _other(side: Side) -> Side:
    return "upstream" if side == "client" else "client"
