"""What is no HTTP/1.1 request is refused once, its connection is closed, and nothing of it goes on.

Each row is said in three ways: whole, in pieces (byte by byte, if it is short), and with a valid second
request behind it, which must not be answered. The first table holds heads: of those the upstream does not
even see a connection. The second holds bodies: the head in front of them is right, so it may have gone on.
The third is the other side: what looks odd, is let through by nginx as well, and is one request.
"""

import contextlib
import select
import threading
import time
from collections.abc import Callable

import pytest

from tests.support.launch import GUARD
from tests.support.wire import BrokenOff, Message, Wire, chunked, connect, reply, request

from .conftest import Place

PLAIN = {"grant": "static", "token": "never-changes"}
heads = pytest.mark.route(host=None, auth=PLAIN)
plain_route = pytest.mark.route(auth=PLAIN)

SHORT = 1000  # bytes; up to this a request is sent byte by byte
SECOND = request("GET", "/second")


# ── three ways to say it ─────────────────────────────────────────────────────────────────────────


def whole(wire: Wire, raw: bytes) -> None:
    wire.send(raw)


def in_pieces(wire: Wire, raw: bytes) -> None:
    """Send small pieces, until there is an answer, as a client would."""
    size = 1 if len(raw) <= SHORT else 997
    for start in range(0, len(raw), size):
        if select.select([wire.sock], [], [], 0.0001)[0]:
            return
        wire.send(raw[start : start + size])


def with_a_second(wire: Wire, raw: bytes) -> None:
    wire.send(raw + SECOND)


WAYS = (whole, in_pieces, with_a_second)
Way = Callable[[Wire, bytes], None]
in_every_way = pytest.mark.parametrize("say", WAYS, ids=lambda say: say.__name__)


def assert_refused_once(url: str, say: Way, raw: bytes, status: int = 400) -> None:
    """Say `raw` and check that one refusal comes back, in the proxy's own words, and then the end."""
    with connect(url) as wire:
        say(wire, raw)
        answer = wire.answer()
        assert answer.status == status
        assert answer.proxy_error == ("http_request_denied" if status == 403 else "http_request_error")
        assert answer.one("Content-Type") == "application/problem+json"
        assert answer.one("Connection") == "close"
        assert answer.json["status"] == status
        assert wire.is_closed(), "one answer, and nothing after it"


# ── heads ────────────────────────────────────────────────────────────────────────────────────────


def line(start: bytes, host: bytes = b"localhost") -> bytes:
    return b"%b\r\nHost: %b\r\n\r\n" % (start, host)


