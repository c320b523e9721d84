"""Routes with an address of their own: who asks there has that route, whole, and no other."""

import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from tests.support.command import authproxy, running_proxy, wait_until
from tests.support.edited import NOT_DONE, Edited, edited
from tests.support.launch import ANY_PORT, GUARD
from tests.support.ports import free_port
from tests.support.service_manager import passing
from tests.support.wire import Message, Upstream, Wire, ask, connect, get, reply, request
from tests.support.workers import children

PROCESSES = pytest.mark.parametrize("workers", [1, 2])
NONE = {"grant": "none"}


def static(token: str) -> dict[str, Any]:
    return {"grant": "static", "token": token}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


def at(url: str) -> str:
    """Return the address in the URL of a listener."""
    return url.partition("://")[2]


def is_refused(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=GUARD).close()
    except ConnectionRefusedError:
        return True
    return False


def two(upstream: Upstream, other: Upstream, **more: Any) -> dict[str, Any]:
    """Return a configuration of one route that is mounted as well, and one at its own address alone."""
    routes = [
        {"name": "both", "path": "/both", "listen": ANY_PORT, "upstream": f"{upstream.url}/v1",
         "auth": static("t0ken-of-both")},
        {"name": "alone", "listen": ANY_PORT, "upstream": other.url, "auth": static("t0ken-of-alone")},
    ]  # fmt: skip
    return {"routes": routes, **more}


# ── whose a request is ───────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_at_its_own_address_all_paths_are_the_routes_and_none_is_shortened(
    upstream: Upstream, other: Upstream, workers: int
) -> None:
    with running_proxy(two(upstream, other, workers=workers)) as proxy:
        for target in ("/", "/x?a=1", "/both/x", "/alone", "/a/../b"):
            assert get(proxy.own["both"], target).status == 200
            assert get(proxy.own["alone"], target).status == 200
        targets = ["/", "/x?a=1", "/both/x", "/alone", "/a/../b"]
        assert [each.target for each in upstream.requests] == [f"/v1{each}" for each in targets]
        assert [each.target for each in other.requests] == targets
        assert {each.one("Authorization") for each in upstream.requests} == {"Bearer t0ken-of-both"}
        assert {each.one("Authorization") for each in other.requests} == {"Bearer t0ken-of-alone"}


@PROCESSES
def test_with_a_path_it_is_mounted_as_well_and_without_it_is_there_alone(
    upstream: Upstream, other: Upstream, workers: int
) -> None:
    with running_proxy(two(upstream, other, workers=workers)) as proxy:
        assert get(proxy.url, "/both/x").status == 200
        assert upstream.last.target == "/v1/x"
        answer = get(proxy.url, "/alone")
        assert (answer.status, answer.proxy_error) == (404, "destination_not_found")
        assert other.requests == []


def test_two_listeners_never_share_what_was_remembered_of_a_head(upstream: Upstream, other: Upstream) -> None:
    """The same bytes, again and again, at each of three listeners of one process, over kept connections."""
    config = two(upstream, other)
    config["routes"].append({"name": "root", "upstream": f"{other.url}/root", "auth": NONE})
    same = request("GET", "/both/x", "User-Agent: same", host="localhost")
    with (
        running_proxy(config) as proxy,
        connect(proxy.own["both"]) as both,
        connect(proxy.own["alone"]) as alone,
        connect(proxy.url) as mounted,
    ):
        for _ in range(4):  # a head is remembered from its second sight on
            for wire in (both, alone, mounted):
                assert wire.send(same).answer().status == 200
        at_both = [each for each in upstream.requests if each.target == "/v1/both/x"]
        at_mount = [each for each in upstream.requests if each.target == "/v1/x"]
        assert (len(at_both), len(at_mount), len(other.requests)) == (4, 4, 4)
        assert {each.one("Authorization") for each in upstream.requests} == {"Bearer t0ken-of-both"}
        assert {(each.target, each.one("Authorization")) for each in other.requests} == {
            ("/both/x", "Bearer t0ken-of-alone")
        }


