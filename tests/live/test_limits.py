"""What the proxy takes on, and no more: heads, bodies, connections, time, descriptors.

Whoever is refused gets to read it, though it goes on sending: nothing here may end in a reset.
"""

import os
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.launch import GUARD
from tests.support.wire import BrokenOff, Message, Upstream, Wire, ask, chunked, connect, get, reply, request

from .conftest import Place

KIB, MIB = 1 << 10, 1 << 20
HEADER_BYTES, BODY_BYTES = 2 * KIB, 64 * KIB
SETTINGS: dict[str, Any] = {
    "limits": {"header_bytes": HEADER_BYTES, "body_bytes": BODY_BYTES, "drain": "1s", "header_timeout": "20s"}
}
PLAIN = {"grant": "static", "token": "never-changes"}
SLACK = 10.0  # seconds; a busy machine may be late, but not for ever

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")


def descriptors(proxy: RunningProxy) -> int:
    return len(list(Path(f"/proc/{proxy.pid}/fd").iterdir()))


def cpu_seconds(proxy: RunningProxy) -> float:
    fields = Path(f"/proc/{proxy.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rests(proxy: RunningProxy) -> bool:
    """Whether it has next to nothing to do for half a second."""
    before = cpu_seconds(proxy)
    time.sleep(0.5)
    return cpu_seconds(proxy) - before < 0.05


def descriptors_at_rest(proxy: RunningProxy) -> int:
    """Count them once nothing is loaded any more: a file that is read is one too."""
    wait_until(lambda: rests(proxy), "it never rests")
    return descriptors(proxy)


def one_route(upstream: Upstream, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "api", "upstream": upstream.url, "auth": PLAIN} | more]


def ends_orderly(wire: Wire) -> bool:
    """Whether the connection ends, with nothing more on it and without a reset."""
    return wire.read() == b""


# ── the head ─────────────────────────────────────────────────────────────────────────────────────

TOO_LARGE = {
    "a long line": ["X-Long: " + "x" * HEADER_BYTES],
    "many lines": [f"X-{number}: {'x' * 90}" for number in range(22)],
    "a long name": ["X" * HEADER_BYTES + ": x"],
    "very many lines": ["X: 1"] * 1500,
}


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize("lines", TOO_LARGE.values(), ids=TOO_LARGE)
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "never ended"])
@pytest.mark.parametrize("piece", [1, 1000, 1 << 20], ids=["byte by byte", "in pieces", "whole"])
def test_a_head_over_header_bytes_is_431_as_soon_as_it_is(
    place: Place, lines: list[str], piece: int, *, ended: bool
) -> None:
    sent = place.request("GET", "/", *lines)
    if not ended:
        sent = sent.removesuffix(b"\r\n\r\n") + b"\r\nX-Next: "
    with place.connect() as wire:
        for start in range(0, len(sent), piece):
            wire.send(sent[start : start + piece])
        answer = wire.answer()
        assert (answer.status, answer.proxy_error) == (431, "http_request_error")
        assert answer.one("Connection") == "close"
        assert ends_orderly(wire)
    assert place.api.requests == []


@pytest.mark.route(auth=PLAIN)
def test_a_target_over_header_bytes_is_refused_byte_by_byte_too(place: Place) -> None:
    with place.connect() as wire:
        for byte in place.request("GET", "/" + "x" * HEADER_BYTES):
            wire.send(bytes([byte]))
        assert wire.answer().status in {414, 431}
        assert ends_orderly(wire)
    assert place.api.requests == []


