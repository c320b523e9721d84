"""No placeholder reaches an upstream, however a client writes it: out it goes, or the request is refused.

A client that logged in here sends its placeholder as it would send a token: in whatever place, scheme and
encoding its API wants. What arrives at the upstream is the real token, and the rest to the byte.
"""

import json
import os
import signal
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from authproxy.proxy.placeholders import placeholder, placeholders_in
from tests.live.test_reload import is_replaced
from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.launch import write_config
from tests.support.wire import API, Message, Tokens, Upstream, ask, chunked, connect, reply, request
from tests.support.workers import children

OWN, OTHERS, NOBODYS = placeholder("api"), placeholder("other"), placeholder("gone")
HOST = "Host: localhost"


def client_of(tokens: Tokens, secret: str = "the-clients-secret") -> dict[str, Any]:
    return {
        "grant": "client_credentials",
        "client_id": "me",
        "client_secret": secret,
        "token_url": f"{tokens.url}/token",
    }


@dataclass
class World:
    """A proxy before one API that lets good tokens in, and before an upstream that lets everybody in."""

    proxy: RunningProxy
    tokens: Tokens
    api: API
    open: Upstream

    def ask(self, sent: bytes) -> Message:
        return ask(self.proxy.url, sent)

    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(self.proxy.admin_url, request("GET", "/api/requests")).json[
            "requests"
        ]
        return found

    def real(self) -> str:
        """Return what a request without a credential gets at `/api`, and forget that one."""
        assert self.ask(request("GET", "/api/")).status == 200
        return self.api.requests.pop().one("Authorization") or ""

    @property
    def arrived(self) -> list[Message]:
        return [*self.api.requests, *self.open.requests]


@pytest.fixture(scope="module")
def started() -> Iterator[World]:
    with Tokens() as tokens, API(tokens.issued) as api, Upstream() as everybodys:
        auth = client_of(tokens)
        routes = [
            {"name": "api", "path": "/api", "upstream": f"{api.url}/base"},
            {
                "name": "strict",
                "path": "/strict",
                "upstream": api.url,
                "auth": {**auth, "incoming": "reject"},
            },
            {"name": "same", "path": "/same", "upstream": everybodys.url},
            {
                "name": "other",
                "path": "/other",
                "upstream": everybodys.url,
                "auth": client_of(tokens, "other"),
            },
            {"name": "plain", "path": "/plain", "upstream": everybodys.url, "auth": {"grant": "none"}},
            {
                "name": "keyed",
                "path": "/keyed",
                "upstream": everybodys.url,
                "auth": {"grant": "static", "token": "the-key", "header": "X-Api-Key", "scheme": ""},
            },
        ]
        config = {"routes": [{"auth": auth, **each} for each in routes]}
        with running_proxy(config) as proxy:
            yield World(proxy, tokens, api, everybodys)
            assert proxy.stop() == 0
            assert "internal error" not in proxy.log()


@pytest.fixture
def world(started: World) -> Iterator[World]:
    started.api.reset()
    started.open.reset()
    yield started
    for came in started.arrived:
        assert not placeholders_in(came.head), came.head
    for secret in started.tokens.issued.every:
        assert not any(secret in str(each) for each in started.requests())


def basic(text: str, encode: Callable[[bytes], bytes] = b64encode) -> str:
    return encode(text.encode()).decode()


def everywhere_encoded(text: str) -> str:
    return "".join(f"%{ord(letter):02x}" for letter in text)


Way = Callable[[str], tuple[str, list[str]]]
"""From a placeholder to the target, below the route, and the header lines with which it is sent."""