def test_all_its_listeners_have_one_pool_one_token_and_one_count(upstream: Upstream, other: Upstream) -> None:
    with running_proxy(two(upstream, other)) as proxy:
        for url, target in [(proxy.own["both"], "/x"), (proxy.url, "/both/x")] * 3:
            assert get(url, target).status == 200
        assert upstream.connections == 1
        status = get(proxy.admin_url, "/api/status").json
        assert [each["requests"] for each in status["routes"]] == [6, 0]
        assert b'authproxy_requests_total{method="GET",route="both",status="200"} 6.0' in (
            get(proxy.admin_url, "/metrics").body
        )


def test_allow_judges_the_whole_path_there(upstream: Upstream) -> None:
    allow = {"methods": ["GET"], "paths": ["/v2/**"]}
    route = {"name": "a", "path": "/up", "listen": ANY_PORT, "upstream": upstream.url, "auth": NONE}
    with running_proxy({"routes": [route | {"allow": allow}]}) as proxy:
        own = proxy.own["a"]
        assert get(own, "/v2/x").status == 200
        for target in ("/up/v2/x", "/x", "/v2/../x", "/v2/%2e%2e/x", "/v2x"):
            answer = get(own, target)
            assert (answer.status, answer.proxy_error) == (403, "http_request_denied"), target
        assert ask(own, request("POST", "/v2/x", body=b"x")).status == 403
        assert get(proxy.url, "/up/v2/x").status == 200
        assert get(proxy.url, "/v2/x").status == 404
        assert [each.target for each in upstream.requests] == ["/v2/x", "/v2/x"]


def test_a_body_an_upgrade_and_what_is_not_plain_go_there_too(other: Upstream) -> None:
    def echo(came: Message, wire: Wire) -> bytes | None:
        if came.one("Upgrade"):
            wire.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            wire.send(wire.read())
            return None
        return reply(body=came.body)

    with Upstream(echo) as upstream, running_proxy(two(upstream, other)) as proxy:
        own = proxy.own["both"]
        assert ask(own, request("POST", "/x", body=b"b" * 5000)).body == b"b" * 5000
        assert ask(own, request("GET", "/é")).status == 200
        assert upstream.last.target == "/v1/%E9"
        with connect(own) as wire:
            wire.send(request("GET", "/ws", "Connection: Upgrade", "Upgrade: echo"))
            assert wire.head().status == 101
            assert wire.send(b"ping").exactly(4) == b"ping"
        assert upstream.last.target == "/v1/ws"
        assert upstream.last.one("Authorization") == "Bearer t0ken-of-both"


# ── where ────────────────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_its_address_may_be_a_unix_socket_that_goes_with_it(
    upstream: Upstream, tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "own.sock"
    route = {"name": "a", "listen": f"unix:{path}", "upstream": upstream.url, "auth": NONE}
    with running_proxy({"routes": [route], "workers": workers}) as proxy:
        assert proxy.own == {"a": f"unix:{path}"}
        assert path.stat().st_mode & 0o777 == 0o600
        assert get(proxy.own["a"], "/x/y").status == 200
        assert upstream.last.target == "/x/y"
        assert proxy.stop() == 0
    assert not path.exists()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_its_address_may_be_one_of_ipv6_or_a_name(upstream: Upstream) -> None:
    routes = [
        {"name": "six", "listen": "[::1]:0", "upstream": upstream.url, "auth": NONE},
        {"name": "name", "listen": "localhost:0", "upstream": f"{upstream.url}/n", "auth": NONE},
    ]
    with running_proxy({"routes": routes}) as proxy:
        assert proxy.own["six"].startswith("http://[::1]:")
        assert get(proxy.own["six"], "/x", host=at(proxy.own["six"])).status == 200
        port = urlsplit(proxy.own["name"]).port
        assert [get(f"http://{each}:{port}", "/y").status for each in ("127.0.0.1", "[::1]")] == [200, 200]
        assert [each.target for each in upstream.requests] == ["/x", "/n/y", "/n/y"]


