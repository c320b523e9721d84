"""Who may ask at all: the proxy lends its credentials to whoever reaches it, so the door is watched."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.wire import Message, Upstream, ask, connect, get, json_reply, reply, request

from .conftest import Place

APP = "https://app.example.com"
KEY = "one-of-the-access-keys"

SETTINGS: dict[str, Any] = {
    "allowed_hosts": ["good.example"],
    "allowed_origins": [APP],
    "limits": {"drain": "1s"},
}
PLAIN = {"grant": "static", "token": "never-changes"}
on_every_host = pytest.mark.route(host=None, auth=PLAIN)
evil = "https://evil.example"


def assert_refused(answer: Message, status: int = 403, error: str = "http_request_denied") -> None:
    assert (answer.status, answer.proxy_error) == (status, error)
    assert answer.one("Content-Type") == "application/problem+json"


# ── Host ─────────────────────────────────────────────────────────────────────────────────────────


@on_every_host
@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost", "localhost:8080", "localhost.", "127.0.0.1", "127.0.0.1:1", "127.9.9.9",
     "[::1]", "[::1]:80", "any.localhost", "good.example", "GOOD.example:443", "good.example."],
)  # fmt: skip
def test_a_host_that_is_ours_is_let_in(place: Place, host: str) -> None:
    assert get(place.url, host=host).status == 200
    assert len(place.api.requests) == 1


@on_every_host
@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil-localhost", "127.0.0.1.evil.example", "10.0.0.1",
     "192.168.1.1:8080", "[2001:db8::1]", "0.0.0.0", "notgood.example", "good.example.evil", "2130706433"],
)  # fmt: skip
def test_a_host_of_somebody_else_is_refused_as_dns_rebinding_would_send_it(place: Place, host: str) -> None:
    assert_refused(get(place.url, host=host))
    assert_refused(ask(place.url, request("POST", "/", f"Origin: http://{host}", host=host, body=b"x")))
    assert place.api.requests == []


def test_a_routes_own_host_is_let_in() -> None:
    with Upstream() as upstream:
        routes = [{"name": "named", "host": "api.internal", "upstream": upstream.url, "auth": PLAIN}]
        with running_proxy({"routes": routes}) as proxy:
            assert get(proxy.url, host="api.internal").status == 200
            assert get(proxy.url, host="localhost").status == 404
            assert_refused(get(proxy.url, host="other.internal"))
        assert len(upstream.requests) == 1


def own_address(family: socket.AddressFamily, anywhere: str) -> str:
    """Return an address of this machine that is not loopback's; what is sent there does not leave it."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((anywhere, 9))  # of UDP: it looks up the way, and sends nothing
        except OSError:
            pytest.skip("this machine has no such address")
        return str(sock.getsockname()[0])


@pytest.mark.parametrize(
    ("listen", "family", "anywhere"),
    [
        ("0.0.0.0:0", socket.AF_INET, "192.0.2.1"),
        ("[::]:0", socket.AF_INET, "192.0.2.1"),  # an address of IPv4, mapped
        ("[::]:0", socket.AF_INET6, "2001:db8::1"),
    ],
)
def test_the_address_that_was_asked_is_a_host_of_ours_as_probes_send_it(
    listen: str, family: socket.AddressFamily, anywhere: str
) -> None:
    address = own_address(family, anywhere)
    host = f"[{address}]" if ":" in address else address
    with Upstream() as upstream:
        route = {"name": "a", "upstream": upstream.url, "auth": PLAIN}
        config = {"listen": listen, "admin": {"listen": listen}, "allow_remote": True, "routes": [route]}
        with running_proxy(config) as proxy:
            for url, target in ((proxy.url, "/x"), (proxy.admin_url, "/readyz")):
                port = urlsplit(url).port
                there = f"http://{host}:{port}"
                for named in (host, f"{host}:{port}", f"{host}:1"):
                    assert get(there, target, host=named).status == 200
                    assert get(there, target, f"Origin: {evil}", host=named).status == 403
                    here = f"http://{'[::1]' if ':' in address else '127.0.0.1'}:{port}"
                    assert get(here, target, host=named).status == 403
                assert get(there, target, host="evil.example").status == 403
                assert get(there, target, host="10.0.0.1").status == 403


