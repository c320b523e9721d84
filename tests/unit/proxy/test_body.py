"""A request's body: said once, kept for a second time, bounded."""

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import TransferEncodingError

from authproxy.errors import BadRequest, BodyTooLarge
from authproxy.proxy.body import Body


@pytest.fixture
async def payload():
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.transport = asyncio.Transport()  # the client is there
    return StreamReader(protocol, limit=1 << 16, loop=loop)


def arrives(payload, *pieces, end=True):
    for piece in pieces:
        payload.feed_data(piece)
    if end:
        payload.feed_eof()


async def said(body):
    return b"".join([piece async for piece in body.chunks()])


def make(payload, *, length=None, keep=100, limit=None):
    return Body(payload, length=length, keep=keep, limit=limit)


async def test_a_body_is_said_from_its_beginning_each_time(payload):
    body = make(payload)
    arrives(payload, b"one ", b"two")
    assert [await said(body) for _ in range(3)] == [b"one two"] * 3
    assert body.repeatable


async def test_what_was_not_read_the_first_time_follows_the_second_time(payload):
    body = make(payload)
    arrives(payload, b"one ", end=False)
    first = body.chunks()
    assert await anext(first) == b"one "
    await first.aclose()  # refused before it was all out
    arrives(payload, b"two")
    assert await said(body) == b"one two"
    assert body.repeatable


@pytest.mark.parametrize(
    ("length", "keep", "size", "repeatable"),
    [
        (10, 10, 10, True),
        (11, 10, 11, False),
        (None, 10, 10, True),
        (None, 10, 11, False),
        (5, 0, 5, False),
        (None, 0, 1, False),
    ],
)
async def test_a_body_is_kept_up_to_a_limit(payload, length, keep, size, repeatable):
    body = make(payload, length=length, keep=keep)
    for _ in range(size):
        arrives(payload, b"x", end=False)
    arrives(payload)
    assert await said(body) == b"x" * size
    assert body.repeatable is repeatable
    assert repeatable or body._kept == []  # and no memory is held for nothing


async def test_a_body_that_comes_in_tiny_pieces_is_kept_in_a_few(payload):
    body = make(payload, keep=1 << 20)
    pieces = body.chunks()
    for _ in range(1000):
        arrives(payload, b"x", end=False)
        assert await anext(pieces) == b"x"
    assert len(body._kept) == 1
    arrives(payload, b"end")
    assert await said(body) == b"x" * 1000 + b"end"


async def test_a_body_that_is_announced_as_too_long_to_keep_is_not_kept_from_the_start(payload):
    body = make(payload, length=1000, keep=10)
    arrives(payload, b"x", end=False)
    piece = await anext(body.chunks())
    assert piece == b"x"
    assert body._kept == []
    assert not body.repeatable


async def test_a_body_that_is_announced_as_too_long_is_413(payload):
    make(payload, length=10, limit=10)
    with pytest.raises(BodyTooLarge, match="over 10 bytes"):
        make(payload, length=11, limit=10)


async def test_a_body_that_becomes_too_long_is_413(payload):
    body = make(payload, limit=10)
    arrives(payload, b"x" * 10, end=False)
    pieces = body.chunks()
    assert len(await anext(pieces)) == 10
    arrives(payload, b"x", end=False)
    with pytest.raises(BodyTooLarge):
        await anext(pieces)


async def test_a_malformed_body_is_400(payload):
    body = make(payload)
    arrives(payload, b"x", end=False)
    payload.set_exception(TransferEncodingError("s3cr3t"))
    with pytest.raises(BadRequest, match="the body is malformed"):
        await said(body)


async def test_a_client_that_goes_away_is_no_bad_request(payload):
    payload.set_exception(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await said(make(payload))


# ── at hand ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_body_that_has_arrived_is_at_hand(payload):
    body = make(payload)
    assert body.at_hand() is None
    arrives(payload, b"one ", end=False)
    assert body.at_hand() is None
    arrives(payload, b"two")
    assert [body.at_hand() for _ in range(3)] == [b"one two"] * 3
    assert await said(body) == b"one two"


async def test_a_body_of_which_a_part_was_said_is_at_hand_as_a_whole(payload):
    body = make(payload)
    arrives(payload, b"one ", end=False)
    await anext(body.chunks())
    arrives(payload, b"two")
    assert body.at_hand() == b"one two"


async def test_a_body_too_long_to_keep_is_at_hand_only_once(payload):
    body = make(payload, keep=3)
    arrives(payload, b"four")
    assert body.at_hand() == b"four"
    assert body.at_hand() is None
    assert not body.repeatable


async def test_a_body_at_hand_is_bounded_too(payload):
    body = make(payload, limit=3)
    arrives(payload, b"four")
    with pytest.raises(BodyTooLarge):
        body.at_hand()


# ── on the wire ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("length", "piece", "last"), [(None, b"c\r\nhello, world\r\n", b"0\r\n\r\n"), (12, b"hello, world", b"")]
)
async def test_a_body_is_framed_as_the_client_framed_it(payload, length, piece, last):
    body = make(payload, length=length)
    assert body.chunked is (length is None)
    assert body.frame(b"hello, world") == piece
    assert body.last == last
