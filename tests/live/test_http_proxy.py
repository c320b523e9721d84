"""The way to the upstream through an HTTP proxy: `http_proxy`, and what the environment names.

The upstreams have names that resolve nowhere: whoever reaches them does so through the proxy, which knows
them.
"""

import base64
import json
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.forwarder import Forwarder, server_tls
from tests.support.wire import Message, Tokens, Upstream, Wire, ask, connect, get, json_reply, reply, request

PLAIN = {"grant": "static", "token": "the-token"}
ROTATING = {"grant": "command", "command": ["date", "+%s%N"]}  # another token each time
PASSWORD = "s3cr3t/word"
IN_A_URL = "s3cr3t%2Fword"
ENCODED = base64.b64encode(f"me:{PASSWORD}".encode()).decode()


@dataclass
class World:
    """Upstreams beyond a proxy, and authproxy on this side of it with a route for each `name`."""

    way: Forwarder
    plain: Upstream
    secure: Upstream
    strict: Upstream
    tokens: Tokens
    ca: trustme.CA
    proxy: RunningProxy

    def get(self, route: str, target: str = "/x", *lines: str) -> Message:
        return get(self.proxy.url, f"/{route}{target}", *lines)

    def reset(self) -> None:
        for each in (self.way, self.plain, self.secure, self.strict, self.tokens):
            each.reset()


def in_files(ca: trustme.CA, directory: Path) -> dict[str, str]:
    """Return the `tls` keys of a route that trusts `ca` and shows a certificate of it."""
    mine, files = ca.issue_cert("me@example.com"), {}
    for name, blobs in (
        ("ca_file", [ca.cert_pem]),
        ("cert_file", mine.cert_chain_pems),
        ("key_file", [mine.private_key_pem]),
    ):
        files[name] = str(directory / name)
        Path(files[name]).write_bytes(b"".join(blob.bytes() for blob in blobs))
    return files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    ca = trustme.CA()
    tls = in_files(ca, tmp_path_factory.mktemp("tls"))
    strict_tls = server_tls(ca, "strict.test.invalid")
    strict_tls.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(strict_tls)
    with ExitStack() as stack:
        plain = stack.enter_context(Upstream())
        secure = stack.enter_context(Upstream(tls=server_tls(ca, "api.test.invalid")))
        strict = stack.enter_context(Upstream(tls=strict_tls))
        tokens = stack.enter_context(Tokens())
        places = {
            "api.test.invalid:80": plain.port,
            "api.test.invalid:443": secure.port,
            "other.test.invalid:443": secure.port,
            "strict.test.invalid:8443": strict.port,
            "id.test.invalid:80": tokens.port,
        }
        way = stack.enter_context(Forwarder(places, f"me:{PASSWORD}"))
        url = f"http://me:{IN_A_URL}@127.0.0.1:{way.port}"
        trusting = {"ca_file": tls["ca_file"]}
        oauth = {"grant": "client_credentials", "token_url": "http://id.test.invalid/token", "client_id": "a"}
        upstreams: dict[str, dict[str, Any]] = {
            "plain": {"upstream": "http://api.test.invalid"},
            "based": {"upstream": "http://api.test.invalid/base"},
            "hosted": {"upstream": "http://api.test.invalid", "preserve_host": True},
            "secure": {"upstream": "https://api.test.invalid", "tls": trusting},
            "misnamed": {"upstream": "https://other.test.invalid", "tls": trusting},
            "distrusting": {"upstream": "https://api.test.invalid"},
            "strict": {"upstream": "https://strict.test.invalid:8443", "tls": tls},
            "plain-rotating": {"upstream": "http://api.test.invalid", "auth": ROTATING},
            "secure-rotating": {"upstream": "https://api.test.invalid", "tls": trusting, "auth": ROTATING},
            "earned": {"upstream": plain.url, "auth": oauth, "http_proxy": url},
            "stranger": {"upstream": "http://api.test.invalid", "http_proxy": url.replace("me:", "you:")},
            "secure-stranger": {
                "upstream": "https://api.test.invalid", "http_proxy": url.replace("me:", "you:"),
            },
            "nobody": {"upstream": "https://api.test.invalid", "http_proxy": f"http://me:{IN_A_URL}@127.0.0.1:1"},
        }  # fmt: skip
        routes = [
            {"name": name, "path": f"/{name}", "auth": PLAIN, "insecure": True, "http_proxy": url, **keys}
            for name, keys in upstreams.items()
        ]
        places[f"127.0.0.1:{plain.port}"] = plain.port
        config = {"log": {"level": "debug"}, "routes": routes}
        proxy = stack.enter_context(running_proxy(config))
        yield World(way, plain, secure, strict, tokens, ca, proxy)
        assert proxy.stop() == 0
        log = proxy.log() + proxy.output()
        assert "internal error" not in log
        assert f"proxy=http://127.0.0.1:{way.port}" in log
        for secret in (PASSWORD, IN_A_URL, ENCODED, "the-token"):
            assert secret not in log


