"""A reply, as its reader and its connection see it."""

import asyncio

import pytest

from authproxy.errors import BadReply
from authproxy.proxy.plain import read_reply
from authproxy.proxy.upstream.reply import HIGH_WATER, MAX_HELD, MAX_PIECES, Reply


class Connection:
    def __init__(self):
        self.heard = []

    def resume(self):
        self.heard.append("resume")

    def abort(self):
        self.heard.append("abort")

    def join(self, pipe_to):
        self.heard.append("join")
        return pipe_to("transport")


@pytest.fixture
def connection():
    return Connection()


@pytest.fixture
def reply(connection):
    return Reply(connection)


async def waiting(awaitable):
    task = asyncio.create_task(awaitable)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_the_head_is_waited_for(reply):
    task = await waiting(reply.head())
    reply.head_came(200, b"OK", [(b"A", b"1")], 3)
    await task
    assert (reply.status, reply.reason, reply.headers, reply.length) == (200, b"OK", [(b"A", b"1")], 3)
    await reply.head()  # it is there


async def test_a_failure_before_the_head_is_raised(reply):
    task = await waiting(reply.head())
    reply.end(BadReply("closed"))
    with pytest.raises(BadReply, match="closed"):
        await task


async def test_a_head_that_is_there_is_good_whatever_comes_of_the_body(reply):
    reply.head_came(200, b"OK", [], 9)
    reply.end(BadReply("closed"))
    await reply.head()
    assert repr(reply) == "<Reply 200 failed>"


async def test_what_has_come_is_read_before_the_end_is(reply):
    reply.head_came(200, b"OK", [], None)
    reply.feed(b"a")
    reply.feed(b"b")
    reply.end()
    assert await reply.read() == [b"a", b"b"]
    assert await reply.read() == []
    assert await reply.read() == []
    assert repr(reply) == "<Reply 200 complete>"


async def test_what_has_come_is_read_before_a_failure_is(reply):
    reply.head_came(200, b"OK", [], 9)
    reply.feed(b"a")
    reply.end(BadReply("closed"))
    assert await reply.read() == [b"a"]
    with pytest.raises(BadReply, match="closed"):
        await reply.read()
    assert not reply.complete


async def test_a_body_is_waited_for(reply):
    reply.head_came(200, b"OK", [], None)
    task = await waiting(reply.read())
    reply.feed(b"a")
    assert await task == [b"a"]
    task = await waiting(reply.read())
    reply.end()
    assert await task == []


async def test_reading_lets_the_upstream_go_on_while_there_is_more_to_come(reply, connection):
    reply.head_came(200, b"OK", [], None)
    reply.feed(b"a")
    await reply.read()
    assert connection.heard == ["resume"]
    reply.feed(b"b")
    reply.end()
    await reply.read()
    assert connection.heard == ["resume"]  # that connection is somebody else's by now


async def test_what_is_held_is_bounded_by_size_and_by_number(reply):
    reply.head_came(200, b"OK", [], None)
    assert not reply.feed(b"x" * HIGH_WATER)
    assert reply.feed(b"x")
    await reply.read()
    assert not any(reply.feed(b"x") for _ in range(MAX_HELD))
    assert reply.feed(b"x")
    await reply.read()
    assert not reply.feed(b"x")


@pytest.mark.parametrize(("pieces", "read"), [(MAX_PIECES, MAX_PIECES), (MAX_PIECES + 1, 1)])
async def test_a_few_pieces_are_left_as_they_came_and_many_are_joined(reply, pieces, read):
    reply.head_came(200, b"OK", [], None)
    for _ in range(pieces):
        reply.feed(b"xy")
    parts = await reply.read()
    assert (len(parts), b"".join(parts)) == (read, b"xy" * pieces)


def test_parts_that_came_at_once_are_joined_and_those_before_are_left(reply):
    for part in (b"a", b"b", b"c"):
        reply.feed(part)
    reply.join_from(1)
    assert reply.parts == [b"a", b"bc"]


def test_closing_breaks_off_only_a_connection_that_is_still_busy_with_it(reply, connection):
    reply.close()
    assert connection.heard == ["abort"]
    reply.end()
    reply.close()
    assert connection.heard == ["abort"]


def test_who_watches_is_called_once(reply):
    seen = []
    reply.show()  # nobody watches yet
    reply.watcher, reply.watched = seen.append, "it"
    reply.show()
    reply.show()
    assert seen == ["it"]


def test_the_connection_of_a_switch_becomes_a_pipe_if_it_is_still_there(reply, connection):
    assert reply.join(lambda transport: f"pipe to {transport}") == "pipe to transport"
    reply.end()
    with pytest.raises(BadReply, match="was gone"):
        reply.join(lambda _transport: None)


def test_a_switch_whose_connection_failed_tells_how(reply):
    reply.end(BadReply("reset"))
    with pytest.raises(BadReply, match="reset"):
        reply.join(lambda _transport: None)


async def test_who_gives_up_waiting_can_wait_again(reply):
    task = await waiting(reply.head())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reply.head_came(200, b"OK", [], None)
    await reply.head()


# ── a plain head, and who watches ────────────────────────────────────────────────────────────────


async def test_a_plain_head_is_a_head_like_any_other(reply):
    task = await waiting(reply.head())
    reply.plain_head_came(read_reply(b"HTTP/1.1 404 Not Found\r\nA: 1\r\nContent-Length: 3"))
    await task
    assert (reply.status, reply.reason, reply.length) == (404, b"Not Found", 3)
    assert reply.headers == [(b"A", b"1"), (b"Content-Length", b"3")]


def test_before_the_head_there_are_no_headers(reply):
    assert reply.headers == []


def test_who_watches_may_watch_on(reply):
    seen = []

    def look(_):
        seen.append(True)
        reply.watcher = look

    reply.watcher = look
    reply.show()
    reply.show()
    assert len(seen) == 2