WAYS: dict[str, Way] = {
    "Bearer": lambda mark: ("/x", [f"Authorization: Bearer {mark}"]),
    "bearer, of another case": lambda mark: ("/x", [f"authorization: bEARER {mark}"]),
    "a scheme of the API's own": lambda mark: ("/x", [f"Authorization: v3_user_token {mark}"]),
    "bare": lambda mark: ("/x", [f"Authorization: {mark}"]),
    "quoted": lambda mark: ("/x", [f'Authorization: Token token="{mark}"']),
    "quoted pairs": lambda mark: ("/x", ['Authorization: Token token="' + mark.replace("-", "\\-") + '"']),
    "the password of Basic": lambda mark: ("/x", [f"Authorization: Basic {basic(f'u:{mark}')}"]),
    "at another place of Base64": lambda mark: ("/x", [f"Authorization: Basic {basic(f'us:{mark}')}"]),
    "at yet another": lambda mark: ("/x", [f"Authorization: basic {basic(f'use:{mark}')}"]),
    "the user of Basic": lambda mark: ("/x", [f"Authorization: Basic {basic(f'{mark}:x-oauth-basic')}"]),
    "Basic without padding": lambda mark: ("/x", [f"Authorization: Basic {basic(f'me:{mark}').rstrip('=')}"]),
    "Basic, of the URL's alphabet": lambda mark: (
        "/x", [f"Authorization: Basic {basic(f'm?>:{mark}', urlsafe_b64encode)}"],
    ),
    "Basic, its halves form-encoded": lambda mark: (
        "/x", [f"Authorization: Basic {basic(f'me:{everywhere_encoded(mark)}')}"],
    ),
    "the signature of a JWT": lambda mark: ("/x", [f"Authorization: Bearer eyJhIjoxfQ.eyJiIjoyfQ.{mark}"]),
    "X-Api-Key": lambda mark: ("/x", [f"X-Api-Key: {mark}"]),
    "X_Api_Key": lambda mark: ("/x", [f"X_Api_Key: {mark}"]),
    "the same header twice": lambda mark: ("/x", [f"X-Api-Key: {mark}", f"X-Api-Key: {mark}"]),
    "several headers": lambda mark: ("/x", [f"Authorization: Bearer {mark}", f"X-Token: {mark}"]),
    "in the middle of a URL": lambda mark: ("/x", [f"Referer: http://localhost/x?token={mark}&a=1"]),
    "a header's name": lambda mark: ("/x", [f"{mark}: 1"]),
    "percent-encoded in a header": lambda mark: ("/x", [f"X-Token: {everywhere_encoded(mark)}"]),
    "Base64 of a document": lambda mark: (
        "/x", [f"X-Registry-Auth: {basic(json.dumps({'identitytoken': mark}), urlsafe_b64encode)}"],
    ),
    "the only cookie": lambda mark: ("/x", [f"Cookie: session={mark}"]),
    "a cookie, percent-encoded": lambda mark: ("/x", [f"Cookie: session={everywhere_encoded(mark)}"]),
    "the query": lambda mark: (f"/x?token={mark}", []),
    "the query, percent-encoded": lambda mark: (f"/x?token={everywhere_encoded(mark)}", []),
    "the query, encoded twice": lambda mark: (f"/x?token={quote(everywhere_encoded(mark))}", []),
    "the query, quoted": lambda mark: (f"/x?token=%22{mark}%22", []),
    "the query, a name": lambda mark: (f"/x?{mark}", []),
    "the query, in Base64": lambda mark: (f"/x?auth={quote(basic(f'u:{mark}'))}", []),
    "query, cookie and header": lambda mark: (
        f"/x?t={mark}", [f"Cookie: a={mark}", f"Authorization: Bearer {mark}"],
    ),
}  # fmt: skip
EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@EVERY_WAY
def test_a_routes_own_counts_as_no_credential(world: World, way: Way) -> None:
    target, lines = way(OWN)
    real = world.real()
    for _ in range(6):  # such a head is remembered soon
        answer = world.ask(request("GET", f"/api{target}", *lines, "X-Rest: stays"))
        assert answer.status == 200, answer.body
    for came in world.api.requests:
        assert (came.target, came.one("X-Rest")) == ("/base/x", "stays")
        assert came.all("Authorization") == [real]
        assert came.names == ["host", "x-rest", "authorization"]


