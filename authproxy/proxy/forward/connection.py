"""A client's connection at the forward listener: after a CONNECT it may go on elsewhere, or within TLS.

    CONNECT ─▶ 200 ─▶ first_bytes() ─┬─ TLS: start_tls on this transport ─▶ enter() ─▶ requests to one origin
                                     └─ plain http ───────────────────────▶ enter() ─▶ the same

It stays one connection: counted once, with the same deadlines, and seen by the drain.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from authproxy.net.tunnel import Tunnel
from authproxy.proxy.downstream.connection import ClientConnection, State
from authproxy.proxy.downstream.server import Entrance
from authproxy.proxy.request import NO_BODY

if TYPE_CHECKING:
    from authproxy.proxy.downstream.server import ProxyServer

USE_HTTP = "the forward proxy speaks plain http: write HTTPS_PROXY=http://ADDRESS"


class ForwardEntrance(Entrance):
    """Makes the connections of the forward listener."""

    def __call__(self) -> ClientConnection:
        return ForwardConnection(self._server, asyncio.get_running_loop(), self)


class ForwardConnection(ClientConnection):
    """A connection that may go on at another entrance once its CONNECT is answered."""

    __slots__ = ("_arrived", "_goes_on", "_has_ended", "_is_lost", "_unasked", "opening")

    use_http = USE_HTTP

    def __init__(self, server: "ProxyServer", loop: asyncio.AbstractEventLoop, entrance: Entrance) -> None:
        super().__init__(server, loop, entrance)
        self._arrived: asyncio.Future[None] | None = None
        self._goes_on: bytes | None = None  # with what has come there
        self._is_lost = False  # while its transport was somebody else's
        self.opening = False  # a blind tunnel is about to be there,
        self._has_ended = False  # for what the client has sent before it ended its half
        self._unasked: Callable[[], None] | None = None  # called if the client goes without a request

    def eof_received(self) -> bool:
        if self.opening and self._tunnel is None:
            self._has_ended = True
            return True
        return super().eof_received()

    def join(self, tunnel: Tunnel) -> None:
        """Hand everything that comes from now on to `tunnel`; what has come already goes first."""
        super().join(tunnel)
        if self._has_ended:
            super().eof_received()

    @property
    def client(self) -> asyncio.Transport:
        """The way to the client. Raises `ConnectionResetError` once it is gone."""
        if self.transport is None:
            raise ConnectionResetError
        return self.transport

    async def first_bytes(self) -> bytes:
        """Return what the client sends first in the tunnel, once some of it is there."""
        if self._at == len(self._ahead):
            self._arrived = self._loop.create_future()
            self._taker = self._take_first
            await self._arrived
            self._taker = None
        rest, self._ahead, self._at = self._ahead[self._at :], b"", 0
        self._hold(held=False)
        return rest

    def _take_first(self, data: bytes) -> None:
        self._ahead = self._ahead[self._at :] + data
        self._at = 0
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def enter(
        self,
        entrance: Entrance,
        transport: asyncio.Transport,
        data: bytes,
        unasked: Callable[[], None] | None = None,
    ) -> None:
        """Go on at `entrance`, over `transport`, as one that has just connected; `data` has come already.

        `unasked` is called if the client goes away before it has sent anything there.
        """
        self.entrance, self.transport = entrance, transport
        self.draining = self._server.draining or entrance.closing
        self._goes_on, self._unasked = data, unasked

    @property
    def in_flight(self) -> bool:
        """Whether a request is being answered; a tunnel in which nothing has come yet is none."""
        return super().in_flight and not self._waits

    @property
    def is_new(self) -> bool:
        """Whether nobody has asked anything yet where it is now."""
        return super().is_new or self._waits

    @property
    def _waits(self) -> bool:
        return self._arrived is not None and not self._arrived.done()

    def connection_lost(self, exc: Exception | None) -> None:
        unasked, self._unasked = self._unasked, None
        if unasked is not None and self._state is State.IDLE and not self._answered_any:
            unasked()
        super().connection_lost(exc)

    def force_close(self) -> None:
        """Close; it is not the client that goes."""
        self._unasked = None
        super().force_close()

    def lost(self) -> None:
        """Note that the connection is gone, of which its transport told somebody else."""
        self._is_lost = True

    async def _finish(self, context: Any) -> None:
        self._context = None
        try:
            keep_alive = await self.entrance.answerer.finish(context)
        finally:
            if self._is_lost:
                self._task = None
                self.connection_lost(None)
        if self._is_lost:
            return
        self._task = None
        if self._goes_on is None:
            self.answered(keep_alive=keep_alive)
            return
        data, self._goes_on = self._goes_on, None
        self._state, self._payload = State.IDLE, NO_BODY
        self._answered_any = self._silent = self.writing_paused = False
        self._watch(self._server.header_seconds)
        if data:
            self.data_received(data)
