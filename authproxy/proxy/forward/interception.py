"""TLS with a client that has asked for a tunnel: it ends here, with a certificate for the tunnel's host.

What a client that does not trust our certificate says to that becomes a line of the log, as it would only say
so to its user; at most now and then for each host.
"""

import asyncio
import ssl
from collections.abc import Callable
from time import monotonic
from typing import cast

from authproxy import logs

TLS_HANDSHAKE = b"\x16"  # the first byte of a client that speaks TLS (RFC 8446 §5.1)
ALERT = "ALERT_"
UNTRUSTED = frozenset({
    "unknown ca", "bad certificate", "certificate unknown", "certificate expired", "certificate revoked",
    "unsupported certificate", "access denied",
})  # fmt: skip
"""Alerts that are about our certificate (RFC 8446 §6.2)."""
NO_TLS_HERE = "TLS came in a tunnel to a host that a route has as plain http"
TLS_HINT = "write https:// in the route's `upstream`, or have the program use http://"
LEFT = "the client went away right after the TLS handshake, without a request"
AGAIN_SECONDS = 60.0  # until the same is said of a host once more
MAX_HOSTS = 256  # of which is remembered when it was said


class HandshakeFailed(Exception):
    """There is no TLS with the client: nobody is left to hear an answer. `detail` is what it said."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Landing(asyncio.Protocol):
    """What comes between the end of the handshake and the moment when the connection goes on."""

    def __init__(self) -> None:
        self.data = b""
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self.is_lost = True


async def secured(
    transport: asyncio.Transport, context: ssl.SSLContext, first: bytes, seconds: float
) -> tuple[asyncio.Transport, Landing]:
    """Return the transport within TLS, and where what came there is; `first` has come before.

    Raises `HandshakeFailed`, whose detail is what the client said; it may take `seconds`.
    """
    loop, landing = asyncio.get_running_loop(), Landing()
    transport.pause_reading()  # until `start_tls` has it read on: whatever comes now is behind `first`
    starting = loop.create_task(
        loop.start_tls(
            transport, landing, context, server_side=True, ssl_handshake_timeout=max(seconds, 0.001)
        )
    )
    try:
        await asyncio.sleep(0)  # it has scheduled that TLS begins and that reading goes on, in one turn;
        loop.call_soon(_feed, transport, first)  # this is in the same one, before anything is read
        made = await starting
    except asyncio.CancelledError:
        starting.cancel()
        raise
    except OSError as error:
        raise HandshakeFailed(alert_of(error) or _otherwise(error)) from error
    if made is None or landing.is_lost:
        raise HandshakeFailed("the client closed the connection")
    return made, landing


def _feed(transport: asyncio.Transport, data: bytes) -> None:
    """Hand `data` to the protocol of a transport, as if it had just come."""
    if transport.is_closing():
        return
    protocol = cast("asyncio.BufferedProtocol", transport.get_protocol())
    while data:
        room = cast("memoryview", protocol.get_buffer(len(data)))
        taken = min(len(room), len(data))
        room[:taken] = data[:taken]
        protocol.buffer_updated(taken)
        data = data[taken:]


def alert_of(error: BaseException) -> str | None:
    """Return the alert that ended a handshake, in words (`unknown ca`); None where there was none."""
    reason = getattr(error, "reason", None) or ""
    return reason.partition(ALERT)[2].lower().replace("_", " ") or None


def _otherwise(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "an error in TLS").lower().replace("_", " ")
    return "the client closed the connection"


class Distrust:
    """Says which clients refuse our certificates, or speak TLS in vain; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def note(self, host: str, alert: str, hint: str) -> None:
        """Tell of a handshake that has failed."""
        if alert not in UNTRUSTED:
            logs.info("no TLS with a client of the forward proxy", host=host, cause=alert)
            return
        if self._is_due(host, alert):
            logs.warning(f"the client refused our certificate: {alert}", host=host, hint=hint)

    def left(self, host: str, hint: str) -> None:
        """Tell of a client that went right after the handshake: so do some, as Node, that refuse us."""
        if self._is_due(host, LEFT):
            logs.info(f"{LEFT}: it may not trust our certificate", host=host, hint=hint)

    def warn(self, host: str, what: str, hint: str) -> None:
        """Tell of anything else that leaves a client without an answer that it can read."""
        if self._is_due(host, what):
            logs.warning(what, host=host, hint=hint)

    def _is_due(self, host: str, what: str) -> bool:
        now, key = self._clock(), (host, what)
        if now - self._said.get(key, now - AGAIN_SECONDS) < AGAIN_SECONDS:
            return False
        if len(self._said) >= MAX_HOSTS:
            self._said.clear()
        self._said[key] = now
        return True
