"""The pool at work, with a small server on loopback: who gets a connection, and what is never lost."""

import asyncio
import errno
import os
import socket
import ssl

import pytest
import trustme

from authproxy.errors import (
    BadReply,
    ConnectFailure,
    ConnectionLimit,
    ConnectTimeout,
    DNSFailure,
    Loop,
    TLSFailure,
)
from authproxy.net.http_proxy import HTTPProxy
from authproxy.net.own_listeners import NOBODY, OwnListeners
from authproxy.proxy.upstream import pool as pool_module
from authproxy.proxy.upstream.connection import Connection
from authproxy.proxy.upstream.pool import IDLE_SECONDS, MAX_LIFE, Origin, Pool
from tests.support.clock import settle

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

    def make(limit=2, seconds=5.0, proxy=None, *, tunnel=True, own=NOBODY, **origin):
        origin = Origin(**{"host": "127.0.0.1", "port": server.port} | origin)
        more = {"proxy": proxy, "tunnel": tunnel, "own": own}
        pools.append(Pool(origin, limit=limit, connect_seconds=seconds, **more))
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
            with pytest.raises(BadReply, match="before it was asked"):
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


# ── addresses ────────────────────────────────────────────────────────────────────────────────────


class Names:
    """Stands in for the loop's resolver: `addresses` are its answer, once `known` is set."""

    def __init__(self, monkeypatch, *addresses):
        self.addresses = list(addresses)
        self.known = asyncio.Event()
        self.known.set()
        self.asked = self.running = self.most = 0
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo)

    async def getaddrinfo(self, host, port, **_):
        if host not in {"up.example", "proxy.example"}:  # an address: asyncio itself asks on
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return [(family, socket.SOCK_STREAM, 6, "", (host, port))]
        self.asked += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.known.wait()
        finally:
            self.running -= 1
        return [
            (socket.AF_INET6 if ":" in at[0] else socket.AF_INET, socket.SOCK_STREAM, 6, "", at)
            for at in self.addresses
        ]


async def test_addresses_are_looked_up_again_for_each_new_connection(pool, server, monkeypatch):
    moved = Server()
    listener = await asyncio.start_server(moved.talk, "127.0.0.1", 0)
    names = Names(monkeypatch, ("127.0.0.1", server.port))
    pool = pool(host="up.example")
    connection = await pool.connect()
    await use(connection)
    connection.abort()
    names.addresses = [listener.sockets[0].getsockname()]
    await use(await pool.connect())
    assert (names.asked, len(server.connections), len(moved.connections)) == (2, 1, 1)
    listener.close()
    await moved.hang_up()


async def test_no_connection_leads_to_a_listener_of_our_own(pool, server, monkeypatch):
    with socket.create_server(("127.0.0.2", server.port)) as ours:
        names = Names(monkeypatch, ours.getsockname(), ("127.0.0.1", server.port))
        pool = pool(host="up.example", own=OwnListeners(sockets=[ours]))
        await use(await pool.connect())  # there is another address, and that one is the upstream's
        names.addresses = [ours.getsockname()]
        with pytest.raises(Loop, match=r"http://up\.example.* own listeners"):
            await pool.connect()
        names.addresses = [ours.getsockname(), ("127.0.0.3", server.port)]
        with pytest.raises(Loop):  # nobody is there: it is the loop that is to be told of
            await pool.connect()
        assert pool.counts == {"active": 0, "idle": 1, "waiting": 0}
        ours.settimeout(0)
        with pytest.raises(BlockingIOError):
            ours.accept()


async def test_all_who_wait_for_a_name_share_one_look_up_and_may_leave(pool, server, monkeypatch):
    names = Names(monkeypatch, ("127.0.0.1", server.port))
    names.known.clear()
    pool = pool(limit=10, host="up.example")
    waiters = [asyncio.create_task(pool.connect()) for _ in range(10)]
    await settle()
    for waiter in waiters[:5]:
        waiter.cancel()  # the one who began it, too
    await settle()
    assert (names.asked, names.running) == (1, 1)
    names.known.set()
    async with asyncio.timeout(5):
        assert len({await waiter for waiter in waiters[5:]}) == 5
        assert all(waiter.cancelled() for waiter in waiters[:5])
        await pool.connect()
    assert (names.asked, names.most) == (2, 1)


async def test_a_resolver_that_hangs_is_waited_for_no_longer_than_a_connection(pool, server, monkeypatch):
    names = Names(monkeypatch, ("127.0.0.1", server.port))
    names.known.clear()
    pool = pool(seconds=SHORT, host="up.example")
    for _ in range(3):
        with pytest.raises(ConnectTimeout):
            await pool.connect()
    assert (names.asked, names.running) == (1, 1), "one thread is held, however many requests there were"
    names.known.set()
    await settle()
    pool._connect_seconds = 5
    await use(await pool.connect())


