"""Connections to upstreams: pooled ones that died, and TLS in front and behind."""

import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.launch import GUARD
from tests.support.wire import (
    API,
    UNAUTHORIZED,
    Message,
    Tokens,
    Upstream,
    Wire,
    ask,
    chunked,
    connect,
    get,
    reply,
    request,
)

from .conftest import Place

PLAIN = {"grant": "static", "token": "never-changes"}


def client_of(tokens: Tokens) -> dict[str, Any]:
    auth = {"grant": "client_credentials", "client_id": "me", "client_secret": "the-clients-secret"}
    return {**auth, "token_url": f"{tokens.url}/token"}


# ── connections that die ─────────────────────────────────────────────────────────────────────────


@pytest.mark.route(auth=PLAIN)
def test_150_gets_pass_an_upstream_that_closes_after_each_answer_without_a_word(place: Place) -> None:
    place.api.says(reply(body=b"fine"), then_close=True)
    with place.connect() as wire:
        statuses = [wire.send(place.request("GET", f"/{number}")).answer().status for number in range(150)]
    assert statuses == [200] * 150
    assert [sent.target for sent in place.api.requests] == [f"/{number}" for number in range(150)]


def closes_instead_of_answering_again(wire: Wire, how: Callable[[Wire], None]) -> bytes | None:
    """Answer the first request on a connection; at the next, close."""
    if getattr(wire, "has_answered", False):
        how(wire)
        return None
    wire.has_answered = True  # type: ignore[attr-defined]
    return reply(body=b"fine")


def closes_after_answering(wire: Wire, how: Callable[[Wire], None]) -> bytes | None:
    wire.send(reply(body=b"fine"))
    how(wire)
    return None


