"""The way to an upstream, step by step, with small servers on loopback and made-up answers of the DNS."""

import asyncio
import errno
import os
import socket
import ssl

import pytest
import trustme

from authproxy.errors import BadReply, ConnectFailure, ConnectionLimit, DNSFailure, Loop, TLSFailure
from authproxy.net import dial
from authproxy.net.dial import Dialer, Origin
from authproxy.net.http_proxy import HTTPProxy
from authproxy.net.own_listeners import NOBODY, OwnListeners
from tests.support.keep_alive_server import REPLY, Server, serving

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT = 0.03  # seconds


class Line(asyncio.Protocol):
    """One end of what was dialled; `heard` is what came, once any has."""

    def connection_made(self, transport):
        self.transport = transport
        self.heard = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.heard.set_result(data)


@pytest.fixture
async def server():
    async with serving() as made:
        yield made


@pytest.fixture
def dialer(server):
    """Return a maker of dialers to the server."""

    def make(proxy=None, *, tunnel=True, own=NOBODY, **origin):
        return Dialer(
            Origin(**{"host": "127.0.0.1", "port": server.port} | origin), proxy=proxy, tunnel=tunnel, own=own
        )

    return make


async def use(line):
    """Have one exchange; the connection is closed afterwards."""
    line.transport.write(REQUEST)
    assert await line.heard == REPLY
    line.transport.abort()


async def settle():
    for _ in range(6):
        await asyncio.sleep(0)


# ── one step at a time ───────────────────────────────────────────────────────────────────────────


async def test_each_step_can_be_taken_by_itself(dialer, server):
    dialer = dialer()
    addresses = await dialer.resolve()
    assert [each[4] for each in addresses] == [("127.0.0.1", server.port)]
    sock = await dialer.connect(addresses)
    assert sock.getpeername() == ("127.0.0.1", server.port)
    await dialer.tunnel(sock)  # no proxy, no tunnel
    await use(await dialer.secure(sock, Line))
    assert repr(dialer) == f"<Dialer http://127.0.0.1:{server.port}>"


async def test_what_a_step_opened_is_closed_when_the_next_one_fails(dialer, proxy, monkeypatch):
    them = await proxy(b"HTTP/1.1 403 No\r\n\r\n")
    opened, dialer = [], dialer(proxy=them.way)
    connect = dialer.connect

    async def noted(addresses):
        opened.append(await connect(addresses))
        return opened[-1]

    monkeypatch.setattr(dialer, "connect", noted)
    with pytest.raises(ConnectFailure):
        await dialer.dial(Line)
    assert [sock.fileno() for sock in opened] == [-1]


async def test_without_a_tunnel_the_way_ends_at_the_proxy(dialer, server):
    dialer = dialer(proxy=HTTPProxy("127.0.0.1", server.port), tunnel=False, host="up.example", port=80)
    assert dialer.forwards
    await use(await dialer.dial(Line))


async def test_a_system_that_gives_up_on_a_handshake_is_a_timeout_like_the_callers_own(dialer, monkeypatch):
    async def fail(*_args, **_keys):
        raise TimeoutError(errno.ETIMEDOUT, "s3cr3t")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", fail)
    with pytest.raises(TimeoutError):
        await dialer().dial(Line)


# ── dialling ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [OSError(), UnicodeError("label too long")])
async def test_a_name_that_does_not_resolve_is_told(dialer, monkeypatch, error):
    async def fail(*_args, **_keys):
        raise error

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    with pytest.raises(DNSFailure, match="does not resolve"):
        await dialer(host="nowhere.invalid").dial(Line)


async def test_nobody_there_is_told(dialer, unused_tcp_port):
    with pytest.raises(
        ConnectFailure, match=r"cannot connect to http://127\.0\.0\.1:\d+: Connection refused"
    ) as caught:
        await dialer(port=unused_tcp_port).dial(Line)
    assert caught.value.hint


