"""Bodies pass while they arrive, at the pace of the slower side, and a broken one is seen to be broken."""

import contextlib
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.support.command import running_proxy, wait_until
from tests.support.launch import GUARD
from tests.support.wire import UNAUTHORIZED, BrokenOff, Message, Wire, chunked, connect, reply, request

from .conftest import Place

MIB = 1 << 20
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def memory(pid: int, name: str = "VmHWM") -> int:
    """Return a line of the process's status, in bytes: `VmRSS` is now, `VmHWM` the most there ever was."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


# ── while it arrives ─────────────────────────────────────────────────────────────────────────────


def test_events_arrive_one_by_one(place: Place) -> None:
    heard = threading.Semaphore(0)

    def answer(_request: Message, wire: Wire) -> bytes:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            wire.send(chunked(b"data: %d\n\n" % number, end=b""))
            assert heard.acquire(timeout=GUARD), "the client must hear each event before the next is sent"
        return b"0\r\n\r\n"

    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("GET", "/events", "Accept: text/event-stream"))
        assert wire.head().one("Content-Type") == "text/event-stream"
        for number in range(5):
            assert wire.chunk() == b"data: %d\n\n" % number
            heard.release()
        assert wire.chunk() == b""


def test_an_event_may_come_in_pieces_of_a_byte(place: Place) -> None:
    heard = threading.Semaphore(0)
    event = b"data: 1\n\n"

    def answer(_request: Message, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in chunked(event, event, end=b""):
            wire.send(bytes([byte]))
        assert heard.acquire(timeout=GUARD)

    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("GET", "/events")).head()
        got = b""
        while len(got) < 2 * len(event):
            got += wire.chunk()
        assert got == 2 * event, "and the answer has not ended"
        heard.release()


def test_the_head_arrives_before_any_of_the_body(place: Place) -> None:
    seen = threading.Event()

    def answer(_request: Message, wire: Wire) -> bytes:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert seen.wait(GUARD)
        return b"hello"

    place.api.answer = answer
    with place.connect() as wire:
        assert wire.send(place.request("GET")).head().status == 200
        seen.set()
        assert wire.exactly(5) == b"hello"


@pytest.mark.parametrize("is_chunked", [True, False])
def test_an_upload_is_forwarded_while_it_arrives(place: Place, *, is_chunked: bool) -> None:
    got = threading.Semaphore(0)

    def answer(_request: Message, wire: Wire) -> bytes:
        for _ in range(3):
            piece = wire.chunk() if is_chunked else wire.exactly(5)
            assert piece == b"piece"
            got.release()
        if is_chunked:
            assert wire.until(b"0\r\n\r\n") == b"0\r\n\r\n"
        return reply(body=b"got it")

    place.api.reads_bodies = False
    place.api.answer = answer
    framing = "Transfer-Encoding: chunked" if is_chunked else "Content-Length: 15"
    with place.connect() as wire:
        wire.send(place.request("POST", "/", framing))
        for _ in range(3):
            wire.send(chunked(b"piece", end=b"") if is_chunked else b"piece")
            assert got.acquire(timeout=GUARD), "the upstream must have this piece before the next is sent"
        if is_chunked:
            wire.send(b"0\r\n\r\n")
        assert wire.answer().body == b"got it"


FRAMED = {
    "length": reply(413, body=b"too much"),
    "chunked": b"HTTP/1.1 413 No\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"too ", b"much"),
    "close": b"HTTP/1.1 413 No\r\n\r\ntoo much",
}


@pytest.mark.parametrize("closes", [True, False], ids=["and closes", "and stays"])
@pytest.mark.parametrize("framing", FRAMED)
@pytest.mark.parametrize("upload", ["Content-Length: 10000000", "Transfer-Encoding: chunked"])
def test_an_answer_may_come_before_the_upload_is_over(
    place: Place, upload: str, framing: str, *, closes: bool
) -> None:
    over = threading.Event()
    piece = b"x" * 1000
    framed = chunked(piece, end=b"") if "chunked" in upload else piece

    def refuse(_request: Message, wire: Wire) -> None:
        wire.exactly(len(framed))  # closing with some of it unread would reset the answer away
        wire.send(FRAMED[framing])
        if not closes and framing != "close":
            over.wait(GUARD)

    place.api.reads_bodies = False
    place.api.answer = refuse
    with place.connect() as wire:
        answer = wire.send(place.request("POST", "/", upload) + framed).answer()
        assert (answer.status, answer.body, answer.proxy_error) == (413, b"too much", None)
    over.set()
    place.api.says(reply(body=b"next"), then_close=True)
    assert place.get("/next").body == b"next", "and no connection is used that still waits for a body"
    place.api.says(reply(body=b"again"))  # and leaves one that is open, for the next test's POST
    assert place.get("/again").body == b"again"


def test_an_early_401_to_a_long_upload_is_passed_on_and_the_next_has_a_new_token(place: Place) -> None:
    place.api.reads_bodies = False
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    with place.connect() as wire:
        wire.send(place.request("POST", "/long", "Content-Length: 10000000") + b"x" * 1000)
        assert wire.answer().status == 401
    assert place.get("/next").status == 200
    assert [sent.path for sent in place.api.requests] == ["/warm", "/long", "/next"]


def test_a_refusal_amid_an_upload_is_repeated_with_the_whole_body(place: Place) -> None:
    place.api.reads_bodies = False
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    refused = threading.Event()

    def answer(request: Message, wire: Wire) -> bytes | None:
        wire.exactly(5)
        if not place.api.lets_in(request):
            refused.set()
            return UNAUTHORIZED
        return reply(body=b"first" + wire.exactly(7))

    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Content-Length: 12") + b"first")
        assert refused.wait(GUARD)
        wire.send(b"-second")
        assert wire.answer().body == b"first-second"


def test_a_refusal_with_an_endless_body_does_not_hold_up_the_repetition(place: Place) -> None:
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    over = threading.Event()

    def answer(request: Message, wire: Wire) -> bytes | None:
        if place.api.lets_in(request):
            return reply(body=b"fine")
        wire.send(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"and so on", end=b""))
        over.wait(GUARD)
        return None

    place.api.answer = answer
    assert place.get().body == b"fine"
    over.set()


def test_what_is_left_of_an_upload_is_not_taken_for_a_request(place: Place) -> None:
    place.api.reads_bodies = False
    place.api.says(reply(413, body=b"too much"), then_close=True)
    left = place.request("GET", "/smuggled")
    with place.connect() as wire:
        wire.send(place.request("POST", "/", f"Content-Length: {50 + len(left)}") + b"x" * 50)
        assert wire.answer().status == 413
        wire.send(left)
    place.api.answer = place.api.first_answer
    assert place.get("/next").status in {200, 401}
    assert "/smuggled" not in [sent.path for sent in place.api.requests]


def test_both_directions_flow_at_once(place: Place) -> None:
    def echo(_request: Message, wire: Wire) -> bytes:
        wire.send(CHUNKED)
        while piece := wire.chunk():
            wire.send(chunked(piece.upper(), end=b""))
        return b"0\r\n\r\n"

    place.api.reads_bodies = False
    place.api.answer = echo
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Transfer-Encoding: chunked"))
        wire.send(chunked(b"one", end=b""))
        wire.head()
        assert wire.chunk() == b"ONE"
        wire.send(chunked(b"two", end=b""))
        assert wire.chunk() == b"TWO"
        wire.send(b"0\r\n\r\n")
        assert wire.chunk() == b""


# ── the end of one side ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("begun", ["before the answer", "during the answer", "during the upload"])
def test_a_client_that_goes_away_takes_its_upstream_request_along(place: Place, begun: str) -> None:
    gone = threading.Event()

    def answer(_request: Message, wire: Wire) -> None:
        if begun == "during the answer":
            wire.send(CHUNKED + chunked(b"a first piece", end=b""))
        with contextlib.suppress(ConnectionResetError):
            wire.rest()
        gone.set()

    place.api.reads_bodies = False
    place.api.answer = answer
    more = ["Content-Length: 1000"] if begun == "during the upload" else []
    with place.connect() as wire:
        wire.send(place.request("POST" if more else "GET", "/", *more))
        place.api.wait_for(1)
        if begun == "during the answer":
            wire.head()
    assert gone.wait(GUARD)


def test_a_client_that_leaves_while_a_token_is_fetched_leaves_no_request(place: Place) -> None:
    place.tokens.held.clear()
    with place.connect() as wire:
        wire.send(place.request("POST", "/left-for-a-token", body=b"x"))
        place.tokens.wait_for(1)
    assert place.proxy is not None
    place.proxy.wait_for_log("path=/left-for-a-token")
    place.tokens.held.set()
    assert place.get("/next").status == 200, "and the token is there for the others"
    assert [sent.path for sent in place.api.requests] == ["/next"]
    assert len(place.tokens.requests) == 1


PATIENT = {"connect": "60s"}  # longer than any test waits: only the client's leaving ends it


@pytest.mark.route(max_connections=1, timeouts=PATIENT)
def test_a_client_that_leaves_the_queue_for_a_connection_leaves_no_request(place: Place) -> None:
    release = threading.Event()

    def answer(request: Message, _wire: Wire) -> bytes:
        assert request.path != "/first" or release.wait(GUARD)
        return reply(body=request.path.encode())

    place.api.answer = answer
    assert place.proxy is not None
    with place.connect() as first:
        first.send(place.request("GET", "/first"))
        place.api.wait_for(1)
        with place.connect() as second, place.connect() as third:
            second.send(place.request("GET", "/left-in-the-queue"))
            time.sleep(0.05)  # so that it stands before the third
            third.send(place.request("GET", "/third"))
            second.close()
            place.proxy.wait_for_log("path=/left-in-the-queue")
            release.set()
            assert first.answer().body == b"/first"
            assert third.answer().body == b"/third"
    assert [sent.path for sent in place.api.requests] == ["/first", "/third"]


def test_a_client_that_leaves_during_the_handshake_ends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(GUARD)
        upstream = f"https://127.0.0.1:{listener.getsockname()[1]}"
        route = {"name": "tls", "upstream": upstream, "timeouts": PATIENT, "auth": {"grant": "none"}}
        with running_proxy({"routes": [route]}) as proxy, connect(proxy.url) as wire:
            wire.send(request("GET", "/"))
            sock, _ = listener.accept()
            with Wire(sock) as handshake:
                assert handshake.exactly(1) == b"\x16"
                wire.close()
                with contextlib.suppress(ConnectionResetError):
                    handshake.rest()


@needs_proc
def test_a_client_that_leaves_during_connecting_ends_that() -> None:
    def connecting(port: int) -> int:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return sum(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "02" for line in lines)

    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # nobody accepts: soon the next has to wait for an answer
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(("127.0.0.1", port))
        wait_until(lambda: connecting(port) > 0, "the queue never was full")
        before = connecting(port)
        upstream = f"http://127.0.0.1:{port}"
        route = {"name": "full", "upstream": upstream, "timeouts": PATIENT, "auth": {"grant": "none"}}
        with running_proxy({"routes": [route]}) as proxy, connect(proxy.url) as wire:
            wire.send(request("GET", "/"))
            wait_until(lambda: connecting(port) == before + 1, "it never tried to connect")
            wire.close()
            wait_until(lambda: connecting(port) == before, "it still tries to connect")


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
UNFRAMED = b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n"  # ends with its connection
BROKEN = {
    "short of its length": LONG + b"hello",
    "nothing of its length": LONG,
    "no last chunk": CHUNKED + b"5\r\nhello\r\n",
    "no chunk at all": CHUNKED,
    "half a chunk": CHUNKED + b"5\r\nhello\r\nff\r\nshort",
    "half a size": CHUNKED + b"5\r\nhello\r\n1",
    "no size": CHUNKED + b"5\r\nhello\r\nzz\r\nnot a size\r\n0\r\n\r\n",
    "no end of a chunk": CHUNKED + b"5\r\nhelloXX5\r\nhello\r\n0\r\n\r\n",
    "no end of the last one": CHUNKED + b"5\r\nhello\r\n0\r\n",
    "half a trailer": CHUNKED + b"5\r\nhello\r\n0\r\nX-A: ",
}


def assert_breaks_off(place: Place, version: bytes) -> None:
    with place.connect() as wire:
        wire.send(place.request("GET").replace(b"HTTP/1.1", version))
        with pytest.raises((BrokenOff, ConnectionResetError)):
            wire.answer()
    assert len(place.api.requests) == 1, "what has begun to come is not asked for again"


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_body_that_breaks_off_is_seen_to_break_off(place: Place, broken: str, version: bytes) -> None:
    place.api.says(BROKEN[broken], then_close=True)
    assert_breaks_off(place, version)


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("begun", [LONG + b"hello", CHUNKED + b"5\r\nhello\r\n", UNFRAMED + b"hello"])
def test_a_body_whose_connection_is_reset_is_seen_to_break_off(
    place: Place, begun: bytes, version: bytes
) -> None:
    seen = threading.Event()

    def answer(_request: Message, wire: Wire) -> None:
        wire.send(begun)
        assert seen.wait(GUARD)
        wire.reset()

    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("GET").replace(b"HTTP/1.1", version))
        head = wire.head()
        assert wire.until(b"hello")
        seen.set()
        is_framed = {"content-length", "transfer-encoding"} & set(head.names)
        # Where the end of the connection is the end of the body, it must not look like one.
        with contextlib.suppress(ConnectionResetError) if is_framed else pytest.raises(ConnectionResetError):
            assert wire.rest() in {b"", b"\r\n"}


@pytest.mark.route(timeouts={"idle": "300ms"})
def test_a_body_that_stalls_is_broken_off(place: Place) -> None:
    over = threading.Event()

    def answer(_request: Message, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        over.wait(GUARD)

    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("GET"))
        with pytest.raises((BrokenOff, ConnectionResetError)):
            wire.answer()
    over.set()


# ── memory and pace ──────────────────────────────────────────────────────────────────────────────


@needs_proc
def test_a_download_of_300_mb_to_a_slow_client_stays_out_of_memory(place: Place) -> None:
    size, piece = 300 * MIB, b"x" * MIB

    def answer(_request: Message, wire: Wire) -> bytes:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // MIB):
            wire.send(piece)
        return b""

    place.api.answer = answer
    assert place.proxy is not None
    before = memory(place.proxy.pid)
    with place.connect() as wire:
        wire.send(place.request("GET"))
        wire.head()
        got, into = 0, bytearray(MIB)
        for _ in range(20):  # slowly at first: the upstream could fill whatever would hold it
            got += len(wire.read())
            time.sleep(0.02)
        while got < size:
            got += wire.sock.recv_into(into)
    assert got == size
    assert memory(place.proxy.pid) - before < 40 * MIB


@needs_proc
def test_an_upload_of_100_mb_stays_out_of_memory(place: Place) -> None:
    size, piece = 100 * MIB, b"x" * MIB

    def answer(_request: Message, wire: Wire) -> bytes:
        got, into = len(wire.read()), bytearray(MIB)
        for _ in range(20):
            got += wire.sock.recv_into(into, 4096)
            time.sleep(0.02)
        while got < size:
            got += wire.sock.recv_into(into)
        return reply(body=b"%d" % got)

    place.api.reads_bodies = False
    place.api.answer = answer
    assert place.proxy is not None
    before = memory(place.proxy.pid)
    with place.connect() as wire:
        wire.send(place.request("POST", "/", f"Content-Length: {size}"))
        for _ in range(size // MIB):
            wire.send(piece)
        assert wire.answer().body == b"%d" % size
    assert memory(place.proxy.pid) - before < 40 * MIB


def settled(count: list[int]) -> int:
    """Return the last of `count` once it has stopped to grow."""
    last, since = -1, time.monotonic()

    def stands_still() -> bool:
        nonlocal last, since
        if count[0] != last:
            last, since = count[0], time.monotonic()
        return last > 0 and time.monotonic() - since > 1

    wait_until(stands_still, "it never stopped")
    return last


def pushed_into(wire: Wire, count: list[int], stop: threading.Event) -> None:
    """Send as much as the other side takes, up to 400 MB, and count it in bytes."""
    wire.sock.settimeout(0.1)
    piece = b"x" * (MIB // 4)
    while count[0] < 400 * MIB and not stop.is_set():
        try:
            count[0] += wire.sock.send(piece)
        except TimeoutError:
            continue


def pour(wire: Wire, data: bytes, times: int) -> None:
    for _ in range(times):
        wire.send(data)


@needs_proc
def test_a_client_that_pipelines_and_does_not_read_is_not_answered_into_memory(place: Place) -> None:
    place.api.says(reply(body=b"x" * 4096))
    assert place.proxy is not None
    before = memory(place.proxy.pid)
    with place.connect() as wire:
        wire.sock.settimeout(1)
        many = place.request("GET", "/", "X-Padding: " + "x" * 1000) * 100
        with pytest.raises(TimeoutError):  # in the end nobody takes any more of it
            pour(wire, many, 300)
        assert len(place.api.requests) * 4096 < 20 * MIB  # what the sockets hold
    assert memory(place.proxy.pid) - before < 10 * MIB


def test_a_client_that_does_not_read_stops_the_upstream(place: Place) -> None:
    count, stop = [0], threading.Event()

    def answer(_request: Message, wire: Wire) -> None:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        pushed_into(wire, count, stop)

    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("GET"))
        wire.head()
        assert settled(count) < 64 * MIB, "what the sockets hold, and a little"
        stop.set()


def test_an_upstream_that_does_not_read_stops_the_client(place: Place) -> None:
    stop = threading.Event()

    def answer(_request: Message, _wire: Wire) -> None:
        assert stop.wait(GUARD)

    place.api.reads_bodies = False
    place.api.answer = answer
    count = [0]
    with place.connect() as wire:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
        wire.send(place.request("POST", "/", "Content-Length: 1000000000"))
        pushing = threading.Thread(target=pushed_into, args=(wire, count, stop))
        pushing.start()
        try:
            assert settled(count) < 64 * MIB
        finally:
            stop.set()
            pushing.join(GUARD)


def test_a_slow_upstream_does_not_hold_up_another_request(place: Place) -> None:
    release = threading.Event()

    def answer(request: Message, _wire: Wire) -> bytes:
        if request.path == "/slow":
            assert release.wait(GUARD)
        return reply(body=request.path.encode())

    place.api.answer = answer
    with place.connect() as slow:
        slow.send(place.request("GET", "/slow"))
        place.api.wait_for(1)
        assert place.get("/quick").body == b"/quick"
        release.set()
        assert slow.answer().body == b"/slow"