def get(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: localhost", *lines]) + b"\r\n\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: localhost", *lines]) + b"\r\n\r\n" + body


VERSIONS = {
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/0.9 with its version": line(b"GET / HTTP/0.9"),
    **{
        version.decode(): line(b"GET / " + version)
        for version in (
            b"HTTP/1.2", b"HTTP/1.10", b"HTTP/2.0", b"HTTP/3", b"http/1.1", b"HTTP/1", b"HTTP/1.", b"HTTP/11",
            b"HTTP/01.1", b"HTTP/-1.1", b"HTTP/1.1x", b"HTTP 1.1", b"HTTPS/1.1", b"XHTTP/1.1", b"ICE/1.0",
            b"1.1",
        )
    },
    "a space behind the version": line(b"GET / HTTP/1.1 "),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an answer": b"HTTP/1.1 200 OK\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + b"x" * 32 + b"\r\n\r\n",
    "SOCKS": b"\x05\x01\x00\r\n\r\n",
    "the PROXY protocol": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + get(),
    "noise": b"\xff\xfe\xfd\r\n\r\n",
}  # fmt: skip
METHODS = {
    "no method": line(b" / HTTP/1.1"),
    "a bracket in the method": line(b"G(T / HTTP/1.1"),
    "a colon in the method": line(b"LIST: / HTTP/1.1"),
    "an 8-bit method": line(b"L\xc9ST / HTTP/1.1"),
    "a method that nobody knows, of another protocol": line(b"PLAY / RTSP/1.0"),
    "a method that nobody knows, without a target": line(b"LIST HTTP/1.1"),
    "a NUL before the method": line(b"\0GET / HTTP/1.1"),
    "a blank before the method": line(b" GET / HTTP/1.1"),
    "a carriage return before the method": line(b"\rGET / HTTP/1.1"),
    "a carriage return before an empty line": line(b"\r\r\nGET / HTTP/1.1"),
    "a byte order mark": line(b"\xef\xbb\xbfGET / HTTP/1.1"),
    "a tab behind the method": line(b"GET\t/ HTTP/1.1"),
    "a method alone": b"QUIT\r\n\r\n",
}
TARGETS = {
    "no target": line(b"GET HTTP/1.1"),
    "an empty target": line(b"GET  HTTP/1.1"),
    **{
        f"target {target!r}": line(b"GET " + target + b" HTTP/1.1")
        for target in (
            b"/x#y", b"#", b"/?a#b", b"/a b", b"/a\tb", b"/a\x01b", b"/a\0b", b"/a\x7fb", b"/a\rb",
            b"/a\x0bb", b"/a\x1bb", b"/a?\x1f", b"x", b"localhost/x", b"localhost:80", b"?x", b"*", b"\\",
            b"%2f",
            # absolute form (RFC 9112 §3.2.2)
            b"http://me@localhost/", b"http://me:pw@localhost/", b"http:///x", b"http://",
            b"http:/localhost/", b"http:localhost/", b"ftp://localhost/", b"ws://localhost/",
            b"file:///etc/passwd", b"javascript:alert(1)", b"http://localhost:0/", b"http://localhost:70000/",
            b"http://localhost:/", b"http://localhost:+80/", b"http://localhost/#x", b"http:\\\\localhost/",
            b"http://localhost\\@evil/", b"http://%6cocalhost/", b"http://[::1/", b"http://localh\xf6st/",
            b"http://local host/",
        )
    },
    "an absolute target without Host": b"GET http://localhost/ HTTP/1.1\r\n\r\n",
    **{
        f"OPTIONS {target!r}": line(b"OPTIONS " + target + b" HTTP/1.1")
        for target in (b"*x", b"*/", b"*?x", b"**", b"x")
    },
    "POST *": line(b"POST * HTTP/1.1"),
    "a tab behind the target": line(b"GET /\tHTTP/1.1"),
}  # fmt: skip
HOSTS = {
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "no Host in HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "two Hosts": get(b"Host: localhost"),
    "two Hosts, the other one evil": get(b"hOST: evil"),
    "two Hosts in HTTP/1.0": b"GET / HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "Host before a blank": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "Host on a folded line": b"GET / HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n",
    **{
        f"Host {host!r}": line(b"GET / HTTP/1.1", host)
        for host in (
            b"", b"  ", b"me@localhost", b"localhost/x", b"localhost, evil", b"localhost,", b"local host",
            b"local\thost", b"localhost:", b"localhost:x", b"localhost:0", b"localhost:65536",
            b"localhost:000080", b"localhost:+80", b"localhost:-80", b"localhost: 80", b"localhost:80:80",
            b"localhost:\xd9\xa8\xd9\xa0", b"http://localhost", b"::1", b"[::1", b"::1]", b"[::1%25lo]",
            b"[]", b"localhost?x", b"localhost#x", b"localhost;x", b"localhost\\x", b'"localhost"',
            b"%6cocalhost", b"localh\xf6st", b"local\x01host", b"localhost\0", b"a..localhost", b".localhost",
            b"localhost..", b".",
        )
    },
}  # fmt: skip
LINES = {
    "bare line feeds": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "a bare line feed behind the request line": b"GET / HTTP/1.1\nHost: localhost\r\n\r\n",
    "a bare line feed behind a header": b"GET / HTTP/1.1\r\nHost: localhost\nX-A: 1\r\n\r\n",
    "a bare line feed at the end": b"GET / HTTP/1.1\r\nHost: localhost\r\n\n",
    "a bare carriage return behind the request line": b"GET / HTTP/1.1\rHost: localhost\r\n\r\n",
    "a bare carriage return behind a header": b"GET / HTTP/1.1\r\nHost: localhost\rX-A: 1\r\n\r\n",
    "two carriage returns": b"GET / HTTP/1.1\r\nHost: localhost\r\r\n\r\n",
    "a carriage return too many at the end": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\r\n",
    "a blank before the first header": b"GET / HTTP/1.1\r\n X-A: 1\r\nHost: localhost\r\n\r\n",
    "a tab before the first header": b"GET / HTTP/1.1\r\n\tX-A: 1\r\nHost: localhost\r\n\r\n",
    "a blank before Host": b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "a folded line": get(b"X-A: 1", b" 2"),
    "a line folded with a tab": get(b"X-A: 1", b"\t2"),
    "a folded line of blanks": get(b"X-A: 1", b" "),
    "a folded empty header": get(b"X-A:", b" 2"),
    "no colon": get(b"X-A"),
    "no name": get(b": 1"),
    **{
        f"name {name!r}": get(name + b": 1")
        for name in (
            b"X ", b"X\t", b"X A", b"X(Y", b"X)", b"X@", b"X{", b"X}", b"X[", b"X]", b'X"', b"X/", b"X\\",
            b"X;", b"X,", b"X<", b"X>", b"X=", b"X?", b"X\xe9", b"X\0", b"X\x01", b"X\x7f",
        )
    },
    **{
        f"value {value!r}": get(b"X-A: " + value)
        for value in (b"1\x002", b"1\r2", b"1\x012", b"1\x082", b"1\x0b2", b"1\x0c2", b"\x1b[2J", b"1\x7f2")
    },
    "two Authorizations": get(b"Authorization: a", b"authorization: b"),
    "two equal Authorizations": get(b"Authorization: a", b"Authorization: a"),
    "two Origins": get(b"Origin: http://localhost", b"Origin: http://localhost"),
    "two sites": get(b"Sec-Fetch-Site: none", b"Sec-Fetch-Site: none"),
    **{
        f"Expect: {b' and '.join(values).decode()}": post(*(b"Expect: " + value for value in values))
        for values in ([b"200-ok"], [b"100-continue, x"], [b"100-continue", b"x"], [b""])
    },
    "an expectation without a body": get(b"Expect: x"),
}  # fmt: skip
FRAMINGS = {
    "length and chunked": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "no length and chunked": post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "length and identity": post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"),
    "length and no encoding": post(b"Content-Length: 5", b"Transfer-Encoding:", body=b"hello"),
    "length and gzip": post(b"Content-Length: 5", b"Transfer-Encoding: gzip", body=b"hello"),
    "two lengths": post(b"Content-Length: 1", b"Content-Length: 2", body=b"ab"),
    "two equal lengths": post(b"Content-Length: 1", b"Content-Length: 1", body=b"a"),
    "two lengths of nothing": post(b"Content-Length: 0", b"Content-Length: 0"),
    "a folded length": post(b"Content-Length:", b" 5", body=b"hello"),
    **{
        f"length {length!r}": post(b"Content-Length: " + length, body=b"hello")
        for length in (
            b"", b"+5", b"-1", b"-0", b"1_0", b"0x3", b"1, 1", b"5,", b",5", b"5 5", b"0 5", b"5.0", b"5e0",
            b"5;x", b"five", b'"5"', b"\xb2", b"\xd9\xa5", b"5\xa0", b"5\x0b", b"9" * 30,
            b"18446744073709551616", b"18446744073709551615", b"9223372036854775808",
        )
    },
    "chunked twice": post(*[b"Transfer-Encoding: chunked"] * 2, body=b"0\r\n\r\n"),
    "chunked and identity": post(
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"
    ),
    "chunked before a blank": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "chunked on a folded line": post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"),
    "chunked in HTTP/1.0": post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n").replace(b"1.1", b"1.0"),
    **{
        f"encoding {encoding!r}": post(b"Transfer-Encoding: " + encoding, body=b"0\r\n\r\n")
        for encoding in (
            b"", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked,chunked", b"identity",
            b"identity, chunked", b"chunked, identity", b"gzip", b"xchunked", b"chunkedx", b"chun ked",
            b"chunked,", b",chunked", b"chunked;q=1", b'"chunked"', b"\x0bchunked", b"chunked\x0b",
            b"chunked\xa0", b"chun\xe2\x84\xaaed", b"chunked\0", b"trailers",
        )
    },
    "an encoding of a request without a body": get(b"Transfer-Encoding: gzip"),
}  # fmt: skip
MALFORMED = {**VERSIONS, **METHODS, **TARGETS, **HOSTS, **LINES, **FRAMINGS}


@heads
@in_every_way
@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in MALFORMED.items()])
def test_a_malformed_head_is_refused_and_leaves_no_trace_at_the_upstream(
    place: Place, say: Way, raw: bytes
) -> None:
    assert_refused_once(place.url, say, raw)
    assert place.api.requests == []
    assert place.api.connections == 0


