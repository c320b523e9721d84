"""A client that insists on a login of its own gets one, from the proxy; its credentials go nowhere."""

import json
import time
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from authproxy.proxy.placeholders import placeholder
from tests.support.command import RunningProxy, authproxy, running_proxy
from tests.support.launch import write_config
from tests.support.wire import (
    API,
    Message,
    Tokens,
    Upstream,
    ask,
    chunked,
    connect,
    json_reply,
    reply,
    request,
)

MARK = placeholder("api")
FORM = "Content-Type: application/x-www-form-urlencoded"
LOGIN = urlencode(
    {"grant_type": "client_credentials", "client_id": "any", "client_secret": "dummy-of-client"}
)
DUMMY = "Authorization: Basic " + b64encode(b"any:dummy-of-client").decode()
CLAIMS = {"sub": "me", "iat": 1, "exp": 2, "tenant_id": 7, "ünï": ["a", None, 1.5]}
MAX = 64 << 10
STATIC = {"grant": "static", "token": "s3cr3t-static", "scheme": ""}


def segment(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def read(part: str) -> Any:
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


JWT_HEADER = segment(b'{"kid":"k1", "alg":"RS256"}')
JWT = f"{JWT_HEADER}.{segment(json.dumps(CLAIMS).encode())}.real-signature"


def client_of(tokens: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "grant": "client_credentials",
        "client_id": "me",
        "client_secret": "the-clients-secret",
        "token_url": f"{tokens.url}/token",
        **more,
    }


@dataclass
class World:
    """A proxy with a route for each kind of login, before one API."""

    proxy: RunningProxy
    tokens: Tokens
    jwts: Upstream
    api: API

    def log_in(
        self, target: str = "/api/v1/oauth", *lines: str, body: str = LOGIN, method: str = "POST"
    ) -> Message:
        return ask(self.proxy.url, request(method, target, FORM, *lines, body=body.encode()))

    def admin(self, target: str, method: str = "GET") -> Message:
        return ask(self.proxy.admin_url, request(method, target))


@pytest.fixture(scope="module")
def started() -> Iterator[World]:
    with Tokens() as tokens, API(tokens.issued) as api, Upstream() as jwts:
        jwts.says(json_reply({"data": [{"t/ok": JWT}], "ttl": 600}))
        entries = [
            {"path": "/v1/oauth"},
            {"path": "/v1/get", "methods": ["GET", "HEAD", "PUT"], "lifetime": "2h"},
            {"path": "/v1/jwt", "shape": "jwt", "lifetime": 90},
            {"path": "/with space/é"},
        ]
        away = {"token": ["/data/0/t~1ok", "/token"], "expires_in": "/ttl"}
        auth, from_jwts = client_of(tokens), client_of(jwts, response=away, scheme="Token")
        routes = [
            {"name": "api", "path": "/api", "allow": {"paths": ["/items/**"], "methods": ["GET"]}},
            {
                "name": "jwt", "path": "/jwt", "auth": from_jwts,
                "stand_in": [{"path": "/in"}, {"path": "/opaque", "shape": "opaque"}],
            },
            {"name": "static", "host": "static.localhost", "auth": STATIC},
            {"name": "whole", "path": "/whole", "auth": client_of(tokens, response={"token": ""})},
            {
                "name": "kept", "path": "/kept", "strip_path": False, "retry": False,
                "inspect": {"bodies": "64KiB"},
            },
        ]  # fmt: skip
        config = {
            "routes": [{"upstream": api.url, "auth": auth, "stand_in": entries, **each} for each in routes],
            "allowed_origins": ["https://page.example"],
            "log": {"level": "debug"},
        }
        with running_proxy(config) as proxy:
            yield World(proxy, tokens, jwts, api)
            assert proxy.stop() == 0
            log = proxy.log()
            assert "internal error" not in log
            assert "dummy-of-client" not in log


@pytest.fixture
def world(started: World) -> Iterator[World]:
    started.api.reset()
    yield started
    for came in started.api.requests + started.tokens.requests + started.jwts.requests:
        everything = came.head + came.body
        assert b"dummy-of-client" not in everything
        assert DUMMY.partition("Basic ")[2].encode() not in everything
        assert b"authproxy-p-" not in everything


# ── the answer ───────────────────────────────────────────────────────────────────────────────────


def test_a_login_is_answered_with_a_placeholder_and_never_forwarded(world: World) -> None:
    answer = world.log_in("/api/v1/oauth", DUMMY)
    assert (answer.status, answer.proxy_error) == (200, None)
    assert answer.one("Content-Type") == "application/json"
    assert answer.one("Cache-Control") == "no-store"
    assert answer.json == {"access_token": MARK, "token_type": "Bearer", "expires_in": 3600}
    assert not world.api.requests
    used = ask(
        world.proxy.url,
        request("GET", "/api/items/1", f"Authorization: Bearer {answer.json['access_token']}"),
    )
    assert used.status == 200
    assert world.api.last.one("Authorization") in {f"Bearer {each}" for each in world.tokens.issued.every}


def test_it_is_what_oauths_client_libraries_take(world: World) -> None:
    for body, lines in (
        (LOGIN + "&refresh_token=r3fr3sh", []),
        (
            json.dumps({"grant_type": "refresh_token", "refresh_token": MARK}),
            ["Content-Type: application/json"],
        ),
    ):
        said = ask(world.proxy.url, request("POST", "/api/v1/oauth", *lines, body=body.encode())).json
        assert said["refresh_token"] == said["access_token"] == MARK


@pytest.mark.parametrize(
    "body", ["grant_type=authorization_code&code=c0de", '{"grant_type": "authorization_code"}']
)
def test_there_is_nobody_to_trade_a_code_in_with(world: World, body: str) -> None:
    answer = world.log_in(body=body)
    assert answer.status == 400
    assert answer.json["error"] == "unsupported_grant_type"
    assert answer.json["error_description"]
    assert b"c0de" not in answer.body


def test_a_placeholder_that_is_a_jwt_has_the_claims_of_the_real_one_and_its_own_moments(world: World) -> None:
    before = int(time.time())
    said = world.log_in("/jwt/in").json
    header, claims, signature = said["data"][0]["t/ok"].split(".")
    assert (header, signature) == (JWT_HEADER, placeholder("jwt"))
    found = read(claims)
    assert found["exp"] - found["iat"] == said["expires_in"] == 3600
    assert before <= found["iat"] <= time.time()
    assert found | {"iat": 1, "exp": 2} == CLAIMS
    assert said["token_type"] == "Token"
    assert world.log_in("/jwt/opaque").json["data"] == [{"t/ok": placeholder("jwt")}]
    value = f"Token {said['data'][0]['t/ok']}"
    ask(world.proxy.url, request("GET", "/jwt/x", f"Authorization: {value}"))
    assert world.api.last.one("Authorization") == f"Token {JWT}"


def test_where_the_token_is_no_jwt_one_claims_its_moments_alone(world: World) -> None:
    said = world.log_in("/api/v1/jwt").json
    header, claims, signature = said["access_token"].split(".")
    assert (read(header), signature) == ({"alg": "none", "typ": "JWT"}, MARK)
    assert set(read(claims)) == {"iat", "exp"}
    assert read(claims)["exp"] - read(claims)["iat"] == said["expires_in"] == 90


def test_a_grant_without_a_response_has_it_where_oauth_has_it(world: World) -> None:
    answer = ask(world.proxy.url, request("POST", "/v1/oauth", host="static.localhost", body=b""))
    assert answer.json == {"access_token": placeholder("static"), "token_type": "Bearer", "expires_in": 3600}


def test_where_the_whole_answer_is_the_token_it_is_the_placeholder(world: World) -> None:
    world.tokens.answer = lambda _came, _wire: json_reply("t0ken")
    try:
        assert world.log_in("/whole/v1/oauth").json == placeholder("whole")
    finally:
        world.tokens.reset()


# ── which requests are logins ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "target",
    ["/v1/oauth", "/v1/%6fauth", "/v1//oauth", "/v1/./oauth", "/v1/x/../oauth", "/v1/oauth;a=1",
     "/v1%2Foauth", "/v1\\oauth", "/v1/oauth?scope=a", "/with%20space/%C3%A9"],
)  # fmt: skip
def test_in_whatever_spelling_a_login_does_not_leave(world: World, target: str) -> None:
    assert world.log_in(f"/api{target}").json["access_token"] == MARK
    assert not world.api.requests


