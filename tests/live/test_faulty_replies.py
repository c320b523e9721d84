"""Answers with faulty framing: 502, or a visible end once begun; and their connection is never used again.

Whoever could place an answer of their own on a connection would have it taken for the answer to somebody
else's request. So after each fault here the next request goes out on a new connection and gets its own.
"""

import contextlib
import socket
from dataclasses import dataclass, field

import pytest

from tests.support.command import wait_until
from tests.support.wire import BrokenOff, Message, Wire, reply

from .conftest import Place

PLAIN = {"grant": "static", "token": "never-changes"}
OK = b"HTTP/1.1 200 OK\r\n"
POISON = reply(200, "X-Poison: 1", body=b"poison")

REFUSED = {
    "no status line": b"X-A: 1\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0 behind a 100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9 in a status line": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    "status 0": b"HTTP/1.1 0 OK\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 99 OK\r\nContent-Length: 0\r\n\r\n",
    "status 1000": b"HTTP/1.1 1000 OK\r\nContent-Length: 0\r\n\r\n",
    "status abc": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "status -200": b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\nhi" + POISON,
    "two equal lengths": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nhi",
    "length and chunked": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON,
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + POISON,
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, chunked": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "an empty encoding": OK + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "length -1": OK + b"Content-Length: -1\r\n\r\n",
    "length +5": OK + b"Content-Length: +5\r\n\r\nhello",
    "length 0x5": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "length 5.0": OK + b"Content-Length: 5.0\r\n\r\nhello",
    "length 1_0": OK + b"Content-Length: 1_0\r\n\r\n0123456789",
    "length 5 5": OK + b"Content-Length: 5 5\r\n\r\nhello",
    'length "5"': OK + b'Content-Length: "5"\r\n\r\nhello',
    "an empty length": OK + b"Content-Length:\r\n\r\n",
    "length of 30 digits": OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "length 2^64": OK + b"Content-Length: 18446744073709551616\r\n\r\n",
    "NUL in a value": OK + b"X-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "NUL in a name": OK + b"X\x00A: a\r\nContent-Length: 0\r\n\r\n",
    "a folded line": OK + b"X-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a folded length": OK + b"Content-Length:\r\n 5\r\n\r\nhello",
    "a first line that is folded": OK + b" X-A: a\r\nContent-Length: 0\r\n\r\n",
    "a bare CR in a value": OK + b"X-A: a\rX-B: b\r\nContent-Length: 0\r\n\r\n",
    "a bare LF between lines": OK + b"X-A: a\nContent-Length: 0\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "a space in a name": OK + b"X A: a\r\nContent-Length: 0\r\n\r\n",
    "no colon": OK + b"no colon\r\nContent-Length: 0\r\n\r\n",
    "no name": OK + b": a\r\nContent-Length: 0\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + POISON,
    "101 and no more": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + POISON,
    "a faulty answer after 103": b"HTTP/1.1 103 Early\r\n\r\n" + OK + b"Content-Length: +5\r\n\r\nhello",
}  # fmt: skip

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
BROKEN_OFF = {
    "chunk size not hex": CHUNKED + b"xyz\r\n" + POISON,
    "chunk size negative": CHUNKED + b"-1\r\n" + POISON,
    "chunk size +1": CHUNKED + b"+1\r\na\r\n0\r\n\r\n",
    "chunk size 0x1": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "chunk size empty": CHUNKED + b"\r\n\r\n" + POISON,
    "chunk size of 17 digits": CHUNKED + b"1" + b"0" * 16 + b"\r\na\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
    "chunk ended by a bare LF": CHUNKED + b"2\nab\r\n0\r\n\r\n",
    "chunk extension with NUL": CHUNKED + b"2;\x00\r\nab\r\n0\r\n\r\n",
    "chunk extension with a bare CR": CHUNKED + b"2;a\rb\r\nab\r\n0\r\n\r\n",
    "space after the chunk size": CHUNKED + b"2 \r\nab\r\n0\r\n\r\n",
    "trailer with NUL": CHUNKED + b"0\r\nX-A: a\x00\r\n\r\n",
    "trailer without a colon": CHUNKED + b"0\r\nno colon\r\n\r\n",
}
STANDS = {
    "more than announced": (reply(body=b"mine"), b"and more"),
    "another answer": (reply(body=b"mine"), POISON),
    "another answer without a body": (reply(body=b"mine"), reply(200, "X-Poison: 1")),
    "an interim answer": (reply(body=b"mine"), b"HTTP/1.1 103 Early\r\nX-Poison: 1\r\n\r\n"),
    "another chunked answer": (OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n", POISON),
    "a body after 204": (b"HTTP/1.1 204 No Content\r\n\r\n", POISON),
    "a body after 304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", POISON),
    "garbage": (reply(body=b"mine"), b"\x00\x01\x02"),
}