TOO_MUCH = {
    "an overlong method": line(b"X" * 40_000 + b" / HTTP/1.1"),
    "an overlong target": line(b"GET /" + b"x" * 40_000 + b" HTTP/1.1"),
    "an overlong value": get(b"X-A: " + b"x" * 40_000),
    "an overlong name": get(b"x" * 40_000 + b": 1"),
    "an overlong section": get(*[b"X-%d: " % number + b"x" * 500 for number in range(70)]),
    "a thousand lines and one": get(*[b"X: 1"] * 1000),
}
REFUSED = {
    "CONNECT": b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT of a path": line(b"CONNECT / HTTP/1.1"),
    "CONNECT with a body": b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n",
}
PARTS_OF_AN_EMPTY_LINE = pytest.mark.parametrize("cut", [1, 2, 3])


@heads
@in_every_way
@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in TOO_MUCH.items()])
def test_a_head_that_is_too_large_is_431_in_every_way(place: Place, say: Way, raw: bytes) -> None:
    assert_refused_once(place.url, say, raw, 431)
    assert place.api.connections == 0


@heads
@in_every_way
@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in REFUSED.items()])
def test_what_may_be_followed_by_a_tunnel_is_403_and_the_end(place: Place, say: Way, raw: bytes) -> None:
    assert_refused_once(place.url, say, raw, 403)
    assert place.api.connections == 0