@PROCESSES
def test_where_all_routes_are_at_their_own_addresses_there_is_no_other(
    upstream: Upstream, tmp_path: Path, workers: int
) -> None:
    """8080 is not wanted then: it may be somebody else's, and would answer 404 to everything."""
    text = f"""
admin: {{listen: "127.0.0.1:0"}}
workers: {workers}
routes:
- {{name: a, listen: "127.0.0.1:0", upstream: "{upstream.url}", auth: {{grant: none}}}}
- {{name: b, listen: "127.0.0.1:0", upstream: "{upstream.url}/b", auth: {{grant: none}}}}
"""
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with running_proxy(None, "-c", str(file)) as proxy:
        wait_until(lambda: len(proxy.output().splitlines()) == 3)
        assert proxy.is_listening()
        assert (proxy.urls, sorted(proxy.own)) == ([], ["a", "b"])
        assert get(proxy.own["b"], "/x").status == 200
        assert upstream.last.target == "/b/x"
        assert get(proxy.admin_url, "/api/status").json["listeners"] == list(proxy.own.values())


def test_on_the_command_line_it_is_a_key_like_others(upstream: Upstream) -> None:
    args = ("--upstream", upstream.url, "--set", "listen=127.0.0.1:0", "--admin", ANY_PORT)
    with running_proxy(None, *args) as proxy:
        wait_until(lambda: proxy.is_listening() and proxy.own)
        assert get(proxy.own["default"], "/x").status == 200
        assert proxy.urls == []
    with running_proxy(None, *args, "--listen", ANY_PORT) as proxy:
        wait_until(lambda: proxy.is_listening() and proxy.own)
        assert get(proxy.own["default"], "/x").status == 200
        assert get(proxy.url, "/x").status == 404


def test_what_it_serves_it_serves_by_https_too(upstream: Upstream, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def moved(came: Message, _wire: Wire) -> bytes:
        return reply(302, f"Location: {upstream.url}/next")

    upstream.answer = moved
    tls = {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}
    route = {"name": "a", "listen": ANY_PORT, "upstream": upstream.url, "auth": NONE}
    with running_proxy({"routes": [route], "tls": tls}) as proxy:
        own = proxy.own["a"]
        assert own.startswith("https://")
        answer = ask(own, request("GET", "/x", host=at(own)), tls=trusting)
        assert answer.one("Location") == f"{own}/next"
        assert get(proxy.admin_url, "/api/status").json["listeners"][-1] == own


# ── what comes back ──────────────────────────────────────────────────────────────────────────────


def test_what_points_at_the_upstream_points_at_the_listener_that_was_asked(
    upstream: Upstream, other: Upstream
) -> None:
    def says(_came: Message, _wire: Wire) -> bytes:
        return reply(
            201,
            f"Location: {upstream.url}/v1/jobs/7",
            "Content-Location: /v1/jobs/7",
            f'Link: <{upstream.url}/v1/jobs?page=2>; rel="next"',
            "Set-Cookie: a=1; Path=/v1/jobs; Domain=127.0.0.1",
            "Set-Cookie: b=2; Path=/",
        )

    upstream.answer = says
    with running_proxy(two(upstream, other)) as proxy:
        own = proxy.own["both"]
        for _ in range(3):  # by what was remembered of the answer's head, too
            answer = get(own, "/x", host=at(own))
            assert answer.one("Location") == f"{own}/jobs/7"
            assert answer.one("Content-Location") == "/jobs/7"
            assert answer.one("Link") == f'<{own}/jobs?page=2>; rel="next"'
            assert answer.all("Set-Cookie") == ["a=1; Path=/jobs", "b=2; Path=/"]
            answer = get(proxy.url, "/both/x", host=at(proxy.url))
            assert answer.one("Location") == f"{proxy.url}/both/jobs/7"
            assert answer.one("Content-Location") == "/both/jobs/7"
            assert answer.all("Set-Cookie") == ["a=1; Path=/both/jobs", "b=2; Path=/both"]


# ── who may ask ──────────────────────────────────────────────────────────────────────────────────


def test_the_guard_is_there_as_well(upstream: Upstream, other: Upstream) -> None:
    with running_proxy(two(upstream, other)) as proxy:
        own = proxy.own["both"]
        refused = [
            request("GET", "/x", host="evil.example"),
            request("GET", "/x", "Sec-Fetch-Site: cross-site"),
            request("GET", "/x", "Origin: https://evil.example"),
            request(
                "GET", "/x", f"Origin: {proxy.own['alone']}", host=at(own)
            ),  # another port, another origin
            request("TRACE", "/x"),
            request("GET", "http://evil.example/x"),
        ]
        for sent in refused:
            answer = ask(own, sent)
            assert (answer.status, answer.proxy_error) == (403, "http_request_denied"), sent
        assert upstream.requests == []
        for sent in (
            request("GET", "/x", f"Origin: {own}", "Sec-Fetch-Site: same-origin", host=at(own)),
            request("GET", f"{own}/x", host=at(own)),
        ):
            assert ask(own, sent).status == 200
        assert [each.target for each in upstream.requests] == ["/v1/x"] * 2


def test_its_own_name_is_a_host_that_is_answered(upstream: Upstream) -> None:
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, 0)
    except OSError:
        pytest.skip("this machine does not know its name")
    route = {"name": "a", "listen": f"{name}:0", "upstream": upstream.url, "auth": NONE}
    config = {"routes": [route], "allow_remote": True}
    with running_proxy(config) as proxy:
        assert get(proxy.own["a"], host=at(proxy.own["a"])).status == 200
        assert get(proxy.own["a"], host=f"not-{name}").status == 403


