"""Bytes are few and objects are many: what is held for somebody who does not read is bounded either way."""

import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.command import running_proxy
from tests.support.launch import GUARD
from tests.support.wire import Message, Upstream, Wire, request

from .test_limits import small_window
from .test_streams import MIB, memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")

CLIENTS = 3
TINY = b"2\r\nxx\r\n" * 30_000


def pushed_into(wire: Wire, enough: int) -> None:
    """Send tiny chunks until `enough` bytes are out, or nobody takes them any more."""
    wire.sock.settimeout(2)
    with suppress(OSError):
        for _ in range(enough // len(TINY)):
            wire.send(TINY)


def test_a_reply_in_tiny_chunks_to_who_does_not_read_is_held_by_its_size() -> None:
    over, done = threading.Event(), threading.Semaphore(0)

    def answer(_request: Message, wire: Wire) -> None:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        pushed_into(wire, 6 * MIB)
        done.release()
        over.wait(GUARD)

    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream(answer))
        routes = [{"name": "api", "upstream": upstream.url, "auth": {"grant": "none"}}]
        proxy = stack.enter_context(running_proxy({"routes": routes, "limits": {"drain": "1s"}}))
        before = memory(proxy.pid, "VmRSS")
        for _ in range(CLIENTS):
            stack.enter_context(small_window(proxy.url)).send(request())
        for _ in range(CLIENTS):
            assert done.acquire(timeout=GUARD)
        grown = memory(proxy.pid, "VmRSS") - before
        over.set()
        assert grown < CLIENTS * 8 * MIB
