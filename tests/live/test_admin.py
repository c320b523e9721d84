"""The admin listener: the same limits and error pages as the proxy's own, and it repeats nothing."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.wire import BrokenOff, Message, Upstream, Wire, ask, chunked, connect, get, request

from .test_limits import SLOW_HEAD, ends_orderly, trickle

SECRET = "s3cr3t-of-a-caller"
HEADER_BYTES = 4 << 10
FEWEST = 8  # connections, whatever the limits


@pytest.fixture(scope="module")
def proxy() -> Iterator[RunningProxy]:
    with Upstream() as upstream:
        limits = {"header_timeout": "1s", "keepalive": "2s", "header_bytes": HEADER_BYTES, "connections": 20}
        routes = [{"name": "api", "upstream": upstream.url, "auth": {"grant": "none"}}]
        with running_proxy({"limits": limits, "routes": routes, "log": {"level": "debug"}}) as made:
            yield made
            assert made.stop() == 0
            assert SECRET not in made.log()
            assert "Traceback" not in made.log()
            assert "internal error" not in made.log()


def assert_problem(answer: Message, status: int) -> None:
    assert answer.status == status
    assert answer.one("Content-Type") == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.proxy_error is not None
    assert SECRET.encode() not in answer.head + answer.body


def says(url: str, sent: bytes) -> Message:
    """Send what ends the connection; return the answer."""
    with connect(url) as wire:
        wire.send(sent)
        answer = wire.answer()
        assert answer.one("Connection") == "close"
        assert ends_orderly(wire)
        return answer


# ── heads ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("before", [0, 1], ids=["first request", "second request"])
def test_a_head_that_trickles_in_is_408_in_time(proxy: RunningProxy, before: int) -> None:
    with connect(proxy.admin_url) as wire:
        for _ in range(before):
            assert wire.send(request("GET", "/healthz")).answer().status == 200
        assert_problem(trickle(wire, SLOW_HEAD), 408)
        assert wire.is_closed()


@pytest.mark.parametrize("before", [0, 1], ids=["never a word", "idle"])
def test_who_says_nothing_more_is_not_kept(proxy: RunningProxy, before: int) -> None:
    with connect(proxy.admin_url) as wire:
        for _ in range(before):
            assert wire.send(request("GET", "/healthz")).answer().status == 200
        assert ends_orderly(wire)


@pytest.mark.parametrize(
    "sent",
    [
        request("GET", "/healthz", f"Authorization: Bearer {SECRET}\0"),
        request("GET", "/healthz", f"Authorization : Bearer {SECRET}"),
        request("GET", f"/healthz?x={SECRET}\x01"),
        request("GET", "/healthz", f"Sec-WebSocket-Key1: {SECRET}"),
        f"GET /healthz HTTP/1.1\r\n{SECRET}\r\n\r\n".encode(),
        f"{SECRET}\r\n\r\n".encode(),
    ],
)
def test_what_is_no_request_is_400_and_not_repeated(proxy: RunningProxy, sent: bytes) -> None:
    with connect(proxy.admin_url) as wire:
        wire.send(sent)
        assert_problem(wire.answer(), 400)
        assert wire.is_closed()


@pytest.mark.parametrize("size", [700, 1 << 20], ids=["in pieces", "whole"])
@pytest.mark.parametrize(
    "lines", [["X-A: " + "x" * HEADER_BYTES], ["X-A: " + "x" * 500] * 12], ids=["a long line", "many lines"]
)
def test_a_head_over_header_bytes_is_431(proxy: RunningProxy, lines: list[str], size: int) -> None:
    sent = request("GET", "/healthz", *lines)
    with connect(proxy.admin_url) as wire:
        for start in range(0, len(sent), size):
            wire.send(sent[start : start + size])
        answer = wire.answer()
        assert_problem(answer, 431)
        assert answer.one("Connection") == "close"
        assert ends_orderly(wire)


def test_chunks_of_an_http_1_0_client_end_its_connection(proxy: RunningProxy) -> None:
    lines = b"Host: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(proxy.admin_url) as wire:
        wire.send(b"GET /healthz HTTP/1.0\r\n" + lines + chunked(b"hello") + request("GET", "/healthz"))
        assert_problem(wire.answer(), 400)
        assert wire.is_closed()


# ── pages ────────────────────────────────────────────────────────────────────────────────────────


def test_requests_on_one_connection_are_answered_in_turn(proxy: RunningProxy) -> None:
    sent = [request("GET", target) for target in ("/healthz", "/nowhere", "/readyz", "/metrics", "/healthz")]
    for size in (1, 50, 1 << 16):
        with connect(proxy.admin_url) as wire:
            for start in range(0, len(b"".join(sent)), size):
                wire.send(b"".join(sent)[start : start + size])
            assert [wire.answer().status for _ in sent] == [200, 404, 200, 200, 200]


def test_what_is_not_there_or_not_allowed_is_a_problem(proxy: RunningProxy) -> None:
    admin = proxy.admin_url
    assert_problem(get(admin, f"/{SECRET}"), 404)
    assert_problem(get(admin, f"/readyz?route={SECRET}"), 404)
    assert_problem(get(admin, "/healthz", host="evil.example"), 403)
    for method in ("DELETE", "LIST"):
        answer = ask(admin, request(method, "/healthz"))
        assert_problem(answer, 405)
        assert answer.one("Allow") == "GET,HEAD"


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


def test_a_body_that_is_announced_as_large_is_413(proxy: RunningProxy) -> None:
    assert_problem(says(proxy.admin_url, request("POST", "/healthz", body=b"x" * (1 << 20))), 413)


def test_a_small_body_does_no_harm(proxy: RunningProxy) -> None:
    with connect(proxy.admin_url) as wire:
        assert wire.send(request("GET", "/healthz", body=b"x" * 100)).answer().status == 200
        wire.send(request("GET", "/healthz", "Transfer-Encoding: chunked") + chunked(b"x" * 100))
        assert wire.answer().status == 200
        assert wire.send(request("GET", "/healthz")).answer().status == 200


def test_a_body_without_end_ends_the_connection(proxy: RunningProxy) -> None:
    with connect(proxy.admin_url) as wire:
        wire.send(request("GET", "/healthz", "Transfer-Encoding: chunked"))
        assert wire.answer().status == 200
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < 60:
                wire.send(chunked(b"x" * 10_000, end=b""))
                time.sleep(0.01)
        assert time.monotonic() - began < 50


# ── connections ──────────────────────────────────────────────────────────────────────────────────


@contextmanager
def roomy(**limits: object) -> Iterator[RunningProxy]:
    """Run a proxy whose admin listener takes FEWEST connections."""
    route = {"name": "api", "upstream": "http://127.0.0.1:9", "auth": {"grant": "none"}}
    keys = {"limits": {"header_timeout": "60s", "connections": 20, **limits}, "routes": [route]}
    with running_proxy({**keys, "access": {"tokens": [SECRET]}}) as made:
        yield made


@pytest.mark.parametrize(
    "sent", [b"GET /hea", b"POST /login/api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nkey="]
)  # fmt: skip
def test_more_connections_than_it_takes_are_503(sent: bytes) -> None:
    def is_served(url: str) -> bool:
        try:
            return get(url, "/healthz").status == 200
        except (OSError, BrokenOff):
            return False

    with roomy() as proxy, ExitStack() as stack:
        busy = []
        for _ in range(FEWEST):
            busy.append(stack.enter_context(connect(proxy.admin_url)))
            assert busy[-1].send(request("GET", "/healthz")).answer().status == 200
            busy[-1].send(sent)
        wait_until(
            lambda: not is_served(proxy.admin_url),
            "those that are in the middle of a request keep their places",
        )
        with connect(proxy.admin_url) as wire:
            answer = wire.answer()
            assert_problem(answer, 503)
            assert b"limits.connections" not in answer.body, "which does not set this one"
            assert ends_orderly(wire)
        asked = authproxy("healthcheck", proxy.admin_url)
        assert asked.returncode == 1
        assert f"not ready: {answer.json['detail']}" in asked.stderr
        assert get(proxy.url, "/", f"X-Authproxy-Key: {SECRET}").status == 502, "the proxy has its own"
        busy.pop().close()
        wait_until(lambda: is_served(proxy.admin_url))


def test_who_keeps_connections_open_takes_nobodys_place() -> None:
    with roomy(keepalive="60s") as proxy, ExitStack() as stack:
        kept = [stack.enter_context(connect(proxy.admin_url)) for _ in range(FEWEST)]
        for wire in kept:
            assert wire.send(request("GET", "/healthz")).answer().status == 200
        assert kept[0].send(request("GET", "/healthz")).answer().status == 200
        others = [stack.enter_context(connect(proxy.admin_url)) for _ in range(FEWEST - 1)]
        for wire in others:
            assert wire.send(request("GET", "/healthz")).answer().status == 200
        assert all(ends_orderly(wire) for wire in kept[1:]), "the one that was idle for longest goes first"
        for wire in (kept[0], *others):
            assert wire.send(request("GET", "/healthz")).answer().status == 200


def test_a_form_that_does_not_come_is_408() -> None:
    with roomy(header_timeout="1s") as proxy, connect(proxy.admin_url) as wire:
        answer = trickle(wire, request("POST", "/login/api", "Content-Length: 100"))
        assert_problem(answer, 408)
        assert wire.is_closed()


def test_a_form_in_malformed_chunks_is_400() -> None:
    with roomy() as proxy, connect(proxy.admin_url) as wire:
        wire.send(request("POST", "/login/api", "Transfer-Encoding: chunked") + b"xyz\r\n")
        assert_problem(wire.answer(), 400)
        assert wire.is_closed()
        assert "Traceback" not in proxy.log()


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset], ids=["closed", "reset"])
@pytest.mark.parametrize("target", ["/healthz", "/metrics", "/nowhere"])
def test_who_goes_away_at_once_is_no_fault_of_ours(
    proxy: RunningProxy, target: str, leave: Callable[[Wire], None]
) -> None:
    for count in (1, 3):
        for _ in range(5):
            leave(connect(proxy.admin_url).send(request("GET", target) * count))
    assert get(proxy.admin_url, "/healthz").status == 200
    assert "internal error" not in proxy.log()


@pytest.mark.parametrize("count", [1, 3], ids=["a request", "several"])
def test_who_ends_its_half_after_asking_is_answered(proxy: RunningProxy, count: int) -> None:
    with connect(proxy.admin_url) as wire:
        wire.send(request("GET", "/metrics") * count).sock.shutdown(socket.SHUT_WR)
        assert [wire.answer().status for _ in range(count)] == [200] * count
        assert ends_orderly(wire)


@pytest.mark.parametrize(
    "sent",
    [b"GET /healthz HT", b"POST /login/api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nkey="],
)
def test_who_ends_its_half_before_it_has_asked_is_not_waited_for(proxy: RunningProxy, sent: bytes) -> None:
    with connect(proxy.admin_url) as wire:
        wire.send(sent).sock.shutdown(socket.SHUT_WR)
        wire.rest()