def test_the_key_is_wanted_there_too_and_does_not_go_on(upstream: Upstream) -> None:
    route = {"name": "a", "listen": ANY_PORT, "upstream": upstream.url, "auth": NONE}
    with running_proxy({"routes": [route], "access": {"tokens": ["a-key-of-callers-1"]}}) as proxy:
        own = proxy.own["a"]
        assert [get(own).status for _ in range(3)] == [401] * 3
        for _ in range(3):
            assert get(own, "/", "X-Authproxy-Key: a-key-of-callers-1").status == 200
        assert {each.one("X-Authproxy-Key") for each in upstream.requests} == {None}


@pytest.mark.parametrize("address", ["0.0.0.0:{port}", ":{port}", "[::]:{port}"])
def test_other_machines_reach_it_only_if_that_is_allowed(address: str) -> None:
    address = address.format(port=free_port())
    route = {"name": "a", "listen": address, "upstream": "https://a.example", "auth": NONE}
    ended = authproxy("run", config={"routes": [route], "listen": ANY_PORT, "admin": False})
    assert ended.returncode == 2
    assert "routes[0].listen: lets other machines use the credentials" in ended.stderr


def test_nobody_is_sent_to_it_by_the_proxy_itself(upstream: Upstream) -> None:
    """Neither by the configuration, nor by a name that leads there."""
    port = free_port()
    routes = [
        {"name": "a", "listen": f"127.0.0.1:{port}", "upstream": upstream.url, "auth": NONE},
        {"name": "b", "path": "/b", "upstream": f"http://localhost:{port}", "auth": NONE},
    ]
    ended = authproxy("check", config={"routes": routes})
    assert ended.returncode == 2
    assert "routes[1].upstream: is the listener of the route a" in ended.stdout
    with running_proxy({"routes": [routes[0]], "listen": ANY_PORT}) as proxy:
        loop = {"name": "b", "path": "/b", "upstream": f"http://127.0.0.1:{port}", "auth": NONE}
        assert authproxy("check", config={"routes": [routes[0], loop]}).returncode == 2
        assert get(proxy.own["a"]).status == 200


