"""A line between two ends in one process, and what a reload would do to this one."""

import asyncio
import contextlib
import os
import socket
from functools import partial
from pathlib import Path

import pytest

from authproxy import logs
from authproxy.capabilities import WORKERS
from tests.support import clock
from tests.unit.workers.reloads import TLS, listener

collect_ignore_glob = [] if WORKERS else ["test_*.py"]  # where there can be none


@pytest.fixture
async def socket_pair():
    """Return a maker of the two ends of a line, as the supervisor makes one for each worker."""
    loop = asyncio.get_running_loop()
    made = []

    def make():
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.extend(pair)
        return pair

    yield make
    for sock in made:
        if sock.fileno() >= 0:
            loop.remove_reader(sock)
            loop.remove_writer(sock)
            sock.close()


@pytest.fixture
def settle():
    """Let everything happen that can happen now."""

    return partial(clock.settle, 200)


@pytest.fixture
def read_raw():
    """Take the datagrams that wait at one end, as they are."""

    def take(sock):
        sock.settimeout(0)
        pieces = []
        with contextlib.suppress(BlockingIOError):
            while True:
                pieces.append(sock.recv(1 << 20))
        return pieces

    return take


@pytest.fixture
def files():
    """Return a counter of this process's open files."""
    return lambda: len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def open_socket():
    """Return a maker of listening sockets, which are closed at the end."""
    made = []

    def make():
        made.append(listener())
        return made[-1]

    yield make
    for sock in made:
        sock.close()


async def in_this_thread(call, *args):
    return call(*args)


@pytest.fixture
def killed(monkeypatch):
    """Return who was sent which signal."""
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    for each in ("worker", "supervisor"):
        monkeypatch.setattr(
            f"authproxy.workers.reload_{each}.tls_contexts", lambda config, before, authority: TLS
        )
    monkeypatch.setattr(asyncio, "to_thread", in_this_thread)
    monkeypatch.setattr(logs, "set_up", lambda *style: sent.append(("log", *style)))
    monkeypatch.setattr(
        "authproxy.workers.reload_supervisor.raise_file_limit",
        lambda config: sent.append(("files", config.limits.connections)),
    )
    return sent
