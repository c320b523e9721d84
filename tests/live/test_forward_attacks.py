"""Forward mode under attack: who lies about a host gets nothing, and nobody comes to our own listeners."""

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.forward import (
    TOKEN,
    Named,
    basic,
    connect_request,
    connecting,
    forward_url,
    forwarding,
    inside,
    route,
    trusting,
    tunnel,
)
from tests.support.launch import GUARD
from tests.support.wire import BrokenOff, Upstream, Wire, ask, connect, request

KEY = "a-key-for-callers"
OURS = "is one of authproxy's own listeners"


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Named, Named, Upstream, Upstream]]:
    directory = tmp_path_factory.mktemp("authorities")
    with Named(directory) as secure, Named(directory) as other, Upstream() as plain, Upstream() as stranger:
        yield secure, other, plain, stranger


@pytest.fixture
def secure(upstreams: tuple[Named, Named, Upstream, Upstream]) -> Named:
    """A TLS server that is a route's."""
    for each in upstreams:
        each.reset()
    return upstreams[0]


@pytest.fixture
def other(secure: Named, upstreams: tuple[Named, Named, Upstream, Upstream]) -> Named:
    """One that is no route's."""
    return upstreams[1]


@pytest.fixture
def plain(secure: Named, upstreams: tuple[Named, Named, Upstream, Upstream]) -> Upstream:
    """A server of plain http that is a route's."""
    return upstreams[2]


@pytest.fixture
def stranger(secure: Named, upstreams: tuple[Named, Named, Upstream, Upstream]) -> Upstream:
    """One that is no route's."""
    return upstreams[3]


@pytest.fixture(scope="module")
def proxy(upstreams: tuple[Named, Named, Upstream, Upstream]) -> Iterator[RunningProxy]:
    """One proxy, with a route to each of the two, for all who only ask."""
    secure, _, plain, _ = upstreams
    config = forwarding(route(secure), route(plain, name="plain", path="/plain"))
    config["allowed_origins"] = ["https://friend.example"]
    with running_proxy(config) as made:
        yield made


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


# ── CONNECT, the handshake and Host do not say the same ──────────────────────────────────────────

SPELLINGS = ["localhost", "LOCALHOST", "localhost."]


@pytest.mark.parametrize(
    ("connect_to", "sni", "host", "status"),
    [
        *((name, "localhost", other, 200) for name, other in itertools.product(SPELLINGS, SPELLINGS)),
        ("localhost", None, "localhost", 200),
        ("localhost", "elsewhere.example", "localhost", 421),
        ("localhost", "elsewhere.example", "elsewhere.example", 421),
        ("localhost", "localhost", "elsewhere.example", 421),
        ("localhost", "localhost", "127.0.0.1", 421),
        ("localhost", "LocalHost", "localhost", 200),
        ("localhost", "127.0.0.1", "localhost", 200),  # an address is no SNI: none is sent
    ],
)
def test_in_a_tunnel_all_that_names_a_host_names_the_tunnels(
    proxy: RunningProxy, secure: Named, connect_to: str, sni: str | None, host: str, status: int
) -> None:
    context = trusting(proxy)
    context.check_hostname = False
    wire = tunnel(proxy, f"{connect_to}:{secure.port}")
    with Wire(context.wrap_socket(wire.sock, server_hostname=sni)) as within:
        for _ in range(1 if sni == "elsewhere.example" else 2):  # nor is the second one what it seems
            sent = request("GET", "/x", host=f"{host}:{secure.port}")
            answer = within.send(sent).answer()
            assert answer.status == status
            assert (answer.proxy_error == "http_request_error") == (status == 421)
    assert bool(secure.requests) == (status == 200)