# ── pages of other sites ─────────────────────────────────────────────────────────────────────────


@on_every_host
@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Sec-Fetch-Site: none"],
        ["Sec-Fetch-Site: same-origin"],
        ["Origin: http://localhost:8080"],
        ["Origin: http://localhost:8080", "Sec-Fetch-Site: same-origin"],
        [f"Origin: {APP}", "Sec-Fetch-Site: cross-site"],
    ],
)
def test_programs_our_own_pages_and_allowed_origins_may_ask(place: Place, lines: list[str]) -> None:
    assert get(place.url, "/", *lines, host="localhost:8080").status == 200


@on_every_host
@pytest.mark.parametrize(
    "lines",
    [
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site"],
        ["Sec-Fetch-Site: CROSS-SITE"],
        ["Sec-Fetch-Site: something-new"],
        [f"Origin: {evil}"],
        ["Origin: null"],
        ["Origin: "],
        ["Origin: http://localhost:9999"],
        ["Origin: http://127.0.0.1:8080"],
        ["Origin: http://localhost"],
        [f"Origin: {APP}.evil.example"],
        ["Origin: http://app.example.com"],
        [f"Origin: {APP}:8443"],
        [f"Origin: {evil}", "Sec-Fetch-Site: same-origin"],
        ["Origin: http://localhost:8080", "Sec-Fetch-Site: cross-site"],
        [f"Origin: {APP}", f"Origin: {evil}"],
        [f"Origin: {evil}", f"Origin: {APP}"],
        ["Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"],
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_of_another_site_may_not_ask(place: Place, method: str, lines: list[str]) -> None:
    answer = ask(place.url, request(method, "/", *lines, host="localhost:8080", body=b""))
    assert answer.status in {400, 403}
    assert answer.proxy_error in {"http_request_denied", "http_request_error"}
    assert "access-control-allow-origin" not in answer.names
    assert place.api.requests == []


@on_every_host
def test_a_websocket_of_another_site_is_refused_by_its_origin_alone(place: Place) -> None:
    lines = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: eA==",
    ]
    assert_refused(get(place.url, "/", f"Origin: {evil}", *lines))
    assert place.api.requests == []


# ── CORS ─────────────────────────────────────────────────────────────────────────────────────────


@on_every_host
def test_an_allowed_origins_preflight_is_answered_here(place: Place) -> None:
    wanted = ["Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-a, content-type"]
    sent = request("OPTIONS", "/x", f"Origin: {APP}", *wanted, "Sec-Fetch-Site: cross-site")
    answer = ask(place.url, sent)
    assert answer.status in {200, 204}
    assert answer.one("Access-Control-Allow-Origin") == APP
    assert "PUT" in (answer.one("Access-Control-Allow-Methods") or "")
    allowed = {name.strip() for name in (answer.one("Access-Control-Allow-Headers") or "").lower().split(",")}
    assert {"x-a", "content-type"} <= allowed
    assert "origin" in (answer.one("Vary") or "").lower()
    assert place.api.requests == []


@on_every_host
def test_a_preflight_that_is_the_last_request_is_answered_so(place: Place) -> None:
    lines = [f"Origin: {APP}", "Access-Control-Request-Method: PUT", "Connection: close"]
    with connect(place.url) as wire:
        answer = wire.send(request("OPTIONS", "/x", *lines)).answer()
        assert (answer.status, answer.one("Connection")) == (204, "close")
        assert wire.is_closed()


@on_every_host
def test_another_origins_preflight_is_refused(place: Place) -> None:
    sent = request("OPTIONS", "/x", f"Origin: {evil}", "Access-Control-Request-Method: PUT")
    answer = ask(place.url, sent)
    assert_refused(answer)
    assert not [name for name in answer.names if name.startswith("access-control-")]
    assert place.api.requests == []


@on_every_host
def test_an_allowed_origin_may_read_the_answer(place: Place) -> None:
    place.api.says(reply(200, "Vary: Accept", body=b"fine"))
    answer = get(place.url, "/", f"Origin: {APP}", "Sec-Fetch-Site: cross-site")
    assert answer.all("Access-Control-Allow-Origin") == [APP]
    assert "origin" in ", ".join(answer.all("Vary")).lower()
    assert "Accept" in ", ".join(answer.all("Vary"))


@on_every_host
@pytest.mark.parametrize("lines", [[], [f"Origin: {APP}"]])
def test_what_the_upstream_says_of_cors_is_not_relayed(place: Place, lines: list[str]) -> None:
    says = ["Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true", "X-Kept: 1"]
    place.api.says(reply(200, *says, "access-control-expose-headers: X-Upstream", body=b"fine"))
    answer = get(place.url, "/", *lines)
    assert answer.one("X-Kept") == "1"
    assert "access-control-allow-credentials" not in answer.names
    assert answer.all("Access-Control-Allow-Origin") == ([APP] if lines else [])
    assert "X-Upstream" not in answer.all("Access-Control-Expose-Headers")


@on_every_host
def test_an_error_of_ours_can_be_read_by_an_allowed_origin_too(place: Place) -> None:
    place.api.says(b"garbage\r\n\r\n", then_close=True)
    answer = get(place.url, "/", f"Origin: {APP}")
    assert answer.status == 502
    assert answer.all("Access-Control-Allow-Origin") == [APP]


# ── methods and targets ──────────────────────────────────────────────────────────────────────────


@on_every_host
@pytest.mark.parametrize(
    "start", ["TRACE / HTTP/1.1", "CONNECT localhost:443 HTTP/1.1", "CONNECT / HTTP/1.1"]
)
def test_trace_and_connect_are_refused(place: Place, start: str) -> None:
    answer = ask(place.url, f"{start}\r\nHost: localhost\r\n\r\n".encode())
    assert answer.status in {400, 403, 405}
    assert answer.proxy_error in {"http_request_denied", "http_request_error"}
    assert place.api.requests == []


@on_every_host
@pytest.mark.parametrize(
    ("target", "arrives"),
    [
        ("http://localhost/x%2Fy?z=%20", "/x%2Fy?z=%20"),
        ("http://good.example:80/", "/"),
        ("http://localhost", "/"),
        ("http://localhost?q", "/?q"),
        ("HTTP://LOCALHOST/x", "/x"),
        ("https://localhost/x", "/x"),
        ("http://localhost//evil.example/x", "//evil.example/x"),
    ],
)
def test_an_absolute_target_that_names_us_is_taken_for_its_path(
    place: Place, target: str, arrives: str
) -> None:
    assert get(place.url, target).status == 200
    assert place.api.last.target == arrives
    assert place.api.last.one("Host") == f"127.0.0.1:{place.api.port}"


@on_every_host
@pytest.mark.parametrize(
    "target",
    ["http://evil.example/x", "http://evil.example", "http://me@localhost/", "http://localhost@evil.example/",
     "http:///x", "ftp://localhost/x", "http://localhost:99999/", "x", "localhost/x", "*", "http://evil.example?localhost"],
)  # fmt: skip
def test_an_absolute_target_that_names_somebody_else_is_refused(place: Place, target: str) -> None:
    answer = get(place.url, target)
    assert answer.status in {400, 403}
    assert answer.proxy_error in {"http_request_denied", "http_request_error"}
    assert place.api.requests == []


@on_every_host
def test_a_400_does_not_repeat_what_was_sent(place: Place) -> None:
    with connect(place.url) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer my-own-secret\x00\r\n\r\n")
        answer = wire.answer()
    assert answer.status == 400
    assert b"my-own-secret" not in answer.head + answer.body
    assert place.proxy is not None
    assert "my-own-secret" not in place.proxy.log()


# ── access keys ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Locked:
    """A proxy that wants a key, and its upstream."""

    proxy: RunningProxy
    upstream: Upstream


@pytest.fixture(scope="module")
def locked_proxy() -> Iterator[Locked]:
    with Upstream() as upstream:
        routes = [{"name": "locked", "upstream": upstream.url, "auth": PLAIN}]
        config = {
            "listen": "0.0.0.0:0",
            "admin": {"listen": "0.0.0.0:0"},
            "allowed_hosts": ["*"],
            "allowed_origins": [APP],
            "access": {"tokens": ["another-key", KEY]},
            "log": {"level": "debug"},
        }
        with running_proxy({**config, "routes": routes}) as proxy:
            proxy.urls = [url.replace("0.0.0.0", "127.0.0.1") for url in proxy.urls]
            proxy.admin_url = proxy.admin_url.replace("0.0.0.0", "127.0.0.1")
            yield Locked(proxy, upstream)
            assert KEY not in proxy.log()


@pytest.fixture
def locked(locked_proxy: Locked) -> Locked:
    locked_proxy.upstream.reset()
    return locked_proxy


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["X-Authproxy-Key: wrong"],
        ["X-Authproxy-Key: "],
        [f"X-Authproxy-Key: {KEY}x"],
        [f"X-Authproxy-Key: {KEY[:-1]}"],
        [f"X-Authproxy-Key: {KEY.upper()}"],
        [f"X_Authproxy_Key: {KEY}"],
        [f"Authorization: Bearer {KEY}"],
        ["X-Authproxy-Key: \xff\xfe"],
    ],
)
def test_a_caller_without_a_key_is_answered_401_and_goes_nowhere(locked: Locked, lines: list[str]) -> None:
    answer = get(locked.proxy.url, "/", *lines)
    assert_refused(answer, 401)
    assert answer.one("WWW-Authenticate")
    assert b"never-changes" not in answer.body
    assert locked.upstream.requests == []


