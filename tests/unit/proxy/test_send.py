"""Sending: on which connection, how often, and what is let go of at the end."""

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from authproxy.errors import BadReply, BodyTooLarge
from authproxy.proxy.body import Body
from authproxy.proxy.send import Outgoing, Sender
from authproxy.proxy.upstream.connection import ClosedUnanswered
from tests.support.clock import settle
from tests.support.upstream_pool import Pool, Reply, dead

HEAD = b"GET / HTTP/1.1\r\n"
LINE = b"Authorization: Bearer a\r\n"


def sender(pool, **settings):
    return Sender(pool, response_seconds=60, idle_seconds=300, **settings)


@pytest.fixture
def body():
    """Return a maker of a body of which `pieces` have come."""

    def make(*pieces, end=True, length=None, keep=100, limit=None):
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.transport = asyncio.Transport()
        payload = StreamReader(protocol, limit=1 << 16, loop=loop)
        for piece in pieces:
            payload.feed_data(piece)
        if end:
            payload.feed_eof()
        return Body(payload, length=length, keep=keep, limit=limit), payload

    return make


async def test_an_open_connection_is_used_before_a_new_one():
    pool = Pool(Reply(), idle=1)
    outgoing = Outgoing("GET", HEAD, None)
    reply = await sender(pool).send(outgoing, LINE)
    assert reply is outgoing.reply
    [connection] = pool.lent
    assert connection.said == HEAD + LINE + b"\r\n"
    assert connection.settings == {
        "method": "GET", "response_seconds": 60, "idle_seconds": 300, "more": False, "may_switch": False,
    }  # fmt: skip


@pytest.mark.parametrize(("upgrades", "used"), [(False, 0), (True, 1)])
async def test_what_asks_for_another_protocol_may_need_a_connection_of_another_kind(upgrades, used):
    pools = Pool(Reply(), Reply()), Pool(Reply(), Reply())
    outgoing = Outgoing("GET", HEAD, None, upgrades=upgrades)
    await sender(pools[0], upgrades=pools[1]).send(outgoing, b"")
    assert [len(pool.lent) for pool in pools] == [1 - used, used]
    assert pools[used].lent[0].settings["may_switch"] is upgrades


@pytest.mark.parametrize(
    ("method", "times"),
    [("GET", 2), ("PUT", 2), ("PROPFIND", 2), ("POST", 1), ("PATCH", 1), ("get", 1), ("BREW", 1)],
)
async def test_what_may_have_been_applied_by_a_dead_connection_is_not_sent_again(method, times):
    pool = Pool(dead(), Reply(), idle=1)
    outgoing = Outgoing(method, HEAD, None)
    task = sender(pool).send(outgoing, LINE)
    if times == 1:
        with pytest.raises(ClosedUnanswered):
            await task
    else:
        await task
        assert pool.lent[0].reply.closed
        assert pool.lent[1].said == pool.lent[0].said
    assert len(pool.lent) == times
    assert pool.looked[0] is (times == 1)  # then it was looked at before


async def test_a_body_that_was_not_kept_cannot_be_sent_again(body):
    pool = Pool(dead(), Reply(), idle=1)
    made, _ = body(b"one", end=False, keep=0)
    outgoing = Outgoing("PUT", HEAD, made)
    task = asyncio.create_task(sender(pool).send(outgoing, b""))
    with pytest.raises(ClosedUnanswered):
        await task
    assert len(pool.lent) == 1
    await outgoing.close()


async def test_a_second_dead_connection_is_the_answer():
    pool = Pool(dead(), dead(), Reply(), idle=1)
    with pytest.raises(ClosedUnanswered):
        await sender(pool).send(Outgoing("GET", HEAD, None), b"")
    assert len(pool.lent) == 2


async def test_any_other_failure_is_not_repeated():
    pool = Pool(Reply(BadReply("no HTTP")), Reply(), idle=1)
    with pytest.raises(BadReply):
        await sender(pool).send(Outgoing("GET", HEAD, None), b"")
    assert len(pool.lent) == 1