async def test_the_failure_of_a_look_up_is_everybodys_and_is_not_kept(pool, server, monkeypatch):
    answers = [
        socket.gaierror(socket.EAI_AGAIN, "later"),
        [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))],
    ]

    async def answer(*_args, **_keys):
        await asyncio.sleep(0)
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
    pool = pool(host="up.example")
    outcomes = await asyncio.gather(pool.connect(), pool.connect(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DNSFailure, DNSFailure]
    await use(await pool.connect())


@pytest.fixture
def black_hole():
    """An address that takes no connection and refuses none: a backlog that is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as waiting:
        waiting.connect(listener.getsockname())  # nobody accepts it
        more = [socket.socket() for _ in range(8)]
        for each in more:
            each.setblocking(False)  # noqa: FBT003
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()
        for each in more:
            each.close()


async def test_an_ipv6_address_that_refuses_does_not_hold_up_ipv4(pool, server, monkeypatch):
    monkeypatch.setattr(pool_module, "HAPPY_EYEBALLS_DELAY", 60)  # a refusal is not waited out
    Names(monkeypatch, ("::1", server.port, 0, 0), ("127.0.0.1", server.port))
    await use(await asyncio.wait_for(pool(host="up.example").connect(), 20))
    assert len(server.connections) == 1


async def test_an_address_that_hangs_does_not_hold_up_the_next(pool, server, monkeypatch, black_hole):
    Names(monkeypatch, black_hole, ("127.0.0.1", server.port))
    await use(await asyncio.wait_for(pool(seconds=60, host="up.example").connect(), 20))
    assert len(server.connections) == 1


async def test_addresses_that_all_hang_are_504(pool, monkeypatch, black_hole):
    Names(monkeypatch, black_hole, black_hole)
    with pytest.raises(ConnectTimeout):
        await pool(seconds=0.1, host="up.example").connect()


async def test_addresses_that_fail_each_in_its_way_are_told_as_one(pool, monkeypatch):
    async def fail(*_args, **_keys):
        raise OSError("Multiple exceptions: [Errno 111] …, [Errno 101] …")

    monkeypatch.setattr(pool_module.aiohappyeyeballs, "start_connection", fail)
    with pytest.raises(ConnectFailure, match=r"127\.0\.0\.1:\d+: none of its addresses can be reached$"):
        await pool().connect()


# ── out of descriptors ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_no_descriptor_left_is_our_own_limit_and_not_the_upstreams_refusal(pool, monkeypatch, number):
    async def fail(*_args, **_keys):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pool_module.aiohappyeyeballs, "start_connection", fail)
    pool = pool()
    with pytest.raises(ConnectionLimit, match="too many files") as caught:
        await pool.connect()
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    assert caught.value.proxy_error == "connection_limit_reached"
    assert (len(pool._open), pool._opening) == (0, 0)


@pytest.fixture
def no_descriptors():
    """Use up this process's descriptors, for as long as the test takes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []

    def use_up():
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        while not pool_module.out_of_descriptors():
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


# ── through an HTTP proxy ────────────────────────────────────────────────────────────────────────


class Proxy:
    """Answers each head with the next of its pieces, and hangs up after the last."""

    def __init__(self, *pieces, then="hang up"):
        self.pieces = pieces
        self.then = then
        self.heard = []

    async def talk(self, reader, writer):
        try:
            self.heard.append(await reader.readuntil(b"\r\n\r\n"))
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
            if self.then == "wait":
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def proxy():
    listeners = []

    async def start(*pieces, then="hang up"):
        proxy = Proxy(*pieces, then=then)
        listeners.append(listener := await asyncio.start_server(proxy.talk, "127.0.0.1", 0))
        proxy.way = HTTPProxy("127.0.0.1", listener.sockets[0].getsockname()[1], "me", "s3cr3t")
        return proxy

    yield start
    for listener in listeners:
        listener.close()
    await settle()


OPENED = b"HTTP/1.1 200 Connection established\r\n"


@pytest.mark.parametrize(
    ("pieces", "failure", "says"),
    [
        (
            [b"HTTP/1.1 407 Who are you\r\nContent-Length: 2\r\n\r\nno"],
            ConnectFailure,
            "answered 407 to CONNECT",
        ),
        ([b"HTTP/1.1 403 No\r\n\r\n"], ConnectFailure, "answered 403 to CONNECT up.example:81"),
        ([b"HTTP/1.1 502 Bad\r\n\r\n"], ConnectFailure, "answered 502"),
        ([b"HTTP/1.1 302 Log in\r\nLocation: http://portal\r\n\r\n"], ConnectFailure, "answered 302"),
        ([b"HTTP/1.1 101 Switching\r\n\r\n"], ConnectFailure, "answered 101"),
        ([b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 403 No\r\n\r\n"], ConnectFailure, "answered 403"),
        ([], BadReply, "closed the connection"),
        ([b"HTTP/1.1 200 OK\r\n"], BadReply, "closed the connection"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], BadReply, "closed the connection"),
        ([b"SSH-2.0-x\r\n"], BadReply, r"did not answer in HTTP/1\.x"),
        ([b"HTTP/2.0 200 OK\r\n\r\n"], BadReply, r"did not answer in HTTP/1\.x"),
        ([b"HTTP/1.1 20 OK\r\n\r\n"], BadReply, r"did not answer in HTTP/1\.x"),
        ([b"HTTP/1.1 2000 OK\r\n\r\n"], BadReply, r"did not answer in HTTP/1\.x"),
        ([b"HTTP/1.1 200OK\r\n\r\n"], BadReply, r"did not answer in HTTP/1\.x"),
        ([b"HTTP/1.1 OK\r\n\r\n"], BadReply, r"did not answer in HTTP/1\.x"),
        ([OPENED + b"X-A: " + b"a" * 20_000], BadReply, "sent too long an answer"),
        ([b"HTTP/1.1 103 Early\r\n\r\n"] * 1000, BadReply, "sent too long an answer"),
        ([OPENED + b"\r\n" + REPLY], BadReply, "sent more than its answer"),
    ],
)
@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
async def test_a_proxy_that_opens_no_tunnel_is_named(pool, proxy, pieces, failure, says, cut):
    if cut == "byte by byte" and sum(map(len, pieces)) < 1000:
        pieces = [bytes([byte]) for piece in pieces for byte in piece]
        if "more than" in says:
            pieces = [b"".join(pieces[:-1]), pieces[-1]]
    them = await proxy(*pieces)
    pool = pool(proxy=them.way, host="up.example", port=81)
    with pytest.raises(failure, match=says) as caught:
        await pool.connect()
    told = f"{caught.value} {caught.value.hint}"
    assert f"the HTTP proxy {them.way}" in told
    assert "http_proxy" in caught.value.hint
    assert "s3cr3t" not in told + repr(caught.value) + repr(pool) + repr(them.way)
    assert caught.value.status == 502
    assert (len(pool._open), pool._opening) == (0, 0)
    connect = b"CONNECT up.example:81 HTTP/1.1\r\nHost: up.example:81\r\n"
    assert them.heard == [connect + b"Proxy-Authorization: Basic bWU6czNjcjN0\r\n\r\n"]


@pytest.mark.parametrize("said", [[], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 100 Continue\r\n\r\n"]])
async def test_a_proxy_that_never_answers_is_504(pool, proxy, said):
    them = await proxy(*said, then="wait")
    with pytest.raises(ConnectTimeout, match="through the HTTP proxy http://127") as caught:
        await pool(seconds=0.3, proxy=them.way, host="up.example").connect()
    assert caught.value.status == 504


async def test_a_proxy_that_is_not_there_is_not_taken_for_the_upstream(pool, unused_tcp_port):
    way = HTTPProxy("127.0.0.1", unused_tcp_port, "me", "s3cr3t")
    with pytest.raises(ConnectFailure, match=rf"cannot connect to the HTTP proxy {way}: Connection refused"):
        await pool(proxy=way, host="up.example").connect()


async def test_a_proxy_whose_name_does_not_resolve_is_told(pool, monkeypatch):
    async def fail(*_args, **_keys):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    way = HTTPProxy("proxy.invalid", 3128)
    with pytest.raises(DNSFailure, match=r"the host name of the HTTP proxy http://proxy\.invalid:3128"):
        await pool(proxy=way).connect()


async def test_an_ipv6_address_is_asked_for_in_brackets(pool, proxy):
    them = await proxy(b"HTTP/1.1 403 No\r\n\r\n")
    with pytest.raises(ConnectFailure):
        await pool(proxy=them.way, host="fd00::1", port=443).connect()
    assert them.heard[0].startswith(b"CONNECT [fd00::1]:443 HTTP/1.1\r\nHost: [fd00::1]:443\r\n")


@pytest.mark.parametrize(
    "early", [b"", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"]
)
async def test_a_tunnel_leads_to_the_upstream_itself(pool, proxy, early):
    them = await proxy(
        early + OPENED + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", then="wait"
    )
    connection = await pool(proxy=them.way, host="up.example").connect()
    reply = begin(connection)  # as it is: nothing in it is for the proxy
    assert repr(connection).startswith("<Connection http://up.example")
    connection.abort()
    assert reply.status == 0


async def test_who_is_cancelled_while_a_tunnel_is_opened_leaves_nothing_behind(pool, proxy):
    them = await proxy(then="wait")
    pool = pool(proxy=them.way, host="up.example")
    waiter = asyncio.create_task(pool.connect())
    async with asyncio.timeout(5):
        while not them.heard:
            await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert (len(pool._open), pool._opening) == (0, 0)