@dataclass
class Origin:
    """Says `faulty` to a request for /faulty, and to any other what it was asked for.

    `wires` are the connections on which requests came, `ended` those that the proxy has closed.
    """

    pieces: list[bytes]
    wires: list[Wire] = field(default_factory=list)
    ended: list[Wire] = field(default_factory=list)

    def __call__(self, came: Message, wire: Wire) -> bytes | None:
        self.wires.append(wire)
        if came.target != "/faulty":
            return reply(body=came.target.encode())
        with contextlib.suppress(OSError):  # it may close in the middle
            wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in self.pieces:
                wire.send(piece)
            wire.rest()
        self.ended.append(wire)
        return None

    def has_been_left(self) -> bool:
        """Tell whether the connection of the first request is over."""
        return self.wires[0] in self.ended


def in_pieces(data: bytes, cut: str) -> list[bytes]:
    return [data] if cut == "whole" else [data[i : i + 1] for i in range(len(data))]


def assert_the_next_are_their_own(place: Place, origin: Origin) -> None:
    wait_until(origin.has_been_left, "its connection was kept")
    for number in range(3):
        answer = place.get(f"/own/{number}")
        assert (answer.status, answer.body) == (200, f"/own/{number}".encode())
        assert answer.one("X-Poison") is None
    assert origin.wires[0] not in origin.wires[1:]
    assert [came.target for came in place.api.requests] == ["/faulty", "/own/0", "/own/1", "/own/2"]


@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
@pytest.mark.parametrize("fault", REFUSED)
@pytest.mark.route(auth=PLAIN)
def test_a_faulty_head_is_502_and_the_end_of_its_connection(place: Place, fault: str, cut: str) -> None:
    origin = place.api.answer = Origin(in_pieces(REFUSED[fault], cut))
    answer = place.get("/faulty")
    assert (answer.status, answer.proxy_error) == (502, "http_protocol_error")
    assert b"poison" not in answer.body
    assert_the_next_are_their_own(place, origin)


def rest_of(wire: Wire) -> None:
    while wire.chunk():
        pass


@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
@pytest.mark.parametrize("fault", BROKEN_OFF)
@pytest.mark.route(auth=PLAIN)
def test_a_faulty_body_is_seen_to_break_off(place: Place, fault: str, cut: str) -> None:
    origin = place.api.answer = Origin(in_pieces(BROKEN_OFF[fault], cut))
    with place.connect() as wire:
        wire.send(place.request("GET", "/faulty"))
        if wire.head().status == 200:  # it had begun; else it is 502, as the fault came with the head
            with pytest.raises((BrokenOff, ConnectionResetError)):
                rest_of(wire)
    assert_the_next_are_their_own(place, origin)


@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
@pytest.mark.parametrize("extra", STANDS)
@pytest.mark.route(auth=PLAIN)
def test_what_comes_after_an_answer_is_nobodys(place: Place, extra: str, cut: str) -> None:
    whole, more = STANDS[extra]
    origin = place.api.answer = Origin([whole + more] if cut == "whole" else [whole, *in_pieces(more, cut)])
    answer = place.get("/faulty")
    assert (answer.status, answer.body) in {(200, b"mine"), (204, b""), (304, b"")}
    assert answer.one("X-Poison") is None
    assert_the_next_are_their_own(place, origin)


@pytest.mark.route(auth=PLAIN)
def test_one_that_is_pipelined_behind_a_faulty_one_gets_its_own_answer(place: Place) -> None:
    place.api.answer = Origin([REFUSED["length and chunked"]])
    with place.connect() as wire:
        wire.send(place.request("GET", "/faulty") + place.request("GET", "/own"))
        assert wire.answer().status == 502
        answer = wire.answer()
        assert (answer.status, answer.body) == (200, b"/own")


@pytest.mark.route(auth=PLAIN)
def test_empty_lines_after_an_answer_do_no_harm(place: Place) -> None:
    """There were servers that sent one; no answer can be made of them."""
    place.api.answer = lambda came, _wire: reply(body=came.target.encode()) + b"\r\n\r\n"
    for number in range(5):
        answer = place.get(f"/own/{number}")
        assert (answer.status, answer.body) == (200, f"/own/{number}".encode())


@pytest.mark.route(auth=PLAIN)
@pytest.mark.parametrize("endless", [b"X-A: " + b"x" * 1000 + b"\r\n", b"x" * 1000], ids=["lines", "a line"])
def test_a_trailer_without_end_ends_the_connection(place: Place, endless: bytes) -> None:
    sent = [0]

    def answer(_request: Message, wire: Wire) -> None:
        wire.send(CHUNKED + b"0\r\nX-A: ")
        with contextlib.suppress(OSError):
            while sent[0] < 64 << 20:
                wire.send(endless * 64)
                sent[0] += len(endless) * 64

    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("GET"))
        with pytest.raises((BrokenOff, ConnectionResetError)):
            wire.answer()
    wait_until(lambda: sent[0] > 0)
    assert sent[0] < 64 << 20


@pytest.mark.route(auth=PLAIN)
def test_chunks_of_an_http_1_0_server_end_its_connection(place: Place) -> None:
    """Something on the way may have seen another end (RFC 9112 §6.1)."""
    lines = b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    place.api.says(b"HTTP/1.0 200 OK\r\n" + lines)
    for number in range(1, 4):
        assert place.get().body == b"hello"
        assert place.api.connections == number
