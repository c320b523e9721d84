"""Closing a connection so that the other side gets all that was sent to it, and is not waited for forever.

    our half ends (FIN) ──▶ what still comes is read and dropped ──▶ closed
                             until the other side ends its half too, or sends nothing for
                             QUIET seconds, or has sent for MAX_SECONDS

A socket that is closed while the other side is sending is reset by the kernel, and a reset may overtake the
answer (RFC 9112 §9.6). What was written waits here until the other side takes it; one that takes nothing at
all is cut off.
"""

import asyncio
import socket
import struct

QUIET = 2.0  # seconds
MAX_SECONDS = 30.0  # seconds


class LingeringClose:
    """Sees one side off. `stall_seconds` is how long it may take nothing of what was written."""

    def __init__(self, transport: asyncio.Transport, stall_seconds: float) -> None:
        self._heard = 0
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._stall_seconds = stall_seconds
        if transport.is_closing() or not transport.can_write_eof():
            close_or_abort(transport, stall_seconds)  # TLS says goodbye by itself
            return
        transport.write_eof()
        self._look_again(left=transport.get_write_buffer_size(), taken_at=self._loop.time())

    def hear(self, data: bytes) -> None:
        """Take what still comes."""
        self._heard += len(data)

    def _look_again(self, *, left: int, taken_at: float) -> None:
        seconds = min(QUIET, self._stall_seconds)
        self._loop.call_later(seconds, self._look, left, taken_at, self._heard)

    def _look(self, left_before: int, taken_at: float, heard_before: int) -> None:
        """Close when it has taken everything and is quiet, or has spoken for long; cut off a stalled one."""
        now = self._loop.time()
        left = self._transport.get_write_buffer_size()
        if self._transport.is_closing():
            return
        if left < left_before:
            taken_at = now
        if left and now - taken_at >= self._stall_seconds:
            self._transport.abort()
        elif not left and (self._heard == heard_before or now - taken_at >= MAX_SECONDS):
            self._transport.close()
        else:
            self._look_again(left=left, taken_at=taken_at)


def close_or_abort(transport: asyncio.Transport, stall_seconds: float) -> None:
    """Close `transport`; cut the other side off when it takes nothing of what is left for `stall_seconds`."""
    transport.close()
    _watch(transport, stall_seconds)


def _watch(transport: asyncio.Transport, seconds: float) -> None:
    left = transport.get_write_buffer_size()

    def look() -> None:
        if transport.get_write_buffer_size() >= left:
            transport.abort()
        else:
            _watch(transport, seconds)

    if left:
        asyncio.get_running_loop().call_later(seconds, look)


def reset_on_close(transport: asyncio.Transport) -> None:
    """Have the connection end with a reset: where its end means that all is there, anything else looks whole.

    What is still to be written may be lost. Within TLS it ends at once, as it would say goodbye first.
    """
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if not transport.can_write_eof():
        transport.abort()
