"""A byte tunnel, after the upstream said 101: what comes in on one side goes out on the other, unread.

    client ◀──────▶ ClientConnection ── Tunnel ── Connection ◀──────▶ upstream

Either side may end its half (`half-close`); the tunnel is over when both have, or one is gone, or when it was
silent for too long, or the drain has run out. Then each side is told so by the end of what it receives, and
has a moment to end its own half: closing while it still sends would reset its connection. Where one side
breaks off without an end the other is reset too, so that it can tell cut from whole. A side that does not
take what it is sent stops the other from sending.
"""

import asyncio
from typing import Literal, Self

from authproxy.net.lingering_close import QUIET, close_or_abort, reset_on_close

Side = Literal["client", "upstream"]

BROKE_OFF = "broke the connection off, without an end"


class Tunnel:
    """Joins two transports. Use as `with` block, at whose end the upstream's side is closed.

    `idle_seconds` is how long it may be silent. `moved` counts the bytes that went to the client, `taken`
    those that went to the upstream. `cut_by` is who broke off.
    """

    def __init__(self, client: asyncio.Transport, upstream: asyncio.Transport, idle_seconds: float) -> None:
        self._ends: dict[Side, asyncio.Transport] = {"client": client, "upstream": upstream}
        self._silent: set[Side] = set()  # who has ended its half
        self._told: set[Side] = set()  # whose other half we have ended
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._over: asyncio.Future[None] = self._loop.create_future()  # nothing is passed on any more
        self._parted: asyncio.Future[None] = self._loop.create_future()  # and nobody has more to say
        self.moved = self.taken = 0
        self.cut_by: Side | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.cut_by == "client" and not self._ends["upstream"].is_closing():
            reset_on_close(self._ends["upstream"])
        close_or_abort(self._ends["upstream"], self._idle_seconds)

    def feed(self, side: Side, data: bytes) -> None:
        """Take bytes that came from `side`; after the end they are dropped."""
        beyond = _other(side)
        self._last = self._loop.time()
        if beyond in self._told or self._ends[beyond].is_closing():
            return
        if side == "upstream":
            self.moved += len(data)
        else:
            self.taken += len(data)
        self._ends[beyond].write(data)

    def end(self, side: Side) -> None:
        """Note that `side` has no more to say."""
        self._silent.add(side)
        self._tell(_other(side))
        if len(self._silent) == len(self._ends):
            self.close()
        elif self._over.done():
            self._see_who_is_left()

    def cut(self, side: Side) -> None:
        """Note that `side` is gone; if it had not ended its half, the other one is to see that."""
        if side not in self._silent and not self._over.done():
            self.cut_by = side
        self.close()

    def _tell(self, side: Side) -> None:
        """Tell `side` that it will get no more."""
        transport = self._ends[side]
        if side in self._told or transport.is_closing():
            return
        if self.cut_by is not None:
            reset_on_close(transport)
            transport.close()
            return
        self._told.add(side)
        if transport.can_write_eof():
            transport.write_eof()
        else:  # TLS: there is no half to end
            self.close()

    def pause(self, side: Side) -> None:
        """Note that `side` cannot take more for now."""
        other = _other(side)
        if other not in self._silent and not self._ends[other].is_closing():
            self._ends[other].pause_reading()

    def resume(self, side: Side) -> None:
        """Note that `side` takes more again."""
        other = _other(side)
        if other not in self._silent and not self._ends[other].is_closing():
            self._ends[other].resume_reading()

    def close(self) -> None:
        """End it; what was written is still delivered."""
        if not self._over.done():
            self._over.set_result(None)
        self._see_who_is_left()

    def _see_who_is_left(self) -> None:
        left = [side for side, end in self._ends.items() if side not in self._silent and not end.is_closing()]
        if not left and not self._parted.done():
            self._parted.set_result(None)

    async def closed(self) -> None:
        """Wait for the end, or for too long a silence."""
        while not self._over.done() and (left := self._last + self._idle_seconds - self._loop.time()) > 0:
            await asyncio.wait([self._over], timeout=left)
        for side in self._ends:
            self._tell(side)
        self.close()
        if not self._parted.done():
            await asyncio.wait([self._parted], timeout=QUIET)

    def __repr__(self) -> str:
        return f"<Tunnel {'closed' if self._over.done() else 'open'} {self.moved} bytes to the client>"


def _other(side: Side) -> Side:
    return "upstream" if side == "client" else "client"
