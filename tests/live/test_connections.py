"""Connections to upstreams: pooled ones that died, and TLS in front and behind."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from .command import RunningProxy, running_proxy
from .conftest import Place
from .wire import Message, Upstream, Wire, ask, connect, get, reply, request

PLAIN = {"grant": "static", "token": "never-changes"}


# ── connections that die ─────────────────────────────────────────────────────────────────────────


@pytest.mark.route(auth=PLAIN)
def test_150_gets_pass_an_upstream_that_closes_after_each_answer_without_a_word(place: Place) -> None:
    place.api.says(reply(body=b"fine"), then_close=True)
    with place.connect() as wire:
        statuses = [wire.send(place.request("GET", f"/{number}")).answer().status for number in range(150)]
    assert statuses == [200] * 150
    assert [sent.target for sent in place.api.requests] == [f"/{number}" for number in range(150)]


@pytest.mark.route(auth=PLAIN)
def test_150_posts_pass_it_too_and_each_arrives_once(place: Place) -> None:
    place.api.says(reply(body=b"fine"), then_close=True)
    statuses = [place.post(f"/{number}", body=b"x").status for number in range(150)]
    assert set(statuses) <= {200, 502}, "a POST that may have arrived is never doubled"
    targets = [sent.target for sent in place.api.requests]
    assert len(targets) == len(set(targets))
    assert statuses.count(200) > 140


@pytest.mark.route(auth=PLAIN)
def test_a_get_on_a_connection_that_dies_unanswered_is_sent_again_once(place: Place) -> None:
    place.api.says_in_turn([reply(body=b"warm"), None, reply(body=b"again")])
    assert place.get("/warm").body == b"warm"
    assert place.get("/again").body == b"again"
    assert [sent.target for sent in place.api.requests] == ["/warm", "/again", "/again"]


@pytest.mark.route(auth=PLAIN)
def test_a_get_is_not_sent_a_third_time(place: Place) -> None:
    place.api.says_in_turn([reply(body=b"warm"), None, None, None])
    assert place.get("/warm").body == b"warm"
    answer = place.get("/lost")
    assert (answer.status, answer.proxy_error) == (502, "http_protocol_error")
    assert [sent.target for sent in place.api.requests] == ["/warm", "/lost", "/lost"]


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_post_that_may_have_arrived_is_never_doubled(place: Place, method: str, *, warm: bool) -> None:
    if warm:
        assert place.get("/warm").status == 200
    place.api.answer = lambda _request, _wire: None
    answer = place.ask(place.request(method, "/once", body=b"pay 5"))
    assert (answer.status, answer.proxy_error) == (502, "http_protocol_error")
    assert [sent.target for sent in place.api.requests if sent.target != "/warm"] == ["/once"]


@pytest.mark.route(auth=PLAIN)
def test_half_an_answer_is_not_asked_for_again(place: Place) -> None:
    assert place.get("/warm").status == 200
    place.api.says(b"HTTP/1.1 200 OK\r\nContent-", then_close=True)
    assert place.get("/half").status == 502
    assert [sent.target for sent in place.api.requests] == ["/warm", "/half"]


@pytest.mark.route(auth=PLAIN)
def test_what_an_upstream_says_unasked_is_never_taken_for_the_next_answer(place: Place) -> None:
    place.api.says(reply(body=b"mine") + reply(200, "X-Poison: 1", body=b"poison"))
    bodies = [place.get(f"/{number}").body for number in range(5)]
    assert b"poison" not in bodies
    assert bodies[0] == b"mine"


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize("status", [204, 304])
def test_a_body_after_a_status_without_one_is_not_the_next_answer(place: Place, status: int) -> None:
    extra = reply(200, "X-Poison: 1", body=b"poison")
    place.api.says(b"HTTP/1.1 %d No Body\r\n\r\n" % status + extra)
    assert place.get("/first").status == status
    place.api.says(reply(body=b"mine"))
    assert [place.get(f"/{number}").body for number in range(3)] == [b"mine"] * 3


@pytest.mark.route(auth=PLAIN)
def test_a_body_after_an_answer_to_head_is_not_the_next_answer(place: Place) -> None:
    place.api.says(reply(200, body=b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"))
    assert place.ask(place.request("HEAD")).status == 200
    place.api.says(reply(body=b"mine"))
    assert [place.get(f"/{number}").body for number in range(3)] == [b"mine"] * 3


@pytest.mark.route(auth=PLAIN)
def test_connections_are_used_again(place: Place) -> None:
    assert [place.get().status for _ in range(30)] == [200] * 30
    assert place.api.connections == 1


# ── TLS to the upstream ──────────────────────────────────────────────────────────────────────────


@dataclass
class Certificates:
    """A CA of our own, in files, and what it issued."""

    ca: trustme.CA
    directory: Path

    @property
    def ca_file(self) -> str:
        file = self.directory / "ca.pem"
        self.ca.cert_pem.write_to_path(str(file))
        return str(file)

    def pair(self, name: str, *identities: str) -> dict[str, str]:
        """Issue a certificate; return the files that it and its key are in."""
        issued = self.ca.issue_cert(*identities)
        chain, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return {"cert_file": str(chain), "key_file": str(key)}

    def server(self, *identities: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*identities).configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(trustme.CA(), tmp_path_factory.mktemp("tls"))


@dataclass
class Secured:
    """A proxy with a route for each way of checking an upstream, and the upstreams."""

    proxy: RunningProxy
    local: Upstream
    named: Upstream
    strict: Upstream


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> Iterator[Secured]:
    def whoever_shows_a_certificate(_request: Message, wire: Wire) -> bytes:
        shown = wire.sock.getpeercert()
        return reply(body=str(shown["subject"]).encode())

    strict_context = certificates.server("127.0.0.1")
    strict_context.verify_mode = ssl.CERT_REQUIRED
    certificates.ca.configure_trust(strict_context)
    asked_for: list[str | None] = []
    named_context = certificates.server("api.internal")
    named_context.sni_callback = lambda _sock, name, _context: asked_for.append(name)
    with (
        Upstream(tls=certificates.server("127.0.0.1")) as local,
        Upstream(lambda _request, _wire: reply(body=str(asked_for[-1]).encode()), tls=named_context) as named,
        Upstream(whoever_shows_a_certificate, tls=strict_context) as strict,
    ):
        ca = {"ca_file": certificates.ca_file}
        mine = certificates.pair("mine", "me@example.com")
        tls: dict[str, tuple[Upstream, dict[str, Any]]] = {
            "trusting": (local, ca),
            "distrusting": (local, {}),
            "careless": (local, {"verify": False}),
            "misnamed": (named, ca),
            "renamed": (named, {**ca, "server_name": "api.internal"}),
            "stranger": (strict, ca),
            "known": (strict, {**ca, **mine}),
        }
        routes = [
            {"name": name, "path": f"/{name}", "upstream": upstream.url, "auth": PLAIN, "tls": keys}
            for name, (upstream, keys) in tls.items()
        ]
        with running_proxy({"routes": routes}) as proxy:
            yield Secured(proxy, local, named, strict)
            assert proxy.stop() == 0
            assert "internal error" not in proxy.log()


def test_a_ca_file_is_trusted_and_nothing_else_then(secured: Secured) -> None:
    assert get(secured.proxy.url, "/trusting/x").status == 200
    assert secured.local.last.one("Host") == f"127.0.0.1:{secured.local.port}"


@pytest.mark.parametrize("route", ["distrusting", "misnamed"])
def test_a_certificate_that_is_not_right_gets_no_credential(secured: Secured, route: str) -> None:
    seen = len(secured.local.requests) + len(secured.named.requests)
    answer = get(secured.proxy.url, f"/{route}/x")
    assert (answer.status, answer.proxy_error) == (502, "tls_certificate_error")
    assert answer.json["hint"]
    assert len(secured.local.requests) + len(secured.named.requests) == seen


def test_verify_false_is_obeyed_and_warned_of(secured: Secured) -> None:
    assert get(secured.proxy.url, "/careless/x").status == 200
    warnings = [line for line in secured.proxy.log().splitlines() if " warning " in line]
    assert len([line for line in warnings if "careless" in line and "not verified" in line]) == 1
    assert not [line for line in warnings if "trusting" in line]


def test_server_name_is_asked_for_and_checked(secured: Secured) -> None:
    assert get(secured.proxy.url, "/renamed/x").body == b"api.internal"


def test_a_client_certificate_is_shown(secured: Secured) -> None:
    assert get(secured.proxy.url, "/known/x").status == 200
    answer = get(secured.proxy.url, "/stranger/x")
    assert answer.status == 502
    assert answer.proxy_error in {"tls_certificate_error", "http_protocol_error"}


# ── TLS to the client ────────────────────────────────────────────────────────────────────────────


def test_the_listener_speaks_https_when_told_so(certificates: Certificates) -> None:
    pair = certificates.pair("listener", "localhost", "127.0.0.1")
    with Upstream() as upstream:
        routes = [{"name": "api", "upstream": upstream.url, "auth": PLAIN}]
        with running_proxy({"routes": routes, "tls": pair}) as proxy:
            assert proxy.url.startswith("https://127.0.0.1:")
            trusting = certificates.client()
            body = bytes(range(256)) * 4000
            answer = ask(proxy.url, request("POST", "/x", body=body), tls=trusting)
            assert answer.status == 200
            assert upstream.last.body == body
            with connect(proxy.url, tls=trusting) as wire:
                upstream.says(reply(body=body))
                for _ in range(2):
                    assert wire.send(request()).answer().body == body
            with connect(proxy.url) as wire:
                plain = wire.send(request()).read()
                assert not plain.startswith(b"HTTP/1.1 200")
