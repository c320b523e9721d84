"""Forward mode: who names us as a proxy gets the routes' hosts with a token, and all others as they are."""

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support.command import running_proxy, wait_until
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
    told,
    trusting,
    tunnel,
)
from tests.support.ports import free_port
from tests.support.wire import Message, Upstream, Wire, ask, chunked, connect, get, listening, reply, request

PROCESSES = pytest.mark.parametrize("workers", [1, 2])
KEY = "a-key-for-callers"
ACCESS = {"access": {"tokens": [KEY]}}
REFUSE = {"unmatched": "refuse"}


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Named]:
    with Named(tmp_path) as made:
        yield made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Named]:
    """A TLS server that is no route's."""
    with Named(tmp_path) as made:
        yield made


@pytest.fixture
def plain() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


@pytest.fixture
def stranger() -> Iterator[Upstream]:
    """A server of plain http that is no route's."""
    with Upstream() as made:
        yield made


def at(upstream: Upstream) -> str:
    return f"127.0.0.1:{upstream.port}"


# ── a host that is a route's ─────────────────────────────────────────────────────────────────────


@PROCESSES
def test_requests_to_a_routes_host_get_its_token(secure: Named, workers: int) -> None:
    with (
        running_proxy(forwarding(route(secure), workers=workers)) as proxy,
        inside(proxy, "localhost", secure.port) as wire,
    ):
        for target in ("/", "/x?a=1", "/a/../b"):
            answer = wire.send(request("GET", target, host=secure.authority)).answer()
            assert (answer.status, answer.body) == (200, b"fine")
    assert [each.target for each in secure.requests] == ["/", "/x?a=1", "/a/../b"]
    assert {each.one("Authorization") for each in secure.requests} == {f"Bearer {TOKEN}"}
    assert {each.one("Host") for each in secure.requests} == {secure.authority}


@PROCESSES
def test_every_worker_shows_a_certificate_of_the_same_authority(secure: Named, workers: int) -> None:
    with running_proxy(forwarding(route(secure), workers=workers)) as proxy:
        context = trusting(proxy)
        for _ in range(6):
            with inside(proxy, "localhost", secure.port, tls=context) as wire:
                assert wire.send(request(host=secure.authority)).answer().status == 200


def test_of_several_routes_the_longest_base_path_has_the_request_and_none_is_404(secure: Named) -> None:
    def one(name: str, base: str) -> dict[str, object]:
        return route(secure, base, name=name, path=f"/{name}", auth={"grant": "static", "token": name})

    config = forwarding(one("short", "/v1"), one("long", "/v1/deep"), one("odd", "/sp%20ace"))
    with running_proxy(config) as proxy, inside(proxy, "localhost", secure.port) as wire:
        for target in ("/v1", "/v1/x", "/v1/deep", "/v1/deep/x?y", "/v1/deeper", "/v%31/x", "/sp%20ace/x"):
            assert wire.send(request("GET", target, host=secure.authority)).answer().status == 200
        for target in ("/", "/v2/x", "/v1x"):
            answer = wire.send(request("GET", target, host=secure.authority)).answer()
            assert (answer.status, answer.proxy_error) == (404, "destination_not_found")
            assert "base paths covered there: /sp ace, /v1, /v1/deep" in answer.json["detail"]
        lost = [each for each in told(proxy) if each["status"] == 404]
        assert {each["origin"] for each in lost} == {f"https://{secure.authority}"}
        proxy.wait_for_log(f"host={secure.authority} ")
    asked = [(each.target, (each.one("Authorization") or "").partition(" ")[2]) for each in secure.requests]
    assert asked == [
        ("/v1", "short"), ("/v1/x", "short"), ("/v1/deep", "long"), ("/v1/deep/x?y", "long"),
        ("/v1/deeper", "short"), ("/v1/x", "short"), ("/sp%20ace/x", "odd"),
    ]  # fmt: skip


