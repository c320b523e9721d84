"""The pool at work, with a small server on loopback: who gets a connection, and what is never lost."""

import asyncio
import os
import socket
from types import SimpleNamespace

import pytest

from authproxy.errors import BadReply, ConnectFailure, ConnectionLimit, ConnectTimeout
from authproxy.net import dial
from authproxy.net.dial import Dialer, Origin
from authproxy.net.failures import out_of_descriptors
from authproxy.net.http_proxy import HTTPProxy
from authproxy.proxy.upstream.connection import Connection
from authproxy.proxy.upstream.pool import IDLE_SECONDS, MAX_LIFE, Pool
from tests.support.clock import settle
from tests.support.keep_alive_server import serving

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT = 0.03  # seconds


@pytest.fixture
async def server():
    async with serving() as made:
        yield made


@pytest.fixture
async def pool(server):
    """Return a maker of pools to the server."""
    pools = []

    def make(limit=2, seconds=5.0, proxy=None, **origin):
        origin = Origin(**{"host": "127.0.0.1", "port": server.port} | origin)
        pools.append(Pool(Dialer(origin, proxy=proxy), limit=limit, connect_seconds=seconds))
        return pools[-1]

    yield make
    for each in pools:
        for connection in list(each._open):
            connection.abort()
        each.close()
    await asyncio.sleep(0)


def begin(connection):
    return connection.begin(REQUEST, method="GET", response_seconds=5, idle_seconds=5, more=False)


async def use(connection):
    """Have one exchange; the connection is idle afterwards."""
    reply = begin(connection)
    await reply.head()
    assert reply.complete


# ── lending ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_connection_is_used_again(pool, server):
    pool = pool()
    assert pool.take(check_liveness=False) is None
    connection = await pool.connect()
    assert pool.take(check_liveness=False) is None  # it is lent out
    await use(connection)
    assert repr(pool) == f"<Pool http://127.0.0.1:{server.port} 1 open, 1 idle, 0 waiting>"
    assert pool.take(check_liveness=True) is connection
    await use(connection)
    assert len(server.connections) == 1


async def test_the_last_one_back_is_the_first_one_out(pool):
    pool = pool()
    first, second = await pool.connect(), await pool.connect()
    await use(first)
    await use(second)
    assert pool.take(check_liveness=False) is second
    assert pool.take(check_liveness=False) is first


async def test_a_connection_lost_before_it_was_lent_takes_nobodys_place(pool, monkeypatch):
    pool = pool(limit=1)
    true_made = Connection.connection_made

    def made(self, transport):
        true_made(self, transport)
        self.data_received(b"220 speaks first\r\n")

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "connection_made", made)
        for _ in range(3):
            with pytest.raises(BadReply, match="before any request"):
                await pool.connect()
    await use(await pool.connect())


async def test_a_connection_whose_state_cannot_be_told_stays_in_the_pool(pool, monkeypatch):
    pool = pool(limit=1)
    await use(await pool.connect())
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "is_readable", lambda _self: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            pool.take(check_liveness=True)
    assert pool.counts == {"active": 0, "idle": 1, "waiting": 0}


async def test_no_more_than_the_limit_are_open(pool, server):
    pool = pool(limit=3)

    async def one():
        await use(pool.take(check_liveness=False) or await pool.connect())

    await asyncio.gather(*(one() for _ in range(50)))
    assert len(server.connections) <= 3
    assert len(pool._idle) == len(pool._open) <= 3
    assert pool._opening == 0


async def test_who_waited_longest_is_served_first(pool):
    pool = pool(limit=1)
    connection = await pool.connect()
    order = []

    async def one(name):
        got = await pool.connect()
        order.append(name)
        await use(got)

    waiters = []
    for name in "abc":
        waiters.append(asyncio.create_task(one(name)))
        await settle()
    assert repr(pool).endswith("1 open, 0 idle, 3 waiting>")
    await use(connection)
    await asyncio.gather(*waiters)
    assert order == ["a", "b", "c"]