@plain_route
def test_an_innocent_request_before_a_malformed_one_is_not_sent_twice(place: Place) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/1", body=b"one") + b"GARBAGE\r\n\r\n")
        while wire.read():
            pass
    assert len(place.api.requests) <= 1


@plain_route
@PARTS_OF_AN_EMPTY_LINE
@pytest.mark.parametrize("number", [1, 2], ids=["first request", "second request"])
def test_a_head_cut_in_its_last_line_is_not_lost_by_what_is_behind_it(
    place: Place, number: int, cut: int
) -> None:
    good = place.request("GET", "/good")
    with place.connect() as wire:
        for _ in range(number - 1):
            assert wire.send(good).answer().status == 200
        wire.send(good[:-cut])
        time.sleep(0.1)
        wire.send(good[-cut:] + b"GARBAGE\r\n\r\n")
        assert wire.answer().status == 200
        assert wire.answer().status == 400
        assert wire.is_closed()
    assert len(place.api.requests) == number


@plain_route
@PARTS_OF_AN_EMPTY_LINE
def test_a_chunked_body_cut_in_its_last_line_is_not_lost_by_what_is_behind_it(place: Place, cut: int) -> None:
    good = place.request("POST", "/good", "Transfer-Encoding: chunked") + chunked(b"hello")
    with place.connect() as wire:
        wire.send(good[:-cut])
        time.sleep(0.1)
        wire.send(good[-cut:] + b"GARBAGE\r\n\r\n")
        assert wire.answer().status == 200
        assert wire.answer().status == 400
        assert wire.is_closed()
    assert [sent.body for sent in place.api.requests] == [b"hello"]