async def test_what_was_begun_is_gone_on_with_and_not_sent_twice():
    pool = Pool(Reply(), Reply(), idle=2)
    one, outgoing = sender(pool), Outgoing("GET", HEAD, None)
    begun = one.begin_at_once(outgoing, LINE)
    assert await one.send(outgoing, LINE) is begun
    assert len(pool.lent) == 1


@pytest.mark.parametrize(("length", "said"), [(4, b"body"), (None, b"4\r\nbody\r\n0\r\n\r\n")])
async def test_a_body_that_is_there_goes_with_the_head(body, length, said):
    pool = Pool(Reply(), idle=1)
    made, _ = body(b"body", length=length)
    outgoing = Outgoing("PUT", HEAD, made)
    sender(pool).begin_at_once(outgoing, LINE)
    assert pool.lent[0].said == HEAD + LINE + b"\r\n" + said
    assert outgoing.upload is None


@pytest.mark.parametrize(("length", "said"), [(6, b"onetwo"), (None, b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")])
async def test_a_body_that_is_coming_is_sent_as_it_comes(body, length, said):
    pool = Pool(Reply(), idle=1)
    made, payload = body(b"one", end=False, length=length)
    sender(pool).begin_at_once(Outgoing("PUT", HEAD, made), b"")
    [connection] = pool.lent
    assert connection.settings["more"]
    await settle()
    assert connection.done is None
    payload.feed_data(b"two")
    payload.feed_eof()
    await settle()
    assert connection.said == HEAD + b"\r\n" + said
    assert connection.done == 60  # from now on the answer is waited for


async def test_an_upload_ends_when_the_upstream_takes_no_more(body):
    pool = Pool(Reply(), idle=1)
    made, payload = body(b"one", end=False)
    outgoing = Outgoing("PUT", HEAD, made)
    sender(pool).begin_at_once(outgoing, b"")
    pool.lent[0].takes = False
    await settle()
    assert outgoing.upload.done()
    assert pool.lent[0].done is None
    assert not payload.is_eof()


async def test_a_fault_of_the_clients_body_is_heard_by_who_waits_for_the_reply(body):
    pool = Pool(Reply(), idle=1)
    made, payload = body(b"one", end=False, limit=4)
    sender(pool).begin_at_once(Outgoing("PUT", HEAD, made), b"")
    await settle()
    payload.feed_data(b"two")
    await settle()
    assert isinstance(pool.lent[0].failure, BodyTooLarge)


async def test_closing_breaks_off_what_is_under_way_and_frees_the_clients_body(body):
    pool = Pool(Reply(), idle=1)
    made, _ = body(b"one", end=False)
    outgoing = Outgoing("PUT", HEAD, made)
    reply, upload = sender(pool).begin_at_once(outgoing, b""), outgoing.upload
    await settle()
    await outgoing.close()
    assert upload.cancelled()
    assert reply.closed
    assert (outgoing.reply, outgoing.upload) == (None, None)
    await outgoing.close()  # there is nothing left to close
    outgoing.abort()


async def test_without_an_open_connection_nothing_is_begun_at_once():
    pool = Pool(Reply())
    outgoing = Outgoing("GET", HEAD, None)
    assert sender(pool).begin_at_once(outgoing, b"") is None
    assert outgoing.reply is None


# ── what is seen of it, and broken off ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", [True, False])
async def test_a_body_that_was_not_all_there_is_uploaded_beside(body, end):
    made, _ = body(b"some", end=end)
    outgoing = Outgoing("PUT", HEAD, made)
    assert not outgoing.uploads
    await sender(Pool(Reply())).send(outgoing, b"")
    assert outgoing.uploads is not end
    await outgoing.close()


async def test_nobody_is_shown_the_reply_of_what_was_broken_off():
    outgoing = Outgoing("GET", HEAD, None)
    reply = await sender(Pool(Reply())).send(outgoing, b"")
    reply.watcher = lambda _: None
    outgoing.abort()
    assert reply.watcher is None
    assert reply.closed