def test_what_a_route_allows_is_judged_below_its_base_path(secure: Named) -> None:
    api = route(secure, "/v1", allow={"methods": ["GET"], "paths": ["/items/**"]})
    with (
        running_proxy(forwarding(api)) as proxy,
        inside(proxy, "localhost", secure.port) as wire,
    ):
        for method, target, status in (
            ("GET", "/v1/items/7", 200),
            ("GET", "/v1/users", 403),
            ("POST", "/v1/items/7", 403),
            ("GET", "/v1/items/../users", 403),
            ("GET", "/v1/items/%2e%2e/%2e%2e/v2", 403),
        ):
            assert wire.send(request(method, target, host=secure.authority)).answer().status == status, target
    assert [each.target for each in secure.requests] == ["/v1/items/7"]


def test_names_are_real_nothing_is_rewritten(secure: Named) -> None:
    location = f"https://{secure.authority}/v1/next"
    cookie = f"a=b; Domain={secure.host}; Path=/v1"
    secure.says(reply(302, f"Location: {location}", f"Set-Cookie: {cookie}"))
    with (
        running_proxy(forwarding(route(secure, "/v1"))) as proxy,
        inside(proxy, "localhost", secure.port) as wire,
    ):
        answer = wire.send(request("GET", "/v1/x", host=secure.authority)).answer()
    assert (answer.one("Location"), answer.one("Set-Cookie")) == (location, cookie)


def test_a_clients_login_is_answered_below_the_base_path(secure: Named) -> None:
    login = route(secure, "/auth", stand_in=[{"path": "/token"}])
    with (
        running_proxy(forwarding(login)) as proxy,
        inside(proxy, "localhost", secure.port) as wire,
    ):
        sent = request("POST", "/auth/token", host=secure.authority, body=b"grant_type=client_credentials")
        placeholder = wire.send(sent).answer().json["access_token"]
        assert placeholder.startswith("authproxy-p-")
        assert secure.requests == []
        authorization = f"Authorization: Bearer {placeholder}"
        assert (
            wire.send(request("GET", "/auth/x", authorization, host=secure.authority)).answer().status == 200
        )
    assert secure.last.one("Authorization") == f"Bearer {TOKEN}"


def test_a_login_at_another_host_is_answered_by_that_hosts_route_and_holds_at_both(
    secure: Named, other: Named
) -> None:
    auth = {"auth": {"grant": "static", "token": TOKEN}}
    login = route(other, name="login", path="/login", stand_in=[{"path": "/oauth/token"}], **auth)
    with running_proxy(forwarding(route(secure), login)) as proxy:
        with inside(proxy, "localhost", other.port) as wire:
            sent = request("POST", "/oauth/token", host=other.authority, body=b"a=b")
            placeholder = wire.send(sent).answer().json["access_token"]
        with inside(proxy, "localhost", secure.port) as wire:
            sent = request("GET", "/x", f"Authorization: Bearer {placeholder}", host=secure.authority)
            assert wire.send(sent).answer().status == 200
    assert (other.requests, secure.last.one("Authorization")) == ([], f"Bearer {TOKEN}")