def test_host_inside_may_not_leave_the_port_out_where_it_is_not_the_schemes_own(
    proxy: RunningProxy, secure: Named
) -> None:
    with (
        inside(proxy, "localhost", secure.port) as wire,
    ):
        for host in (
            "localhost",
            "localhost:443",
            f"localhost:{secure.port + 1}",
            f"elsewhere:{secure.port}",
        ):
            assert wire.send(request("GET", "/", host=host)).answer().status == 421
        assert wire.send(request("GET", "/", host=secure.authority)).answer().status == 200
    assert len(secure.requests) == 1


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("https://{}/x", "{}", 200),
        ("https://LOCALHOST:{port}/x", "{}", 200),
        ("https://elsewhere.example/x", "{}", 421),
        ("https://{}/x", "elsewhere.example", 421),
        ("https://elsewhere.example/x", "elsewhere.example", 421),
        ("https://localhost/x", "{}", 421),
        ("http://{}/x", "{}", 421),
        ("https://user@{}/x", "{}", 400),
        ("ftp://{}/x", "{}", 400),
        ("x", "{}", 400),
    ],
)
def test_a_whole_url_inside_has_to_be_the_tunnels_too(
    proxy: RunningProxy, secure: Named, target: str, host: str, status: int
) -> None:
    with (
        inside(proxy, "localhost", secure.port) as wire,
    ):
        asked, named = (each.format(secure.authority, port=secure.port) for each in (target, host))
        assert wire.send(request("GET", asked, host=named)).answer().status == status
    assert [each.target for each in secure.requests] == (["/x"] if status == 200 else [])


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        ("{}", ["Host: {}"], 200),
        ("{}", ["Host: localhost"], 200),  # without a port it is that of the target
        ("{}", ["Host: elsewhere.example"], 421),
        ("{}", ["Host: localhost:1"], 421),
        ("{}", ["Host: 127.0.0.1:{port}"], 421),
        ("{}", ["Host: {}", "Host: {}"], 400),
        ("{}", ["Host: a b"], 400),
        ("{}", [], 400),
        ("localhost", ["Host: localhost"], 400),
        ("localhost:0", ["Host: localhost:0"], 400),
        ("localhost:65536", ["Host: localhost:65536"], 400),
        ("[127.0.0.1]:80", ["Host: [127.0.0.1]:80"], 400),
        ("https://{}/", ["Host: {}"], 400),
        ("http://{}", ["Host: {}"], 400),
        ("user@{}", ["Host: {}"], 400),
        ("/x", ["Host: {}"], 400),
        ("*", ["Host: {}"], 400),
        ("{}", ["Host: {}", "Content-Length: 3"], 400),
        ("{}", ["Host: {}", "Transfer-Encoding: chunked"], 400),
        ("{}", ["Host: {}", "Content-Length: 0"], 200),
    ],
)
def test_connect_names_a_host_and_a_port_and_so_does_its_host(
    proxy: RunningProxy, secure: Named, target: str, lines: list[str], status: int
) -> None:
    filled = [each.format(secure.authority, port=secure.port) for each in lines]
    sent = connect_request(target.format(secure.authority), *filled, host="")
    with connect(forward_url(proxy)) as wire:
        assert wire.send(sent).head().status == status
    assert secure.connections == 0


def test_an_older_client_need_not_send_a_host(proxy: RunningProxy, secure: Named) -> None:
    """Such as Python's http.client before 3.12."""
    wire = tunnel(proxy, secure.authority, host="", version="1.0")
    with Wire(trusting(proxy).wrap_socket(wire.sock, server_hostname="localhost")) as within:
        assert within.send(request(host=secure.authority)).answer().status == 200
    assert secure.last.one("Authorization") == f"Bearer {TOKEN}"


def test_a_routes_host_at_another_port_is_another_host(
    proxy: RunningProxy, secure: Named, other: Named, stranger: Upstream
) -> None:
    with inside(proxy, "localhost", other.port, tls=other.client()) as wire:
        assert wire.send(request(host=other.authority)).answer().status == 200
    sent = request("GET", f"http://localhost:{stranger.port}/", host=f"localhost:{stranger.port}")
    assert ask(forward_url(proxy), sent).status == 200
    assert other.last.one("Authorization") is None
    assert stranger.last.one("Authorization") is None
    with running_proxy(forwarding(route(secure), forward={"unmatched": "refuse"})) as proxy:
        assert connecting(proxy, other.authority).status == 403


def test_the_address_of_a_routes_host_is_not_its_name(proxy: RunningProxy, secure: Named) -> None:
    """The certificate there is the upstream's own: it is a blind tunnel."""
    for address in ("127.0.0.1", "127.1", "0x7f.1"):
        wire = tunnel(proxy, f"{address}:{secure.port}")
        context = secure.client()
        context.check_hostname = False
        with Wire(context.wrap_socket(wire.sock, server_hostname="localhost")) as within:
            assert within.send(request(host=secure.authority)).answer().status == 200
    assert {each.one("Authorization") for each in secure.requests} == {None}


def test_a_route_to_an_address_is_intercepted_as_that_address(tmp_path: Path) -> None:
    with (
        Named(tmp_path, "127.0.0.1") as upstream,
        running_proxy(forwarding(route(upstream))) as proxy,
        inside(proxy, "127.0.0.1", upstream.port) as wire,
    ):
        assert wire.send(request(host=upstream.authority)).answer().status == 200
    assert upstream.last.one("Authorization") == f"Bearer {TOKEN}"