def test_a_port_that_was_free_is_known_as_ours_when_it_is_dialled(upstream: Upstream, tmp_path: Path) -> None:
    """An upstream that the configuration could not know for one of our listeners: port 0 became its port."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        pass
    routes = [
        {"name": "a", "listen": ANY_PORT, "upstream": upstream.url, "auth": NONE},
        {"name": "b", "path": "/b", "upstream": upstream.url, "auth": NONE},
    ]
    with edited({"routes": routes}) as proxy:
        own = proxy.proxy.own["a"]
        routes[1] = routes[1] | {"upstream": own}
        proxy.must_reload(routes=routes)
        answer = get(proxy.proxy.url, "/b/x")
        assert answer.status in {403, 502}, answer.body
        assert b"loop" in answer.body
        assert upstream.requests == []


# ── faults ───────────────────────────────────────────────────────────────────────────────────────

TEXT = """\
listen: [127.0.0.1:7001]
admin: {{listen: 127.0.0.1:7002}}
routes:
- {{name: a, upstream: "https://a.example", auth: {{grant: none}}, listen: {one}}}
- {{name: b, upstream: "https://b.example", auth: {{grant: none}}, listen: "{other}"}}
"""


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        ("127.0.0.1:7001", "routes[1].listen: is already listened on"),
        ("127.0.0.1:7002", "routes[1].listen: is already listened on"),
        ("127.0.0.1:7003", "routes[1].listen: is already listened on"),
        ("localhost:7003", "routes[1].listen: is already listened on"),
        ("127.1:7003", "routes[1].listen: is already listened on"),
        ("[::ffff:127.0.0.1]:7003", "routes[1].listen: is already listened on"),
        ("nowhere", "routes[1].listen: should be"),
    ],
)
def test_an_address_that_is_taken_is_told_with_its_place(other: str, fault: str) -> None:
    text = TEXT.format(one="127.0.0.1:7003", other=other)
    ended = authproxy("check", config=text)
    assert ended.returncode == 2
    [line] = ended.stdout.splitlines()
    column = text.splitlines()[4].index('"' + other) + 1
    assert f"authproxy-test.yaml:5:{column}: {fault}" in line


@PROCESSES
def test_an_address_that_somebody_else_has_is_told_with_its_place_and_the_way_out(
    upstream: Upstream, workers: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        route = {"name": "a", "upstream": upstream.url, "auth": NONE, "listen": address}
        config = {"listen": ANY_PORT, "admin": False, "workers": workers, "routes": [route]}
        ended = authproxy("run", config=config)
        assert ended.returncode in {1, 2}
        assert f"cannot listen on {address}" in ended.stderr
        assert "`routes[0].listen` in" in ended.stderr
        assert "authproxy-test.yaml:" in ended.stderr
        assert "--routes" not in ended.stderr


def test_a_route_that_is_nowhere_is_a_fault() -> None:
    routes = [{"name": "a", "upstream": "https://a.example", "auth": NONE}]
    ended = authproxy("check", config={"listen": [], "routes": routes})
    assert ended.returncode == 2
    assert "listen: should name an address: the route a has none of its own" in ended.stdout


# ── another configuration ────────────────────────────────────────────────────────────────────────


class Held(Upstream):
    """Answers what is asked for below /slow once it is let go."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.let_go = threading.Event()

    def _wait(self, came: Message, _wire: Wire) -> bytes:
        if came.target.endswith("/slow"):
            assert self.let_go.wait(GUARD)
        return reply(body=came.target.encode())


def own(upstream: Upstream, address: str, **more: Any) -> dict[str, Any]:
    return {"name": "a", "listen": address, "upstream": upstream.url, "auth": NONE, **more}


@PROCESSES
def test_one_is_added_moved_and_taken_away_while_requests_are_under_way(workers: int) -> None:
    first, second = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with Held() as upstream:
        plain = {"name": "a", "path": "/a", "upstream": upstream.url, "auth": NONE}
        with edited({"workers": workers, "routes": [plain]}) as proxy:
            assert is_refused(f"http://{first}")
            proxy.must_reload(routes=[plain | {"listen": first}])
            assert [get(f"http://{first}", "/x").body for _ in range(10)] == [b"/x"] * 10
            assert get(proxy.proxy.url, "/a/x").body == b"/x"
            with connect(f"http://{first}") as slow, connect(f"http://{first}") as kept:
                slow.send(request("GET", "/slow"))
                assert kept.send(request("GET", "/k")).answer().body == b"/k"
                upstream.wait_for(len(upstream.requests))
                proxy.must_reload(routes=[plain | {"listen": second}])
                assert is_refused(f"http://{first}")
                assert [get(f"http://{second}", "/x").body for _ in range(10)] == [b"/x"] * 10
                last = kept.send(request("GET", "/k2")).answer()
                assert (last.status, last.body, last.one("Connection")) == (200, b"/k2", "close")
                assert kept.is_closed()
                upstream.let_go.set()
                assert slow.answer().body == b"/slow"
            with connect(f"http://{second}") as kept:
                assert kept.send(request("GET", "/k")).answer().body == b"/k"
                proxy.must_reload(routes=[plain])
                assert is_refused(f"http://{second}")
                last = kept.send(request("GET", "/k2")).answer()
                assert (last.status, last.one("Connection")) == (404, "close")
                assert kept.is_closed()
            assert get(proxy.proxy.url, "/a/x").body == b"/x"