def test_a_refused_token_is_renewed_and_the_request_repeated_in_the_tunnel(
    secure: Named, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("old")

    def answer(came: Message, _wire: Wire) -> bytes:
        if came.one("Authorization") == "Bearer new":
            return reply(body=came.body)
        file.write_text("new")
        return reply(401)

    secure.answer = answer
    config = forwarding(route(secure, auth={"grant": "file", "path": str(file)}))
    with running_proxy(config) as proxy, inside(proxy, "localhost", secure.port) as wire:
        sent = request("POST", "/x", host=secure.authority, body=b"whatever")
        assert wire.send(sent).answer().body == b"whatever"
    assert [each.one("Authorization") for each in secure.requests] == ["Bearer old", "Bearer new"]


def test_chunks_pipelining_and_continue_are_as_everywhere(secure: Named) -> None:
    secure.answer = lambda came, _wire: reply(body=came.body or came.target.encode())
    with (
        running_proxy(forwarding(route(secure))) as proxy,
        inside(proxy, "localhost", secure.port) as wire,
    ):
        head = request("POST", "/c", "Transfer-Encoding: chunked", host=secure.authority)
        several = head + chunked(b"one ", b"two") + request("GET", "/next", host=secure.authority)
        wire.send(several)
        assert (wire.answer().body, wire.answer().body) == (b"one two", b"/next")
        lines = ("Expect: 100-continue", "Content-Length: 4")
        wire.send(request("PUT", "/e", *lines, host=secure.authority))
        assert wire.answer().status == 100
        assert wire.send(b"body").answer().body == b"body"


def test_an_upgrade_inside_becomes_a_tunnel_with_the_token(secure: Named) -> None:
    def answer(_came: Message, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        wire.send(wire.exactly(4).upper())

    secure.answer = answer
    with (
        running_proxy(forwarding(route(secure))) as proxy,
        inside(proxy, "localhost", secure.port) as wire,
    ):
        wire.send(request("GET", "/ws", "Connection: Upgrade", "Upgrade: echo", host=secure.authority))
        assert wire.head().status == 101
        assert wire.send(b"ping").exactly(4) == b"PING"
    assert secure.last.one("Authorization") == f"Bearer {TOKEN}"


def test_what_comes_right_behind_connect_is_not_lost(secure: Named, other: Named) -> None:
    """A client that does not wait for the 200: the first flight of TLS is in the same piece."""
    with running_proxy(forwarding(route(secure))) as proxy:
        for upstream, context in ((secure, trusting(proxy)), (other, other.client())):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            with connect(forward_url(proxy)) as wire:
                wire.send(connect_request(upstream.authority) + outgoing.read())
                assert wire.head().status == 200
                patiently(client.do_handshake, incoming, wire)
                client.write(request("GET", "/early", host=upstream.authority))
                wire.send(outgoing.read())
                assert patiently(client.read, incoming, wire).startswith(b"HTTP/1.1 200")
            assert upstream.last.target == "/early"


def test_what_comes_in_two_pieces_is_one_handshake(secure: Named) -> None:
    """As the first flight of a client that has a large one to send, over a real network."""
    with running_proxy(forwarding(route(secure))) as proxy:
        context = trusting(proxy)
        for size in (1, 5, 100, 300) * 25:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            with tunnel(proxy, secure.authority) as wire:
                wire.send(outgoing.read(size))
                wire.send(outgoing.read())
                patiently(client.do_handshake, incoming, wire)


def patiently(step: Callable[[], Any], incoming: ssl.MemoryBIO, wire: Wire) -> Any:
    """Return what `step` of TLS returns, once enough has come for it."""
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            piece = wire.read()
            assert piece, "the connection has ended"
            incoming.write(piece)


def test_plain_http_in_a_tunnel_to_an_http_route_is_that_routes(plain: Upstream) -> None:
    """As Node's agents and clients of WebSockets do."""
    with running_proxy(forwarding(route(plain))) as proxy, tunnel(proxy, at(plain)) as wire:
        for _ in range(2):
            assert wire.send(request("GET", "/x", host=at(plain))).answer().status == 200
        assert wire.send(request("GET", "/x", host="localhost")).answer().status == 421
    with running_proxy(forwarding(route(plain))) as proxy, connect(forward_url(proxy)) as wire:
        wire.send(connect_request(at(plain)) + request("GET", "/at-once", host=at(plain)))
        assert (wire.head().status, wire.answer().status) == (200, 200)
    assert {each.one("Authorization") for each in plain.requests} == {f"Bearer {TOKEN}"}
    assert len(plain.requests) == 3


# ── others ───────────────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_any_other_host_is_passed_on_blindly(secure: Named, other: Named, workers: int) -> None:
    with (
        running_proxy(forwarding(route(secure), workers=workers)) as proxy,
        inside(proxy, "localhost", other.port, tls=other.client()) as wire,
    ):
        answer = wire.send(request("GET", "/x", host=other.authority)).answer()
        assert answer.status == 200
    assert other.last.one("Authorization") is None
    assert secure.requests == []


def test_a_tunnel_carries_any_protocol_and_who_speaks_first_does(secure: Named) -> None:
    with (
        listening() as server,
        running_proxy(forwarding(route(secure))) as proxy,
        tunnel(proxy, f"127.0.0.1:{server.getsockname()[1]}") as wire,
    ):
        far = Wire(server.accept()[0])
        far.send(b"220 ready\r\n")
        assert wire.until(b"\r\n") == b"220 ready\r\n"
        wire.send(b"\x00\xff" * 40_000)
        assert far.exactly(80_000) == b"\x00\xff" * 40_000
        wire.sock.shutdown(socket.SHUT_WR)
        assert far.is_closed()
        far.send(b"the rest").close()
        assert wire.rest() == b"the rest"


@pytest.mark.parametrize("who", ["the far end", "the client"])
def test_who_breaks_a_tunnel_off_breaks_it_off_for_the_other_too(secure: Named, who: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        running_proxy(forwarding(route(secure))) as proxy,
        tunnel(proxy, f"127.0.0.1:{server.getsockname()[1]}") as wire,
    ):
        with Wire(server.accept()[0]) as far:
            breaks, sees = (far, wire) if who == "the far end" else (wire, far)
            breaks.send(b"the first half")
            assert sees.exactly(14) == b"the first half"
            breaks.reset()
            with pytest.raises(ConnectionResetError):
                sees.rest()
        wait_until(lambda: told(proxy))
        (shown,) = told(proxy)
        assert shown["error"]["detail"] == (
            f"{shown['path']} broke the connection off, without an end"
            if breaks is far
            else "the client went away"
        )


def test_other_hosts_can_be_refused(secure: Named, other: Named, stranger: Upstream) -> None:
    with running_proxy(forwarding(route(secure), forward=REFUSE)) as proxy:
        answer = connecting(proxy, other.authority)
        assert (answer.status, answer.proxy_error) == (403, "http_request_denied")
        assert "unmatched: tunnel" in answer.json["hint"]
        said = f"no route's upstream is {other.authority}, and `forward.unmatched` is refuse"
        assert answer.json["detail"] == said
        sent = request("GET", f"{stranger.url}/x", host=at(stranger))
        assert ask(forward_url(proxy), sent).status == 403
        with inside(proxy, "localhost", secure.port) as wire:
            assert wire.send(request(host=secure.authority)).answer().status == 200
    assert (other.connections, stranger.connections) == (0, 0)


def test_a_host_that_cannot_be_reached_is_told_as_it_is_for_requests(secure: Named) -> None:
    with running_proxy(forwarding(route(secure))) as proxy:
        answer = connecting(proxy, f"127.0.0.1:{free_port()}")
        assert (answer.status, answer.proxy_error) == (502, "connection_refused")
        answer = connecting(proxy, "nobody.invalid:443")
        assert (answer.status, answer.proxy_error) == (502, "dns_error")
        assert "spelling of the host name" in answer.json["hint"]


def test_a_tunnel_takes_the_timeouts_of_defaults(secure: Named, stranger: Upstream) -> None:
    config = forwarding(route(secure), defaults={"timeouts": {"idle": "200ms"}})
    with running_proxy(config) as proxy, tunnel(proxy, at(stranger)) as wire:
        assert wire.is_closed()


def test_a_tunnel_goes_through_the_http_proxy_of_defaults(secure: Named, other: Named) -> None:
    asked = []

    def answer(came: Message, wire: Wire) -> bytes | None:
        asked.append(came.start)
        if came.method != "CONNECT":
            return reply(body=b"by the proxy")
        wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
        return b"hello from afar"

    with Upstream(answer) as proxy_beyond:
        direct = route(secure, http_proxy="none")
        config = forwarding(direct, defaults={"http_proxy": f"http://{at(proxy_beyond)}"})
        with running_proxy(config) as proxy:
            with tunnel(proxy, "far.invalid:443") as wire:
                assert wire.exactly(15) == b"hello from afar"
            sent = request("GET", "http://far.invalid/x", host="far.invalid")
            assert ask(forward_url(proxy), sent).body == b"by the proxy"
    assert asked == [b"CONNECT far.invalid:443 HTTP/1.1", b"GET http://far.invalid/x HTTP/1.1"]


# ── whole URLs ───────────────────────────────────────────────────────────────────────────────────


def test_a_whole_url_of_a_routes_host_goes_that_routes_way(plain: Upstream) -> None:
    with running_proxy(forwarding(route(plain, "/v1"))) as proxy, connect(forward_url(proxy)) as wire:
        answer = wire.send(request("GET", f"{plain.url}/v1/x?a=1", host=at(plain))).answer()
        assert answer.status == 200
        assert wire.send(request("GET", f"{plain.url}/other", host=at(plain))).answer().status == 404
    assert [(each.target, each.one("Authorization")) for each in plain.requests] == [
        ("/v1/x?a=1", f"Bearer {TOKEN}")
    ]


def test_in_http_1_0_a_whole_url_needs_no_host_besides(plain: Upstream, stranger: Upstream) -> None:
    with running_proxy(forwarding(route(plain))) as proxy:
        for upstream in (plain, stranger):
            assert ask(forward_url(proxy), f"GET {upstream.url}/x HTTP/1.0\r\n\r\n".encode()).status == 200
            assert upstream.last.names.count("host") == 1
            assert upstream.last.one("Host") == at(upstream)
    assert [each.last.one("Authorization") for each in (plain, stranger)] == [f"Bearer {TOKEN}", None]


def test_a_refusal_of_a_host_that_is_no_routes_says_that_it_is_none(
    plain: Upstream, stranger: Upstream
) -> None:
    stranger.answer = lambda _came, _wire: reply(401)
    with running_proxy(forwarding(route(plain))) as proxy:
        answer = ask(forward_url(proxy), request("GET", f"{stranger.url}/x", host=at(stranger)))
    assert f"no route's upstream is http://{at(stranger)}" in (answer.one("Proxy-Status") or "")


def test_who_takes_another_listener_for_it_is_told_where_it_is(secure: Named) -> None:
    with running_proxy(forwarding(route(secure, path="/api"))) as proxy:
        there = f"or use {forward_url(proxy)} (`forward.listen`)"
        answer = ask(proxy.url, connect_request("api.example:443"))
        assert answer.status == 403
        assert there in answer.json["hint"]
        for host, status in (("api.example", 403), ("localhost:9", 404)):
            answer = ask(proxy.url, request("GET", f"http://{host}/x", host=host))
            assert answer.status == status
            assert there in answer.json["hint"]


def test_who_speaks_tls_to_it_is_told_to_write_http(secure: Named) -> None:
    hello = ssl.MemoryBIO()
    shaking = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        shaking.do_handshake()
    with running_proxy(forwarding(route(secure))) as proxy:
        with connect(forward_url(proxy)) as wire:
            answer = wire.send(hello.read()).answer()
        assert answer.status == 400
        assert "HTTPS_PROXY=http://" in answer.json["hint"]
        (shown,) = told(proxy)
    assert [each["what"] for each in shown["steps"]] == ["refused"]


def test_options_of_a_whole_server_are_asked_of_that(plain: Upstream, stranger: Upstream) -> None:
    with running_proxy(forwarding(route(plain))) as proxy:
        for target in (stranger.url, f"{stranger.url}/"):
            assert ask(forward_url(proxy), request("OPTIONS", target, host=at(stranger))).status == 200
    assert [each.target for each in stranger.requests] == ["*", "/"]


def test_any_other_whole_url_is_forwarded_as_it_is(plain: Upstream, stranger: Upstream) -> None:
    stranger.answer = lambda came, _wire: reply(200, "Access-Control-Allow-Origin: *", body=came.body)
    lines = (
        "Proxy-Authorization: Basic c2VjcmV0OnNlY3JldA==", "Proxy-Connection: keep-alive", "X-Own: 1",
        "Authorization: Bearer own", "Connection: X-Hop", "X-Hop: 1", "Origin: https://page.example",
        "Sec-Fetch-Site: cross-site",
    )  # fmt: skip
    with running_proxy(forwarding(route(plain))) as proxy, connect(forward_url(proxy)) as wire:
        sent = request("POST", f"{stranger.url}/x?a=1", *lines, host="wrong.example", body=b"a body")
        answer = wire.send(sent).answer()
        assert (answer.status, answer.body) == (200, b"a body")
        assert answer.one("Access-Control-Allow-Origin") == "*"
        assert wire.send(request("GET", f"{stranger.url}/y", host=at(stranger))).answer().status == 200
    came = stranger.requests[0]
    assert (came.target, came.one("Host"), came.one("Authorization")) == (
        "/x?a=1",
        at(stranger),
        "Bearer own",
    )
    assert came.one("X-Own") == "1"
    assert not {"proxy-authorization", "proxy-connection", "x-hop", "connection"} & set(came.names)
    assert (stranger.connections, plain.connections) == (1, 0)


# ── who may ask ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("", 407),
        (basic("wrong"), 407),
        ("Proxy-Authorization: Basic !", 407),
        ("Proxy-Authorization: Bearer wrong", 407),
        (f"Proxy-Authorization: Digest {KEY}", 407),
        (f"X-Authproxy-Key: {KEY}", 407),
        (f"Authorization: Bearer {KEY}", 407),
        (f"{basic(KEY)}\r\n{basic(KEY)}", 407),
        (basic(KEY), 200),
        (basic(KEY, ""), 200),
        (f"proxy-authorization: basic {basic(KEY).rpartition(' ')[2]}", 200),
        (f"Proxy-Authorization: Bearer {KEY}", 200),
    ],
)
def test_a_key_is_wanted_where_access_says_so(
    secure: Named, plain: Upstream, stranger: Upstream, line: str, status: int
) -> None:
    config = forwarding(route(secure), route(plain, name="plain", path="/plain"), **ACCESS)
    lines = [line] if line else []
    with running_proxy(config) as proxy:
        for target in (secure.authority, at(stranger), at(plain)):
            with connect(forward_url(proxy)) as wire:
                head = wire.send(connect_request(target, *lines)).head()
                assert head.status == status
                assert (head.one("Proxy-Authenticate") == 'Basic realm="authproxy"') == (status == 407)
        for upstream in (plain, stranger):
            answer = ask(forward_url(proxy), request("GET", f"{upstream.url}/", *lines, host=at(upstream)))
            assert answer.status == status
        assert KEY not in proxy.log()
    for upstream in (plain, stranger):
        assert len(upstream.requests) == (status == 200)
        assert all("proxy-authorization" not in each.names for each in upstream.requests)