@pytest.mark.parametrize("how", [Wire.close, Wire.reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("when", [closes_after_answering, closes_instead_of_answering_again])
def test_150_gets_pass_an_upstream_that_keeps_no_connection(
    place: Place, when: Callable[[Wire, Callable[[Wire], None]], bytes | None], how: Callable[[Wire], None]
) -> None:
    place.api.answer = lambda came, wire: when(wire, how) if place.api.lets_in(came) else UNAUTHORIZED
    with place.connect() as wire:
        statuses = [wire.send(place.request("GET", f"/{number}")).answer().status for number in range(150)]
    assert statuses == [200] * 150
    targets = [sent.target for sent in place.api.requests]
    assert list(dict.fromkeys(targets)) == [f"/{number}" for number in range(150)]
    assert max(Counter(targets).values()) <= 2
    assert len(place.tokens.requests) <= 1


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize("how", [Wire.close, Wire.reset], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    ("method", "body", "times"),
    [
        ("HEAD", None, 2),
        ("OPTIONS", None, 2),
        ("DELETE", None, 2),
        ("DELETE", b"small", 2),
        ("PUT", b"small", 2),
        ("PATCH", b"small", 1),
        ("POST", b"small", 1),
        ("POST", None, 1),
        ("LOCK", b"small", 1),
    ],
)
def test_what_dies_unanswered_is_sent_again_if_doing_it_twice_is_the_same(
    place: Place, how: Callable[[Wire], None], method: str, body: bytes | None, times: int
) -> None:
    place.api.answer = lambda _came, wire: closes_instead_of_answering_again(wire, how)
    assert place.get("/warm").status == 200
    answer = place.ask(place.request(method, "/it", body=body))
    sent = [came for came in place.api.requests if came.target == "/it"]
    assert [came.method for came in sent] == [method] * times
    assert all(came.body == (body or b"") for came in sent)
    if times == 2:
        assert answer.status == 200
    else:
        assert (answer.status, answer.proxy_error) == (502, "http_protocol_error")


@pytest.mark.route(auth=PLAIN, retry={"max_body": 1000})
@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_put_that_was_not_kept_is_not_doubled(place: Place, *, is_chunked: bool) -> None:
    place.api.answer = lambda _came, wire: closes_instead_of_answering_again(wire, Wire.close)
    assert place.get("/warm").status == 200
    body = b"x" * 5000
    if is_chunked:
        answer = place.ask(place.request("PUT", "/it", "Transfer-Encoding: chunked") + chunked(body))
    else:
        answer = place.ask(place.request("PUT", "/it", body=body))
    assert (answer.status, answer.proxy_error) == (502, "http_protocol_error")
    assert [came.target for came in place.api.requests] == ["/warm", "/it"]


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_put_whose_connection_dies_while_it_arrives_is_sent_again_from_its_beginning(
    place: Place, *, is_chunked: bool
) -> None:
    place.api.reads_bodies = False
    heads: list[Message] = []

    def answer(came: Message, wire: Wire) -> bytes | None:
        heads.append(came)
        if came.target == "/warm":
            return reply(body=b"warm")
        if len(heads) == 2:
            assert wire.read()  # part of the body, and then nobody is there any more
            return None
        wire.until(b"the end" + (b"\r\n0\r\n\r\n" if is_chunked else b""))
        return reply(body=b"all of it")

    place.api.answer = answer
    assert place.get("/warm").status == 200
    framing = "Transfer-Encoding: chunked" if is_chunked else "Content-Length: 17"
    first, last = (b"a\r\nbeginning-\r\n", b"7\r\nthe end\r\n0\r\n\r\n")
    with place.connect() as wire:
        wire.send(place.request("PUT", "/it", framing) + (first if is_chunked else b"beginning-"))
        wait_until(lambda: len(heads) == 3, "it was not sent again")
        wire.send(last if is_chunked else b"the end")
        assert wire.answer().body == b"all of it"


@pytest.mark.route(auth=PLAIN)
def test_150_posts_pass_it_too_and_each_arrives_once(place: Place) -> None:
    place.api.says(reply(body=b"fine"), then_close=True)
    statuses = [place.post(f"/{number}", body=b"x").status for number in range(150)]
    assert set(statuses) <= {200, 502}, "a POST that may have arrived is never doubled"
    targets = [sent.target for sent in place.api.requests]
    assert len(targets) == len(set(targets))
    assert statuses.count(200) > 100, "half of them would be lost if nobody looked"


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


class SpeaksFirst(Upstream):
    """A server of some other protocol, whose connections begin with a greeting."""

    def _talk(self, wire: Wire) -> None:
        wire.send(b"220 ready\r\n")
        while wire.read():
            pass


def test_an_upstream_that_speaks_first_does_not_use_up_the_connections() -> None:
    with SpeaksFirst() as upstream:
        route = {"name": "api", "upstream": upstream.url, "auth": PLAIN, "max_connections": 1}
        with running_proxy({"routes": [{**route, "timeouts": {"connect": "2s"}}]}) as proxy:
            answers = [get(proxy.url) for _ in range(8)]
            assert [answer.proxy_error for answer in answers] == ["http_protocol_error"] * 8


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


# ── a route that hangs ───────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "2 workers"])
def neighbours(request: pytest.FixtureRequest) -> Iterator["Neighbours"]:
    with ExitStack() as stack:
        hung_tokens, tokens = stack.enter_context(Tokens()), stack.enter_context(Tokens())
        release = threading.Event()
        stack.callback(release.set)

        def hang(_request: Message, _wire: Wire) -> None:
            assert release.wait(GUARD)

        hung = stack.enter_context(Upstream(hang))
        api = stack.enter_context(API(tokens.issued))
        routes = [
            {"name": "hung", "path": "/hung", "upstream": hung.url, "auth": client_of(hung_tokens)},
            {"name": "few", "path": "/few", "upstream": hung.url, "auth": client_of(hung_tokens),
             "max_connections": 10, "timeouts": {"connect": "500ms"}},
            {"name": "other", "path": "/other", "upstream": api.url, "auth": client_of(tokens)},
        ]  # fmt: skip
        proxy = stack.enter_context(running_proxy({"routes": routes, "workers": request.param}))
        yield Neighbours(proxy, hung, hung_tokens, api, tokens, request.param)
        release.set()
        hung_tokens.held.set()
        proxy.signal()  # twice: nobody waits for those who hang
        proxy.signal()
        proxy.wait()
        assert "internal error" not in proxy.log()


@dataclass
class Neighbours:
    """A route whose upstream accepts and never answers, one with few connections to it, and another."""

    proxy: RunningProxy
    hung: Upstream
    hung_tokens: Tokens
    api: API
    tokens: Tokens
    processes: int

    def all_200_in_time(self, count: int = 50) -> bool:
        """Whether `count` clients of the other route, which has no token yet, get it in two seconds."""
        self.tokens.revoke()  # what is held will not do, so that they need another token, too
        with ExitStack() as stack:
            wires = [stack.enter_context(connect(self.proxy.url)) for _ in range(count)]
            began = time.monotonic()
            for wire in wires:
                wire.send(request("GET", "/other/x"))
            statuses = [wire.answer().status for wire in wires]
            took = time.monotonic() - began
        told = [line for line in self.proxy.log().splitlines() if "route=other" in line]
        assert statuses == [200] * count, "\n".join(told[-count:])
        return took < 2  # the promise itself


def hanging(neighbours: Neighbours, stack: ExitStack, path: str, count: int = 200) -> list[Wire]:
    wires = [stack.enter_context(connect(neighbours.proxy.url)) for _ in range(count)]
    for wire in wires:
        wire.send(request("GET", path))
    return wires


def test_200_requests_that_hang_do_not_hold_up_50_of_another_route(neighbours: Neighbours) -> None:
    with ExitStack() as stack:
        before = len(neighbours.hung.requests)
        hanging(neighbours, stack, "/hung/x")
        neighbours.hung.wait_for(before + 200)
        assert neighbours.all_200_in_time()
        assert neighbours.all_200_in_time()


def test_nor_do_200_that_wait_for_a_connection_and_these_are_told_in_the_end(neighbours: Neighbours) -> None:
    with ExitStack() as stack:
        wires = hanging(neighbours, stack, "/few/x")
        assert neighbours.all_200_in_time()
        by_socket = {wire.sock: wire for wire in wires}
        hung = 10 * neighbours.processes

        def answered() -> list[socket.socket]:
            return select.select(list(by_socket), [], [], 0)[0]

        wait_until(lambda: len(answered()) >= 200 - hung, lambda: f"{len(answered())} were told")
        for sock in answered():
            answer = by_socket.pop(sock).answer()
            assert (answer.status, answer.proxy_error) == (503, "connection_limit_reached")
            assert int(answer.one("Retry-After") or 0) >= 1
        assert len(by_socket) == hung


def test_nor_do_200_that_wait_for_a_token_endpoint_that_hangs(neighbours: Neighbours) -> None:
    neighbours.hung_tokens.held.clear()
    neighbours.hung_tokens.more = {"expires_in": 3600}
    routes_asked = len(neighbours.hung_tokens.requests)
    neighbours.hung.answer = lambda _request, _wire: UNAUTHORIZED  # so that another token is wanted
    with ExitStack() as stack:
        hanging(neighbours, stack, "/hung/x")
        neighbours.hung_tokens.wait_for(routes_asked + 1)
        assert neighbours.all_200_in_time()
        assert len(neighbours.hung_tokens.requests) == routes_asked + 1


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
