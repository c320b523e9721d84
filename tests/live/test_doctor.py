"""`authproxy doctor` over the wire: for each mistake its cause and the next step, and no secret told.

A case says how a route is mistaken, and how its servers behave. It is run as text and as JSON. Every server
keeps all that came: whatever is not meant to see a credential must have seen none.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.doctor import (
    GOOD,
    HTML,
    ID,
    LOGIN_PAGE,
    PASSWORD,
    SECRET,
    TOKEN,
    TOTP_SECRET,
    USER,
    Servers,
    carries_credential,
    examined,
    running_servers,
    steps_of,
)
from tests.support.ports import free_port
from tests.support.wire import Message, Upstream, Wire, json_reply, reply


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with running_servers(tmp_path) as servers:
        yield servers


# ── hostile servers ──────────────────────────────────────────────────────────────────────────────


def test_a_second_token_is_no_more_told_than_the_first(servers: Servers) -> None:
    second = "t0ken-that-came-second"

    def tokens(_request: Message, _wire: Wire) -> bytes:
        return json_reply(GOOD | {"access_token": [TOKEN, second][len(servers.tokens.requests) % 2 == 0]})

    def api(request: Message, _wire: Wire) -> bytes:
        sent = str(request.one("Authorization")).removeprefix("Bearer ")
        return reply(302, f"Location: /seen/{sent}") if sent == second else reply(401)

    servers.tokens.answer, servers.api.answer = tokens, api
    _, text, _ = examined(servers, servers.route())
    assert "a redirect to /seen/" in text
    assert second not in text


def test_a_stream_without_an_end_is_judged_by_its_head(servers: Servers) -> None:
    gone = threading.Event()

    def drip(_request: Message, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        gone.wait(60)

    servers.api.answer = drip
    document, _, code = examined(servers, servers.route())
    gone.set()
    assert code == 0
    assert "answered 200" in steps_of(document)["upstream"]["detail"]


# ── all is well ──────────────────────────────────────────────────────────────────────────────────


def test_a_sound_route_is_proved_step_by_step(servers: Servers) -> None:
    servers.env = {"THE_SECRET": SECRET}
    route = servers.route(auth=servers.auth | {"client_secret": "${THE_SECRET}"})
    document, text, code = examined(servers, route)
    assert code == 0
    assert document["ok"] is True
    steps = steps_of(document)
    names = ["config", "secrets", "dns", "tcp", "token dns", "token tcp", "token", "upstream"]
    assert list(steps) == names
    assert all(step["ok"] for step in steps.values())
    assert set(steps["token"]) == {"name", "ok", "ms", "detail", "cause", "next"}
    assert steps["secrets"]["detail"] == "${THE_SECRET}"
    assert "client_credentials" in steps["token"]["detail"]
    assert "valid for" in steps["token"]["detail"]
    assert "scope read" in steps["token"]["detail"]
    assert "answered 200" in steps["upstream"]["detail"]
    assert text.count("✓") == len(names) + 1
    assert len(servers.tokens.requests) == 2, "one each run"
    assert [request.one("Authorization") for request in servers.api.requests] == [f"Bearer {TOKEN}"] * 2


def test_one_request_goes_as_the_data_path_sends_it(servers: Servers) -> None:
    route = servers.route(
        path="/mine", upstream=f"{servers.api.url}/v2", headers={"set": {"X-Team": "geo"}},
        allow={"methods": ["HEAD"], "paths": ["/a/**"]},
    )  # fmt: skip
    assert examined(servers, route, "--path", "/a/b?c=d")[2] == 0
    assert servers.api.last.start == b"HEAD /v2/a/b?c=d HTTP/1.1"
    assert servers.api.last.one("X-Team") == "geo"
    assert servers.api.last.one("Host") == f"127.0.0.1:{servers.api.port}"


def test_what_allow_does_not_let_out_is_not_sent(servers: Servers) -> None:
    document, _, code = examined(servers, servers.route(allow={"paths": ["/a/**"]}))
    step = steps_of(document)["upstream"]
    assert (code, step["ok"]) == (0, None)
    assert "--path" in step["next"]
    assert not servers.api.requests


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────────

Case = Callable[[Servers], dict[str, Any]]


@dataclass
class Mistake:
    """What is wrong, the step at which it shows, and words of its cause and of the next step."""

    make: Case
    step: str
    cause: str
    next: str
    args: tuple[str, ...] = ()
    path: str | None = None


MISTAKES: dict[str, Mistake] = {}
LONG_AGO, LONG_OVER = datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)


def mistake(step: str, cause: str, what_next: str, *args: str) -> Callable[[Case], Case]:
    def register(make: Case) -> Case:
        MISTAKES[make.__name__.strip("_").replace("_", " ")] = Mistake(make, step, cause, what_next, args)
        return make

    return register


@mistake("token", "answered 401", "`username` and `password`")
def _wrong_password(servers: Servers) -> dict[str, Any]:
    servers.tokens.says(
        json_reply({"error": "invalid_grant", "error_description": f"no {PASSWORD} of {USER}"}, 401)
    )
    return servers.route(auth=servers.auth | {"grant": "password", "username": USER, "password": PASSWORD})


@mistake("token", "invalid_client", "are they swapped?")
def _id_and_secret_swapped(servers: Servers) -> dict[str, Any]:
    servers.tokens.says(json_reply({"error": "invalid_client"}, 401, "WWW-Authenticate: Basic"))
    return servers.route(auth=servers.auth | {"client_id": SECRET, "client_secret": ID})


@mistake("token", "answered 404", "check `token_url`")
def _token_endpoint_404(servers: Servers) -> dict[str, Any]:
    servers.tokens.says(reply(404))
    return servers.route()


@mistake("token", "answered 415", "check `token_url`")
def _token_endpoint_415(servers: Servers) -> dict[str, Any]:
    servers.tokens.says(reply(415))
    return servers.route()


@mistake("token", "an HTML page where JSON was due", "a login page, or a captive portal")
def _login_page_at_the_token_endpoint(servers: Servers) -> dict[str, Any]:
    servers.tokens.says(reply(200, HTML, body=LOGIN_PAGE))
    return servers.route()


@mistake(
    "token",
    "the fields there are: /data/id_of, /data/session_token",
    "set `response.token` to the place of the token in the reply, perhaps /data/session_token",
)
def _token_in_another_field(servers: Servers) -> dict[str, Any]:
    servers.tokens.says(json_reply({"data": {"id_of": "me", "session_token": TOKEN}}))
    return servers.route()


@mistake("token", "answered 302", "redirects are not followed")
def _token_endpoint_redirects(servers: Servers) -> dict[str, Any]:
    servers.tokens.says(reply(302, f"Location: {servers.other.url}/token"))
    return servers.route()


@mistake("upstream", "it asks for Token", "`scheme: Token`")
def _Bearer_where_Token_is_wanted(servers: Servers) -> dict[str, Any]:  # noqa: N802
    servers.api.says(reply(401, 'WWW-Authenticate: Token realm="api, v2"'))
    return servers.route()


@mistake("upstream", "the path is joined wrongly", "call it without /v2", "--path", "/v2/users")
def _base_path_twice(servers: Servers) -> dict[str, Any]:
    servers.api.answer = lambda request, _wire: reply(401 if request.path == "/v2/users" else 404)
    return servers.route(upstream=f"{servers.api.url}/v2")


@mistake(
    "upstream", "without the base path (/users) it is 401", "take /v9 off `upstream`", "--path", "/users"
)
def _wrong_base_path(servers: Servers) -> dict[str, Any]:
    servers.api.answer = lambda request, _wire: reply(401 if request.path == "/users" else 404)
    return servers.route(upstream=f"{servers.api.url}/v9")


@mistake("upstream", "nothing at that path", "--path", "--path", "/nowhere")
def _path_that_is_not_there(servers: Servers) -> dict[str, Any]:
    """Where everybody is asked for a credential first, being asked says nothing of the path."""
    servers.api.answer = lambda request, _wire: reply(404 if request.one("Authorization") else 401)
    return servers.route(upstream=f"{servers.api.url}/v2")


@mistake("upstream", "a redirect to another host", "if that is the API, set `upstream:")
def _redirect_to_another_host(servers: Servers) -> dict[str, Any]:
    servers.api.says(reply(301, f"Location: {servers.other.url}/v2?token={TOKEN}"))
    return servers.route()


@mistake("upstream", "a redirect to a login page", "a site for people")
def _redirect_to_a_login_page(servers: Servers) -> dict[str, Any]:
    servers.api.says(reply(302, "Location: /login?next=/"))
    return servers.route()


@mistake("upstream", "a login page for people", "check `upstream`")
def _login_page_of_the_upstream(servers: Servers) -> dict[str, Any]:
    servers.api.says(reply(200, HTML, body=LOGIN_PAGE))
    return servers.route()


@mistake("upstream", "answered 403", "is the account allowed")
def _not_allowed(servers: Servers) -> dict[str, Any]:
    servers.api.says(reply(403))
    return servers.route()


@mistake("upstream", "answered 503", "wait")
def _upstream_in_trouble(servers: Servers) -> dict[str, Any]:
    servers.api.says(reply(503))
    return servers.route()


@mistake("upstream", "did not answer within 1 s", "timeouts.response")
def _upstream_that_hangs(servers: Servers) -> dict[str, Any]:
    def hang(_request: Message, wire: Wire) -> None:
        wire.is_closed()

    servers.api.answer = hang
    return servers.route(timeouts={"response": "1s"})


@mistake("upstream", "speaks TLS, not plain http", "write https:// in `upstream`")
def _http_where_it_is_https(servers: Servers) -> dict[str, Any]:
    secure = servers.secure(trustme.CA().issue_cert("127.0.0.1"))
    return servers.route(upstream=f"http://127.0.0.1:{secure.port}")


@mistake("token", "speaks TLS, not plain http", "write https:// in `token_url`")
def _http_where_the_token_endpoint_is_https(servers: Servers) -> dict[str, Any]:
    secure = servers.secure(trustme.CA().issue_cert("127.0.0.1"))
    return servers.route(auth=servers.auth | {"token_url": f"http://127.0.0.1:{secure.port}/token"})


@mistake("tls", "plain http", "write http:// in `upstream`")
def _https_where_it_is_http(servers: Servers) -> dict[str, Any]:
    return servers.route(upstream=f"https://127.0.0.1:{servers.api.port}", timeouts={"connect": "1s"})


@mistake("tls", "plain http", "write http:// in `upstream`")
def _https_where_it_is_a_server_that_answers_garbage(servers: Servers) -> dict[str, Any]:
    def talk() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.recv(1 << 16)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    listener = servers.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    servers.stack.callback(lambda: (listener.shutdown(socket.SHUT_RDWR), thread.join()))
    return servers.route(upstream=f"https://127.0.0.1:{listener.getsockname()[1]}")


@mistake("token tls", "plain http", "write http:// in `token_url`")
def _https_where_the_token_endpoint_is_http(servers: Servers) -> dict[str, Any]:
    garbage = servers.stack.enter_context(Upstream())
    garbage.reads_bodies = False
    return servers.route(auth=servers.auth | {"token_url": f"https://127.0.0.1:{garbage.port}/token"})


@mistake("tls", 'signed by "Somebody"', "`tls.ca_file`")
def _unknown_CA(servers: Servers) -> dict[str, Any]:  # noqa: N802
    secure = servers.secure(named_authority("Somebody").issue_cert("127.0.0.1"))
    return servers.route(upstream=secure.url)


@mistake("token tls", 'signed by "Somebody"', "`auth.tls.ca_file`")
def _unknown_CA_of_the_token_endpoint(servers: Servers) -> dict[str, Any]:  # noqa: N802
    secure = servers.secure(named_authority("Somebody").issue_cert("127.0.0.1"))
    return servers.route(auth=servers.auth | {"token_url": f"{secure.url}/token"})


@mistake("tls", "expired on 2020-01-01", "has to renew it")
def _expired_certificate(servers: Servers) -> dict[str, Any]:
    ca = trustme.CA()
    secure = servers.secure(ca.issue_cert("127.0.0.1", not_before=LONG_AGO, not_after=LONG_OVER))
    return servers.route(upstream=secure.url, tls={"ca_file": trusted(servers, ca)})


@mistake("token tls", "expired on 2020-01-01", "has to renew it")
def _expired_certificate_of_the_token_endpoint(servers: Servers) -> dict[str, Any]:
    ca = trustme.CA()
    secure = servers.secure(ca.issue_cert("127.0.0.1", not_before=LONG_AGO, not_after=LONG_OVER))
    servers.env["SSL_CERT_FILE"] = trusted(servers, ca)
    return servers.route(auth=servers.auth | {"token_url": f"{secure.url}/token"})


@mistake("tls", "valid from 2090-01-01", "clock")
def _certificate_of_the_future(servers: Servers) -> dict[str, Any]:
    ca = trustme.CA()
    secure = servers.secure(
        ca.issue_cert(
            "127.0.0.1",
            not_before=datetime(2090, 1, 1, tzinfo=UTC),
            not_after=datetime(2091, 1, 1, tzinfo=UTC),
        )
    )
    return servers.route(upstream=secure.url, tls={"ca_file": trusted(servers, ca)})


@mistake("tls", "is for other.example, not for 127.0.0.1", "tls.server_name")
def _certificate_for_another_name(servers: Servers) -> dict[str, Any]:
    ca = trustme.CA()
    secure = servers.secure(ca.issue_cert("other.example"))
    return servers.route(upstream=secure.url, tls={"ca_file": trusted(servers, ca)})


@mistake("dns", "does not resolve", "check `upstream`")
def _unknown_host(servers: Servers) -> dict[str, Any]:
    return servers.route(upstream="https://no-such-host.invalid")


@mistake("token dns", "does not resolve", "check `token_url`")
def _unknown_host_of_the_token_endpoint(servers: Servers) -> dict[str, Any]:
    return servers.route(auth=servers.auth | {"token_url": "https://no-such-host.invalid/token"})


@mistake("tcp", "Connection refused", "check `upstream`, and whether it is up")
def _connection_refused(servers: Servers) -> dict[str, Any]:
    return servers.route(upstream=f"http://127.0.0.1:{free_port()}")


@mistake("token tcp", "Connection refused", "check `token_url`, and whether it is up")
def _connection_refused_at_the_token_endpoint(servers: Servers) -> dict[str, Any]:
    return servers.route(auth=servers.auth | {"token_url": f"http://127.0.0.1:{free_port()}/token"})


@mistake("tcp", "cannot connect to the HTTP proxy", "can be reached directly: set `http_proxy: none`")
def _http_proxy_in_the_way(servers: Servers) -> dict[str, Any]:
    return servers.route(http_proxy=f"http://127.0.0.1:{free_port()}")


@mistake("clock", "2 hours behind", "set this machine's clock")
def _clock_skew(servers: Servers) -> dict[str, Any]:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=2, seconds=30), usegmt=True)
    servers.tokens.says(json_reply(GOOD, 200, f"Date: {date}"))
    return servers.route()


CODE42 = {"preset": "code42-user", "username": USER, "password": PASSWORD}


@mistake("token", "TIME_BASED_ONE_TIME_PASSWORD_REQUIRED", "set `totp`")
def _missing_TOTP(servers: Servers) -> dict[str, Any]:  # noqa: N802
    servers.api.says(json_reply([{"primaryErrorKey": "TIME_BASED_ONE_TIME_PASSWORD_REQUIRED"}], 401))
    return servers.route(auth=CODE42)


@mistake("token", "TIME_BASED_ONE_TIME_PASSWORD_INVALID", "clock")
def _wrong_TOTP(servers: Servers) -> dict[str, Any]:  # noqa: N802
    servers.api.says(json_reply([{"primaryErrorKey": "TIME_BASED_ONE_TIME_PASSWORD_INVALID"}], 401))
    return servers.route(auth=CODE42 | {"totp": TOTP_SECRET})


@mistake("token", "a user must log in", "authproxy login api")
def _login_that_nobody_has_done(servers: Servers) -> dict[str, Any]:
    urls = {
        "authorization_url": f"{servers.tokens.url}/authorize",
        "token_url": f"{servers.tokens.url}/token",
    }
    return servers.route(auth={"grant": "authorization_code", "client_id": ID, **urls})


def named_authority(name: str) -> trustme.CA:
    return trustme.CA(organization_name=name, organization_unit_name=name)


def trusted(servers: Servers, authority: trustme.CA) -> str:
    path = servers.directory / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_cause_and_the_next_step(servers: Servers, name: str) -> None:
    made = MISTAKES[name]
    route = made.make(servers)
    document, text, code = examined(servers, route, *made.args)
    step = steps_of(document)[made.step]
    assert code == 1
    assert step["ok"] is False
    assert made.cause in step["cause"]
    assert made.next in step["next"]
    for said in (step["cause"], step["next"]):
        assert said in text
    assert not any(map(carries_credential, servers.other.requests)), "it has no business with either"
    _went_nowhere_else(servers, route)


def _went_nowhere_else(servers: Servers, route: dict[str, Any]) -> None:
    """Whatever carries a credential is the token request, or the one request to the upstream."""
    auth = route["auth"]
    token_path = auth.get("token_url", "").removeprefix(servers.tokens.url)
    for request in servers.tokens.requests:
        assert not carries_credential(request) or request.target == token_path
        assert TOKEN.encode() not in request.head + request.body
    with_credential = [request for request in servers.api.requests if carries_credential(request)]
    assert len({request.target for request in with_credential}) <= 1
    for request in with_credential:
        assert SECRET.encode() not in request.head
        assert "preset" in auth or request.one("Authorization") == f"Bearer {TOKEN}"