def test_no_key_is_shown_to_who_looks_at_requests(secure: Named, plain: Upstream) -> None:
    with running_proxy(forwarding(route(secure), **ACCESS)) as proxy:
        said = basic(KEY)
        assert connecting(proxy, "localhost:0", said).status == 400
        sent = request("GET", f"{plain.url}/x", said, host=at(plain))
        assert ask(forward_url(proxy), sent).status == 200
        lines = (f"X-Authproxy-Key: {KEY}",)
        known = [each["id"] for each in get(proxy.admin_url, "/api/requests", *lines).json["requests"]]
        shown = [get(proxy.admin_url, f"/api/requests/{each}", *lines).body.decode() for each in known]
        assert len(shown) == 2
        assert all("Proxy-Authorization" in each for each in shown)
        told = "".join([*shown, proxy.log()])
    for secret in (KEY, said.rpartition(" ")[2]):
        assert secret not in told


def test_inside_a_tunnel_no_key_is_wanted_and_none_goes_further(secure: Named) -> None:
    with (
        running_proxy(forwarding(route(secure), **ACCESS)) as proxy,
        inside(proxy, "localhost", secure.port, basic(KEY)) as wire,
    ):
        assert wire.send(request("GET", "/", basic("x"), host=secure.authority)).answer().status == 200
    assert "proxy-authorization" not in secure.last.names


