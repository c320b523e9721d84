"""What the proxy answers for itself: a status, a problem document, `Proxy-Status`, and never a secret."""

import re
import threading
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.command import authproxy, running_proxy, wait_until
from tests.support.launch import GUARD
from tests.support.wire import Message, Upstream, Wire, ask, chunked, connect, get, json_reply, reply, request

from .conftest import Place

SETTINGS: dict[str, Any] = {"limits": {"body_bytes": "1KiB", "header_bytes": "8KiB", "drain": "1s"}}
PLAIN = {"grant": "static", "token": "never-changes"}
NOBODY = "http://127.0.0.1:1"  # a port that nobody listens on, nor can be given by chance


def assert_problem(answer: Message, status: int, error: str, *, route: str | None = None) -> dict[str, Any]:
    """Check that `answer` is the proxy's own, whole and well-formed, and return its document."""
    assert answer.status == status
    assert answer.one("Content-Type") == "application/problem+json"
    assert answer.one("Content-Length") == str(len(answer.body))
    assert answer.proxy_error == error
    problem: dict[str, Any] = answer.json
    assert problem["status"] == status
    assert {"type", "title", "detail", "id"} <= problem.keys() <= {
        "type", "title", "status", "detail", "id", "route", "hint", "error"
    }  # fmt: skip
    assert all(isinstance(problem[key], str) and problem[key] for key in ("type", "title", "detail"))
    assert problem.get("route") == route
    if status == 503:
        assert int(answer.one("Retry-After") or 0) > 0
    return problem


# ── the upstream ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.route(upstream="http://no-such-host.invalid", auth={"grant": "none"})
def test_a_host_name_that_does_not_resolve(place: Place) -> None:
    assert_problem(place.get(), 502, "dns_error", route=place.name)


@pytest.mark.route(upstream=NOBODY, auth=PLAIN)
def test_a_connection_that_is_refused(place: Place) -> None:
    problem = assert_problem(place.get(), 502, "connection_refused", route=place.name)
    assert "upstream" in problem["hint"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html>hello</html>",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 High\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nhi!",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: 1\x00\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX A: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\n",
        b"HTT",
        b"",
    ],
)
@pytest.mark.route(auth=PLAIN)
def test_an_answer_that_is_not_http(place: Place, garbage: bytes) -> None:
    place.api.says(garbage, then_close=True)
    assert_problem(place.get(), 502, "http_protocol_error", route=place.name)
    place.api.answer = place.api.first_answer
    assert place.get().status == 200


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize(
    ("asked", "upgrade"),
    [
        ("websocket", "Upgrade: telnet\r\n"),
        ("websocket", "Upgrade: websocket, telnet\r\n"),
        ("websocket", "Upgrade: websocket\r\nUpgrade: telnet\r\n"),
        ("websocket", "Upgrade:\r\n"),
        ("websocket", ""),
        ("telnet", "Upgrade: websocket\r\n"),
        ("telnet", "Upgrade: h2c\r\n"),
    ],
)
def test_a_switch_to_a_protocol_that_was_not_asked_for(place: Place, asked: str, upgrade: str) -> None:
    switch = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{upgrade}\r\n"
    place.api.says(switch.encode(), then_close=True)
    answer = place.get("/", "Connection: Upgrade", f"Upgrade: {asked}")
    assert_problem(answer, 502, "http_protocol_error", route=place.name)


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize(
    "lines",
    [["Connection: Upgrade"], ["Upgrade: websocket"], ["Connection: keep-alive", "Upgrade: websocket"]],
)
def test_a_switch_that_was_only_half_asked_for(place: Place, lines: list[str]) -> None:
    place.api.says(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        then_close=True,
    )
    assert_problem(place.get("/", *lines), 502, "http_protocol_error", route=place.name)
    assert not {"upgrade", "connection"} & set(place.api.last.names)