@pytest.fixture
def world(made: World) -> World:
    made.reset()
    return made


# ── the way through ──────────────────────────────────────────────────────────────────────────────


def test_plain_http_is_forwarded_with_the_whole_url(world: World) -> None:
    answer = world.get("plain", "/a%20b?c=d")
    assert (answer.status, answer.body) == (200, b"fine")
    (asked,) = world.way.requests
    assert asked.start == b"GET http://api.test.invalid/a%20b?c=d HTTP/1.1"
    assert asked.one("Proxy-Authorization") == f"Basic {ENCODED}"
    assert (asked.one("Host"), asked.one("Authorization")) == ("api.test.invalid", "Bearer the-token")
    assert world.plain.last.target == "/a%20b?c=d"


@pytest.mark.parametrize(
    ("method", "target", "start"),
    [
        ("GET", "/plain", "GET http://api.test.invalid/ HTTP/1.1"),
        ("GET", "/plain?a", "GET http://api.test.invalid/?a HTTP/1.1"),
        ("GET", "/based/x", "GET http://api.test.invalid/base/x HTTP/1.1"),
        ("HEAD", "/based", "HEAD http://api.test.invalid/base HTTP/1.1"),
    ],
)
def test_a_forwarded_url_is_always_whole(world: World, method: str, target: str, start: str) -> None:
    assert ask(world.proxy.url, request(method, target)).status == 200
    assert world.way.asked == [start]


def test_https_goes_through_a_tunnel_in_which_the_proxy_reads_nothing(world: World) -> None:
    answer = world.get("secure", "/a?b")
    assert (answer.status, answer.body) == (200, b"fine")
    (asked,) = world.way.requests
    assert asked.start == b"CONNECT api.test.invalid:443 HTTP/1.1"
    assert [name for name, _ in asked.headers] == [b"Host", b"Proxy-Authorization"]
    assert asked.one("Host") == "api.test.invalid:443"
    assert asked.one("Proxy-Authorization") == f"Basic {ENCODED}"
    sent = world.secure.last
    assert (sent.target, sent.one("Host")) == ("/a?b", "api.test.invalid")
    assert (sent.one("Authorization"), sent.one("Proxy-Authorization")) == ("Bearer the-token", None)


@pytest.mark.parametrize("route", ["misnamed", "distrusting"])
def test_the_upstreams_own_certificate_is_checked_through_the_tunnel(world: World, route: str) -> None:
    answer = world.get(route)
    assert (answer.status, answer.proxy_error) == (502, "tls_certificate_error")
    assert (len(world.way.requests), world.secure.requests) == (1, [])


def test_a_client_certificate_is_shown_through_the_tunnel(world: World) -> None:
    world.strict.answer = lambda _request, wire: reply(body=str(wire.sock.getpeercert()).encode())
    assert b"me@example.com" in world.get("strict").body
    assert world.way.asked[0] == "CONNECT strict.test.invalid:8443 HTTP/1.1"


