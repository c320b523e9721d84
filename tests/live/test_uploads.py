"""Uploads that stall: who is to blame is told from who is waiting for whom."""

import contextlib
import threading
import time

import pytest

from tests.support.command import RunningProxy
from tests.support.launch import GUARD
from tests.support.wire import Message, Wire, chunked, reply

from .conftest import Place
from .test_errors import assert_problem

PLAIN = {"grant": "static", "token": "never-changes"}
HASTY = {"timeouts": {"idle": "300ms"}, "auth": PLAIN}
PATIENT = {"timeouts": {"idle": "1500ms"}, "auth": PLAIN}
PIECES, PAUSE = 8, 0.25  # each pause is far shorter than `idle`, all together are longer


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("begun", [b"", b"5\r\nhello\r\n"])
@pytest.mark.route(**HASTY)
def test_a_client_that_stops_in_its_body_is_408_and_takes_its_upstream_along(
    place: Place, framing: str, begun: bytes
) -> None:
    gone = threading.Event()

    def answer(_request: Message, wire: Wire) -> None:
        with contextlib.suppress(ConnectionResetError):
            wire.rest()
        gone.set()

    place.api.reads_bodies = False
    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("POST", "/", framing) + begun)
        said = wire.answer()
        problem = assert_problem(said, 408, "http_request_error", route=place.name)
        assert "the client sent nothing of its body" in problem["detail"]
        assert said.one("Connection") == "close"
        assert wire.is_closed()
    assert gone.wait(GUARD)
    assert len(place.api.requests) == 1


@pytest.mark.route(**HASTY)
def test_an_upstream_that_does_not_take_an_upload_is_504(place: Place) -> None:
    over = threading.Event()

    def answer(_request: Message, _wire: Wire) -> None:
        assert over.wait(GUARD)

    place.api.reads_bodies = False
    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Content-Length: 1000000000"))
        wire.sock.settimeout(0.1)
        with contextlib.suppress(TimeoutError):  # until nothing more goes in
            for _ in range(200):  # or it is answered already, and all that comes is thrown away
                wire.send(b"x" * (1 << 20))
        wire.sock.settimeout(GUARD)
        problem = assert_problem(wire.answer(), 504, "http_response_timeout", route=place.name)
        assert "took nothing of the upload" in problem["detail"]
    over.set()


@pytest.mark.parametrize("size", [1000, 131_072, 131_073, 200_000, 300_000])
@pytest.mark.route(max_connections=1, timeouts={"connect": "300ms"}, auth=PLAIN)
def test_a_body_that_nobody_read_does_not_keep_the_next_request_waiting(place: Place, size: int) -> None:
    begun, over = threading.Event(), threading.Event()

    def answer(_request: Message, _wire: Wire) -> bytes:
        begun.set()
        assert over.wait(GUARD)
        return reply()

    place.api.answer = answer
    with place.connect() as other, place.connect() as wire:
        other.send(place.request("GET"))
        assert begun.wait(GUARD)
        wire.send(place.request("POST", "/", f"Content-Length: {size}"))
        time.sleep(0.1)  # it is waited for before its body comes
        wire.send(b"x" * size)
        assert_problem(wire.answer(), 503, "connection_limit_reached", route=place.name)
        over.set()
        assert other.answer().status == 200
        assert wire.send(place.request("GET")).answer().status == 200


@pytest.mark.route(**PATIENT)
def test_an_upload_that_keeps_coming_may_take_its_time(place: Place) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Transfer-Encoding: chunked"))
        for _ in range(PIECES):
            time.sleep(PAUSE)
            wire.send(chunked(b"piece", end=b""))
        wire.send(chunked())
        assert wire.answer().status == 200
    assert place.api.last.body == b"piece" * PIECES


@pytest.mark.route(**PATIENT)
def test_an_upload_beside_its_answer_keeps_both_going(place: Place) -> None:
    def answer(_request: Message, wire: Wire) -> bytes:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        while wire.chunk():
            pass
        wire.until(b"\r\n")
        return b"whole"

    place.api.reads_bodies = False
    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Transfer-Encoding: chunked"))
        assert wire.head().status == 200
        for _ in range(PIECES):
            time.sleep(PAUSE)
            wire.send(chunked(b"piece", end=b""))
        wire.send(chunked())
        assert wire.exactly(5) == b"whole"


@pytest.mark.route(**HASTY)
def test_an_upload_that_stops_beside_its_answer_breaks_it_off(place: Place) -> None:
    def answer(_request: Message, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            wire.rest()

    place.api.reads_bodies = False
    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Transfer-Encoding: chunked"))
        assert wire.head().status == 200
        assert wire.is_closed()


@pytest.mark.route(**HASTY)
def test_a_408_is_logged_and_holds_up_nobody_else(place: Place, proxy: RunningProxy) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Content-Length: 1000"))
        assert wire.answer().status == 408
        assert wire.is_closed()
    proxy.wait_for_log("status=408")
    assert place.get().status == 200