async def test_an_upstream_without_tls_is_told(dialer):
    async def plain(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises(TLSFailure, match=r"no TLS with https://.*: it speaks plain http there"):
        await dialer(port=port, tls=ssl.create_default_context()).dial(Line)
    listener.close()


@pytest.mark.parametrize(
    ("trusted", "server_name", "says"),
    [
        (True, "up.example", None),
        (True, "other.example", "that of another host"),
        (False, "up.example", "not trusted here"),
    ],
)
async def test_the_certificate_of_the_upstream_must_be_good(dialer, trusted, server_name, says):
    ca, hello = trustme.CA(), Server()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    ca.issue_cert("up.example").configure_cert(theirs)
    if trusted:
        ca.configure_trust(ours)
    listener = await asyncio.start_server(hello.talk, "127.0.0.1", 0, ssl=theirs)
    port = listener.sockets[0].getsockname()[1]
    dialer = dialer(port=port, tls=ours, server_name=server_name)
    if says is None:
        connection = await dialer.dial(Line)
        await use(connection)
        connection.transport.abort()
    else:
        with pytest.raises(TLSFailure, match=says):
            await dialer.dial(Line)
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


async def test_addresses_are_looked_up_again_for_each_new_connection(dialer, server, monkeypatch):
    moved = Server()
    listener = await asyncio.start_server(moved.talk, "127.0.0.1", 0)
    names = Names(monkeypatch, ("127.0.0.1", server.port))
    dialer = dialer(host="up.example")
    await use(await dialer.dial(Line))
    names.addresses = [listener.sockets[0].getsockname()]
    await use(await dialer.dial(Line))
    assert (names.asked, len(server.connections), len(moved.connections)) == (2, 1, 1)
    listener.close()
    moved.connections[0].close()


async def test_no_connection_leads_to_a_listener_of_our_own(dialer, server, monkeypatch):
    with socket.create_server(("127.0.0.2", server.port)) as ours:
        names = Names(monkeypatch, ours.getsockname(), ("127.0.0.1", server.port))
        dialer = dialer(host="up.example", own=OwnListeners(sockets=[ours]))
        await use(await dialer.dial(Line))  # there is another address, and that one is the upstream's
        names.addresses = [ours.getsockname()]
        with pytest.raises(Loop, match=r"http://up\.example.* own listeners"):
            await dialer.dial(Line)
        names.addresses = [ours.getsockname(), ("127.0.0.3", server.port)]
        with pytest.raises(Loop):  # nobody is there: it is the loop that is to be told of
            await dialer.dial(Line)
        ours.settimeout(0)
        with pytest.raises(BlockingIOError):
            ours.accept()


async def test_all_who_wait_for_a_name_share_one_look_up_and_may_leave(dialer, server, monkeypatch):
    names = Names(monkeypatch, ("127.0.0.1", server.port))
    names.known.clear()
    dialer = dialer(host="up.example")
    waiters = [asyncio.create_task(dialer.dial(Line)) for _ in range(10)]
    await settle()
    for waiter in waiters[:5]:
        waiter.cancel()  # the one who began it, too
    await settle()
    assert (names.asked, names.running) == (1, 1)
    names.known.set()
    async with asyncio.timeout(5):
        assert len({await waiter for waiter in waiters[5:]}) == 5
        assert all(waiter.cancelled() for waiter in waiters[:5])
        await dialer.dial(Line)
    assert (names.asked, names.most) == (2, 1)


async def test_a_resolver_that_hangs_is_waited_for_no_longer_than_a_connection(dialer, server, monkeypatch):
    names = Names(monkeypatch, ("127.0.0.1", server.port))
    names.known.clear()
    dialer = dialer(host="up.example")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dialer.dial(Line), SHORT)
    assert (names.asked, names.running) == (1, 1), "one thread is held, however many requests there were"
    names.known.set()
    await settle()
    await use(await dialer.dial(Line))


async def test_the_failure_of_a_look_up_is_everybodys_and_is_not_kept(dialer, server, monkeypatch):
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
    dialer = dialer(host="up.example")
    outcomes = await asyncio.gather(dialer.dial(Line), dialer.dial(Line), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DNSFailure, DNSFailure]
    await use(await dialer.dial(Line))


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


async def test_an_ipv6_address_that_refuses_does_not_hold_up_ipv4(dialer, server, monkeypatch):
    monkeypatch.setattr(dial, "HAPPY_EYEBALLS_DELAY", 60)  # a refusal is not waited out
    Names(monkeypatch, ("::1", server.port, 0, 0), ("127.0.0.1", server.port))
    await use(await asyncio.wait_for(dialer(host="up.example").dial(Line), 20))
    assert len(server.connections) == 1


async def test_an_address_that_hangs_does_not_hold_up_the_next(dialer, server, monkeypatch, black_hole):
    monkeypatch.setattr(dial, "HAPPY_EYEBALLS_DELAY", SHORT)
    Names(monkeypatch, black_hole, ("127.0.0.1", server.port))
    await use(await asyncio.wait_for(dialer(host="up.example").dial(Line), 20))
    assert len(server.connections) == 1