@pytest.mark.route(auth=PLAIN)
def test_a_head_below_header_bytes_passes_byte_by_byte(place: Place) -> None:
    with place.connect() as wire:
        for byte in place.request("GET", "/", "X-Long: " + "x" * (HEADER_BYTES - 200)):
            wire.send(bytes([byte]))
        assert wire.answer().status == 200


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize("pipelined", [True, False])
def test_the_second_head_of_a_connection_is_bounded_as_well(place: Place, *, pipelined: bool) -> None:
    second = place.request("GET", "/second", *TOO_LARGE["many lines"]).removesuffix(b"\r\n")
    with place.connect() as wire:
        if pipelined:
            wire.send(place.request("GET", "/first") + second)
            assert wire.answer().status == 200
            wire.send(b"X-More: " + b"x" * HEADER_BYTES)
        else:
            assert wire.send(place.request("GET", "/first")).answer().status == 200
            wire.send(second)
        assert wire.answer().status == 431
        assert ends_orderly(wire)
    assert [came.target for came in place.api.requests] == ["/first"]


@pytest.mark.route(auth=PLAIN)
def test_a_client_that_sends_headers_without_end_reads_its_431_nevertheless(place: Place) -> None:
    with place.connect() as wire:
        wire.send(place.request("GET").removesuffix(b"\r\n"))
        for _ in range(2000):
            wire.send(b"X-Long: " + b"x" * 4000 + b"\r\n")  # 8 MB, and the connection takes it all
        assert wire.answer().status == 431
        assert ends_orderly(wire)


# ── the body ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize("expects", [True, False])
@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_client_reads_its_413_though_it_sends_its_body_to_the_end(
    place: Place, *, is_chunked: bool, expects: bool
) -> None:
    pieces, piece = 200, b"x" * (100 * KIB)
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {pieces * len(piece)}"
    more = ["Expect: 100-continue"] if expects else []
    with place.connect() as wire:
        wire.send(place.request("POST", "/", framing, *more))
        for _ in range(pieces):
            wire.send(chunked(piece, end=b"") if is_chunked else piece)
        wire.send(b"0\r\n\r\n" if is_chunked else b"")
        answer = wire.answer()
        if expects and is_chunked:  # nobody could know yet
            assert answer.status == 100
            answer = wire.answer()
        assert (answer.status, answer.proxy_error) == (413, "http_request_error")
        assert answer.one("Connection") == "close"
        assert ends_orderly(wire)
    assert place.api.requests == [], "none came whole"


@pytest.mark.parametrize("idle", [False, True], ids=["new connections", "one at hand"])
def test_bodies_over_body_bytes_that_arrive_whole_cost_no_connection_to_the_upstream(*, idle: bool) -> None:
    with Upstream() as upstream:
        routes = one_route(upstream, max_connections=3, timeouts={"connect": "2s"})
        with running_proxy({"limits": {"body_bytes": "1KiB"}, "routes": routes}) as proxy:
            head = request("POST", "/", "Transfer-Encoding: chunked")
            for _ in range(5):
                if idle:
                    assert get(proxy.url).status == 200
                assert ask(proxy.url, head + chunked(b"x" * 2 * KIB)).status == 413
            assert ask(proxy.url, head + chunked(b"x" * KIB)).status == 200
            assert not any(sent.body for sent in upstream.requests[:-1])


@pytest.mark.route(auth=PLAIN)
def test_body_bytes_is_the_body_and_not_its_framing(place: Place) -> None:
    body = [b"x" * 16] * (BODY_BYTES // 16)
    assert place.ask(place.request("POST", "/", "Transfer-Encoding: chunked") + chunked(*body)).status == 200
    assert place.api.last.body == b"".join(body)
    assert place.ask(
        place.request("POST", "/", "Transfer-Encoding: chunked") + chunked(*body, b"x")
    ).status == 413  # fmt: skip


LITTLE_BUT_FRAMING = {
    "an extension": (b"1;", b"a" * 1000),
    "zeros": (b"", b"0" * 1000),
    "chunks that are mostly extension": (b"", b"1;" + b"a" * 1000 + b"\r\nx\r\n"),
}


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize(("begun", "more"), LITTLE_BUT_FRAMING.values(), ids=LITTLE_BUT_FRAMING)
def test_a_body_that_is_little_but_framing_is_400(place: Place, begun: bytes, more: bytes) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"hello", end=begun))
        for _ in range(100):
            wire.send(more)
        answer = wire.answer()
        assert (answer.status, answer.one("Connection")) == (400, "close")
        assert "sizes and extensions" in answer.json["detail"]
        assert ends_orderly(wire)