@EVERY_WAY
def test_it_is_taken_out_where_a_clients_own_credential_is_refused_too(world: World, way: Way) -> None:
    target, lines = way(placeholder("strict"))
    assert world.ask(request("GET", f"/strict{target}", *lines)).status == 200
    assert world.api.last.names == ["host", "authorization"]


@EVERY_WAY
@pytest.mark.parametrize(
    ("path", "mark"),
    [
        pytest.param("/api", OTHERS, id="anothers"),
        pytest.param("/other", OWN, id="at another"),
        pytest.param("/plain", OWN, id="where there is no credential"),
        pytest.param("/plain", placeholder("plain"), id="where there is none, its own"),
        pytest.param("/keyed", OWN, id="another header"),
        pytest.param("/api", NOBODYS, id="nobodys"),
        pytest.param("/plain", NOBODYS, id="nobodys, plainly"),
    ],
)
def test_any_other_goes_nowhere(world: World, way: Way, path: str, mark: str) -> None:
    target, lines = way(mark)
    answer = world.ask(request("GET", f"{path}{target}", *lines))
    assert (answer.status, answer.proxy_error) == (403, "http_request_denied")
    assert answer.json["hint"]
    assert mark.encode() not in answer.body
    if mark == OWN:
        assert "of the route api" in answer.json["detail"]
    assert not world.arrived


def test_one_of_another_beside_its_own_goes_nowhere_either(world: World) -> None:
    both = basic(f"{OWN}:{OTHERS}")
    assert world.ask(request("GET", "/api/x", f"Authorization: Basic {both}")).status == 403
    assert world.ask(request("GET", f"/api/x?a={OWN}&b={OTHERS}")).status == 403
    assert world.ask(request("GET", "/api/x", f"Cookie: a={OWN}; b={OTHERS}")).status == 403
    assert not world.arrived


def test_routes_of_an_equal_credential_take_each_others(world: World) -> None:
    assert world.ask(request("GET", "/same/x", f"Authorization: Bearer {OWN}")).status == 200
    assert world.open.last.one("Authorization") == world.real()
    answer = world.ask(request("GET", "/same/x", f"Authorization: Bearer {placeholder('same')}"))
    assert answer.status == 403  # its placeholder is the first one's


def test_what_is_beside_it_stays_to_the_byte(world: World) -> None:
    lines = (
        f'cookie:  a="1, 2";  b=%20 ; session={OWN};c=;  d',
        f"Cookie: other={OWN}",
        f"Sec-WebSocket-Protocol: v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{basic(OWN)}",
        "X-Odd:  a  b ",
    )
    target = f"/api/%41/b?a=1&&token={OWN}&b=%20+&c;d=%zz"
    assert world.ask(request("GET", target, *lines)).status == 200
    came = world.api.last
    assert came.target == "/base/%41/b?a=1&&b=%20+&c;d=%zz"
    assert b'cookie: a="1, 2";  b=%20 ;c=;  d\r\n' in came.head
    assert came.one("Sec-WebSocket-Protocol") == "v4.channel.k8s.io"
    assert came.names == ["host", "cookie", "sec-websocket-protocol", "x-odd", "authorization"]


@pytest.mark.parametrize(
    "text", [OWN[:-1], "authproxy-p-", f"Authproxy-P-{OWN[12:]}", basic(OWN[:40]), "authproxy-p-%41%"]
)
def test_what_is_none_is_left_alone(world: World, text: str) -> None:
    target = f"/plain/x?a={quote(text, safe='%')}"
    assert world.ask(request("GET", target, f"X-Text: {text}")).status == 200
    assert (world.open.last.target, world.open.last.one("X-Text")) == (target.removeprefix("/plain"), text)