@heads
@pytest.mark.parametrize("method", ["POST", "TRACE", "LIST"])
def test_chunks_of_an_http_1_0_client_end_its_connection(place: Place, method: str) -> None:
    """Whatever it is answered: something on the way may have seen another end of it (RFC 9112 §6.1)."""
    lines = b" / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    with place.connect() as wire:
        wire.send(method.encode() + lines + chunked(b"hello") + SECOND)
        answer = wire.answer()
        assert answer.status == (403 if method == "TRACE" else 400)
        assert answer.one("Connection") == "close"
        assert wire.is_closed()
    assert place.api.requests == []


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────

SIZES = {
    f"size {size[:20]!r}": size + b"\r\nhello\r\n0\r\n\r\n"
    for size in (
        b"", b"+5", b"-5", b"0x5", b"0x", b"5_0", b"5g", b"zz", b"5,", b" 5", b"\t5", b"5 ", b"5\t", b"5 ;a",
        b"5\0", b"5\x0b", b"\xef\xbc\x95", b"\xd9\xa5", b"f" * 17, b"f" * 40, b"1" + b"0" * 16,
    )
}  # fmt: skip
CHUNKS = {
    **SIZES,
    "a chunk longer than its size": b"3\r\nhello\r\n0\r\n\r\n",
    "a chunk shorter than its size": b"7\r\nhello\r\n0\r\n\r\n",
    "no line end behind a chunk": b"5\r\nhello0\r\n\r\n",
    "bare line feeds": b"5\nhello\n0\n\n",
    "a bare line feed behind the size": b"5\nhello\r\n0\r\n\r\n",
    "a bare line feed behind an extension": b"5;a\nhello\r\n0\r\n\r\n",
    "a bare line feed behind the chunk": b"5\r\nhello\n0\r\n\r\n",
    "a bare line feed behind the last size": b"5\r\nhello\r\n0\n\r\n",
    "a bare line feed at the end": b"5\r\nhello\r\n0\r\n\n",
    "a bare carriage return behind the size": b"5\rhello\r\n0\r\n\r\n",
    "a bare carriage return behind the chunk": b"5\r\nhello\r0\r\n\r\n",
    "a carriage return in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a NUL in an extension": b"5;\0\r\nhello\r\n0\r\n\r\n",
    "a control in an extension": b"5;a=\x01\r\nhello\r\n0\r\n\r\n",
    "an extension with a blank": b"5; a\r\nhello\r\n0\r\n\r\n",
    "an extension without a name": b"5;\r\nhello\r\n0\r\n\r\n",
    "an extension that is not closed": b'5;a="b\r\nhello\r\n0\r\n\r\n',
}
TRAILERS = {
    f"trailer {trailer!r}": b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n"
    for trailer in (
        b"X", b": 1", b"X : 1", b"X(: 1", b" X: 1", b"X: \0", b"X: 1\r\n 2", b"X: 1\n", b"X: 1\rY: 2",
        b"Content-Length: 5", b"Transfer-Encoding: chunked",
    )
}  # fmt: skip


@plain_route
@in_every_way
@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in {**CHUNKS, **TRAILERS}.items()])
def test_a_malformed_body_is_refused_and_never_whole_to_the_upstream(
    place: Place, say: Way, raw: bytes
) -> None:
    assert_refused_once(place.url, say, place.request("POST", "/", "Transfer-Encoding: chunked") + raw)
    assert place.api.requests == [], "a request with a whole body"