@pytest.mark.route(auth=PLAIN)
def test_an_endless_head_is_cut_short(place: Place) -> None:
    def answer(_request: Message, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\n")
        for number in range(40_000):
            wire.send(b"X-%d: %b\r\n" % (number, b"x" * 1000))

    place.api.answer = answer
    assert_problem(place.get(), 502, "http_protocol_error", route=place.name)


@pytest.mark.route(timeouts={"response": "300ms"}, auth=PLAIN)
def test_an_upstream_that_takes_too_long(place: Place) -> None:
    over = threading.Event()

    def answer(_request: Message, _wire: Wire) -> None:
        assert over.wait(GUARD)

    place.api.answer = answer
    assert_problem(place.get(), 504, "http_response_timeout", route=place.name)
    over.set()
    assert len(place.api.requests) == 1


@pytest.mark.route(timeouts={"connect": "300ms"}, max_connections=1, auth=PLAIN)
def test_more_requests_than_connections_to_the_upstream(place: Place) -> None:
    over = threading.Event()

    def answer(_request: Message, _wire: Wire) -> bytes:
        assert over.wait(GUARD)
        return reply(body=b"at last")

    place.api.answer = answer
    with place.connect() as first:
        first.send(place.request("GET"))
        place.api.wait_for(1)
        assert_problem(place.get(), 503, "connection_limit_reached", route=place.name)
        over.set()
        assert first.answer().body == b"at last"
        assert place.get().body == b"at last", "the connection is free again"


def test_more_clients_than_limits_connections() -> None:
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        routes = [{"name": "few", "upstream": upstream.url, "auth": PLAIN}]
        proxy = stack.enter_context(running_proxy({"limits": {"connections": 3}, "routes": routes}))
        wires = [stack.enter_context(connect(proxy.url)) for _ in range(3)]
        for wire in wires:
            assert wire.send(request()).answer().status == 200
        answer = ask(proxy.url, request())
        assert_problem(answer, 503, "connection_limit_reached")
        assert len(upstream.requests) == 3
        wires.pop().close()
        wait_until(lambda: ask(proxy.url, request()).status == 200, "there is never room again")


# ── the token endpoint ───────────────────────────────────────────────────────────────────────────


def at_nobody(**more: Any) -> Any:
    auth = {"grant": "client_credentials", "client_id": "x", "client_secret": "secret-for-nobody"}
    return pytest.mark.route(auth={**auth, "token_url": NOBODY, **more})


@at_nobody()
def test_a_token_endpoint_that_is_down(place: Place) -> None:
    assert_problem(place.get(), 503, "destination_unavailable", route=place.name)
    assert place.api.requests == []


TOO_LONG = json_reply({"access_token": "t", "padding": "x" * (2 << 20)})


@pytest.mark.parametrize(
    ("said", "status", "error"),
    [
        pytest.param(said, status, error, id=name, marks=at_nobody(client_id=name, token_url="{tokens}/"))
        for name, said, status, error in [
            ("no-json", reply(body=b"<html>login</html>"), 502, "http_protocol_error"),
            ("empty", reply(), 502, "http_protocol_error"),
            ("no-token", json_reply({"token": "t"}), 502, "http_protocol_error"),
            ("null", json_reply({"access_token": None}), 502, "http_protocol_error"),
            ("number", json_reply({"access_token": 7.5}), 502, "http_protocol_error"),
            ("list", json_reply([]), 502, "http_protocol_error"),
            ("control", json_reply({"access_token": "a\r\nX-Evil: 1"}), 502, "http_protocol_error"),
            ("not-ascii", json_reply({"access_token": "\u20ac"}), 502, "http_protocol_error"),
            ("dpop", json_reply({"access_token": "t", "token_type": "DPoP"}), 502, "http_protocol_error"),
            ("too-long", TOO_LONG, 502, "http_protocol_error"),
            ("200-error", json_reply({"error": "invalid_client"}), 502, "proxy_configuration_error"),
            ("400", json_reply({"error": "invalid_client"}, 400), 502, "proxy_configuration_error"),
            (
                "400-grant",
                json_reply({"error": "unauthorized_client"}, 400),
                502,
                "proxy_configuration_error",
            ),
            ("401", reply(401), 502, "proxy_configuration_error"),
            ("403", reply(403), 502, "proxy_configuration_error"),
            ("500", json_reply({"error": "oops"}, 500), 503, "destination_unavailable"),
            ("503", reply(503, "Retry-After: 7"), 503, "destination_unavailable"),
            ("429", reply(429, "Retry-After: 7"), 503, "destination_unavailable"),
            ("broken", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", 503, "destination_unavailable"),
            ("nothing", b"", 503, "destination_unavailable"),
            ("garbage", b"SSH-2.0-x\r\n\r\n", 503, "destination_unavailable"),
        ]
    ],
)
def test_what_a_token_endpoint_may_say_instead_of_a_token(
    place: Place, said: bytes, status: int, error: str
) -> None:
    place.tokens.says(said, then_close=True)
    first = place.get()
    assert_problem(first, status, error, route=place.name)
    if b"Retry-After: 7" in said:
        assert int(first.one("Retry-After") or 0) >= 7
    assert_problem(place.get(), 503, "destination_unavailable", route=place.name)
    assert len(place.tokens.requests) == 1, "it is left alone for a while"
    assert place.api.requests == []


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(status, marks=at_nobody(client_id=f"redirected-{status}", token_url="{tokens}/"))
        for status in (301, 302, 303, 307, 308)
    ],
)
def test_a_token_endpoint_that_redirects_is_not_followed(place: Place, status: int) -> None:
    with Upstream(lambda _request, _wire: json_reply({"access_token": "stolen"})) as elsewhere:
        place.tokens.says(reply(status, f"Location: {elsewhere.url}/"))
        assert place.get().status == 502
        assert elsewhere.requests == []
    assert place.api.requests == []