# ── no downgrade ─────────────────────────────────────────────────────────────────────────────────


def test_https_is_never_forwarded_in_the_clear(proxy: RunningProxy, secure: Named) -> None:
    for target in (
        f"https://{secure.authority}/x",
        f"HTTPS://{secure.authority}/",
        "https://other.example/",
    ):
        answer = ask(forward_url(proxy), request("GET", target, host=secure.authority))
        assert (answer.status, answer.proxy_error) == (400, "http_request_error")
    # Nor as the plain http of an https host.
    with tunnel(proxy, secure.authority) as wire:
        answer = wire.send(request("GET", "/x", host=secure.authority)).answer()
        assert answer.status == 400
        assert wire.is_closed()
    sent = request("GET", f"http://{secure.authority}/x", host=secure.authority)
    assert b"Bearer" not in ask(forward_url(proxy), sent).head
    assert [each.one("Authorization") for each in secure.requests] == []


def test_tls_in_a_tunnel_to_an_http_route_is_refused(proxy: RunningProxy, plain: Upstream) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        tunnel(proxy, f"127.0.0.1:{plain.port}") as wire,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(wire.sock)
    assert plain.requests == []
    wait_until(lambda: f"host=127.0.0.1:{plain.port} hint=" in proxy.log(), proxy.log)
    (line,) = (each for each in proxy.log().splitlines() if f"host=127.0.0.1:{plain.port} hint=" in each)
    assert " warning TLS came in a tunnel to a host that a route has as plain http " in line
    assert "write https:// in the route's `upstream`" in line


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:{}", 200), ("elsewhere.example", 421), ("127.0.0.1:1", 421), ("a b", 400)],
)
def test_a_whole_url_and_its_host_say_the_same_for_a_route(
    proxy: RunningProxy, plain: Upstream, host: str, status: int
) -> None:
    sent = request("GET", f"{plain.url}/x", host=host.format(plain.port))
    assert ask(forward_url(proxy), sent).status == status
    assert len(plain.requests) == (status == 200)


@pytest.mark.parametrize("target", ["/x", "*", "x", "localhost:80", "ftp://x/", "http://", "http:///x"])
def test_what_is_no_whole_url_is_400(proxy: RunningProxy, plain: Upstream, target: str) -> None:
    method = "OPTIONS" if target == "*" else "GET"
    assert ask(forward_url(proxy), request(method, target)).status == 400
    assert plain.requests == []


def test_trace_is_refused_whoever_it_is_for(
    proxy: RunningProxy, plain: Upstream, secure: Named, upstreams: tuple[Named, Named, Upstream, Upstream]
) -> None:
    for upstream in (plain, upstreams[3]):
        with connect(forward_url(proxy)) as wire:
            answer = wire.send(
                request("TRACE", f"{upstream.url}/x", host=f"127.0.0.1:{upstream.port}")
            ).answer()
            assert answer.status == 403
        assert upstream.requests == []
    with inside(proxy, "localhost", secure.port) as within:
        assert within.send(request("TRACE", "/x", host=secure.authority)).answer().status == 403
    assert secure.requests == []


# ── our own listeners ────────────────────────────────────────────────────────────────────────────

NAMES = [
    "localhost", "LOCALHOST.", "127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0", "[::]", "ip6-localhost",
]  # fmt: skip


def refused(proxy: RunningProxy, place: str) -> list[tuple[int, bool]]:
    """Return how CONNECT and a URL of plain http to `place` are answered."""
    url = request("GET", f"http://{place}/x", host=place)
    answers = [connecting(proxy, place), ask(forward_url(proxy), url)]
    return [(each.status, OURS in each.json["detail"]) for each in answers]


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
def test_nobody_comes_to_our_own_listeners_by_any_name(secure: Named, listen: str) -> None:
    config = forwarding(route(secure), listen=[listen], access={"tokens": [KEY]})
    config["routes"].append(route(secure, name="own", listen="127.0.0.1:0"))
    with running_proxy(config) as proxy:
        ports = {port_of(each) for each in (proxy.url, proxy.admin_url, proxy.own["own"], forward_url(proxy))}
        names = NAMES if listen != "127.0.0.1:0" else [each for each in NAMES if each != "[::]"]
        answers = {}
        for port, name in itertools.product(ports, names):
            place = f"{name}:{port}"
            url = request("GET", f"http://{place}/x", basic(KEY), host=place)
            tried = [connecting(proxy, place, basic(KEY)), ask(forward_url(proxy), url)]
            answers[place] = [(each.status, each.json["detail"].partition(" ")[2][:40]) for each in tried]
        assert len(ports) == 4
    # To some who look up names a zero begins an octal number, which does not resolve to others: either way
    # nothing is reached, and no name of ours is 200.
    reached = {place: each for place, each in answers.items() if {status for status, _ in each} - {403, 502}}
    assert reached == {}
    certain = (
        "localhost:",
        "LOCALHOST.:",
        "127.0.0.1:",
        "127.1:",
        "0x7f",
        "2130706433:",
        "[::ffff",
        "0.0.0.0:",
    )
    others = {
        place: each
        for place, each in answers.items()
        if place.startswith(certain) and {status for status, _ in each} != {403}
    }
    assert others == {}