async def test_a_lost_connection_makes_room_for_one_who_waits(pool, server):
    pool = pool(limit=1)
    connection = await pool.connect()
    waiter = asyncio.create_task(pool.connect())
    await settle()
    connection.abort()
    assert await waiter is not connection
    assert len(server.connections) == 2


async def test_who_waits_too_long_hears_503(pool):
    pool = pool(limit=1)
    connection = await pool.connect()
    pool._connect_seconds = SHORT
    with pytest.raises(ConnectionLimit, match="all 1 connections") as caught:
        await pool.connect()
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    assert "max_connections" in caught.value.hint
    await use(connection)
    assert repr(pool).endswith("1 open, 1 idle, 0 waiting>")


# ── nothing is leaked ────────────────────────────────────────────────────────────────────────────


async def test_a_waiter_who_leaves_leaves_nothing_behind(pool):
    pool = pool(limit=1)
    connection = await pool.connect()
    leaves, stays = asyncio.create_task(pool.connect()), asyncio.create_task(pool.connect())
    await settle()
    leaves.cancel()
    await settle()
    await use(connection)
    assert await stays is connection


@pytest.mark.parametrize("lost", [True, False])
async def test_a_waiter_who_leaves_in_the_moment_it_is_served_hands_on(pool, lost):
    pool = pool(limit=1)
    connection = await pool.connect()
    leaves, stays = asyncio.create_task(pool.connect()), asyncio.create_task(pool.connect())
    await settle()
    if lost:
        connection.abort()  # there is room for a new one…
    else:
        pool._back(connection)  # …or this one comes back
    leaves.cancel()
    got = await asyncio.wait_for(stays, 5)
    assert leaves.cancelled()
    assert (got is connection) is not lost
    assert (len(pool._open), pool._opening) == (1, 0)


async def test_who_is_cancelled_while_connecting_gives_its_place_back(pool):
    pool = pool(limit=1)
    leaves = asyncio.create_task(pool.connect())
    await asyncio.sleep(0)
    assert pool._opening == 1
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert pool._opening == 0
    await asyncio.wait_for(pool.connect(), 5)


async def test_a_failed_connect_gives_its_place_back(pool, unused_tcp_port):
    pool = pool(limit=1, port=unused_tcp_port)
    for _ in range(3):
        with pytest.raises(ConnectFailure):
            await pool.connect()
    assert (len(pool._open), pool._opening) == (0, 0)


async def test_the_failure_of_one_lets_the_next_try(pool, unused_tcp_port):
    pool = pool(limit=1, port=unused_tcp_port)
    outcomes = await asyncio.gather(*(pool.connect() for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectFailure] * 5


# ── connections that die ─────────────────────────────────────────────────────────────────────────


async def test_an_idle_connection_that_closes_is_forgotten(pool, server):
    pool = pool()
    await use(await pool.connect())
    await server.hang_up()
    async with asyncio.timeout(1):
        while pool._open:
            await asyncio.sleep(0)
    assert pool.take(check_liveness=False) is None


async def test_whether_an_idle_connection_is_alive_can_be_seen_before_the_loop_hears_it(pool):
    here, there = socket.socketpair()
    here.setblocking(False)  # noqa: FBT003
    pool = pool()
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection("x", on_idle=pool._back, on_lost=pool._lost), sock=here
    )
    pool._open.add(connection)
    pool._back(connection)
    assert pool.take(check_liveness=True) is connection
    pool._back(connection)
    there.close()
    assert pool.take(check_liveness=True) is None
    assert connection.closed


async def test_a_connection_that_dies_on_its_way_to_a_waiter_is_not_handed_out(pool):
    pool = pool(limit=1)
    connection = await pool.connect()
    waiter = asyncio.create_task(pool.connect())
    await settle()
    pool._back(connection)
    connection.abort()  # more came than the reply: in the same round
    got = await asyncio.wait_for(waiter, 5)
    assert not got.closed
    assert got is not connection


async def test_a_dead_connection_does_not_come_back(pool):
    pool = pool()
    connection = await pool.connect()
    connection.abort()
    pool._back(connection)
    assert pool.take(check_liveness=False) is None