@pytest.mark.parametrize("target", ["/v1/oauth/", "/v1/oauth2", "/v1", "/V1/oauth", "/api/v1/oauth"])
def test_other_paths_are_forwarded(world: World, target: str) -> None:
    assert ask(world.proxy.url, request("POST", f"/kept{target}", body=b"")).status == 200
    assert world.api.last.target == f"/kept{target}"


def test_the_path_is_the_one_below_the_route_whatever_the_upstream_sees(world: World) -> None:
    assert world.log_in("/kept/v1/oauth").json["access_token"] == MARK
    assert ask(world.proxy.url, request("GET", "/kept/v1/oauth")).status == 200
    assert world.api.last.target == "/kept/v1/oauth"


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
def test_other_methods_are_logins_where_they_are_named(world: World, method: str) -> None:
    for _ in range(3):
        with connect(world.proxy.url) as wire:
            wire.send(request(method, "/api/v1/get", DUMMY) + request("GET", "/api/items/2"))
            answer = wire.answer(to_head=method == "HEAD")
            assert (answer.status, int(answer.one("Content-Length") or 0) > 80) == (200, True)
            assert method == "HEAD" or answer.json["expires_in"] == 7200
            assert wire.answer().status == 200  # nothing of a body was left before it
    assert [came.target for came in world.api.requests] == ["/items/2"] * 3