@pytest.mark.parametrize("mark", [OWN, OTHERS])
def test_there_is_none_in_a_path_or_a_host(world: World, mark: str) -> None:
    for sent in (
        request("GET", f"/api/bot{mark}/x"),
        request("GET", f"/api/x;sid={everywhere_encoded(mark)}"),
        request("GET", "/api/x", host=f"{mark}.localhost"),
    ):
        assert world.ask(sent).status == 403
    assert not world.arrived


# ── other ways in ────────────────────────────────────────────────────────────────────────────────

BEARER = f"Authorization: Bearer {OWN}"
ELSEWHERE = f"Authorization: Bearer {OTHERS}"


def test_a_revoked_token_costs_the_client_nothing(world: World) -> None:
    assert world.ask(request("GET", "/api/x", BEARER)).status == 200
    world.tokens.revoke()
    body = b"a" * 1000
    assert world.ask(request("POST", f"/api/x?k={OWN}", BEARER, body=body)).status == 200
    assert [len(came.all("Authorization")) for came in world.api.requests] == [1, 1, 1]
    assert [came.body for came in world.api.requests] == [b"", body, body]


def test_a_clients_own_credential_beside_it_is_kept_as_ever(world: World) -> None:
    assert world.ask(request("GET", "/api/x", "Authorization: Bearer mine", f"X-Key: {OWN}")).status == 401
    assert world.api.last.one("Authorization") == "Bearer mine"


def test_http_1_0_the_absolute_form_and_a_trailer(world: World) -> None:
    old = f"GET /api/x?t={OWN} HTTP/1.0\r\n{HOST}\r\n{BEARER}\r\n\r\n".encode()
    assert world.ask(old).status == 200
    authority = world.proxy.url.removeprefix("http://")
    assert world.ask(request("GET", f"http://{authority}/api/x?t={OWN}", BEARER)).status == 200
    assert world.ask(request("GET", f"http://{authority}/api/x?t={OTHERS}")).status == 403
    body = chunked(b"abc", end=f"0\r\nAuthorization: Bearer {OTHERS}\r\nX-T: {OWN}\r\n\r\n".encode())
    head = request("POST", "/api/x", BEARER, "Transfer-Encoding: chunked", f"Trailer: {OWN}")
    assert world.ask(head + body).status == 200
    assert [came.target for came in world.api.requests] == ["/base/x"] * 3
    assert not world.api.last.trailer


def test_pipelined_behind_a_plain_one(world: World) -> None:
    plain = request("GET", "/plain/a", "X-A: 1")
    sent = [plain, request("GET", "/api/x", BEARER), plain, request("GET", f"/other/x?t={OWN}"), plain]
    with connect(world.proxy.url) as wire:
        wire.send(b"".join(sent))
        assert [wire.answer().status for _ in sent] == [200, 200, 200, 403, 200]


def test_a_websockets_handshake(world: World) -> None:
    switched = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    lines = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Protocol: {OWN}, chat", BEARER)
    real = world.real()
    world.api.says(switched, then_close=True)
    with connect(world.proxy.url) as wire:
        assert wire.send(request("GET", f"/api/ws?access_token={OWN}", *lines)).answer().status == 101
    came = world.api.last
    assert (came.target, came.one("Sec-WebSocket-Protocol")) == ("/base/ws", "chat")
    assert came.one("Authorization") == real
    assert (
        world.ask(request("GET", "/api/ws", *lines[:2], f"Sec-WebSocket-Protocol: x.{OTHERS}")).status == 403
    )


def test_a_redirect_is_not_followed_with_the_real_token(world: World) -> None:
    world.api.says(reply(302, f"Location: {world.open.url}/x"))
    assert world.ask(request("GET", "/api/x", BEARER)).status == 302
    assert not world.open.requests


def test_a_body_is_not_judged(world: World) -> None:
    assert world.ask(request("POST", "/api/x", BEARER, body=OTHERS.encode())).status == 200
    assert world.api.last.body == OTHERS.encode()


