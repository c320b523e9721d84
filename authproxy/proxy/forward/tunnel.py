"""A blind tunnel: bytes both ways between a client and a host that is no route's; nobody reads them."""

import asyncio
from typing import cast

from authproxy.errors import ConnectTimeout
from authproxy.net.tunnel import Tunnel
from authproxy.proxy.forward.dialing import ForwardDialer


class FarEnd(asyncio.Protocol):
    """The far side of a tunnel; what it says before there is one is kept, behind what it said `early`."""

    def __init__(self, early: bytes = b"") -> None:
        self.transport: asyncio.Transport | None = None
        self._tunnel: Tunnel | None = None
        self._early = early
        self._ended = self._cut = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()

    def join(self, tunnel: Tunnel) -> None:
        """Hand everything that comes to `tunnel`; what has come already goes first."""
        self._tunnel = tunnel
        if self._early:
            tunnel.feed("upstream", self._early)
        if self._cut:
            tunnel.cut("upstream")
        elif self.transport is None or self._ended:
            tunnel.end("upstream")
        else:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.feed("upstream", data)
        else:
            self._early += data

    def eof_received(self) -> bool:
        self._ended = True
        if self._tunnel is not None:
            self._tunnel.end("upstream")
        return True  # the other half may go on

    def connection_lost(self, exc: Exception | None) -> None:
        self._cut = exc is not None and not self._ended
        self._ended = True
        self.transport = None
        if self._tunnel is None:
            return
        if self._cut:
            self._tunnel.cut("upstream")
        else:
            self._tunnel.close()

    def pause_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.pause("upstream")

    def resume_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.resume("upstream")


async def opened(dialer: ForwardDialer, seconds: float) -> FarEnd:
    """Return the far side of a tunnel, connected within `seconds`. Raises `UpstreamError`, `Forbidden`."""
    try:
        async with asyncio.timeout(seconds):
            return await dialer.dial(lambda: FarEnd(dialer.early))
    except TimeoutError:
        raise ConnectTimeout(
            f"{dialer.place} did not take the connection within {seconds:g} s",
            hint=dialer.hint("and whether it is up, or a firewall blocks it (`defaults.timeouts.connect`)"),
        ) from None