@pytest.mark.parametrize("name", ["X-Authproxy-Key", "x-authproxy-key"])
def test_a_caller_with_a_key_is_let_in_and_the_key_stays_here(locked: Locked, name: str) -> None:
    for key in (KEY, "another-key"):
        assert get(locked.proxy.url, "/", f"{name}: {key}").status == 200
        assert sorted(locked.upstream.last.names) == ["authorization", "host"]


@pytest.mark.parametrize(
    "target", ["/metrics", "/nothing", "/api", "//", "//healthz", "/readyz/", "/login/", "/login/a/b"]
)
@pytest.mark.parametrize("lines", [[], ["X-Authproxy-Key: wrong"], [f"Cookie: X-Authproxy-Key={KEY}"]])
def test_the_admin_listener_wants_the_key_too(locked: Locked, target: str, lines: list[str]) -> None:
    answer = get(locked.proxy.admin_url, target, *lines)
    assert answer.status == 401
    assert answer.one("WWW-Authenticate") == 'AuthproxyKey realm="authproxy"'
    assert "access.tokens" in answer.json["hint"]
    assert get(locked.proxy.admin_url, f"{target}?X-Authproxy-Key={KEY}", *lines).status == 401


def test_with_the_key_the_admin_listener_answers(locked: Locked) -> None:
    answer = get(locked.proxy.admin_url, "/metrics", f"X-Authproxy-Key: {KEY}")
    assert answer.status == 200
    assert b"authproxy_requests_total" in answer.body
    assert get(locked.proxy.admin_url, "/nothing", f"X-Authproxy-Key: {KEY}").status == 404