@at_nobody(token_url="{tokens}/", client_id="comes-back")
def test_a_token_endpoint_that_comes_back_is_asked_again_after_a_second(place: Place) -> None:
    issue = place.tokens.first_answer
    place.tokens.says(reply(500))
    assert place.get().status == 503
    place.tokens.answer = issue
    wait_until(lambda: place.get().status == 200, "it is never asked again")
    assert len(place.tokens.requests) == 2


@at_nobody(token_url="{tokens}/", client_id="echoed")
def test_an_error_never_repeats_a_secret_that_the_token_endpoint_echoes(place: Place) -> None:
    echoed = {"error": "invalid_client", "error_description": "no such secret: secret-for-nobody"}
    place.tokens.says(json_reply(echoed, 401))
    answer = place.get()
    assert answer.status == 502
    assert b"secret-for-nobody" not in answer.head + answer.body
    assert place.proxy is not None
    assert "secret-for-nobody" not in place.proxy.log()


@pytest.mark.route(
    auth={
        "grant": "token_request",
        "url": "{tokens}/login",
        "form": {"username": "me", "password": "hunter2", "grant_type": "password", "key": "a-long/k&y"},
    }
)
def test_an_error_repeats_the_servers_words_with_the_secrets_masked_and_not_the_names(place: Place) -> None:
    said = "some named parameter of me is wrong: password hunter2, hunter22, "
    said += "key=a-long%2fk%26y+ YS1sb25nL2smeQ=="
    place.tokens.says(json_reply({"error": "invalid_grant", "error_description": said}, 401))
    problem = assert_problem(place.get(), 502, "proxy_configuration_error", route=place.name)
    masked = "some named parameter of me is wrong: password ••••, hunter22, key=••••+ ••••=="
    assert problem["detail"].endswith(masked)


HALF = json_reply({"error": "in\ud800valid", "error_description": "\udfffno \ud83d\ude00\ud83d"}, 400)


def assert_can_be_read(text: bytes) -> None:
    assert b"\\ud83d\\ude00" in text.lower() or "\U0001f600".encode() in text
    assert not re.search(rb"\\ud(800|fff)", text.lower())


@at_nobody(token_url="{tokens}/", client_id="half")
def test_half_a_character_in_a_token_endpoints_words_breaks_no_answer(place: Place) -> None:
    place.tokens.says(HALF)
    answer = place.get()
    assert_problem(answer, 502, "proxy_configuration_error", route=place.name)
    assert_can_be_read(answer.body)
    assert place.proxy is not None
    assert_can_be_read(place.proxy.wait_for_log("no token route=" + place.name).encode())
    ended = authproxy("token", place.name, config={"routes": [place.route]})
    assert ended.returncode == 1
    assert_can_be_read(ended.stderr.encode())


@pytest.mark.route(
    auth={
        "grant": "device_code",
        "client_id": "half-a-device",
        "token_url": "{tokens}/",
        "device_authorization_url": "{tokens}/device",
    }
)
@pytest.mark.parametrize(
    ("said", "status"),
    [
        (HALF, 502),
        (
            json_reply(
                {"device_code": "d", "user_code": "A\ud800", "verification_uri": "https://x.example/"}
            ),
            200,
        ),
        (
            json_reply({"device_code": "\ud800", "user_code": "A", "verification_uri": "https://x.example/"}),
            200,
        ),
        (
            json_reply(
                {"device_code": "d", "user_code": "A", "verification_uri": "https://x.example/\ud800"}
            ),
            200,
        ),
    ],
)
def test_nor_does_it_break_a_login_page(place: Place, said: bytes, status: int) -> None:
    place.tokens.says(said)
    assert place.proxy is not None
    answer = get(place.proxy.admin_url, f"/login/{place.name}")
    assert answer.status == status
    assert answer.one("Content-Type") == "text/html; charset=utf-8"
    assert answer.body.decode()


def test_nor_does_it_break_a_refresh(place: Place) -> None:
    place.tokens.more["refresh_token"] = "half \ud800"
    assert place.get().status == 200
    place.tokens.revoke()
    assert place.get().status == 200
    assert place.tokens.last.form["grant_type"] == "refresh_token"