@pytest.mark.route(auth=PLAIN)
def test_an_upload_in_chunks_of_a_byte_passes_though_most_of_it_is_framing(place: Place) -> None:
    body = [bytes([number % 256]) for number in range(4 * HEADER_BYTES)]
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Transfer-Encoding: chunked"))
        for byte in body:
            wire.send(chunked(byte, end=b""))
        wire.send(chunked())
        assert wire.answer().status == 200
    assert place.api.last.body == b"".join(body)


CROWD = 20
TINY_CHUNKS = {"runs": b"2\r\nab\r\n" * 9000, "spelled in full": b"0002;a\r\nab\r\n" * 5000}


def pour(wire: Wire, data: bytes, stop: threading.Event) -> None:
    """Send `data` over and over."""
    with suppress(OSError):
        while not stop.is_set():
            wire.send(data)


@pytest.mark.parametrize("data", TINY_CHUNKS.values(), ids=TINY_CHUNKS)
@pytest.mark.parametrize("way", ["up", "down"])
def test_many_who_send_tiny_chunks_without_end_leave_the_others_their_turn(way: str, data: bytes) -> None:
    stop = threading.Event()

    def swallow(_request: Message, wire: Wire) -> None:
        while wire.read():
            pass

    def spout(_request: Message, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        pour(wire, data, stop)

    with Upstream(swallow if way == "up" else spout) as busy, Upstream() as calm, ExitStack() as stack:
        busy.reads_bodies = way == "down"
        routes = [*one_route(busy, host="busy.localhost"), *one_route(calm, name="calm")]
        settings = {"limits": {"drain": "100ms"}, "routes": routes}
        proxy = stack.enter_context(running_proxy(settings))
        pool = stack.enter_context(ThreadPoolExecutor(CROWD + 1))
        stack.callback(stop.set)
        for _ in range(CROWD):
            wire = stack.enter_context(connect(proxy.url))
            stack.callback(wire.sock.shutdown, socket.SHUT_RDWR)
            if way == "up":
                wire.send(request("POST", "/", "Transfer-Encoding: chunked", host="busy.localhost"))
                pool.submit(pour, wire, data, stop)
            else:
                wire.send(request(host="busy.localhost"))
                pool.submit(swallow, Message(b"", []), wire)
        busy.wait_for(CROWD)
        others = pool.submit(lambda: [get(proxy.url, host="calm.localhost").status for _ in range(20)])
        assert others.result(GUARD) == [200] * 20


# ── connections ──────────────────────────────────────────────────────────────────────────────────


def test_those_who_are_turned_away_can_read_it_and_take_nobodys_place() -> None:
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        config = {"limits": {"connections": 3}, "routes": one_route(upstream)}
        proxy = stack.enter_context(running_proxy(config))
        served = [stack.enter_context(connect(proxy.url)) for _ in range(3)]
        for wire in served:
            assert wire.send(request()).answer().status == 200
        turned_away = [stack.enter_context(connect(proxy.url)) for _ in range(2)]
        for wire in turned_away:
            wire.send(request("POST", "/", body=b"x" * MIB))
            answer = wire.answer()
            assert (answer.status, answer.proxy_error) == (503, "connection_limit_reached")
            assert int(answer.one("Retry-After") or 0) >= 1
            assert answer.one("Connection") == "close"
            assert ends_orderly(wire)
        served.pop().close()

        def there_is_room() -> bool:
            for wire in turned_away:
                wire.send(b"still here")  # but only to be seen off
            return ask(proxy.url, request()).status == 200

        wait_until(there_is_room, "they take a place")
        assert all(wire.send(request()).answer().status == 200 for wire in served)
        assert {came.method for came in upstream.requests} == {"GET"}


def test_a_flood_of_connections_leaves_those_that_are_served_alone() -> None:
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        config = {"limits": {"connections": 5}, "routes": one_route(upstream)}
        proxy = stack.enter_context(running_proxy(config))
        served = [stack.enter_context(connect(proxy.url)) for _ in range(5)]
        assert [wire.send(request()).answer().status for wire in served] == [200] * 5
        before = descriptors_at_rest(proxy)
        flood = [stack.enter_context(connect(proxy.url)) for _ in range(100)]
        assert [wire.send(request()).answer().status for wire in served] == [200] * 5
        assert [wire.answer().status for wire in flood] == [503] * 100
        assert descriptors(proxy) <= before + 20, "those who are seen off are not bounded"


# ── slow heads ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def hasty(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Serve with a `header_timeout` of a second; yield the URLs of a plain listener and of one with TLS."""
    directory = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    tls = {"cert_file": str(directory / "cert.pem"), "key_file": str(directory / "key.pem")}
    with Upstream() as upstream:
        config = {"limits": {"header_timeout": "1s", "keepalive": "10m"}, "routes": one_route(upstream)}
        with running_proxy(config) as plain, running_proxy({**config, "tls": tls}) as secure:
            yield plain.url, secure.url
            assert (plain.stop(), secure.stop()) == (0, 0)
            assert "Traceback" not in plain.log() + secure.log()


def trickle(wire: Wire, head: bytes) -> Message:
    """Send `head`, and then a header line that never ends, byte by byte, until there is an answer."""
    wire.send(head)
    deadline = time.monotonic() + GUARD
    while not select.select([wire.sock], [], [], 0.05)[0]:
        assert time.monotonic() < deadline, "nobody minds"
        wire.send(b"x")
    return wire.answer()


SLOW_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("before", [0, 1], ids=["first request", "second request"])
def test_a_head_that_trickles_in_is_408_in_time(
    hasty: tuple[str, str], authority: trustme.CA, before: int, *, secure: bool
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with connect(hasty[secure], tls=trusting if secure else None) as wire:
        for _ in range(before):
            assert wire.send(request()).answer().status == 200
        began = time.monotonic()
        answer = trickle(wire, SLOW_HEAD)
        took = time.monotonic() - began
        assert (answer.status, answer.proxy_error) == (408, "http_request_error")
        assert answer.one("Connection") == "close"
        assert 0.9 < took < 1 + SLACK
        assert wire.is_closed()


def test_a_client_that_never_says_a_word_is_not_waited_for(hasty: tuple[str, str]) -> None:
    with connect(hasty[0]) as wire:
        assert wire.is_closed()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01"], ids=["nothing", "half a hello"])
def test_a_client_that_never_ends_its_handshake_is_not_waited_for(
    hasty: tuple[str, str], said: bytes
) -> None:
    with connect(hasty[1]) as wire:
        wire.send(said)
        began = time.monotonic()
        while wire.read():
            pass
        assert time.monotonic() - began < 1 + SLACK


def test_fifty_slow_clients_do_not_keep_a_good_one_from_being_served(hasty: tuple[str, str]) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(hasty[0])) for _ in range(50)]
        pool = stack.enter_context(ThreadPoolExecutor(50))
        answers = [pool.submit(trickle, wire, SLOW_HEAD) for wire in slow]
        assert [get(hasty[0]).status for _ in range(20)] == [200] * 20
        assert [answer.result().status for answer in answers] == [408] * 50