@pytest.mark.parametrize(("target", "status"), [("/healthz", 200), ("/readyz", 200), ("/callback", 400)])
def test_probes_and_a_login_that_comes_back_need_no_key(locked: Locked, target: str, status: int) -> None:
    assert get(locked.proxy.admin_url, target).status == status
    assert authproxy("healthcheck", locked.proxy.admin_url).returncode == 0


def test_who_has_no_key_hears_the_state_of_a_route_and_no_reasons() -> None:
    auth = {
        "grant": "authorization_code",
        "authorization_url": "http://127.0.0.1:1/authorize",
        "token_url": "http://127.0.0.1:1/token",
        "client_id": "x",
    }
    routes = [{"name": "api", "upstream": "http://127.0.0.1:1", "auth": auth}]
    with running_proxy({"access": {"tokens": [KEY]}, "routes": routes}) as proxy:
        wait_until(lambda: get(proxy.admin_url, "/readyz").status == 503)
        stranger = get(proxy.admin_url, "/readyz", "X-Authproxy-Key: wrong").json
        assert stranger == {"ready": False, "routes": {"api": {"state": "login_required"}}}
        told = get(proxy.admin_url, "/readyz", f"X-Authproxy-Key: {KEY}").json["routes"]["api"]
        assert told["state"] == "login_required"
        assert "authproxy-test.yaml" in told["hint"]
        assert "/login/api" in told["hint"]
        ended = authproxy("healthcheck", proxy.admin_url)
        assert (ended.returncode, ended.stderr) == (1, "authproxy: not ready: api is login_required\n")