async def test_at_the_limit_an_idle_connection_makes_room_for_a_new_one(pool):
    pool = pool(limit=2)
    first, second = await pool.connect(), await pool.connect()
    await use(first)
    fresh = await pool.connect()  # the caller has just found a kept one dead
    assert fresh not in {first, second}
    assert first.closed
    assert len(pool._open) == 2


async def test_idle_connections_are_closed_after_a_while(pool):
    pool = pool()
    old, young = await pool.connect(), await pool.connect()
    await use(old)
    await use(young)
    assert pool._sweep is not None
    old.idle_since -= IDLE_SECONDS
    pool._close_idle()
    assert (old.closed, young.closed) == (True, False)
    assert pool._sweep.when() == young.idle_since + IDLE_SECONDS
    young.idle_since -= IDLE_SECONDS
    pool._close_idle()
    assert young.closed
    assert pool._sweep is None


@pytest.mark.parametrize(("age", "kept"), [(MAX_LIFE - 60, True), (MAX_LIFE, False)])
async def test_a_connection_that_has_been_used_for_an_hour_is_not_used_again(pool, server, age, kept):
    pool = pool(limit=1)
    connection = await pool.connect()
    await use(connection)
    assert pool.take(check_liveness=False) is connection
    connection.opened_at -= age
    waiter = asyncio.create_task(pool.connect())
    await settle()
    await use(connection)
    assert (await asyncio.wait_for(waiter, 5) is connection) is kept
    assert connection.closed is not kept
    assert len(server.connections) == (1 if kept else 2)


async def test_a_closed_pool_keeps_nothing(pool):
    pool = pool()
    idle, busy = await pool.connect(), await pool.connect()
    await use(idle)
    pool.close()
    assert idle.closed
    assert not busy.closed
    await use(busy)  # what is under way may end
    assert busy.closed


# ── opening ──────────────────────────────────────────────────────────────────────────────────────


async def test_an_upstream_that_does_not_take_the_connection_is_504(pool, monkeypatch):
    async def hang(*_args, **_keys):
        await asyncio.sleep(60)

    monkeypatch.setattr(dial.aiohappyeyeballs, "start_connection", hang)
    with pytest.raises(ConnectTimeout, match=r"within 0\.03 s"):
        await pool(seconds=SHORT).connect()


@pytest.fixture
async def silent():
    """An HTTP proxy that never answers; it notes what it is asked."""
    heard = []

    async def talk(reader, writer):
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield SimpleNamespace(way=HTTPProxy("127.0.0.1", listener.sockets[0].getsockname()[1]), heard=heard)
    listener.close()
    await settle()


async def test_a_proxy_that_never_answers_is_504(pool, silent):
    with pytest.raises(ConnectTimeout, match="through the HTTP proxy http://127") as caught:
        await pool(seconds=4 * SHORT, proxy=silent.way, host="up.example").connect()
    assert caught.value.status == 504


async def test_who_is_cancelled_while_a_tunnel_is_opened_leaves_nothing_behind(pool, silent):
    pool = pool(proxy=silent.way, host="up.example")
    waiter = asyncio.create_task(pool.connect())
    async with asyncio.timeout(5):
        while not silent.heard:
            await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert (len(pool._open), pool._opening) == (0, 0)


@pytest.fixture
def no_descriptors():
    """Use up this process's descriptors, for as long as the test takes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []

    def use_up():
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        while not out_of_descriptors():
            taken.append(os.open(os.devnull, os.O_RDONLY))

    yield use_up
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])  # a name needs descriptors to be looked up
async def test_a_process_without_descriptors_says_so_and_recovers(pool, server, no_descriptors, host):
    pool = pool(host=host)
    kept = await pool.connect()
    await use(kept)
    no_descriptors()
    with pytest.raises(ConnectionLimit):
        await pool.connect()
    assert pool.take(check_liveness=True) is kept, "what is open goes on"
    await use(kept)