# ── idle connections ─────────────────────────────────────────────────────────────────────────────


def test_an_idle_connection_is_closed_and_a_request_just_then_is_served_or_not_begun() -> None:
    with Upstream() as upstream:
        config = {"limits": {"keepalive": "200ms"}, "routes": one_route(upstream)}
        with running_proxy(config) as proxy:
            with connect(proxy.url) as wire:
                assert wire.send(request()).answer().status == 200
                assert ends_orderly(wire)
            served = 0
            for number in range(60):
                with connect(proxy.url) as wire:
                    assert wire.send(request("GET", "/first")).answer().status == 200
                    time.sleep(0.18 + number * 0.0008)
                    try:
                        came = wire.send(request("GET", f"/{number}")).read()
                    except ConnectionError:
                        came = b""
                    assert came == b"" or came.endswith(b"fine"), "all or nothing"
                    served += came != b""
            again = [came.target for came in upstream.requests if came.target != "/first"]
            assert len(again) == len(set(again)) == served + 1  # and the one on the wire that was idle


def test_a_head_that_is_on_its_way_is_not_cut_off_by_keepalive() -> None:
    with Upstream() as upstream:
        limits = {"keepalive": "300ms", "header_timeout": "20s"}
        with running_proxy({"limits": limits, "routes": one_route(upstream)}) as proxy:
            for before in range(2):
                with connect(proxy.url) as wire:
                    for _ in range(before):
                        assert wire.send(request()).answer().status == 200
                    wire.send(SLOW_HEAD)
                    time.sleep(0.8)
                    assert wire.send(b"but sure\r\n\r\n").answer().status == 200