def test_the_guard_goes_before_a_login_and_allow_does_not(world: World) -> None:
    assert world.log_in("/api/v1/oauth").status == 200  # `allow` has GET and /items alone
    assert ask(world.proxy.url, request("POST", "/api/v1/other", body=b"")).status == 403
    assert world.log_in("/api/v1/oauth", "Origin: https://evil.example").status == 403
    assert ask(world.proxy.url, request("POST", "/api/v1/oauth", host="evil.example", body=b"")).status == 403
    assert world.log_in("/api/../v1/oauth").status == 403
    page = world.log_in("/api/v1/oauth", "Origin: https://page.example")
    assert (page.status, page.one("Access-Control-Allow-Origin")) == (200, "https://page.example")
    assert not world.api.requests


def test_a_login_needs_the_access_key_which_is_no_credential_of_its() -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        route = {"name": "api", "upstream": api.url, "auth": client_of(tokens), "stand_in": [{"path": "/in"}]}
        with running_proxy({"access": {"tokens": ["the-key-of-the-team"]}, "routes": [route]}) as proxy:
            assert ask(proxy.url, request("POST", "/in", body=b"")).status == 401
            assert not tokens.requests
            key = "X-Authproxy-Key: the-key-of-the-team"
            assert ask(proxy.url, request("POST", "/in", key, body=b"")).json["access_token"] == MARK


# ── its body ─────────────────────────────────────────────────────────────────────────────────────


def test_up_to_64_kib_are_read_and_no_more(world: World) -> None:
    fits, over = "a" * MAX, "a" * (MAX + 1)
    assert world.log_in(body=fits).status == 200
    head = request("POST", "/api/v1/oauth", "Transfer-Encoding: chunked")
    assert ask(world.proxy.url, head + chunked(fits[:9].encode(), fits[9:].encode())).status == 200
    for sent in (
        request("POST", "/api/v1/oauth", body=over.encode()),
        head + chunked(over[:9].encode(), over[9:].encode()),
        request("POST", "/api/v1/oauth", f"Content-Length: {MAX + 1}", "Expect: 100-continue"),
    ):
        answer = ask(world.proxy.url, sent)
        assert (answer.status, answer.json["error"]) == (413, "invalid_request")
        assert "64 KiB" in answer.json["hint"]