# ── what is told ─────────────────────────────────────────────────────────────────────────────────


def test_the_admin_api_tells_which_was_intercepted_tunnelled_and_forwarded(
    secure: Named, plain: Upstream, stranger: Upstream
) -> None:
    config = forwarding(route(secure))
    with running_proxy(config) as proxy:
        with inside(proxy, "localhost", secure.port) as wire:
            assert wire.send(request("GET", "/in", host=secure.authority)).answer().status == 200
        with tunnel(proxy, at(plain)) as wire:
            sent = request("GET", "/blind", host=at(plain))
            answer = wire.send(sent).answer()
            wire.sock.shutdown(socket.SHUT_WR)
            assert wire.is_closed()
        assert (
            ask(forward_url(proxy), request("GET", f"{stranger.url}/f?a=1", host=at(stranger))).status == 200
        )
        assert connecting(proxy, forward_url(proxy).removeprefix("http://")).status == 403
        wait_until(lambda: len(told(proxy)) == 4, lambda: str(told(proxy)))
        found = {each.get("forward"): each for each in told(proxy)}
        with urlopen(f"{proxy.admin_url}/metrics") as metrics:
            counts = metrics.read().decode()
        with urlopen(f"{proxy.admin_url}/api/status") as status:
            document = status.read().decode()
        proxy.wait_for_log(f"request route=- method=CONNECT path={at(plain)} status=200 bytes=")
    intercepted, tunnelled, forwarded = (found[each] for each in ("intercepted", "tunnelled", "forwarded"))
    assert (intercepted["route"], intercepted["method"], intercepted["path"]) == ("api", "GET", "/in")
    assert intercepted["upstream"] == f"https://{secure.authority}/in"
    assert (tunnelled["route"], tunnelled["method"], tunnelled["path"]) == (None, "CONNECT", at(plain))
    assert (tunnelled["bytes_in"], tunnelled["bytes_out"]) == (len(sent), len(answer.head + answer.body))
    assert [each["what"] for each in tunnelled["steps"]] == ["connect", "tunnelled"]
    assert (forwarded["route"], forwarded["path"]) == (None, f"http://{at(stranger)}/f?a=••••")
    assert found[None]["error"]["status"] == 403
    assert 'authproxy_tunnels_total{outcome="tunnelled"} 1.0' in counts
    assert 'authproxy_tunnels_total{outcome="intercepted"} 1.0' in counts
    assert f'authproxy_tunnel_bytes_total{{direction="in"}} {len(sent)}.0' in counts
    assert "authproxy_tunnels_open 0.0" in counts
    assert 'authproxy_refused_total{reason="forbidden"} 1.0' in counts
    assert '"bundle_file"' in document