@plain_route
@pytest.mark.parametrize("fault", [b"0\n\r\n", b"zz\r\n", b"0\r\nX(: 1\r\n\r\n"])
@pytest.mark.parametrize("left", [2, 1, 0])  # of the line end behind the chunk, which comes with the fault
def test_a_fault_that_comes_while_more_is_waited_for_is_told_at_once(
    place: Place, left: int, fault: bytes
) -> None:
    came = threading.Event()

    def answer(_request: Message, upstream: Wire) -> None:
        upstream.until(b"hello\r\n")
        came.set()
        upstream.rest()

    place.api.reads_bodies, place.api.answer = False, answer
    raw = place.request("POST", "/", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n"
    at = len(raw) - left
    with connect(place.url) as wire:
        wire.send(raw[:at])
        assert came.wait(GUARD)
        wire.send(raw[at:] + fault)
        assert wire.answer().status == 400


@plain_route
@pytest.mark.parametrize("raw", [b"zz\r\nhello\r\n", b"5\r\nhello0\r\n\r\n"])
def test_a_body_that_goes_wrong_amid_the_answer_breaks_the_answer_off(place: Place, raw: bytes) -> None:
    def answer(_request: object, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
        wire.rest()

    place.api.reads_bodies = False
    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"well", end=b""))
        assert wire.head().status == 200
        assert wire.exactly(5) == b"begun"
        wire.send(raw)
        assert wire.is_closed()


# ── what comes behind a body ─────────────────────────────────────────────────────────────────────