def test_a_lower_limit_of_bodies_holds_for_logins_too() -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        route = {"name": "api", "upstream": api.url, "auth": client_of(tokens), "stand_in": [{"path": "/in"}]}
        with running_proxy({"limits": {"body_bytes": 9}, "routes": [route]}) as proxy:
            assert ask(proxy.url, request("POST", "/in", body=b"a" * 9)).status == 200
            answer = ask(proxy.url, request("POST", "/in", body=b"a" * 10))
            assert (answer.status, answer.json["hint"]) == (413, "`limits.body_bytes` sets the limit")


def test_a_client_that_waits_to_be_asked_is_asked(world: World) -> None:
    with connect(world.proxy.url) as wire:
        wire.send(request("POST", "/api/v1/oauth", f"Content-Length: {len(LOGIN)}", "Expect: 100-continue"))
        assert wire.answer().status == 100
        assert wire.send(LOGIN.encode()).answer().json["access_token"] == MARK
        assert wire.send(request("GET", "/api/items/1")).answer().status == 200


def test_pipelined_and_in_pieces_and_over_http_1_0(world: World) -> None:
    login = request("POST", "/api/v1/oauth", FORM, body=LOGIN.encode())
    plain = request("GET", "/api/items/1")
    with connect(world.proxy.url) as wire:
        wire.send(plain + login + plain + login[:-5])
        assert [wire.answer().status for _ in range(3)] == [200, 200, 200]
        wire.send(login[-5:] + plain)
        assert [wire.answer().status for _ in range(2)] == [200, 200]
    old = ask(world.proxy.url, login.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (old.status, old.one("Connection")) == (200, "close")
    assert len(world.api.requests) == 3


def test_a_malformed_body_and_a_client_that_goes_away_are_nothing_new(world: World) -> None:
    head = request("POST", "/api/v1/oauth", "Transfer-Encoding: chunked")
    assert ask(world.proxy.url, head + b"zz\r\n").status == 400
    with connect(world.proxy.url) as wire:
        wire.send(head + b"5\r\nab")
    assert world.log_in().status == 200


def test_nothing_of_it_is_kept_or_told_and_it_is_not_sent_again(world: World) -> None:
    assert (
        world.log_in(
            "/kept/v1/oauth?client_secret=dummy-of-client", DUMMY, "X-Password: dummy-of-client"
        ).status
        == 200
    )
    told = world.admin("/api/requests").json["requests"][0]
    assert (told["status"], told["route"], told["path"]) == (200, "kept", "/kept/v1/oauth")
    assert (told["bytes_in"], told["token"], told["error"]) == (len(LOGIN), None, None)
    assert told["steps"][-1]["what"] == "stand_in"
    assert told["steps"][-1]["detail"] == "answered by authproxy"
    whole = world.admin(f"/api/requests/{told['id']}")
    assert whole.json["request_body"] is None
    assert whole.json["response_body"] is None
    assert not {"authorization", "x-password"} & {name.lower() for name, _ in whole.json["request_headers"]}
    for secret in (b"dummy-of-client", b"authproxy-p-", DUMMY.encode()):
        assert secret not in whole.body
    assert world.admin(f"/api/requests/{told['id']}/replay", "POST").status == 409
    bare = ask(world.proxy.url, request("POST", "/kept/v1/oauth", body=b""))
    assert bare.status == 200
    told = world.admin("/api/requests").json["requests"][0]
    again = world.admin(f"/api/requests/{told['id']}/replay", "POST")
    assert (again.status, "login" in again.json["detail"]) == (409, True)
    metrics = world.admin("/metrics").body
    assert b'authproxy_requests_total{method="POST",route="kept",status="200"}' in metrics
    assert b"authproxy-p-" not in metrics


# ── when there is no token ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "status", "error"),
    [
        (
            json_reply({"error": "invalid_client", "error_description": 'no "such" client'}, 401),
            502,
            "invalid_client",
        ),
        (json_reply({"error": "unauthorized_client"}, 400), 502, "unauthorized_client"),
        (reply(403), 502, "invalid_client"),
        (json_reply({"token": "elsewhere"}), 502, "server_error"),
        (reply(500), 503, "temporarily_unavailable"),
        (None, 503, "temporarily_unavailable"),
    ],
)
def test_what_is_wrong_shows_at_the_clients_login(said: bytes | None, status: int, error: str) -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        tokens.answer = lambda _came, _wire: said
        route = {"name": "api", "upstream": api.url, "auth": client_of(tokens), "stand_in": [{"path": "/in"}]}
        with running_proxy({"routes": [route]}) as proxy:
            answer = ask(proxy.url, request("POST", "/in", FORM, body=LOGIN.encode()))
            plainly = ask(proxy.url, request("GET", "/x"))
            assert (answer.status, answer.json["error"]) == (status, error)
            assert answer.one("Content-Type") == "application/problem+json"
            assert answer.proxy_error is not None
            said_plainly = answer.json["error_description"]
            assert answer.json["detail"].replace('"', "'") in said_plainly
            assert said_plainly.isascii()
            assert not set('"\\') & set(said_plainly)
            assert "error_description" not in plainly.json
            assert len(tokens.requests) == 1  # and it keeps to the backoff
            assert not api.requests
            told = ask(proxy.admin_url, request("GET", "/api/requests")).json["requests"][1]
            assert (told["status"], told["steps"][-1]["what"]) == (status, "refused")
            replayed = ask(proxy.admin_url, request("POST", f"/api/requests/{told['id']}/replay"))
            assert replayed.status == 409