@PROCESSES
def test_an_address_may_become_another_routes_or_all_routes(
    upstream: Upstream, other: Upstream, workers: int
) -> None:
    """The socket stays as it is: nobody who connects meanwhile is refused."""
    address = f"127.0.0.1:{free_port()}"
    url = f"http://{address}"
    mounted = {"name": "m", "path": "/m", "upstream": f"{upstream.url}/m", "auth": NONE}
    config = {"workers": workers, "routes": [mounted, own(upstream, address)]}
    with edited(config) as proxy, connect(url) as kept:
        assert kept.send(request("GET", "/m/x")).answer().status == 200
        assert upstream.last.target == "/m/x"
        proxy.must_reload(routes=[mounted, own(other, address, name="b")])
        assert {get(url, "/y").status for _ in range(10)} == {200}
        assert len(other.requests) == 10
        assert kept.send(request("GET", "/z")).answer().status == 200
        assert other.last.target == "/z"
        proxy.must_reload(routes=[mounted], listen=[address])
        assert [get(url, "/m/1").status for _ in range(10)] == [200] * 10
        assert {get(url, "/z").status for _ in range(10)} == {404}
        assert kept.send(request("GET", "/z")).answer().one("Connection") == "close"
        with connect(url) as kept_too:
            assert kept_too.send(request("GET", "/m/2")).answer().status == 200
            proxy.must_reload(routes=[mounted, own(other, address)], listen=[ANY_PORT])
            assert {get(url, "/m/3").status for _ in range(10)} == {200}
            assert [each.target for each in other.requests[-10:]] == ["/m/3"] * 10
            assert kept_too.send(request("GET", "/m/4")).answer().one("Connection") == "close"
            assert kept_too.is_closed()


@PROCESSES
def test_a_free_port_stays_with_its_route(upstream: Upstream, other: Upstream, workers: int) -> None:
    config = two(upstream, other, workers=workers)
    with edited(config) as proxy:
        both, alone = proxy.proxy.own["both"], proxy.proxy.own["alone"]
        routes = list(reversed(config["routes"]))
        proxy.must_reload(routes=routes)
        assert [get(both, "/x").status for _ in range(6)] == [200] * 6
        assert [each.target for each in upstream.requests] == ["/v1/x"] * 6
        assert get(alone, "/x").status == 200
        proxy.must_reload(routes=config["routes"][:1])
        assert is_refused(alone)
        assert get(both, "/x").status == 200


@PROCESSES
def test_if_it_cannot_be_opened_nothing_changes(upstream: Upstream, other: Upstream, workers: int) -> None:
    good = f"127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with edited({"workers": workers, "routes": [own(upstream, good)]}) as proxy:
            proxy.reload(routes=[own(other, address)])
            log = proxy.proxy.log()
            assert NOT_DONE in log
            assert f"cannot listen on {address}" in log
            assert "routes[0].listen" in log
            assert get(f"http://{good}", "/x").status == 200
            assert (len(upstream.requests), len(other.requests)) == (1, 0)