@plain_route
@pytest.mark.parametrize(
    "trailer",
    [b"X-Evil: 1\r\n", b"X-A: 1\r\nX-Evil: 1\r\n", b"Host: evil\r\n", b"Authorization: Bearer evil\r\n"],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_trailer_is_no_header_of_the_next_request(place: Place, trailer: bytes, *, together: bool) -> None:
    first = place.request("POST", "/1", "Transfer-Encoding: chunked") + chunked(
        b"x", end=b"0\r\n" + trailer + b"\r\n"
    )
    with place.connect() as wire:
        if together:
            wire.send(first + place.request("GET", "/2"))
        answer = (wire if together else wire.send(first)).answer()
        assert answer.status == 200 or (together and answer.status == 400), "it may be taken for malformed"
        if answer.one("Connection") == "close":
            assert wire.is_closed()
        else:
            assert (wire if together else wire.send(place.request("GET", "/2"))).answer().status == 200
    for sent in place.api.requests:
        assert not {"x-evil", "x-a"} & set(sent.names)
        assert sent.all("Authorization") == ["Bearer never-changes"]


@plain_route
def test_a_chunked_upload_without_trailers_keeps_its_connection(place: Place) -> None:
    with place.connect() as wire:
        for pieces in ([b"hello"], [b"hello", b"0\r\n\r\n"], []):
            sent = place.request("POST", "/", "Transfer-Encoding: chunked") + chunked(*pieces)
            for say in (whole, in_pieces):
                say(wire, sent)
                assert wire.answer().one("Connection") is None
    assert len(place.api.requests) == 6


@plain_route
def test_empty_lines_in_a_chunk_are_data_like_any_other(place: Place) -> None:
    empty = b"\r\n" * (2 << 20)
    sent = place.request("POST", "/", "Transfer-Encoding: chunked") + chunked(empty)
    with place.connect() as wire:
        assert wire.send(sent + place.request("GET", "/2")).answer().status == 200
        assert wire.answer().status == 200
    assert place.api.requests[0].body == empty


@plain_route
@pytest.mark.parametrize("lines", [b"X-A: " + b"x" * 1000 + b"\r\n", b"x" * 1000], ids=["lines", "a line"])
def test_a_trailer_without_end_is_431(place: Place, lines: bytes) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\nX-A: ")
        for _ in range(60):
            wire.send(lines)
        answer = wire.answer()
        assert (answer.status, answer.one("Connection")) == (431, "close")
        assert wire.is_closed()
    assert place.api.requests == []


@plain_route
def test_what_is_left_of_an_upload_is_no_request_whatever_its_bytes(place: Place) -> None:
    """Raw 8-bit characters are percent-encoded in a request line; elsewhere that would shift the end."""
    place.api.reads_bodies = False
    place.api.says(reply(413, body=b"too much"), then_close=True)
    left = place.request("GET", "/smuggled")
    left = left if len(left) % 2 == 0 else place.request("GET", "/smuggled/")
    eight_bit = b"\xff" * (len(left) // 2)  # percent-encoded it would take the place of what is left, too
    with place.connect() as wire:
        wire.send(
            place.request("POST", "/", f"Content-Length: {50 + len(eight_bit) + len(left)}") + b"x" * 50
        )
        assert wire.answer().status == 413
        place.api.answer = place.api.first_answer
        time.sleep(0.05)  # so that what is left comes when the answer is out
        wire.send(eight_bit + left)
        with contextlib.suppress(BrokenOff, ConnectionResetError, BrokenPipeError):  # or it is closed
            assert wire.send(place.request("GET", "/next")).answer().status == 200
    assert "/smuggled" not in "".join(sent.target for sent in place.api.requests)


@plain_route
def test_an_upgrade_that_is_not_made_leaves_nobody_behind_it_waiting(place: Place) -> None:
    upgrade = place.request("GET", "/1", "Connection: Upgrade", "Upgrade: something")
    with place.connect() as wire:
        wire.send(upgrade + place.request("GET", "/2"))
        for _ in range(2):  # the other protocol was not taken: what comes behind is a request like any other
            answer = wire.answer()
            assert (answer.status, answer.one("Connection")) == (200, None)
    assert [sent.target for sent in place.api.requests] == ["/1", "/2"]


# ── odd, and right ───────────────────────────────────────────────────────────────────────────────

ODD = {
    "an empty line first": b"\r\n{GET}",
    "two blanks before the target": b"GET  / HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "two blanks before the version": b"GET /  HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "HTTP/1.0 with Host": b"GET / HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n",
    "no blank behind the colon": b"GET / HTTP/1.1\r\nHost:{HOST}\r\n\r\n",
    "tabs around a value": b"GET / HTTP/1.1\r\nHost:\t{HOST} \t\r\n\r\n",
    "a length with noughts before": b"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0005\r\n\r\nhello",
    "a length with blanks around": b"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length:   5  \r\n\r\nhello",
    "CHUNKED": b"POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: CHUNKED\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\n",
    "a size with noughts before": b"{CHUNKED}000005\r\nhello\r\n0\r\n\r\n",
    "a size in capitals": b"{CHUNKED}A\r\nhellohello\r\n0\r\n\r\n",
    "many noughts at the end": b"{CHUNKED}5\r\nhello\r\n00000\r\n\r\n",
    "extensions": b'{CHUNKED}5;a;b=c;d="e;f"\r\nhello\r\n0;g\r\n\r\n',
    "a long extension": b"{CHUNKED}5;" + b"a" * 9000 + b"\r\nhello\r\n0\r\n\r\n",
    "odd names": b"GET / HTTP/1.1\r\nHost: {HOST}\r\n!#$%&'*+-.^_`|~0: 1\r\n\r\n",
    "an empty value": b"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-A:\r\n\r\n",
    "an 8-bit value": b"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-A: \xe9\xff\r\n\r\n",
    "colons and more in a value": b'GET / HTTP/1.1\r\nHost: {HOST}\r\nX-A: ::(),/;<=>?@[\\]{}"\r\n\r\n',
    "an expectation of an HTTP/1.0 client": b"GET / HTTP/1.0\r\nHost: {HOST}\r\nExpect: x\r\n\r\n",
    "a body that nobody is told of": b"POST / HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
}


@plain_route
@pytest.mark.parametrize("say", [whole, in_pieces], ids=lambda say: say.__name__)
@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in ODD.items()])
def test_what_is_odd_but_right_is_one_request(place: Place, say: Way, raw: bytes) -> None:
    for word, meant in (
        (b"{GET}", place.request("GET")),
        (b"{CHUNKED}", place.request("POST", "/", "Transfer-Encoding: chunked")),
        (b"{HOST}", place.host.encode()),
    ):
        raw = raw.replace(word, meant)
    with place.connect() as wire:
        say(wire, raw)
        assert wire.answer().status == 200
    (sent,) = place.api.requests
    assert sent.body.replace(b"hello", b"") == b""
    assert (b"hello" in raw) == (sent.body != b"")
