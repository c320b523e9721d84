"""The bounds of the client that token requests go out by: its transport is a fake."""

import asyncio
import itertools

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from authproxy.grants import client as client_module
from authproxy.grants.client import BoundedHandler, TooLong, client_session

MAX_HEAD, MAX_BODY, PIECE = 1000, 2000, 100
OK = b"HTTP/1.1 200 OK\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
NUMBERED = (b"X-%d: x\r\n" % number for number in itertools.count())


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.aborted = False

    def abort(self):
        self.aborted = True

    def close(self):
        pass

    def is_closing(self):
        return False

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


class CountingHandler(BoundedHandler):
    """Counts the replies that aiohttp made of what came."""

    made = 0

    def feed_data(self, data, size=0):
        self.made += 1
        super().feed_data(data, size)


@pytest.fixture
async def handler(monkeypatch):
    """A connection that has sent its request, with smaller bounds."""
    for name, value in {"MAX_HEAD": MAX_HEAD, "MAX_BODY": MAX_BODY, "PIECE": PIECE}.items():
        monkeypatch.setattr(client_module, name, value)
    handler = CountingHandler(asyncio.get_running_loop())
    handler.connection_made(Transport())
    handler.set_response_params(max_headers=10_000)
    return handler


async def answer(handler):
    """Return the status and the body of the answer that has come."""
    message, body = await handler.read()
    return message.code, await body.read()


async def is_refused(reading):
    async with asyncio.timeout(5):
        with pytest.raises(TooLong):
            await reading


def feed(handler, pieces):
    """Hand in pieces until the connection is given up; return how many bytes that took."""
    taken = 0
    for piece in pieces:
        handler.data_received(piece)
        taken += len(piece)
        if handler.transport.aborted:
            return taken
        assert taken < 1 << 20, "it reads for ever"
    return None


async def test_an_answer_is_read(handler):
    handler.data_received(OK + b"Content-Length: 2\r\n\r\n{}")
    assert await answer(handler) == (200, b"{}")


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_interim_replies_are_passed_over_however_they_are_cut(handler, size):
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY_HINTS * 3 + OK + b"Content-Length: 2\r\n\r\n{}"
    for at in range(0, len(data), size):
        handler.data_received(data[at : at + size])
    assert await answer(handler) == (200, b"{}")


async def test_switching_protocols_is_an_answer_of_its_own(handler):
    handler.data_received(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    async with asyncio.timeout(5):
        message, _ = await handler.read()
    assert message.code == 101


async def test_a_second_answer_is_not_taken_for_one(handler):
    handler.data_received(OK + b"Content-Length: 2\r\n\r\n{}" + OK + b"Content-Length: 2\r\n\r\n[]")
    assert await answer(handler) == (200, b"{}")
    assert not handler._buffer


@pytest.mark.parametrize("size", [1, 50, 1 << 19])
async def test_interim_replies_without_end_are_given_up(handler, size):
    data = EARLY_HINTS * ((1 << 19) // len(EARLY_HINTS))
    feed(handler, (data[at : at + size] for at in range(0, len(data), size)))
    assert handler.transport.aborted
    assert handler.made <= MAX_HEAD // len(EARLY_HINTS)  # also of one piece no more is made than is looked at
    await is_refused(handler.read())


async def test_what_comes_at_once_is_read_in_small_pieces(handler, monkeypatch):
    """All replies that a piece holds are made before any is looked at."""
    sizes, read = [], ResponseHandler.data_received

    def noted(self, data):
        sizes.append(len(data))
        read(self, data)

    monkeypatch.setattr(ResponseHandler, "data_received", noted)
    handler.data_received(EARLY_HINTS * 20)
    assert max(sizes) == PIECE
    assert sum(sizes) == len(EARLY_HINTS) * 20


async def test_a_head_without_end_is_given_up(handler):
    handler.data_received(OK)
    assert feed(handler, NUMBERED) <= MAX_HEAD
    await is_refused(handler.read())


async def test_interim_replies_and_the_head_have_their_room_together(handler):
    handler.data_received(EARLY_HINTS * (MAX_HEAD // len(EARLY_HINTS)))
    assert not handler.transport.aborted
    handler.data_received(OK + b"X: " + b"x" * 100)
    assert handler.transport.aborted


@pytest.mark.parametrize(
    "framing",
    [b"1;" + b"x" * 60 + b"\r\nx\r\n", b"1\r\nx\r\n", b"40\r\n" + b"x" * 64 + b"\r\n"],
    ids=["chunk extensions", "the smallest chunks", "a body"],
)
async def test_a_body_without_end_is_given_up_whatever_it_is_made_of(handler, framing):
    handler.data_received(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    _, body = await handler.read()
    assert MAX_BODY <= feed(handler, itertools.repeat(framing)) <= MAX_BODY + MAX_HEAD + PIECE
    await is_refused(body.read())


async def test_trailers_without_end_are_given_up(handler):
    handler.data_received(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    _, body = await handler.read()
    assert feed(handler, NUMBERED)
    await is_refused(body.read())


async def test_a_body_has_its_room_besides_that_of_the_head(handler):
    handler.data_received(EARLY_HINTS * 20 + OK + b"Content-Length: %d\r\n\r\n" % MAX_BODY)
    handler.data_received(b"x" * MAX_BODY)
    assert await answer(handler) == (200, b"x" * MAX_BODY)


# ── the client ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def session():
    async with client_session(aiohttp.ClientTimeout(total=1)) as session:
        yield session


async def test_the_client_keeps_no_connection_no_cookie_and_no_limit(session):
    assert session.connector.force_close
    assert session.connector.limit == 0
    session.cookie_jar.update_cookies({"session": "s3cr3t"})
    assert not list(session.cookie_jar)
    assert not session.trust_env


async def test_its_connections_are_bounded_ones(session):
    assert isinstance(session.connector._factory(), BoundedHandler)


async def test_a_get_that_is_not_answered_is_not_sent_again(monkeypatch, session):
    """aiohttp would repeat it: a second login, with the same one-time code."""
    tried = []

    async def connect(*_args, **_keys):
        tried.append(1)
        raise aiohttp.ServerDisconnectedError

    monkeypatch.setattr(session.connector, "connect", connect)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await session.get("http://id.invalid/token")
    assert tried == [1]