def test_a_token_endpoint_that_is_not_there() -> None:
    with Upstream() as gone:
        nowhere = gone.url
    route = {"name": "api", "upstream": nowhere, "stand_in": [{"path": "/in"}]}
    auth = {
        "grant": "client_credentials",
        "client_id": "a",
        "client_secret": "b",
        "token_url": f"{nowhere}/token",
    }
    with running_proxy({"routes": [{**route, "auth": auth}]}) as proxy:
        answer = ask(proxy.url, request("POST", "/in", body=b""))
        assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")
        assert answer.one("Retry-After")


# ── the configuration ────────────────────────────────────────────────────────────────────────────


def test_it_can_be_changed_while_running() -> None:
    def config(*entries: dict[str, Any]) -> dict[str, Any]:
        route = {
            "name": "api",
            "upstream": api.url,
            "auth": client_of(tokens),
            "stand_in": list(entries) or False,
        }
        return {"listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"}, "routes": [route]}

    with (
        Tokens() as tokens,
        API(tokens.issued) as api,
        running_proxy(config()) as proxy,
        connect(proxy.url) as wire,
    ):
        for _ in range(6):  # it is a remembered head by then
            assert wire.send(request("GET", "/in")).answer().body == b"fine"
        write_config(proxy.directory, config({"path": "/in", "methods": ["GET"]}))
        assert ask(proxy.admin_url, request("POST", "/api/reload")).status == 200
        for _ in range(6):
            assert wire.send(request("GET", "/in")).answer().json["access_token"] == MARK


@pytest.mark.parametrize("workers", [1, 2])
def test_all_processes_give_the_same(workers: int) -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        route = {"name": "api", "upstream": api.url, "auth": client_of(tokens), "stand_in": [{"path": "/in"}]}
        for _ in range(2):  # and after a restart
            with running_proxy({"workers": workers, "routes": [route]}) as proxy:
                answers = [ask(proxy.url, request("POST", "/in", body=b"")) for _ in range(20)]
                assert {each.json["access_token"] for each in answers} == {MARK}


def test_faults_are_told_at_their_place() -> None:
    text = """routes:
- name: api
  upstream: https://api.example
  auth: {grant: static, token: "${T:-t}"}
  stand_in:
  - {path: v1}
  - {path: /v1, methods: [TRACE], lifetime: 0}
- name: none
  path: /none
  upstream: https://api.example
  auth: {grant: none}
  stand_in: [{path: /in}]
"""
    found = authproxy("check", config=text)
    assert found.returncode == 2
    for place in (
        "6:12: routes[0].stand_in[0].path",
        "7:27: routes[0].stand_in[1].methods[0]",
        "7:45: routes[0]",
    ):
        assert place in found.stdout, found.stdout
    assert "12:13: routes[1].stand_in: has no token" in found.stdout