# ── bodies that stall ────────────────────────────────────────────────────────────────────────────


@pytest.mark.route(auth=PLAIN, timeouts={"idle": "500ms"})
@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_client_that_stalls_amid_its_body_is_cut_off(place: Place, framing: str) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", framing) + b"a\r\n0123456789\r\n")
        answer = wire.answer()
        assert (answer.status, answer.proxy_error) == (408, "http_request_error")
        assert answer.one("Connection") == "close"
        assert wire.is_closed()
    assert place.api.requests == []


ENDLESS = 64 * MIB


def a_long_answer(_request: Message, wire: Wire) -> bytes | None:
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ENDLESS)
    for _ in range(ENDLESS // MIB):
        wire.send(b"x" * MIB)
    return b""


def small_window(url: str) -> Wire:
    """Connect with a small receive buffer, so that whatever is not read stays with the proxy."""
    host, port = url.removeprefix("http://").split(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * KIB)
    sock.connect((host, int(port)))
    return Wire(sock)


@needs_proc
@pytest.mark.parametrize("lines", [[], ["Connection: close"]], ids=["keep-alive", "close"])
def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(lines: list[str]) -> None:
    with Upstream(a_long_answer) as upstream:
        routes = one_route(upstream, timeouts={"idle": "500ms"})
        routes += [{"name": "backoff", "path": "/backoff", "upstream": upstream.url, "auth": PLAIN}]
        with running_proxy({"routes": routes}) as proxy:
            before = descriptors_at_rest(proxy)
            with small_window(proxy.url) as wire:
                wire.send(request("GET", "/", *lines))
                wait_until(lambda: descriptors(proxy) > before, "it never came")
                wait_until(lambda: descriptors(proxy) <= before, "it is waited for forever")
                got = 0
                try:
                    while piece := wire.read():
                        got += len(piece)
                except ConnectionResetError:
                    pass
                assert got < ENDLESS


def test_the_log_counts_what_was_sent_and_not_what_nobody_took() -> None:
    with Upstream(a_long_answer) as upstream:
        routes = one_route(upstream, timeouts={"idle": "500ms"})
        with running_proxy({"routes": routes}) as proxy, small_window(proxy.url) as wire:
            wire.send(request("GET", "/untaken"))
            log = proxy.wait_for_log("path=/untaken")
            wire.until(b"\r\n\r\n")
            assert f" bytes={len(wire.rest())} " in log


@needs_proc
@pytest.mark.parametrize("last", ["keep-alive", "close"])
def test_answers_that_nobody_takes_are_not_kept_for_ever(last: str) -> None:
    """They are all written, but wait in the proxy, and no request is under way that could time out."""
    with Upstream() as upstream, ExitStack() as stack:
        upstream.says(reply(body=b"x" * (400 * KIB)))
        routes = one_route(upstream, timeouts={"idle": "500ms"}, max_connections=1)
        proxy = stack.enter_context(running_proxy({"routes": routes, "limits": {"keepalive": "1s"}}))

        def ask_until_it_is_full(most: int) -> int:
            wire = stack.enter_context(small_window(proxy.url))
            before = len(upstream.requests)
            for number in range(1, most + 1):
                wire.send(request("GET", "/", f"Connection: {last if number == most else 'keep-alive'}"))
                deadline = time.monotonic() + 1
                while len(upstream.requests) < before + number:
                    if time.monotonic() > deadline:
                        return number - 1
                    time.sleep(0.01)
            return most

        before = descriptors_at_rest(proxy) + 1  # the pooled one
        fit = ask_until_it_is_full(100)
        assert 1 < fit < 100
        for _ in range(4):
            assert ask_until_it_is_full(fit) in {fit, fit - 1}
        wait_until(lambda: descriptors(proxy) <= before + 1, lambda: f"{descriptors(proxy)}, not {before}")


def test_a_client_that_is_slow_but_takes_something_is_not_cut_off() -> None:
    with Upstream(a_long_answer) as upstream:
        routes = one_route(upstream, timeouts={"idle": "3s"})
        with running_proxy({"routes": routes}) as proxy, small_window(proxy.url) as wire:
            wire.send(request())
            head = wire.head()
            assert head.status == 200
            until = time.monotonic() + 5
            got = 0
            while time.monotonic() < until:
                got += len(wire.sock.recv(16 * KIB))
                time.sleep(0.01)
            while got < ENDLESS and (piece := wire.read()):
                got += len(piece)
            assert got == ENDLESS


# ── descriptors ──────────────────────────────────────────────────────────────────────────────────


@needs_proc
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_more_clients_than_descriptors_do_it_no_harm(
    authority: trustme.CA, tmp_path: Path, *, secure: bool
) -> None:
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    tls = {"tls": {"cert_file": str(tmp_path / "both.pem"), "key_file": str(tmp_path / "both.pem")}}
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        config = {"routes": one_route(upstream), "limits": {"header_timeout": "1m"}} | (tls if secure else {})
        proxy = stack.enter_context(running_proxy(config, files=64))
        client = trusting if secure else None
        assert ask(proxy.url, request(), tls=client).status == 200
        assert "too few file descriptors" in proxy.log()
        before = descriptors_at_rest(proxy)
        wires = [stack.enter_context(connect(proxy.url)) for _ in range(200)]  # TLS: they say nothing
        outcome: Counter[int | str] = Counter()
        if not secure:
            for wire in wires:
                try:
                    outcome[wire.send(request()).answer().status] += 1
                except (BrokenOff, ConnectionError):
                    outcome["closed"] += 1
            assert set(outcome) <= {200, 503, "closed"}
            assert outcome[200] > 5, outcome
        said = len(proxy.log())
        wait_until(lambda: rests(proxy), "it spins")
        assert len(proxy.log()) - said < 60_000, "it floods its log: a line for each is what is asked for"
        assert len(proxy.log().splitlines()) < 500
        for wire in wires:
            wire.close()

        def serves_again() -> bool:
            try:
                return ask(proxy.url, request(), tls=client).status == 200
            except (OSError, BrokenOff):
                return False

        wait_until(serves_again, "it never serves again")
        wait_until(lambda: descriptors(proxy) <= before + 2, lambda: f"{descriptors(proxy)}, not {before}")
        assert proxy.stop() == 0
        assert "Traceback" not in proxy.log()