def test_a_callers_own_proxy_authorization_goes_nowhere(world: World) -> None:
    for route in ("plain", "secure"):
        assert world.get(route, "/x", "Proxy-Authorization: Basic bXk6b3du").status == 200
    assert {each.one("Proxy-Authorization") for each in world.way.requests} == {f"Basic {ENCODED}"}


def test_a_host_to_be_preserved_needs_a_tunnel(world: World) -> None:
    """A proxy that forwards replaces `Host` (RFC 9112 §3.2.2)."""
    assert world.get("hosted").status == 200
    assert world.way.asked == ["CONNECT api.test.invalid:80 HTTP/1.1"]
    assert (world.plain.last.one("Host"), world.plain.last.target) == ("localhost", "/x")


# ── what holds without a proxy holds with one ────────────────────────────────────────────────────


@pytest.mark.parametrize("route", ["plain", "secure"])
def test_connections_are_used_again(world: World, route: str) -> None:
    world.get(route)
    connections = world.way.connections
    assert [world.get(route, f"/{number}").status for number in range(20)] == [200] * 20
    assert world.way.connections == connections
    assert len(world.way.requests) == (21 if route == "plain" else connections)


@pytest.mark.parametrize("route", ["plain", "secure"])
def test_a_large_body_passes_both_ways(world: World, route: str) -> None:
    body = os.urandom(3 << 20)
    upstream = world.plain if route == "plain" else world.secure
    upstream.answer = lambda came, _wire: reply(body=came.body)
    assert ask(world.proxy.url, request("POST", f"/{route}/x", body=body)).body == body


@pytest.mark.parametrize("route", ["plain-rotating", "secure-rotating"])
def test_a_refused_token_is_renewed(world: World, route: str) -> None:
    upstream = world.plain if route == "plain-rotating" else world.secure
    upstream.says_in_turn([reply(401), reply(body=b"second")])
    answer = ask(world.proxy.url, request("POST", f"/{route}/x", body=b"said twice"))
    assert (answer.status, answer.body) == (200, b"second")
    assert [came.body for came in upstream.requests] == [b"said twice"] * 2
    first, second = (came.one("Authorization") for came in upstream.requests)
    assert first != second


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("route", ["plain", "secure"])
def test_a_post_that_may_have_arrived_is_never_doubled(world: World, route: str, *, warm: bool) -> None:
    if warm:
        assert world.get(route, "/warm").status == 200
    if route == "plain":  # it is the proxy that hangs up
        serve = world.way.answer
        world.way.answer = lambda came, wire: None if came.method == "POST" else serve(came, wire)
    world.secure.answer = lambda _came, _wire: None
    answer = ask(world.proxy.url, request("POST", f"/{route}/once", body=b"pay 5"))
    assert (answer.status, answer.proxy_error) == (502, "http_protocol_error")
    arrived = world.way if route == "plain" else world.secure
    assert [came.method for came in arrived.requests].count("POST") == 1


def switch(came: Message, wire: Wire) -> bytes | None:
    """Answer an upgrade, then say everything back."""
    if came.one("Upgrade") != "echo":
        return reply(400)
    wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    while piece := wire.read():
        wire.send(piece)
    return None


@pytest.mark.parametrize(("route", "port"), [("plain", 80), ("secure", 443)])
def test_an_upgrade_goes_through_a_tunnel(world: World, route: str, port: int) -> None:
    upstream = world.plain if route == "plain" else world.secure
    assert world.get(route).status == 200  # a connection is at hand, but of the wrong kind
    upstream.answer = switch
    world.way.requests.clear()
    with connect(world.proxy.url) as wire:
        wire.send(request("GET", f"/{route}/ws", "Connection: Upgrade", "Upgrade: echo"))
        assert wire.head().status == 101
        wire.send(b"\x00\xff hello")
        assert wire.exactly(8) == b"\x00\xff hello"
    if route == "plain":
        assert world.way.asked == [f"CONNECT api.test.invalid:{port} HTTP/1.1"]
    sent = upstream.last
    assert (sent.target, sent.one("Authorization")) == ("/ws", "Bearer the-token")
    assert sent.one("Proxy-Authorization") is None