def test_a_preflight_and_an_options_of_the_server(world: World) -> None:
    assert world.ask(request("OPTIONS", "/api/x", BEARER)).status == 200
    assert world.ask(request("OPTIONS", "*", BEARER)).status == 404


# ── what is told of it ───────────────────────────────────────────────────────────────────────────


def test_what_is_told_of_it_holds_none_and_it_can_be_sent_again(world: World) -> None:
    target = f"/api/x?a=1&token={OWN}"
    assert world.ask(request("GET", target, BEARER, f"Cookie: s={OWN}")).status == 200
    told = world.requests()[0]
    step = {"what": "placeholder", "detail": "taken out of Authorization, Cookie, the query"}
    assert step.items() <= told["steps"][1].items()
    assert [each["what"] for each in told["steps"]] == ["token", "placeholder", "upstream"]
    admin = world.proxy.admin_url
    whole = ask(admin, request("GET", f"/api/requests/{told['id']}"))
    assert not placeholders_in(whole.body)
    again = ask(admin, request("POST", f"/api/requests/{told['id']}/replay"))
    assert again.status == 202
    came = world.api.wait_for(2)
    assert (came.target, came.all("Cookie")) == ("/base/x?a=1", [])
    assert came.one("Authorization") == world.real()


def test_neither_the_log_nor_the_metrics_tell_of_it(world: World) -> None:
    assert world.ask(request("GET", f"/api/seen?t={OWN}", BEARER)).status == 200
    assert world.ask(request("GET", f"/api/refused?t={OTHERS}", ELSEWHERE)).status == 403
    log = "".join(
        line
        for line in world.proxy.wait_for_log("/api/refused").splitlines()
        if "/api/seen" in line or "/api/refused" in line
    )
    metrics = ask(world.proxy.admin_url, request("GET", "/metrics")).body
    assert not placeholders_in(log.encode())
    assert not placeholders_in(metrics)
    assert b'authproxy_refused_total{reason="forbidden"}' in metrics
    assert not any(token in log for token in world.tokens.issued.every)


# ── other processes, other configurations ────────────────────────────────────────────────────────


def test_every_worker_and_each_that_follows_one_takes_the_same() -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        config = {"workers": 2, "routes": [{"name": "api", "upstream": api.url, "auth": client_of(tokens)}]}
        with running_proxy(config) as proxy:
            assert {ask(proxy.url, request("GET", "/x", BEARER)).status for _ in range(20)} == {200}
            victim = children(proxy.pid)[1]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: is_replaced(victim, proxy))
            assert {ask(proxy.url, request("GET", "/x", BEARER)).status for _ in range(20)} == {200}
            assert {ask(proxy.url, request("GET", "/x", ELSEWHERE)).status for _ in range(20)} == {403}
        with running_proxy(config) as proxy:  # and after a restart
            assert ask(proxy.url, request("GET", "/x", BEARER)).status == 200
        assert {came.one("Authorization") for came in api.requests} <= {
            f"Bearer {t}" for t in tokens.issued.every
        }


def test_after_a_reload_those_of_the_new_configuration_count() -> None:
    def config(name: str) -> dict[str, Any]:
        listen = {"listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"}}
        return listen | {"routes": [{"name": name, "upstream": api.url, "auth": client_of(tokens)}]}

    with Tokens() as tokens, API(tokens.issued) as api, running_proxy(config("api")) as proxy:
        sent = {
            name: request("GET", "/x", f"Authorization: Bearer {placeholder(name)}")
            for name in ("api", "new")
        }
        with connect(proxy.url) as wire:
            for _ in range(6):
                assert wire.send(sent["api"]).answer().status == 200
            assert wire.send(sent["new"]).answer().status == 403
            write_config(proxy.directory, config("new"))
            assert ask(proxy.admin_url, request("POST", "/api/reload")).status == 200
            assert wire.send(sent["api"]).answer().status == 403
            assert wire.send(sent["new"]).answer().status == 200
        assert len(tokens.issued.every) == 1