def test_this_machines_own_name_leads_to_none_of_them_either(secure: Named) -> None:
    config = forwarding(route(secure), listen=["0.0.0.0:0"], access={"tokens": [KEY]})
    with running_proxy(config) as proxy:
        answer = connecting(proxy, f"{socket.gethostname()}:{port_of(proxy.url)}", basic(KEY))
        assert (answer.status, OURS in answer.json["detail"]) == (403, True)


# ── from other machines ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    [
        "127.0.0.1", "127.9.9.9", "localhost", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0",
        "169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[::]",
    ],
)  # fmt: skip
def test_where_other_machines_may_ask_nothing_leads_to_loopback_or_link_local(
    plain: Upstream, secure: Named, name: str
) -> None:
    remote = {"listen": "0.0.0.0:0", "unmatched": "tunnel"}
    config = forwarding(route(secure), forward=remote, access={"tokens": [KEY]})
    with running_proxy(config) as proxy:
        url = forward_url(proxy).replace("0.0.0.0", "127.0.0.1")
        place = f"{name}:{plain.port}"
        with connect(url) as wire:
            answer = wire.send(connect_request(place, basic(KEY))).answer()
            assert (answer.status, "this machine itself" in answer.json["detail"]) == (403, True)
        sent = request("GET", f"http://{place}/", basic(KEY), host=place)
        assert ask(url, sent).status == 403
    assert plain.connections == 0


def test_where_other_machines_may_ask_others_hosts_are_refused_by_default(
    plain: Upstream, secure: Named
) -> None:
    config = forwarding(route(secure), forward={"listen": "0.0.0.0:0"}, allow_remote=True)
    with running_proxy(config) as proxy, connect(forward_url(proxy).replace("0.0.0.0", "127.0.0.1")) as wire:
        assert wire.send(connect_request(f"127.0.0.1:{plain.port}")).answer().status == 403
    assert plain.connections == 0


# ── smuggling ────────────────────────────────────────────────────────────────────────────────────

HEAD = "POST /x HTTP/1.1\r\nHost: {}\r\n"
SECOND = "GET /smuggled HTTP/1.1\r\nHost: {}\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND,
        HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECOND,
        HEAD + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + SECOND,
        HEAD + "X-A: 1\r\n folded: 2\r\nContent-Length: 0\r\n\r\n",
        HEAD + "X-A: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND,
        HEAD + "X-A : 1\r\n\r\n",
        HEAD + "Transfer-Encoding: chunked\r\n\r\n5\nabcde\n0\n\n" + SECOND,
        "POST /x HTTP/1.1\nHost: {}\n\n" + SECOND,
    ],
)
def test_nothing_is_smuggled_in_a_tunnel(proxy: RunningProxy, secure: Named, sent: str) -> None:
    with (
        inside(proxy, "localhost", secure.port) as wire,
    ):
        answer = wire.send(sent.replace("{}", secure.authority).encode()).answer()
        assert answer.status == 400
        assert wire.is_closed()
    assert [each.target for each in secure.requests if each.target != "/x"] == []


def test_a_connect_inside_a_tunnel_leads_nowhere(proxy: RunningProxy, secure: Named, other: Named) -> None:
    for target, host in ((other.authority, secure.authority), (secure.authority, secure.authority)):
        with inside(proxy, "localhost", secure.port) as wire:
            wire.send(connect_request(target, host=host) + request("GET", "/x", host=host))
            assert wire.answer().status == 403
            assert wire.is_closed()
    assert (secure.requests, other.connections) == ([], 0)


