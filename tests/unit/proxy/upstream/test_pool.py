"""The pool at work, with a small server on loopback: who gets a connection, and what is never lost."""

import asyncio
import socket
import ssl

import pytest
import trustme

from authproxy.errors import ConnectFailure, ConnectionLimit, ConnectTimeout, DNSFailure, TLSFailure
from authproxy.proxy.upstream import pool as pool_module
from authproxy.proxy.upstream.connection import Connection
from authproxy.proxy.upstream.pool import IDLE_SECONDS, Origin, Pool

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SHORT = 0.03  # seconds


class Server:
    """Answers each request; `connections` are those it took, `hang_up` closes them."""

    def __init__(self):
        self.connections = []

    async def talk(self, reader, writer):
        self.connections.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(REPLY)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def hang_up(self):
        for writer in self.connections:
            writer.close()
            await writer.wait_closed()


@pytest.fixture
async def server():
    server = Server()
    listener = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()
    await server.hang_up()


@pytest.fixture
async def pool(server):
    """Return a maker of pools to the server."""
    pools = []

    def make(limit=2, seconds=5.0, **origin):
        origin = Origin(**{"host": "127.0.0.1", "port": server.port} | origin)
        pools.append(Pool(origin, limit=limit, connect_seconds=seconds))
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


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


# ── lending ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_connection_is_used_again(pool, server):
    pool = pool()
    assert pool.take(surely_alive=False) is None
    connection = await pool.connect()
    assert pool.take(surely_alive=False) is None  # it is lent out
    await use(connection)
    assert repr(pool) == f"<Pool http://127.0.0.1:{server.port} 1 open, 1 idle, 0 waiting>"
    assert pool.take(surely_alive=True) is connection
    await use(connection)
    assert len(server.connections) == 1


async def test_the_last_one_back_is_the_first_one_out(pool):
    pool = pool()
    first, second = await pool.connect(), await pool.connect()
    await use(first)
    await use(second)
    assert pool.take(surely_alive=False) is second
    assert pool.take(surely_alive=False) is first


async def test_no_more_than_the_limit_are_open(pool, server):
    pool = pool(limit=3)

    async def one():
        await use(pool.take(surely_alive=False) or await pool.connect())

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
    assert pool.take(surely_alive=False) is None


async def test_whether_an_idle_connection_is_alive_can_be_seen_before_the_loop_hears_it(pool):
    here, there = socket.socketpair()
    here.setblocking(False)  # noqa: FBT003
    pool = pool()
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection("x", on_idle=pool._back, on_lost=pool._lost), sock=here
    )
    pool._open.add(connection)
    pool._back(connection)
    assert pool.take(surely_alive=True) is connection
    pool._back(connection)
    there.close()
    assert pool.take(surely_alive=True) is None
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
    assert pool.take(surely_alive=False) is None


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


async def test_a_closed_pool_keeps_nothing(pool):
    pool = pool()
    idle, busy = await pool.connect(), await pool.connect()
    await use(idle)
    pool.close()
    assert idle.closed
    assert not busy.closed
    await use(busy)  # what is under way may end
    assert busy.closed


# ── dialling ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [OSError(), UnicodeError("label too long")])
async def test_a_name_that_does_not_resolve_is_told(pool, monkeypatch, error):
    async def fail(*_args, **_keys):
        raise error

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    with pytest.raises(DNSFailure, match="does not resolve"):
        await pool(host="nowhere.invalid").connect()


async def test_nobody_there_is_told(pool, unused_tcp_port):
    with pytest.raises(
        ConnectFailure, match=r"cannot connect to http://127\.0\.0\.1:\d+: Connection refused"
    ) as caught:
        await pool(port=unused_tcp_port).connect()
    assert caught.value.hint


async def test_an_upstream_that_does_not_take_the_connection_is_504(pool, monkeypatch):
    async def hang(*_args, **_keys):
        await asyncio.sleep(60)

    monkeypatch.setattr(pool_module.aiohappyeyeballs, "start_connection", hang)
    with pytest.raises(ConnectTimeout, match=r"within 0\.03 s"):
        await pool(seconds=SHORT).connect()


async def test_an_upstream_without_tls_is_told(pool):
    async def plain(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises(TLSFailure, match=r"no TLS with https://.*: handshake failed"):
        await pool(port=port, tls=ssl.create_default_context()).connect()
    listener.close()


@pytest.mark.parametrize(
    ("trusted", "server_name", "says"),
    [
        (True, "up.example", None),
        (True, "other.example", "mismatch"),
        (False, "up.example", "unable to get local issuer certificate"),
    ],
)
async def test_the_certificate_of_the_upstream_must_be_good(pool, trusted, server_name, says):
    ca, hello = trustme.CA(), Server()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    ca.issue_cert("up.example").configure_cert(theirs)
    if trusted:
        ca.configure_trust(ours)
    listener = await asyncio.start_server(hello.talk, "127.0.0.1", 0, ssl=theirs)
    port = listener.sockets[0].getsockname()[1]
    pool = pool(port=port, tls=ours, server_name=server_name)
    if says is None:
        connection = await pool.connect()
        await use(connection)
        connection.abort()
    else:
        with pytest.raises(TLSFailure, match=says):
            await pool.connect()
        assert (len(pool._open), pool._opening) == (0, 0)
    listener.close()
    await settle()


@pytest.mark.parametrize(
    ("origin", "url", "authority"),
    [
        (Origin("api.example", 80), "http://api.example", "api.example"),
        (Origin("api.example", 8080), "http://api.example:8080", "api.example:8080"),
        (Origin("::1", 80), "http://[::1]", "[::1]"),
        (Origin("api.example", 443, ssl.create_default_context()), "https://api.example", "api.example"),
        (Origin("api.example", 80, ssl.create_default_context()), "https://api.example:80", "api.example:80"),
        (Origin("10.0.0.1", 443), "http://10.0.0.1:443", "10.0.0.1:443"),
    ],
)
def test_an_origin_knows_its_host_header(origin, url, authority):
    assert (str(origin), origin.authority) == (url, authority)