# ── the request ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.route(path="/mounted", auth=PLAIN)
def test_a_path_where_no_route_is_says_where_there_are_some(place: Place) -> None:
    problem = assert_problem(place.get("/elsewhere"), 404, "destination_not_found")
    assert "/mounted" in problem["detail"] + problem.get("hint", "")


@pytest.mark.route(allow={"methods": ["GET"], "paths": ["/v2/**", "!/v2/secret"]}, auth=PLAIN)
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v2/x"),
        ("HEAD", "/v2/x"),
        ("GET", "/v1/x"),
        ("GET", "/v2/../v1/x"),
        ("GET", "/v2/%2e%2e/v1/x"),
        ("GET", "/v2%2F..%2Fv1"),
        ("GET", "/V2/x"),
        ("GET", "/"),
    ],
)
def test_what_allow_does_not_name_never_leaves(place: Place, method: str, target: str) -> None:
    answer = place.ask(place.request(method, target))
    assert (answer.status, answer.proxy_error) == (403, "http_request_denied")
    assert place.api.requests == []


@pytest.mark.route(allow={"methods": ["GET"], "paths": ["/v2/**"]}, auth=PLAIN)
def test_what_allow_names_passes(place: Place) -> None:
    assert place.get("/v2/a/b?c").status == 200
    assert place.get("/v2/%61").status == 200


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize(
    "lines",
    [["X-Long: " + "x" * 9000], [f"X-{number}: {'x' * 90}" for number in range(100)], ["X: 1"] * 3000],
)
def test_a_header_section_that_is_too_large(place: Place, lines: list[str]) -> None:
    answer = place.get("/", *lines)
    assert (answer.status, answer.proxy_error) == (431, "http_request_error")
    assert place.api.requests == []
    assert place.get("/", "X-Long: " + "x" * 5000).status == 200


@pytest.mark.route(auth=PLAIN)
def test_a_target_that_is_too_long(place: Place) -> None:
    answer = place.get("/" + "x" * 9000)
    assert answer.status in {414, 431}
    assert answer.proxy_error == "http_request_error"
    assert place.api.requests == []


@pytest.mark.route(auth=PLAIN)
def test_a_body_that_announces_to_be_too_large(place: Place) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Content-Length: 1025"))
        answer = wire.answer()
        assert_problem(answer, 413, "http_request_error", route=place.name)
        assert answer.one("Connection") == "close"
    assert place.api.requests == []
    assert place.post(body=b"x" * 1024).status == 200


@pytest.mark.route(auth=PLAIN)
def test_a_body_that_announces_to_be_too_large_is_not_asked_for(place: Place) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Expect: 100-continue", "Content-Length: 1025"))
        assert wire.answer().status == 413


@pytest.mark.route(auth=PLAIN)
def test_a_chunked_body_that_grows_too_large(place: Place) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"x" * 1000, end=b""))
        wire.send(chunked(b"x" * 1000, end=b""))
        answer = wire.answer()
        assert_problem(answer, 413, "http_request_error", route=place.name)
        assert answer.one("Connection") == "close"
    assert place.api.requests == [], "none came whole"


@pytest.mark.route(auth=PLAIN)
def test_a_whole_chunked_body_that_is_too_large(place: Place) -> None:
    sent = place.request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"x" * 1000, b"x" * 1000)
    assert_problem(place.ask(sent), 413, "http_request_error", route=place.name)


@pytest.mark.route(upstream=NOBODY, auth=PLAIN)
def test_an_error_to_head_has_no_body_and_the_connection_goes_on(place: Place) -> None:
    with place.connect() as wire:
        for _ in range(2):
            answer = wire.send(place.request("HEAD")).answer(to_head=True)
            assert (answer.status, answer.proxy_error) == (502, "connection_refused")
        answer = wire.send(place.request("GET")).answer()
        assert_problem(answer, 502, "connection_refused", route=place.name)


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 431, 500, 502, 503, 504])
def test_an_error_of_the_upstream_cannot_be_taken_for_ours(place: Place, status: int) -> None:
    place.api.says(reply(status, "Content-Type: application/problem+json", body=b"{}"))
    answer = place.get()
    assert (answer.status, answer.proxy_error, answer.body) == (status, None, b"{}")


def test_a_client_that_never_ends_its_head_is_not_waited_for() -> None:
    limits = {"header_timeout": "300ms"}
    routes = [{"name": "api", "upstream": "http://127.0.0.1:1", "auth": PLAIN}]
    with running_proxy({"limits": limits, "routes": routes}) as proxy, connect(proxy.url) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        wire.rest()  # an answer or none, then the end