def test_a_refused_upgrade_does_not_mix_the_two_kinds_of_connections(world: World) -> None:
    for _ in range(3):
        world.plain.answer = switch
        answer = ask(world.proxy.url, request("GET", "/plain/ws", "Connection: Upgrade", "Upgrade: other"))
        assert answer.status == 400
        world.plain.answer = world.plain.first_answer
        assert world.get("plain").status == 200
    forwarded = [line for line in world.way.asked if line.startswith("GET http://api.test.invalid/x ")]
    assert len(forwarded) == 3
    assert [came.target for came in world.plain.requests] == ["/ws", "/x"] * 3


def test_the_token_endpoint_is_asked_the_same_way(world: World) -> None:
    answer = world.get("earned")
    assert answer.status == 200
    starts = [line.split(" ")[:2] for line in world.way.asked]
    assert starts == [["POST", "http://id.test.invalid/token"], ["GET", f"{world.plain.url}/x"]]
    assert {came.one("Proxy-Authorization") for came in world.way.requests} == {f"Basic {ENCODED}"}
    assert world.plain.last.one("Authorization") == f"Bearer {world.tokens.issued.every[-1]}"


def test_a_token_endpoint_beyond_a_tunnel_does_not_hear_the_proxys_password(
    world: World, tmp_path: Path
) -> None:
    world.ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    token = json_reply({"access_token": "beyond", "token_type": "bearer", "expires_in": 3600})
    with Upstream(lambda _request, _wire: token, tls=server_tls(world.ca, "id.test.invalid")) as endpoint:
        world.way.places["id.test.invalid:443"] = endpoint.port
        auth = {"grant": "client_credentials", "token_url": "https://id.test.invalid/token", "client_id": "a"}
        url = f"http://me:{IN_A_URL}@127.0.0.1:{world.way.port}"
        routes = [{"name": "api", "upstream": world.plain.url, "auth": auth, "http_proxy": url}]
        config, env = {"routes": routes}, {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        with running_proxy(config, env=env) as proxy:
            assert get(proxy.url).status == 200
        assert world.way.asked[0] == "CONNECT id.test.invalid:443 HTTP/1.1"
        assert world.way.requests[0].one("Proxy-Authorization") == f"Basic {ENCODED}"
        assert "proxy-authorization" not in endpoint.last.names
    assert world.plain.last.one("Authorization") == "Bearer beyond"


# ── a proxy that will not ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("route", ["stranger", "secure-stranger"])
def test_a_407_is_the_proxys_own_and_says_what_to_do(world: World, route: str) -> None:
    answer = world.get(route)
    assert (answer.status, answer.proxy_error) == (502, "connection_refused")
    problem = answer.json
    assert f"the HTTP proxy http://127.0.0.1:{world.way.port} answered 407" in problem["detail"]
    assert "http_proxy" in problem["hint"]
    for secret in (PASSWORD, IN_A_URL, ENCODED):
        assert secret.encode() not in answer.head + answer.body
    assert answer.one("Proxy-Authenticate") is None
    assert world.plain.requests + world.secure.requests == []


def test_a_proxy_that_is_not_there_is_named(world: World) -> None:
    answer = world.get("nobody")
    assert (answer.status, answer.proxy_error) == (502, "connection_refused")
    assert "cannot connect to the HTTP proxy http://127.0.0.1:1" in answer.json["detail"]
    assert PASSWORD.encode() not in answer.body


# ── the environment ──────────────────────────────────────────────────────────────────────────────


@contextmanager
def surroundings(way: Forwarder, **env: str) -> Iterator[RunningProxy]:
    """Run authproxy where the environment names `way`; routes to names, to loopback, and past the proxy."""
    port = way.places["api.test.invalid:80"]
    upstreams: dict[str, dict[str, Any]] = {
        "named": {"upstream": "http://api.test.invalid"},
        "excepted": {"upstream": "http://api.excepted.invalid"},
        "direct": {"upstream": "http://api.test.invalid", "http_proxy": "none"},
        "off": {"upstream": "http://api.test.invalid", "http_proxy": False},
        "local": {"upstream": f"http://127.0.0.1:{port}"},
        "by-name": {"upstream": f"http://localhost:{port}"},
    }
    routes = [
        {"name": name, "path": f"/{name}", "auth": PLAIN, "insecure": True, **keys}
        for name, keys in upstreams.items()
    ]
    way.reset()
    with running_proxy({"log": {"level": "debug"}, "routes": routes}, env=env) as proxy:
        yield proxy
        assert proxy.stop() == 0
        for secret in (PASSWORD, IN_A_URL, ENCODED):
            assert secret not in proxy.log() + proxy.output()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_the_environments_proxy_is_for_names_beyond_this_machine(world: World, name: str) -> None:
    env = {name: f"http://me:{IN_A_URL}@127.0.0.1:{world.way.port}/", "NO_PROXY": "x, .excepted.invalid"}
    with surroundings(world.way, **env) as proxy:
        assert get(proxy.url, "/named/x").body == b"fine"
        assert world.way.asked == ["GET http://api.test.invalid/x HTTP/1.1"]
        for route in ("local", "by-name"):
            assert get(proxy.url, f"/{route}/x").body == b"fine"
        for route in ("excepted", "direct", "off"):
            answer = get(proxy.url, f"/{route}/x")
            assert (answer.status, answer.proxy_error) == (502, "dns_error")
        assert len(world.way.requests) == 1


def test_https_proxy_is_not_for_http(world: World) -> None:
    with surroundings(world.way, HTTPS_PROXY=f"http://127.0.0.1:{world.way.port}") as proxy:
        assert get(proxy.url, "/named/x").proxy_error == "dns_error"
        assert world.way.requests == []


# ── what is said of it ───────────────────────────────────────────────────────────────────────────


def one_route(**keys: Any) -> dict[str, Any]:
    return {"routes": [{"name": "api", "upstream": "https://api.test.invalid", "auth": PLAIN, **keys}]}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_routes_does_not_show_the_password(options: list[str]) -> None:
    ended = authproxy("routes", *options, config=one_route(http_proxy="http://me:s3cr3t@127.0.0.1:3128"))
    assert ended.returncode == 0
    assert "s3cr3t" not in ended.stdout + ended.stderr
    if options:
        assert json.loads(ended.stdout)[0]["http_proxy"] == "••••"


@pytest.mark.parametrize(
    ("verb", "value"),
    [
        ("check", "socks5://me:s3cr3t@proxy:1080"),
        ("check", "https://me:s3cr3t@proxy:3128"),
        ("check", "http://me:s3cr3t@proxy"),
        ("run", "s3cr3t"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_before_anything_is_asked(verb: str, value: str) -> None:
    ended = authproxy(verb, config=one_route(http_proxy=value))
    said = ended.stdout + ended.stderr
    assert (ended.returncode, "routes[0].http_proxy: should " in said) == (2, True)
    assert "s3cr3t" not in said
    ended = authproxy(verb, config=one_route(), env={"HTTPS_PROXY": value})
    said = ended.stdout + ended.stderr
    assert ended.returncode == 2
    assert "routes[0].upstream: cannot be reached: HTTPS_PROXY, in the environment, should " in said
    assert "s3cr3t" not in said


def test_the_metrics_count_connections_through_a_proxy(world: World) -> None:
    assert world.get("plain").status == 200
    idle = re.compile(rb'authproxy_upstream_connections{route="plain",state="idle"} [1-9]')
    wait_until(lambda: idle.search(get(world.proxy.admin_url, "/metrics").body))