def test_no_request_is_lost_while_the_address_moves_back_and_forth(upstream: Upstream) -> None:
    """Clients with kept connections to the one that stays, while the others come and go."""
    stays, one, two_ = (f"127.0.0.1:{free_port()}" for _ in range(3))
    routes = [own(upstream, stays, name="stays"), own(upstream, one)]
    failures: list[object] = []
    stop = threading.Event()

    def ask_on() -> None:
        try:
            with connect(f"http://{stays}") as wire:
                while not stop.is_set():
                    answer = wire.send(request("GET", "/x")).answer()
                    if answer.status != 200 or answer.one("Connection") is not None:
                        failures.append(answer)
        except Exception as error:  # noqa: BLE001 - it is told below
            failures.append(error)

    with edited({"workers": 2, "routes": routes}) as proxy:
        threads = [threading.Thread(target=ask_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(6):
            routes[1] = own(upstream, (two_, one)[number % 2])
            proxy.must_reload(routes=routes)
        stop.set()
        for thread in threads:
            thread.join(GUARD)
    assert failures == []


def test_who_is_killed_is_replaced_there_too(upstream: Upstream, other: Upstream) -> None:
    with running_proxy(two(upstream, other, workers=2)) as proxy:
        for pid in children(proxy.pid)[1:]:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: proxy.log().count("process died") >= 2)
        assert {get(proxy.own["alone"], "/x").status for _ in range(6)} == {200}


def test_the_drain_and_the_budget_of_connections_are_of_all_listeners(other: Upstream) -> None:
    with Held() as upstream:
        config = two(upstream, other, limits={"connections": 2})
        with running_proxy(config) as proxy, connect(proxy.own["both"]) as slow, connect(proxy.url) as idle:
            slow.send(request("GET", "/slow"))
            assert idle.send(request("GET", "/both/x")).answer().status == 200
            answer = get(proxy.own["alone"])
            assert (answer.status, answer.proxy_error) == (503, "connection_limit_reached")
            upstream.wait_for(2)
            proxy.signal()
            wait_until(lambda: "draining" in proxy.log() or is_refused(proxy.own["both"]))
            upstream.let_go.set()
            assert slow.answer().body == b"/v1/slow"
            assert proxy.wait() == 0


# ── who asks about it ────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_the_status_has_the_real_address_of_each(upstream: Upstream, other: Upstream, workers: int) -> None:
    config = two(upstream, other, workers=workers)
    config["routes"].append({"name": "root", "upstream": other.url, "auth": NONE})
    with running_proxy(config) as proxy:
        status = get(proxy.admin_url, "/api/status").json
        assert status["listeners"] == [proxy.url, proxy.own["both"], proxy.own["alone"]]
        assert [each["listen"] for each in status["routes"]] == [
            at(proxy.own["both"]),
            at(proxy.own["alone"]),
            None,
        ]


@PROCESSES
def test_the_status_follows_a_reload(upstream: Upstream, workers: int) -> None:
    one, other_ = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with edited({"workers": workers, "routes": [own(upstream, one)]}) as proxy:
        proxy.must_reload(routes=[own(upstream, other_)])
        status = get(proxy.proxy.admin_url, "/api/status").json
        assert status["routes"][0]["listen"] == other_
        assert status["listeners"] == [proxy.proxy.url, f"http://{other_}"]
        assert f"listening url=http://{other_} route=" in proxy.proxy.log()
        assert f"listening url=http://{one} " not in proxy.proxy.log()


def test_the_routes_verb_and_the_doctor_know_it(upstream: Upstream, other: Upstream) -> None:
    with running_proxy(two(upstream, other)) as proxy:
        assert proxy.config_file is not None
        text = proxy.config_file.read_text()
        admin = at(proxy.admin_url)
        config = proxy.config_file.with_name("asks.yaml")
        config.write_text(text.replace(f"admin:\n  listen: {ANY_PORT}", f"admin:\n  listen: {admin}"))
        shown = json.loads(authproxy("routes", "-c", str(config), "--json").stdout)
        assert [each["url"] for each in shown] == [proxy.own["both"], proxy.own["alone"]]
        assert [each["listen"] for each in shown] == [ANY_PORT, ANY_PORT]
        table = authproxy("routes", "-c", str(config)).stdout
        assert proxy.own["alone"] in table
    route = own(upstream, f"127.0.0.1:{free_port()}")
    shown = json.loads(authproxy("routes", "--json", config={"admin": False, "routes": [route]}).stdout)
    assert shown[0]["url"] == f"http://{route['listen']}"


def test_the_doctor_looks_for_the_proxy_there(upstream: Upstream) -> None:
    route = own(upstream, f"127.0.0.1:{free_port()}")
    config = {"routes": [route], "listen": [], "admin": False}
    with running_proxy(config) as proxy:
        assert proxy.config_file is not None
        told = authproxy("doctor", "-c", str(proxy.config_file)).stdout
        assert f"runs, and listens on {route['listen']}" in told


@PROCESSES
def test_a_request_is_sent_again_by_the_listener_at_which_it_came(
    upstream: Upstream, other: Upstream, workers: int
) -> None:
    with running_proxy(two(upstream, other, workers=workers)) as proxy:
        assert get(proxy.own["both"], "/both/x", host=at(proxy.own["both"])).status == 200
        assert get(proxy.url, "/both/y").status == 200
        assert get(proxy.own["both"], "/refused", host="evil.example").status == 403
        assert [each.target for each in upstream.requests] == ["/v1/both/x", "/v1/y"]
        told = {each["path"]: each for each in get(proxy.admin_url, "/api/requests").json["requests"]}
        for path, status in (("/both/x", 200), ("/both/y", 200), ("/refused", 403)):
            answer = ask(proxy.admin_url, request("POST", f"/api/requests/{told[path]['id']}/replay"))
            assert answer.status == 202, answer.body
            known = f"/api/requests/{answer.json['id']}"
            wait_until(lambda known=known: get(proxy.admin_url, known).status == 200)
            again = get(proxy.admin_url, known).json
            assert (again["path"], again["status"]) == (path, status)
            assert again.get("own_listener", False) is (path != "/both/y")
        assert [each.target for each in upstream.requests] == ["/v1/both/x", "/v1/y"] * 2


def test_a_request_whose_listener_is_gone_is_not_sent_again_by_another(
    upstream: Upstream, other: Upstream
) -> None:
    address = f"127.0.0.1:{free_port()}"
    with edited({"routes": [own(upstream, address, path="/a")]}) as proxy:
        assert get(f"http://{address}", "/a/x").status == 200
        [told] = get(proxy.proxy.admin_url, "/api/requests").json["requests"]
        proxy.must_reload(routes=[own(upstream, f"127.0.0.1:{free_port()}", path="/a")])
        answer = ask(proxy.proxy.admin_url, request("POST", f"/api/requests/{told['id']}/replay"))
        assert answer.status == 409
        assert b"not there any more" in answer.body
        assert len(upstream.requests) == 1


# ── socket activation ────────────────────────────────────────────────────────────────────────────


@contextmanager
def passed(count: int) -> Iterator[list[socket.socket]]:
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            each.close()


def url_of(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="wants Linux")


@linux
@PROCESSES
@pytest.mark.parametrize("listen", [{"listen": "127.0.0.1:1"}, {"path": "/a"}])
def test_a_socket_that_is_called_as_a_route_is_that_routes_own(
    upstream: Upstream, other: Upstream, workers: int, listen: dict[str, str]
) -> None:
    routes = [
        {"name": "a", "upstream": f"{upstream.url}/base", "auth": static("t0ken-a"), **listen},
        {"name": "b", "path": "/b", "upstream": other.url, "auth": NONE},
    ]
    with passed(1) as [sock]:
        options = passing(sock, names=("a",))
        config = {"routes": routes, "workers": workers}
        with running_proxy(config, **options) as proxy:
            wait_until(lambda: proxy.is_listening() and proxy.own)
            assert proxy.own == {"a": url_of(sock)}
            assert {get(url_of(sock), "/a/x").status for _ in range(6)} == {200}
            assert {each.target for each in upstream.requests} == {"/base/a/x"}
            assert get(proxy.url, "/b/x").status == 200
            assert other.last.target == "/x"
            status = get(proxy.admin_url, "/api/status").json
            assert status["routes"][0]["listen"] == at(url_of(sock))


@linux
def test_one_at_a_routes_address_is_its_own_too_and_stays_through_a_reload(upstream: Upstream) -> None:
    with passed(1) as [sock]:
        route = own(upstream, at(url_of(sock)))
        with running_proxy({"routes": [route]}, **passing(sock)) as made:
            proxy = Edited(made, {"routes": [route]})
            assert get(url_of(sock), "/x").status == 200
            proxy.must_reload(routes=[route | {"upstream": f"{upstream.url}/2"}])
            assert get(url_of(sock), "/x").status == 200
            assert [each.target for each in upstream.requests] == ["/x", "/2/x"]