def test_what_follows_a_refused_connect_is_never_read_as_a_request(secure: Named, plain: Upstream) -> None:
    config = forwarding(route(plain), forward={"unmatched": "refuse"})
    with running_proxy(config) as proxy, connect(forward_url(proxy)) as wire:
        wire.send(
            connect_request(secure.authority)
            + request("GET", f"{plain.url}/x", host=f"127.0.0.1:{plain.port}")
        )
        assert wire.answer().status == 403
        assert wire.is_closed()
    assert plain.requests == []


def test_a_second_request_behind_a_tunnelled_connect_is_the_far_ends(
    proxy: RunningProxy, stranger: Upstream, secure: Named
) -> None:
    with connect(forward_url(proxy)) as wire:
        place = f"127.0.0.1:{stranger.port}"
        wire.send(
            connect_request(place)
            + request("GET", f"http://127.0.0.1:{port_of(proxy.admin_url)}/", host=place)
        )
        assert (wire.head().status, wire.answer().status) == (200, 200)
    assert stranger.last.target.startswith("http://127.0.0.1:")
    assert len(stranger.requests) == 1


# ── pages ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Origin: https://evil.example"], 403),
        (["Sec-Fetch-Site: cross-site"], 403),
        (["Sec-Fetch-Site: same-site"], 403),
        (["Origin: null"], 403),
        (["Origin: http://{}"], 403),  # whoever is on the way may have made that page
        (["Origin: https://localhost"], 403),
        (["Origin: https://{}"], 200),
        (["Origin: https://{}", "Sec-Fetch-Site: same-origin"], 200),
        (["Origin: https://{}", "Origin: https://{}"], 400),
        (["Sec-Fetch-Site: none"], 200),
        (["Origin: https://friend.example", "Sec-Fetch-Site: cross-site"], 200),
    ],
)
def test_inside_a_page_of_the_host_itself_may_ask_and_no_other(
    proxy: RunningProxy, secure: Named, lines: list[str], status: int
) -> None:
    with inside(proxy, "localhost", secure.port) as wire:
        filled = [each.format(secure.authority) for each in lines]
        assert wire.send(request("GET", "/", *filled, host=secure.authority)).answer().status == status
    assert len(secure.requests) == (status == 200)


@pytest.mark.parametrize(
    ("line", "status"),
    [("Origin: https://evil.example", 403), ("Sec-Fetch-Site: cross-site", 403), ("Origin: http://{}", 200)],
)
def test_so_it_is_with_a_whole_url(proxy: RunningProxy, plain: Upstream, line: str, status: int) -> None:
    place = f"127.0.0.1:{plain.port}"
    sent = request("GET", f"{plain.url}/", line.format(place), host=place)
    assert ask(forward_url(proxy), sent).status == status
    assert len(plain.requests) == (status == 200)


# ── who stays silent, and who comes in numbers ───────────────────────────────────────────────────


def test_who_says_nothing_in_a_tunnel_is_not_waited_for(secure: Named) -> None:
    config = forwarding(route(secure), limits={"header_timeout": "1s"})
    with running_proxy(config) as proxy:
        with tunnel(proxy, secure.authority) as wire:
            assert wire.is_closed()
        with tunnel(proxy, secure.authority) as wire:
            wire.send(b"\x16\x03\x01\x02\x00")  # a handshake that never goes on
            with contextlib.suppress(BrokenOff, ConnectionResetError):
                wire.rest()
    assert secure.connections == 0


def test_a_tunnel_is_one_connection_to_the_limits(secure: Named, plain: Upstream) -> None:
    config = forwarding(route(secure), limits={"connections": 2})
    with running_proxy(config) as proxy:
        context = trusting(proxy)
        with (
            inside(proxy, "localhost", secure.port, tls=context) as first,
            tunnel(proxy, f"127.0.0.1:{plain.port}") as second,
        ):
            assert first.send(request(host=secure.authority)).answer().status == 200
            assert second.send(request()).answer().status == 200
            answer = connecting(proxy, secure.authority)
            assert (answer.status, answer.proxy_error) == (503, "connection_limit_reached")


def test_many_tunnels_at_once_come_out_at_their_own_ends(proxy: RunningProxy, secure: Named) -> None:
    secure.answer = lambda came, _wire: (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(came.target), came.target.encode())
    )
    context, faults = trusting(proxy), []

    def client(number: int) -> None:
        with inside(proxy, "localhost", secure.port, tls=context) as wire:
            for step in range(5):
                target = f"/{number}/{step}"
                answer = wire.send(request("GET", target, host=secure.authority)).answer()
                if answer.body != target.encode():
                    faults.append((target, answer))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert faults == []
    assert len(secure.requests) == 60
