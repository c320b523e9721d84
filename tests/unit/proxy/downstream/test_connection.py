"""One client's connection, its transport faked: what it takes in while nobody reads."""

import asyncio

import pytest

from authproxy.proxy.downstream.connection import MAX_PIECES
from authproxy.proxy.downstream.server import ProxyServer


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.reading = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_write_buffer_size(self):
        return 0

    def close(self):
        pass

    def abort(self):
        pass


class Answerer:
    """Waits with each request until it is told to read its body."""

    def __init__(self):
        self.read = asyncio.Event()
        self.body = None

    async def __call__(self, incoming):
        await self.read.wait()
        self.body = b""
        while piece := await incoming.payload.read(1 << 16):
            self.body += piece
        await asyncio.Event().wait()


@pytest.fixture
async def answerer():
    return Answerer()


@pytest.fixture
async def connection(answerer):
    server = ProxyServer(answerer, limit=9, keepalive=75, header_bytes=32 << 10, header_seconds=10)
    made = server()
    made.connection_made(Transport())
    await asyncio.sleep(0)
    yield made
    made.connection_lost(None)
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("framing", "piece", "end"),
    [(b"Content-Length: 20000", b"x", b""), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n", b"0\r\n\r\n")],
)
async def test_a_client_whose_upload_comes_in_tiny_pieces_waits_for_who_reads_it(
    connection, answerer, framing, piece, end
):
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
    sent = 0

    async def send_what_is_taken():
        nonlocal sent
        while connection.transport.reading and sent < 20_000:
            connection.data_received(piece)
            sent += 1
            if sent == 20_000 and end:
                connection.data_received(end)
        await asyncio.sleep(0)

    await send_what_is_taken()
    assert sent <= MAX_PIECES + 1
    answerer.read.set()
    while sent < 20_000:
        await send_what_is_taken()
    while answerer.body is None or len(answerer.body) < 20_000:
        await asyncio.sleep(0)
    assert answerer.body == b"x" * 20_000