def test_it_says_where_it_listens_and_no_route_is_called_there(secure: Named) -> None:
    with running_proxy(forwarding(route(secure))) as proxy:
        url = forward_url(proxy)
        assert f"listening on {url}" not in proxy.output()
        with urlopen(f"{proxy.admin_url}/api/status") as answer:
            assert url in answer.read().decode()
        refused = get(url, "/x")
        assert (refused.status, refused.proxy_error) == (400, "http_request_error")
        assert "HTTPS_PROXY" in refused.json["hint"]
    assert secure.requests == []


def test_with_tls_it_speaks_plain_http_all_the_same(secure: Named) -> None:
    with running_proxy(forwarding(route(secure), tls="auto")) as proxy:
        assert proxy.url.startswith("https://")
        assert forward_url(proxy).startswith("http://")
        with inside(proxy, "localhost", secure.port) as wire:
            assert wire.send(request(host=secure.authority)).answer().status == 200


def test_a_request_inside_is_sent_again(secure: Named) -> None:
    with running_proxy(forwarding(route(secure))) as proxy:
        with inside(proxy, "localhost", secure.port) as wire:
            assert wire.send(request("GET", "/again", host=secure.authority)).answer().status == 200
        wait_until(lambda: told(proxy))
        known = told(proxy)[0]["id"]
        assert ask(proxy.admin_url, request("POST", f"/api/requests/{known}/replay", body=b"")).status < 300
        assert secure.wait_for(2).target == "/again"
    assert {each.one("Authorization") for each in secure.requests} == {f"Bearer {TOKEN}"}