def test_an_allowed_origin_is_one_for_the_routes_and_not_for_the_admin_listener(locked: Locked) -> None:
    lines = [f"Origin: {APP}", f"X-Authproxy-Key: {KEY}"]
    assert get(locked.proxy.url, "/", *lines).status == 200
    for target in ("/metrics", "/readyz", "/login/locked"):
        assert get(locked.proxy.admin_url, target, *lines).status == 403


def test_the_callers_key_never_goes_upstream_where_the_token_should_be() -> None:
    for access, auth in (("X-Api-Key", "x_api_key"), ("X-API-KEY", "X-Api-Key")):
        route = {"name": "a", "upstream": "https://x.example", "auth": {**PLAIN, "header": auth}}
        config = {"access": {"tokens": [KEY], "header": access}, "routes": [route]}
        ended = authproxy("check", config=config)
        assert ended.returncode == 2
        assert "routes[0].auth.header: " in ended.stdout
        assert "access.header" in ended.stdout
        assert KEY not in ended.stdout + ended.stderr


def test_an_allowed_pages_preflight_needs_no_key_for_browsers_send_none(locked: Locked) -> None:
    wanted = ["Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-authproxy-key"]
    answer = ask(locked.proxy.url, request("OPTIONS", "/", f"Origin: {APP}", *wanted))
    assert answer.status in {200, 204}
    assert locked.upstream.requests == []


# ── where it listens, and where credentials go ───────────────────────────────────────────────────

CLIENT = {"grant": "client_credentials", "client_id": "x", "client_secret": "y"}
ROUTE = {"name": "a", "upstream": "https://api.example.com", "auth": PLAIN}


def test_it_refuses_to_listen_for_other_machines() -> None:
    for listen in (["127.0.0.1:0", "0.0.0.0:0"], "[::]:0"):
        ended = authproxy("run", config={"listen": listen, "admin": False, "routes": [ROUTE]})
        assert ended.returncode == 2
        assert ended.stdout == ""
        for named in ("listen", "allow_remote", "access"):
            assert named in ended.stderr


def test_it_listens_for_other_machines_when_that_is_meant() -> None:
    with Upstream() as upstream:
        route = {**ROUTE, "upstream": upstream.url}
        config = {"listen": "0.0.0.0:0", "allow_remote": True, "admin": False, "routes": [route]}
        with running_proxy(config) as proxy:
            assert get(proxy.url.replace("0.0.0.0", "127.0.0.1")).status == 200


def test_a_credential_never_goes_over_plain_http_nor_round_in_circles() -> None:
    faulty = [
        {"upstream": "http://api.example.com"},
        {"auth": {**CLIENT, "token_url": "http://login.example.com/"}},
        {"upstream": "http://127.0.0.1:8080"},
        {"upstream": "http://localhost:8080/x"},
    ]
    routes = [{**ROUTE, "name": f"r{n}", "path": f"/{n}", **keys} for n, keys in enumerate(faulty)]
    ended = authproxy("run", config={"listen": "127.0.0.1:8080", "admin": False, "routes": routes})
    assert ended.returncode == 2
    first, second, third, fourth = ended.stderr.splitlines()
    assert "routes[0].upstream: " in first
    assert "insecure" in first
    assert "routes[1].auth.token_url: " in second
    assert "insecure" in second
    assert "routes[2].upstream: " in third
    assert "own listener" in third
    assert "routes[3].upstream: " in fourth


def test_a_token_endpoint_elsewhere_never_sees_the_api_token_nor_the_api_the_secret(place: Place) -> None:
    place.tokens.answer = lambda _request, _wire: json_reply({"access_token": "only-for-the-api"})
    place.api.answer = lambda _request, _wire: reply()
    assert place.get().status == 200
    assert b"only-for-the-api" not in place.tokens.last.head + place.tokens.last.body
    assert place.secret.encode() not in place.api.last.head
