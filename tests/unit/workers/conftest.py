"""A line between two ends in one process."""

import asyncio
import contextlib
import socket

import pytest

from authproxy.capabilities import WORKERS

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

    async def rounds():
        for _ in range(200):
            await asyncio.sleep(0)

    return rounds


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