async def test_addresses_that_all_hang_are_waited_for_as_long_as_the_caller_does(
    dialer, monkeypatch, black_hole
):
    monkeypatch.setattr(dial, "HAPPY_EYEBALLS_DELAY", SHORT)
    Names(monkeypatch, black_hole, black_hole)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(dialer(host="up.example").dial(Line), 4 * SHORT)


async def test_addresses_that_fail_each_in_its_way_are_told_as_one(dialer, monkeypatch):
    async def fail(*_args, **_keys):
        raise OSError("Multiple exceptions: [Errno 111] …, [Errno 101] …")

    monkeypatch.setattr(dial.aiohappyeyeballs, "start_connection", fail)
    with pytest.raises(ConnectFailure, match=r"127\.0\.0\.1:\d+: none of its addresses can be reached$"):
        await dialer().dial(Line)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_no_descriptor_left_is_our_own_limit_and_not_the_upstreams_refusal(dialer, monkeypatch, number):
    async def fail(*_args, **_keys):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(dial.aiohappyeyeballs, "start_connection", fail)
    dialer = dialer()
    with pytest.raises(ConnectionLimit, match="too many files") as caught:
        await dialer.dial(Line)
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    assert caught.value.proxy_error == "connection_limit_reached"


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
        ([b"HTTP/1.1 103 Early\r\n\r\n" * 20] * 50, BadReply, "sent too long an answer"),
        ([OPENED + b"\r\n" + REPLY], BadReply, "sent more than its answer"),
    ],
)
@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
async def test_a_proxy_that_opens_no_tunnel_is_named(dialer, proxy, pieces, failure, says, cut):
    if cut == "byte by byte" and sum(map(len, pieces)) < 1000:
        pieces = [bytes([byte]) for piece in pieces for byte in piece]
        if "more than" in says:
            pieces = [b"".join(pieces[:-1]), pieces[-1]]
    them = await proxy(*pieces)
    dialer = dialer(proxy=them.way, host="up.example", port=81)
    with pytest.raises(failure, match=says) as caught:
        await dialer.dial(Line)
    told = f"{caught.value} {caught.value.hint}"
    assert f"the HTTP proxy {them.way}" in told
    assert "http_proxy" in caught.value.hint
    assert "s3cr3t" not in told + repr(caught.value) + repr(dialer) + repr(them.way)
    assert caught.value.status == 502
    connect = b"CONNECT up.example:81 HTTP/1.1\r\nHost: up.example:81\r\n"
    assert them.heard == [connect + b"Proxy-Authorization: Basic bWU6czNjcjN0\r\n\r\n"]


@pytest.mark.parametrize("said", [[], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 100 Continue\r\n\r\n"]])
async def test_a_proxy_that_never_answers_is_waited_for_as_long_as_the_caller_does(dialer, proxy, said):
    them = await proxy(*said, then="wait")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(dialer(proxy=them.way, host="up.example").dial(Line), 4 * SHORT)


async def test_a_proxy_that_is_not_there_is_not_taken_for_the_upstream(dialer, unused_tcp_port):
    way = HTTPProxy("127.0.0.1", unused_tcp_port, "me", "s3cr3t")
    with pytest.raises(ConnectFailure, match=rf"cannot connect to the HTTP proxy {way}: Connection refused"):
        await dialer(proxy=way, host="up.example").dial(Line)


async def test_a_proxy_whose_name_does_not_resolve_is_told(dialer, monkeypatch):
    async def fail(*_args, **_keys):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    way = HTTPProxy("proxy.invalid", 3128)
    with pytest.raises(DNSFailure, match=r"the host name of the HTTP proxy http://proxy\.invalid:3128"):
        await dialer(proxy=way).dial(Line)


async def test_an_ipv6_address_is_asked_for_in_brackets(dialer, proxy):
    them = await proxy(b"HTTP/1.1 403 No\r\n\r\n")
    with pytest.raises(ConnectFailure):
        await dialer(proxy=them.way, host="fd00::1", port=443).dial(Line)
    assert them.heard[0].startswith(b"CONNECT [fd00::1]:443 HTTP/1.1\r\nHost: [fd00::1]:443\r\n")


@pytest.mark.parametrize(
    "early", [b"", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"]
)
async def test_a_tunnel_leads_to_the_upstream_itself(dialer, proxy, early):
    them = await proxy(
        early + OPENED + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", then="wait"
    )
    line = await dialer(proxy=them.way, host="up.example").dial(Line)
    assert not line.heard.done(), "nothing of the proxy's answer is the upstream's"
    line.transport.abort()
