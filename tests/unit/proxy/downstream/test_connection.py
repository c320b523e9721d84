"""One client's connection, its transport faked: what it takes in while nobody reads."""

import asyncio

import pytest

from authproxy.proxy.downstream.connection import MAX_PIECES
from authproxy.proxy.downstream.framing import ROOM
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

    def is_closing(self):
        return True

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


POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SMALL_CHUNKS = [b"2\r\n%02d\r\n", b"02\r\n%02d\r\n", b"2;a=b\r\n%02d\r\n", b"10\r\n--------------%02d\r\n"]


@pytest.mark.parametrize("chunk", SMALL_CHUNKS)
async def test_small_chunks_that_come_at_once_are_parsed_bit_by_bit_and_in_order(connection, answerer, chunk):
    count = 20_000
    connection.data_received(POST)
    connection.data_received(b"".join(chunk % (number % 100) for number in range(count)) + b"0\r\n\r\n")
    _, payload = connection._messages[0]
    assert not connection.transport.reading
    assert len(payload._buffer) <= ROOM + 1
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(payload._buffer) <= MAX_PIECES + ROOM
    answerer.read.set()
    most, before = 0, payload.total_bytes
    while not payload.at_eof():
        await asyncio.sleep(0)
        most, before = max(most, payload.total_bytes - before), payload.total_bytes
    assert most <= ROOM * 64
    assert connection.transport.reading
    await asyncio.sleep(0)
    said = b"".join(b"%02d" % (number % 100) for number in range(count))
    assert answerer.body.replace(b"-", b"") == said


async def test_what_comes_while_small_chunks_have_yet_to_be_parsed_comes_behind_them(connection, answerer):
    connection.data_received(POST)
    connection.data_received(b"01\r\nx\r\n" * 2 * ROOM)
    connection.data_received(b"1\r\ny\r\n0\r\n\r\n")
    answerer.read.set()
    while answerer.body is None or not answerer.body.endswith(b"y"):
        await asyncio.sleep(0)
    assert answerer.body == b"x" * 2 * ROOM + b"y"


@pytest.mark.parametrize("leave", ["lost", "lingering"])
async def test_nothing_more_is_parsed_once_a_client_is_gone(connection, answerer, leave):
    connection.data_received(POST)
    connection.data_received(b"01\r\nx\r\n" * 5 * ROOM)
    _, payload = connection._messages[0]
    came = payload.total_bytes
    if leave == "lost":
        connection.connection_lost(None)
    else:
        connection.linger(silent=False)
    for _ in range(9):
        await asyncio.sleep(0)
    assert payload.total_bytes == came
