"""One client's connection, its transport and its time faked: every state, and every edge between them."""

import asyncio
from itertools import pairwise, product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from authproxy.errors import AuthproxyError, BadRequest, Forbidden, HeadersTooLarge
from authproxy.net.tunnel import Tunnel
from authproxy.proxy.downstream import connection as module
from authproxy.proxy.downstream.connection import (
    DISCARD_SECONDS,
    LITTLE_BUT_FRAMING,
    MALFORMED,
    MAX_PIECES,
    TRAILER_TOO_LARGE,
    State,
    ascii_target,
    drop,
)
from authproxy.proxy.downstream.framing import ROOM
from authproxy.proxy.downstream.parser import MAX_HEADERS, READ_BUFFER
from authproxy.proxy.request import MAX_UNREAD, Whole
from tests.support.cases import every_case
from tests.support.client_side import HEADER_BYTES, HEADER_SECONDS, KEEPALIVE, Front, Transport
from tests.support.clock import settle
from tests.support.examples import examples
from tests.support.launch import GUARD

WAYS = ["at once", "callback", "task"]
END = b"\r\n\r\n"


def request(number=1, *lines, method="GET", body=b"", target=None):
    head = [f"{method} {target or f'/{number}'} HTTP/1.1", "Host: a", *lines]
    return "\r\n".join(head).encode("latin-1") + END + body


PLAIN = request()
ODD = {
    "another method": (request(method="PURGE"), "PURGE /1"),
    "a method in lower case": (request(method="get"), "get /1"),
    "a short one that may go on": (request(method="G"), "G /1"),
    "an 8-bit target": (request(target="/\xe9"), "GET /%E9"),
    "an empty line first": (b"\r\n\r\n\n" + PLAIN, "GET /1"),
    "a header twice": (request(1, "X: 1", "X: 2"), "GET /1"),
    "an upgrade": (request(1, "Connection: Upgrade", "Upgrade: other/1"), "GET /1"),
    "a URL": (request(target="http://a/1"), "GET http://a/1"),
    "a body with a judged header": (
        request(1, "Content-Length: 5", "Origin: http://a", method="PUT", body=b"hello"),
        "PUT /1",
    ),
    "chunks": (
        request(1, "Transfer-Encoding: chunked", method="PUT", body=b"5\r\nhello\r\n0\r\n\r\n"),
        "PUT /1",
    ),
}  # fmt: skip


@pytest.fixture
async def fronts():
    made = []

    def front(way="at once", **settings):
        made.append(Front(way, **settings))
        return made[-1]

    yield front
    for each in made:
        await each.leave()


async def answered(front, times=1):
    """Let the requests that came be answered, in whatever way."""
    for _ in range(times):
        if front.answerer.way == "callback":
            front.answerer.answer()
        elif front.answerer.way == "task":
            front.answerer.may_finish.set()
        await settle()


# ── heads ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
async def test_a_plain_request_is_answered_and_its_connection_kept(fronts, way):
    front = fronts(way)
    for number in (1, 2):
        front.send(request(number))
        if way != "at once":
            assert (front.state, front.connection.in_flight) == (State.BUSY, True)
        await answered(front)
        assert (front.state, front.connection.in_flight) == (State.IDLE, False)
    assert front.written == b"<GET /1><GET /2>"
    assert front.answerer.requests[0].head is not None
    assert front.transport.reading
    assert not front.transport.closing


@pytest.mark.parametrize(("data", "asked"), ODD.values(), ids=ODD)
async def test_what_is_not_plain_is_read_by_the_parser_and_answered_alike(fronts, data, asked):
    front = fronts()
    front.send(data)
    assert front.answerer.asked == [asked]
    assert front.answerer.requests[0].head is None
    assert front.state is State.IDLE
    front.send(PLAIN)  # and what follows is plain again
    assert front.answerer.requests[1].head is not None


WHOLE = {"plain": (PLAIN, "GET /1"), **ODD}


def first_cut(data):
    """Return where `data` may be cut: a target of 8 bits is only taken in one piece."""
    return 1 if data.isascii() else data.index(b"\n") + 1


@pytest.mark.parametrize(("data", "asked"), WHOLE.values(), ids=WHOLE)
async def test_wherever_a_request_is_cut_in_two_it_is_read_alike(fronts, data, asked):
    for cut in range(first_cut(data), len(data)):
        front = fronts()
        front.send(data[:cut], data[cut:])
        assert front.answerer.asked == [asked], cut
        assert front.written == f"<{asked}>".encode(), cut
        assert front.state is State.IDLE, cut


@pytest.mark.parametrize(("data", "asked"), WHOLE.values(), ids=WHOLE)
async def test_a_request_may_come_byte_by_byte(fronts, data, asked):
    front = fronts("callback")
    first = first_cut(data)
    front.send(data[:first])
    for at in range(first, len(data)):
        front.send(data[at : at + 1])
    assert front.answerer.asked == [asked]
    await answered(front)
    assert front.state is State.IDLE


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [2, 3])
async def test_pipelined_requests_are_answered_one_by_one_in_their_order(fronts, way, count):
    with every_case() as case:
        for kinds in product(["plain", "another method", "chunks"], repeat=count):
            front = fronts(way)
            front.send(b"".join(WHOLE[kind][0] for kind in kinds))
            asked = [WHOLE[kind][1] for kind in kinds]
            with case(kinds):
                for number in range(count):
                    if way != "at once":
                        # Not before the one ahead is answered.
                        assert front.answerer.asked == asked[: number + 1]
                    await answered(front)
                assert front.answerer.asked == asked
                assert front.written == "".join(f"<{each}>" for each in asked).encode()
                assert front.state is State.IDLE


@pytest.mark.parametrize("way", ["callback", "task"])
async def test_what_comes_while_a_request_is_answered_waits_for_its_turn(fronts, way):
    front = fronts(way)
    front.send(request(1), request(2)[:9], request(2)[9:] + request(3, "Connection: close"))
    assert front.answerer.asked == ["GET /1"]
    await answered(front, 3)
    assert front.written == b"<GET /1><GET /2><GET /3><close>"
    assert front.transport.closing


@pytest.mark.parametrize("data", [PLAIN, ODD["an upgrade"][0]])
async def test_a_protocol_that_is_not_taken_leaves_what_comes_behind_it(fronts, data):
    front = fronts("callback")
    front.send(ODD["an upgrade"][0] + data)
    await answered(front)
    await answered(front)
    assert front.answerer.asked == ["GET /1", "GET /1"]


# ── heads that are none ──────────────────────────────────────────────────────────────────────────

GARBAGE = {
    "no request": b"hello" + END,
    "a header that is none": request(1, "no colon"),
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "a bare LF in a method": b"GE\nT / HTTP/1.1" + END,
    "another protocol": b"SSH-2.0-x\r\n",
    "a length and chunks": request(1, "Content-Length: 5", "Transfer-Encoding: chunked"),
    "two lengths": request(1, "Content-Length: 5", "Content-Length: 6"),
    "a sign": request(1, "Content-Length: +5"),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("before", [b"", PLAIN])
async def test_what_is_no_request_is_400_and_the_end(fronts, data, before):
    front = fronts()
    front.send(before + data + PLAIN)
    assert front.answerer.asked == (["GET /1"] if before else [])
    answer = front.written.removeprefix(b"<GET /1>")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close\r\n" in answer
    assert [type(each) for each in front.answerer.refusals] == [BadRequest]
    assert front.state is State.LINGERING
    assert front.connection.leaving
    assert front.transport.ended
    assert not front.transport.closing  # it gets to read that
    front.send(PLAIN)  # what it has yet to say is dropped
    assert front.written.endswith(answer)


FILL = "x" * HEADER_BYTES
TOO_LARGE = {
    "a line": request(1, f"X: {FILL}x"),
    "a target": request(target="/" + FILL),
    "lines": request(1, *(f"X-{number}: xxxxxxxxxxxxxxxxxxxx" for number in range(100)))[:-4],
    "lines of a plain head": request(1, *(f"X{number}: xxxxxxxxxx" for number in range(90)))[:-2],
    "a method": FILL.encode() + b"y",
    "too many": request(1, *("A:" for _ in range(MAX_HEADERS + 1))),
}


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
async def test_a_head_that_is_too_large_is_431_and_the_end(fronts, data, size):
    front = fronts()
    for at in range(0, len(data), size):
        front.send(data[at : at + size])
    assert front.written.startswith(b"HTTP/1.1 431 ")
    assert [type(each) for each in front.answerer.refusals] == [HeadersTooLarge]
    assert front.state is State.LINGERING


async def test_a_fault_of_the_parser_s_is_ours(fronts, monkeypatch, caplog):
    front = fronts()

    def parser_for(_connection):
        raise RuntimeError("s3cr3t")

    monkeypatch.setattr(front.server, "parser_for", parser_for)
    front.send(b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert front.written.startswith(b"HTTP/1.1 500 ")
    assert b"s3cr3t" not in front.written
    assert [record.getMessage() for record in caplog.records] == ["internal error"]


BEGUN = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"GET / HTTP/1.1\r\n", "the Host header is missing"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "there is more than one Host header"),
        (BEGUN + b"Content-Length: s3cr3t\r\n", "the Content-Length is not a number of bytes"),
        (BEGUN + b"Content-Length: -1\r\n", "the Content-Length is not a number of bytes"),
        (BEGUN + b"Content-Length: 1\r\nContent-Length: 1\r\n", "there is more than one Content-Length"),
        (
            BEGUN + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "there are both Content-Length and Tr",
        ),
        (BEGUN + b"Transfer-Encoding: gzip\r\n", "the only transfer encoding is chunked"),
        (BEGUN + b"X-a Missing 'Host': s3cr3t\r\n", "the name of a header holds a character"),
        (BEGUN + b"X: a\r\n s3cr3t\r\n", "a header is folded over several lines"),
        (BEGUN + b"X: a\x00s3cr3t\r\n", "the value of a header holds a control character"),
        (b"s3cr3t\r\n", "the request is not valid HTTP/1.1"),
    ],
)
async def test_what_is_malformed_is_named_and_not_repeated(fronts, head, says):
    front = fronts()
    front.send(head + b"\r\n")
    (refusal,) = front.answerer.refusals
    assert refusal.detail.startswith(says)
    assert b"s3cr3t" not in front.written


async def test_a_limit_that_is_exceeded_is_named_with_its_key(fronts):
    large, slow = fronts(), fronts()
    large.send(BEGUN + b"X: " + b"x" * HEADER_BYTES)
    slow.send(BEGUN)
    slow.time.advance(HEADER_SECONDS + 1)
    told = [(each.detail, each.hint) for front in (large, slow) for each in front.answerer.refusals]
    assert told == [
        (f"the header section is over {HEADER_BYTES} bytes", "`limits.header_bytes` sets the limit"),
        (
            "the header section took longer than 10 s",
            "send it faster; `limits.header_timeout` sets the limit",
        ),
    ]


async def test_a_head_of_too_many_lines_says_how_many_there_may_be(fronts):
    front = fronts()
    front.server.header_bytes = 1 << 20
    front.send(BEGUN + b"X:\r\n" * (MAX_HEADERS + 1) + b"\r\n")
    (refusal,) = front.answerer.refusals
    assert (refusal.status, refusal.detail) == (431, "the header section has more than 1000 lines")


async def test_what_is_refused_is_told_with_when_it_began(fronts):
    front = fronts()
    front.send(b"GET")
    began = front.connection._began
    front.send(b" /\r\ns3cr3t\r\n\r\n")
    assert front.answerer.began == [began]
    assert began is not None


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (b"GET /\xe9 HTTP/1.1\r\nX: \xe9\r\n", b"GET /%E9 HTTP/1.1\r\nX: \xe9\r\n"),
        (b"GET /\xe9 HTTP/1.0\r\n", b"GET /%E9 HTTP/1.0\r\n"),
        (b"GET /\xe9 HTTP/1.1", b"GET /\xe9 HTTP/1.1"),
        (b"X: \xe9\r\n", b"X: \xe9\r\n"),
    ],
)
def test_only_the_target_of_a_whole_request_line_is_encoded(data, sent):
    assert ascii_target(data) == sent


def test_what_nobody_wants_is_dropped():
    assert drop(b"x") is None


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────

BODY = b"hello, world"
CHUNKED = b"7\r\nhello, \r\n5\r\nworld\r\n0\r\n\r\n"
FRAMED = {
    "a length": (request(1, f"Content-Length: {len(BODY)}", method="POST"), BODY),
    "a length, read by the parser": (
        request(1, f"Content-Length: {len(BODY)}", "Origin: x", method="POST"), BODY
    ),
    "chunks": (request(1, "Transfer-Encoding: chunked", method="POST"), CHUNKED),
    "chunks and a trailer": (
        request(1, "Transfer-Encoding: chunked", method="POST"), CHUNKED[:-2] + b"X-Late: 1\r\n\r\n"
    ),
}  # fmt: skip
FRAMES = pytest.mark.parametrize(("head", "body"), FRAMED.values(), ids=FRAMED)


async def read(request_):
    """Return the body of `request_`."""
    said = b""
    while piece := await request_.payload.read(1 << 16):
        said += piece
    return said


@FRAMES
async def test_wherever_a_body_is_cut_it_is_read_alike_and_another_request_follows(fronts, head, body):
    data = head + body + PLAIN
    for cut in range(1, len(data)):
        front = fronts("callback")
        front.send(data[:cut], data[cut:])
        assert await read(front.answerer.requests[0]) == BODY, cut
        await answered(front)
        assert front.answerer.asked == ["POST /1", "GET /1"], cut
        assert front.answerer.requests[1].headers.keys() == {"Host"}, cut  # no trailer
        await answered(front)
        assert front.state is State.IDLE, cut


@FRAMES
async def test_a_body_in_pieces_is_read_as_it_comes(fronts, head, body):
    front = fronts("callback")
    front.send(head)
    reading = asyncio.create_task(read(front.answerer.requests[0]))
    for at in range(len(body)):
        await settle()
        assert not reading.done()
        front.send(body[at : at + 1])
    assert await reading == BODY
    await answered(front)
    assert front.state is State.IDLE


async def test_a_body_that_comes_with_its_plain_head_needs_no_stream(fronts):
    front = fronts("callback")
    front.send(FRAMED["a length"][0] + BODY)
    assert isinstance(front.answerer.requests[0].payload, Whole)


@FRAMES
async def test_a_body_that_nobody_wants_is_dropped_and_the_connection_goes_on(fronts, head, body):
    for cut in range(len(body)):
        front = fronts()
        front.send(head + body[:cut])
        assert (front.state, front.written) == (State.DISCARDING, b"<POST /1>"), cut
        assert front.connection.in_flight
        front.send(body[cut:] + request(2))
        assert front.written == b"<POST /1><GET /2>", cut
        assert front.state is State.IDLE
        front.time.advance(KEEPALIVE - 1)  # it is idle for as long as any other
        await settle()
        assert not front.transport.closing


@FRAMES
async def test_a_body_that_nobody_wants_is_read_on_for_a_moment_only(fronts, head, body):
    front = fronts()
    front.send(head + body[:1])
    front.time.advance(DISCARD_SECONDS - 0.1)
    front.send(body[1:2])
    assert front.state is State.DISCARDING
    front.time.advance(0.1)
    assert front.state is State.LINGERING
    assert front.transport.ended
    front.send(body[2:] + PLAIN)
    assert front.written == b"<POST /1>"


async def test_of_a_body_that_is_dropped_nothing_is_held(fronts):
    front = fronts()
    front.send(request(1, f"Content-Length: {10 * READ_BUFFER}", method="POST"))
    for _ in range(10):
        assert front.transport.reading
        front.send(b"x" * READ_BUFFER)
    assert front.state is State.IDLE


MALFORMED_CHUNKS = {
    "a size": (b"x\r\n", BadRequest(MALFORMED)),
    "an end of a chunk": (b"1\r\nxyz\r\n0\r\n\r\n", BadRequest(MALFORMED)),
    "a trailer": (b"0\r\n" + b"X: " + FILL.encode() + END, HeadersTooLarge(TRAILER_TOO_LARGE)),
    "a trailer in small lines": (
        b"0\r\n" + b"".join(b"X-%d: x\r\n" % number for number in range(200)),
        HeadersTooLarge(TRAILER_TOO_LARGE),
    ),
    "a chunk, with more behind it than is looked at": (
        b"1\r\nxyz" + b"01\r\nx\r\n" * 2 * ROOM,
        BadRequest(MALFORMED),
    ),
    "nothing but framing": (b"1" + b";" + b"x" * (33 << 10), BadRequest(LITTLE_BUT_FRAMING)),
}
MALFORMED_BODIES = pytest.mark.parametrize(("body", "error"), MALFORMED_CHUNKS.values(), ids=MALFORMED_CHUNKS)
POST = FRAMED["chunks"][0]


@MALFORMED_BODIES
@pytest.mark.parametrize("together", [True, False])
async def test_who_reads_a_malformed_body_hears_of_it_and_the_connection_ends(fronts, body, error, together):
    front = fronts("callback")
    front.send(*([POST + body] if together else [POST, body]))
    with pytest.raises(AuthproxyError, match=error.detail) as caught:
        await read(front.answerer.requests[0])
    assert type(caught.value) is type(error)
    front.send(PLAIN)
    await answered(front)
    assert front.answerer.asked == ["POST /1"]
    assert front.state is State.LINGERING


@MALFORMED_BODIES
@pytest.mark.parametrize("first", [b"5\r\nhello", b"5\r\nhello\r", b"5\r\nhello\r\n"])
async def test_who_waits_for_more_of_a_body_hears_that_it_is_malformed(fronts, body, error, first):
    front = fronts("callback")
    front.send(POST + first)
    reading = asyncio.create_task(read(front.answerer.requests[0]))
    await settle()
    front.send((b"5\r\nhello\r\n" + body)[len(first) :])
    with pytest.raises(AuthproxyError, match=error.detail):
        async with asyncio.timeout(GUARD):
            await reading


@MALFORMED_BODIES
async def test_a_body_that_turns_out_malformed_after_the_answer_ends_the_connection(fronts, body, error):
    front = fronts()
    front.send(POST, body + PLAIN)
    assert front.written == b"<POST /1>"
    assert front.state is State.LINGERING


async def test_chunks_of_an_http_1_0_client_are_its_last(fronts):
    front = fronts("callback")
    head = POST.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host", b"Connection: keep-alive\r\nHost")
    front.send(head + CHUNKED + PLAIN)
    await answered(front)
    assert front.answerer.asked == ["POST /1"]
    assert front.state is State.LINGERING


# ── memory ───────────────────────────────────────────────────────────────────────────────────────


class Upload:
    """Sends a body in very many pieces, as far as it is let."""

    def __init__(self, front, piece, end, count=20_000):
        self.front, self.piece, self.end, self.left = front, piece, end, count

    def go_on(self):
        while self.front.transport.reading and self.left:
            self.front.send(self.piece)
            self.left -= 1
            if not self.left and self.end:
                self.front.send(self.end)


@pytest.mark.parametrize(
    ("framing", "piece", "end"),
    [("Content-Length: 20000", b"x", b""), ("Transfer-Encoding: chunked", b"1\r\nx\r\n", b"0\r\n\r\n")],
)
async def test_a_client_whose_upload_comes_in_tiny_pieces_waits_for_who_reads_it(fronts, framing, piece, end):
    front = fronts("callback")
    front.send(request(1, framing, method="POST"))
    upload = Upload(front, piece, end)
    upload.go_on()
    assert 20_000 - upload.left <= MAX_PIECES + 1
    reading = asyncio.create_task(read(front.answerer.requests[0]))
    while not reading.done():
        upload.go_on()
        await asyncio.sleep(0)
    assert await reading == b"x" * 20_000


async def test_a_client_waits_for_who_reads_its_body(fronts):
    front = fronts("callback")
    front.send(request(1, f"Content-Length: {20 * READ_BUFFER}", method="POST"))
    sent = 0
    while front.transport.reading:
        front.send(b"x" * (READ_BUFFER // 4))
        sent += 1
    assert 2 < sent <= 13
    assert front.answerer.requests[0].payload.read_nowait(-1) == b"x" * (sent * READ_BUFFER // 4)
    assert front.transport.reading


@pytest.mark.parametrize("way", ["callback", "task"])
@pytest.mark.parametrize(
    "pieces", [[b"x" * (MAX_UNREAD + 1)], [b"x"] * (MAX_PIECES + 1)], ids=["large", "many"]
)
async def test_a_body_that_came_whole_and_was_not_read_keeps_nobody_waiting(fronts, way, pieces):
    front = fronts(way)
    front.send(request(1, f"Content-Length: {len(b''.join(pieces))}", method="POST"))
    for piece in pieces:
        assert front.transport.reading
        front.send(piece)
    await answered(front)
    assert front.state is State.IDLE
    assert front.transport.reading
    front.send(request(2))
    await answered(front)
    assert front.written == b"<POST /1><GET /2>"


@pytest.mark.parametrize("way", ["callback", "task"])
async def test_who_asks_on_behind_a_body_that_was_not_read_is_answered(fronts, way):
    front = fronts(way)
    front.send(request(1, f"Content-Length: {MAX_UNREAD + 1}", method="POST"))
    front.send(b"x" * (MAX_UNREAD + 1) + request(2))
    await answered(front, 2)
    assert front.written == b"<POST /1><GET /2>"


SMALL_CHUNKS = [b"2\r\n%02d\r\n", b"02\r\n%02d\r\n", b"2;a=b\r\n%02d\r\n", b"10\r\n--------------%02d\r\n"]


@pytest.mark.parametrize("chunk", SMALL_CHUNKS)
async def test_small_chunks_that_come_at_once_are_parsed_bit_by_bit_and_in_order(fronts, chunk):
    front = fronts("callback")
    count = 20_000
    front.send(POST)
    front.send(b"".join(chunk % (number % 100) for number in range(count)) + b"0\r\n\r\n")
    payload = front.answerer.requests[0].payload
    assert not front.transport.reading
    assert len(payload._buffer) <= ROOM + 1
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(payload._buffer) <= MAX_PIECES + ROOM
    reading = asyncio.create_task(read(front.answerer.requests[0]))
    most, before = 0, payload.total_bytes
    while not payload.at_eof():
        await asyncio.sleep(0)
        most, before = max(most, payload.total_bytes - before), payload.total_bytes
    assert most <= ROOM * 64
    assert front.transport.reading
    said = b"".join(b"%02d" % (number % 100) for number in range(count))
    assert (await reading).replace(b"-", b"") == said


async def test_what_comes_while_small_chunks_have_yet_to_be_parsed_comes_behind_them(fronts):
    front = fronts("callback")
    front.send(POST, b"01\r\nx\r\n" * 2 * ROOM, b"1\r\ny\r\n0\r\n\r\n")
    assert await read(front.answerer.requests[0]) == b"x" * 2 * ROOM + b"y"


@pytest.mark.parametrize("leave", ["lost", "lingering"])
async def test_nothing_more_is_parsed_once_a_client_is_gone(fronts, leave):
    front = fronts("callback")
    front.send(POST, b"01\r\nx\r\n" * 5 * ROOM)
    payload = front.answerer.requests[0].payload
    came = payload.total_bytes
    if leave == "lost":
        front.connection.connection_lost(None)
    else:
        front.connection.linger(silent=False)
    await settle()
    assert payload.total_bytes == came
    assert leave == "lost" or front.transport.reading


async def test_small_chunks_that_are_still_ahead_when_the_answer_is_out_are_dropped_too(fronts):
    front = fronts("callback")
    front.send(POST, b"14\r\n" + b"x" * 20 + b"\r\n", b"01\r\nx\r\n" * (MAX_PIECES + 2 * ROOM) + b"0\r\n\r\n")
    for _ in range(9):
        await settle()
    assert not front.transport.reading
    await answered(front)
    for _ in range(9):
        await settle()
    assert (front.state, front.transport.reading) == (State.IDLE, True)
    front.time.advance(KEEPALIVE - 1)
    await settle()
    assert not front.transport.closing


async def test_the_last_of_a_body_that_is_dropped_with_the_answer_leaves_an_idle_connection(fronts):
    front = fronts("callback")
    front.send(POST)
    sent = 0
    while front.transport.reading:
        front.send(b"1\r\nx\r\n")
        sent += 1
    front.send(b"0\r\n\r\n")  # it was on its way, and waits
    assert not front.answerer.requests[0].payload.is_eof()
    await answered(front)
    assert front.state is State.IDLE
    front.time.advance(KEEPALIVE - 1)
    await settle()
    assert not front.transport.closing


async def test_a_client_that_asks_for_very_much_ahead_has_to_wait(fronts):
    front = fronts("callback")
    pieces = request(2) * (READ_BUFFER // len(request(2)))
    front.send(PLAIN, pieces)
    assert front.transport.reading
    front.send(request(3) * 9)
    assert not front.transport.reading
    asked = 0
    while not front.transport.reading:
        asked += 1
        front.answerer.answer()
    assert asked < 20
    front.answerer.way = "at once"
    front.answerer.answer()
    assert len(front.answerer.requests) == 1 + READ_BUFFER // len(request(2)) + 9
    assert front.transport.reading


# ── a client that does not read ──────────────────────────────────────────────────────────────────


async def test_nothing_is_begun_for_a_client_that_does_not_read(fronts):
    front = fronts()
    front.connection.pause_writing()
    front.transport.untaken = 9
    front.send(request(1), request(2))
    await settle()
    assert front.answerer.asked == []
    front.connection.resume_writing()
    await settle()
    assert front.written == b"<GET /1><GET /2>"


async def test_a_client_that_does_not_read_may_go_on_with_what_it_has_begun(fronts):
    front = fronts("callback")
    front.send(POST)
    front.connection.pause_writing()
    front.send(CHUNKED)
    assert await read(front.answerer.requests[0]) == BODY


async def test_a_request_that_comes_when_a_client_has_just_begun_to_read_is_begun_once(fronts):
    front = fronts("task")
    front.connection.pause_writing()
    front.send(request(1))
    await settle()
    front.connection.resume_writing()
    front.send(request(2))  # before anybody who waits has noticed
    await settle()
    assert front.answerer.asked == ["GET /1"]
    await front.leave()
    assert len(front.answerer.cancelled) == 1
    assert front.answerer.lost_ones == []


async def test_a_client_that_asks_for_more_and_reads_nothing_is_cut_off(fronts, monkeypatch):
    monkeypatch.setattr(module, "UNREAD_SECONDS", 0)
    front = fronts()
    front.connection.pause_writing()
    front.transport.untaken = 9
    front.send(PLAIN)
    async with asyncio.timeout(5):
        while not front.transport.aborted:
            await asyncio.sleep(0)
    await settle()
    assert front.answerer.asked == []
    assert front.state is State.CLOSED


@pytest.mark.parametrize("takes", [True, False])
async def test_who_waits_for_a_client_to_read_goes_on_or_hears_that_it_is_gone(fronts, takes):
    front = fronts("callback")
    await front.connection.drained(0)  # nothing is to be waited for
    front.connection.pause_writing()
    waiting = [asyncio.create_task(front.connection.drained(60)) for _ in range(2)]
    await settle()
    assert not any(each.done() for each in waiting)
    if takes:
        front.connection.resume_writing()
        await asyncio.gather(*waiting)
    else:
        front.transport.close()
        for each in waiting:
            with pytest.raises(ConnectionResetError):
                await each


async def test_a_client_that_takes_a_little_is_slow_but_not_stalled(fronts):
    front = fronts()
    front.connection.pause_writing()
    left = iter([9, 8, 8, 7, 7, 7])
    front.transport.get_write_buffer_size = lambda: next(left)
    with pytest.raises(ConnectionAbortedError, match="took nothing for 0 s"):
        await front.connection.drained(0)
    assert front.transport.aborted
    assert list(left) == []


# ── every state ──────────────────────────────────────────────────────────────────────────────────


def unread(front):
    front.send(PLAIN)
    front.connection.pause_writing()
    front.send(PLAIN)


def tunnelled(front):
    front.send(ODD["an upgrade"][0] + b"ahead")
    front.upstream = Transport()
    front.tunnel = Tunnel(front.transport, front.upstream, 60)
    front.connection.join(front.tunnel)


STATES = {
    "new": (State.IDLE, "at once", lambda front: None),
    "idle": (State.IDLE, "at once", lambda front: front.send(PLAIN)),
    "a client that does not read": (State.IDLE, "at once", unread),
    "a plain head": (State.HEAD, "at once", lambda front: front.send(PLAIN[:9])),
    "a head in the parser": (State.HEAD, "at once", lambda front: front.send(b"PURGE / HT")),
    "a method": (State.HEAD, "at once", lambda front: front.send(b"PUR")),
    "sent": (State.BUSY, "callback", lambda front: front.send(PLAIN)),
    "sent, with a body to come": (State.BUSY, "callback", lambda front: front.send(POST)),
    "a task": (State.BUSY, "task", lambda front: front.send(PLAIN)),
    "discarding": (State.DISCARDING, "at once", lambda front: front.send(POST)),
    "a tunnel": (State.TUNNEL, "task", tunnelled),
    "lingering": (State.LINGERING, "at once", lambda front: front.send(b"?" + END)),
}
EVERY = pytest.mark.parametrize("name", STATES)


@pytest.fixture
async def brought(fronts):
    async def bring(name):
        state, way, lead = STATES[name]
        front = fronts(way)
        lead(front)
        assert front.state is state
        await settle()
        return front

    return bring


@EVERY
async def test_what_the_server_is_told_of_each_state(brought, name):
    front = await brought(name)
    state = STATES[name][0]
    assert front.connection.in_flight is (state not in {State.IDLE, State.LINGERING})
    assert front.connection.in_tunnel is (state is State.TUNNEL)
    assert front.connection.leaving is (state is State.LINGERING)
    assert repr(front.connection) == f"<ClientConnection {state.name.lower()}>"
    assert front.connection.connected
    assert not front.connection.draining


@EVERY
async def test_a_client_that_goes_takes_its_request_along(brought, name):
    front = await brought(name)
    requests = list(front.answerer.requests)
    front.connection.connection_lost(None)
    await settle()
    assert front.state is State.CLOSED
    assert not front.connection.connected
    assert front.answerer.lost_ones == (requests if name.startswith("sent") else [])
    assert front.answerer.cancelled == (requests if name in {"a task", "a tunnel"} else [])
    assert list(front.server.connections) == []
    assert front.time.timers == [] or all(each.cancelled() for each in front.time.timers)


@EVERY
async def test_whatever_comes_after_the_end_changes_nothing(brought, name):
    front = await brought(name)
    front.connection.connection_lost(None)
    await settle()
    counts = len(front.answerer.lost_ones), len(front.answerer.cancelled)
    written = front.written
    front.connection.answered(keep_alive=True)  # an answer that was on its way
    front.connection.proceed(object())
    front.connection.resume_reading()
    front.connection.pause_reading()
    front.connection.resume_writing()
    front.connection.linger(silent=False)
    front.connection.force_close()
    front.connection.refuse(Forbidden("no"))
    front.time.advance(1000)
    await settle()
    assert front.state is State.CLOSED
    assert front.written == written
    assert (len(front.answerer.lost_ones), len(front.answerer.cancelled)) == counts


@pytest.mark.parametrize("end", ["lost", "shutdown", "closed"])
async def test_a_task_that_has_not_begun_takes_its_request_along_too(fronts, end):
    front = fronts("task")
    front.send(PLAIN)
    if end == "lost":
        front.connection.connection_lost(None)
    elif end == "shutdown":
        await front.connection.shutdown(5)
    else:
        front.connection.force_close()
    await settle()
    assert front.answerer.lost_ones == front.answerer.requests
    assert front.answerer.cancelled == []


@pytest.mark.parametrize("name", ["sent, with a body to come", "discarding"])
async def test_a_client_that_is_gone_ends_the_body_for_who_reads_it(brought, name):
    front = await brought(name)
    front.transport.close()
    await settle()
    with pytest.raises(ConnectionResetError):
        await front.answerer.requests[0].payload.read()


@EVERY
async def test_a_client_that_ends_its_half_has_no_more_to_get_but_in_a_tunnel(brought, name):
    front = await brought(name)
    assert front.connection.eof_received() is (name == "a tunnel")  # else the transport closes
    if name == "a tunnel":
        assert front.upstream.ended
        assert not front.transport.closing


@EVERY
async def test_a_shutdown_breaks_off_whatever_there_is(brought, name):
    front = await brought(name)
    requests = list(front.answerer.requests)
    await front.connection.shutdown(5)
    assert front.transport.closing
    await settle()
    assert front.state is State.CLOSED
    assert front.answerer.lost_ones == (requests if name.startswith("sent") else [])
    assert front.answerer.cancelled == (requests if name in {"a task", "a tunnel"} else [])
    await front.connection.shutdown(5)  # a second one finds nothing


@EVERY
async def test_a_drain_makes_what_is_under_way_the_last(brought, name):
    front = await brought(name)
    front.server.draining = True
    front.server.wind_down(lambda each: each is front.connection)
    if STATES[name][0] in {State.TUNNEL, State.LINGERING}:
        return
    assert front.connection.draining
    if name in {"new", "idle"}:
        front.send(PLAIN)
    elif name == "a client that does not read":
        front.connection.resume_writing()
        await settle()
    elif name == "a plain head":
        front.send(PLAIN[9:])
    elif name == "a head in the parser":
        front.send(b"TP/1.1\r\nHost: a" + END)
    elif name == "a method":
        front.send(b"GE / HTTP/1.1\r\nHost: a" + END)
    elif name == "discarding":
        front.send(CHUNKED + PLAIN)
    else:
        front.send(CHUNKED if name == "sent, with a body to come" else b"", request(2))
        await answered(front)
    assert front.written.endswith(b"<close>")
    assert front.state is State.LINGERING
    assert "GET /2" not in front.answerer.asked


@EVERY
async def test_a_client_that_takes_nothing_and_takes_more_again(brought, name):
    front = await brought(name)
    front.connection.pause_writing()
    assert front.connection.writing_paused
    assert name != "a tunnel" or not front.upstream.reading
    front.connection.resume_writing()
    assert not front.connection.writing_paused
    assert name != "a tunnel" or front.upstream.reading


@EVERY
async def test_a_client_can_be_refused_as_long_as_it_is_there(brought, name):
    front = await brought(name)
    before = front.state
    front.connection.refuse(Forbidden("no"))
    assert b"HTTP/1.1 403 " in front.written
    assert front.state is State.LINGERING
    assert front.transport.ended
    assert [type(each) for each in front.answerer.refusals[-1:]] == [Forbidden]
    assert before is not State.BUSY or front.answerer.lost_ones == []


# ── time ─────────────────────────────────────────────────────────────────────────────────────────

FOREVER = 10_000
IN_TIME = {
    "new": (HEADER_SECONDS, "closed"),
    "idle": (KEEPALIVE, "closed"),
    "a plain head": (HEADER_SECONDS, 408),
    "a head in the parser": (HEADER_SECONDS, 408),
    "a method": (HEADER_SECONDS, 408),
    "sent": (FOREVER, None),
    "sent, with a body to come": (FOREVER, None),
    "a task": (FOREVER, None),
    "discarding": (DISCARD_SECONDS, "lingering"),
    "a tunnel": (FOREVER, None),
}


@pytest.mark.parametrize("name", IN_TIME)
async def test_what_time_does_in_each_state(brought, name):
    front = await brought(name)
    seconds, outcome = IN_TIME[name]
    before = front.state, front.written
    front.time.advance(seconds - 0.01)
    assert (front.state, front.written) == before
    assert not front.transport.closing
    front.time.advance(0.01)
    if outcome is None:
        assert (front.state, front.written) == before
    elif outcome == "closed":
        assert (front.transport.closing, front.written) == (True, before[1])
    else:
        assert front.state is State.LINGERING
        assert front.written.startswith(b"HTTP/1.1 408 " if outcome == 408 else b"<POST /1>")
        assert not front.transport.closing
    await settle()
    front.time.advance(FOREVER)  # nothing happens twice
    assert front.written.count(b"HTTP/1.1") == (outcome == 408)


async def test_a_timer_of_before_does_not_fire_while_a_request_is_answered(fronts):
    front = fronts("callback")
    front.send(PLAIN)
    front.time.advance(FOREVER)
    await answered(front)
    assert front.state is State.IDLE
    front.time.advance(KEEPALIVE - 1)
    front.send(PLAIN)
    front.time.advance(2)
    await settle()
    assert not front.transport.closing
    await answered(front)
    front.time.advance(KEEPALIVE - 0.01)
    assert not front.transport.closing
    front.time.advance(0.01)
    assert front.transport.closing


async def test_the_head_of_each_request_has_its_own_time(fronts):
    front = fronts()
    for _ in range(3):
        front.send(PLAIN)
        front.time.advance(KEEPALIVE - 1)
        front.send(PLAIN[:9])
        front.time.advance(HEADER_SECONDS - 1)
        front.send(PLAIN[9:])
    assert front.written == b"<GET /1>" * 6
    front.send(PLAIN[:6])
    for _ in range(HEADER_SECONDS):  # it does not help to send a little now and then
        front.send(b"a")
        front.time.advance(1)
    assert front.state is State.LINGERING
    assert b"HTTP/1.1 408 " in front.written


@pytest.mark.parametrize("before", [0, 2])
async def test_a_method_that_trickles_in_is_no_exception(fronts, before):
    front = fronts()
    for _ in range(before):
        front.send(PLAIN)
    for _ in range(HEADER_SECONDS):
        front.send(b"A")
        front.time.advance(1)
    assert front.state is State.LINGERING
    assert b"HTTP/1.1 408 " in front.written


async def test_the_first_head_has_to_come_in_time_from_the_start(fronts):
    front = fronts()
    front.time.advance(HEADER_SECONDS - 1)
    front.send(PLAIN[:9])
    front.time.advance(1)
    assert b"HTTP/1.1 408 " in front.written


async def test_a_head_that_waited_behind_a_slow_answer_gets_all_of_its_time(fronts):
    front = fronts("callback")
    front.send(PLAIN, PLAIN[:9])
    front.time.advance(FOREVER)
    await answered(front)
    assert front.state is State.HEAD
    front.time.advance(HEADER_SECONDS - 1)
    front.send(PLAIN[9:])
    assert len(front.answerer.requests) == 2


async def test_empty_lines_are_no_head_and_keep_nobody_here(fronts):
    front = fronts()
    front.send(PLAIN, b"\r\n")
    assert front.state is State.IDLE
    front.time.advance(KEEPALIVE)
    assert front.transport.closing


async def test_a_connection_has_one_timer_however_many_it_asks(fronts):
    front = fronts()
    for _ in range(100):
        front.send(PLAIN)
    assert len([each for each in front.time.timers if not each.cancelled()]) == 1


# ── the end of a connection ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_says_it_is_its_last_request_is_just_closed(fronts, way):
    front = fronts(way)
    front.send(request(1, "Connection: close"))
    await answered(front)
    assert front.written == b"<GET /1><close>"
    assert front.transport.closing
    assert not front.transport.ended


@FRAMES
async def test_a_last_request_whose_body_is_still_coming_is_seen_off(fronts, head, body):
    front = fronts()
    front.send(head.replace(b"Host", b"Connection: close\r\nHost") + body[:3])
    assert front.written == b"<POST /1><close>"
    assert front.state is State.LINGERING
    assert front.transport.ended
    front.send(body[3:] + PLAIN)
    assert front.written == b"<POST /1><close>"


async def test_an_answer_that_is_the_last_drops_what_was_asked_behind_it(fronts):
    front = fronts("callback")
    front.send(request(1) + request(2))
    front.connection.answered(keep_alive=False)
    assert front.answerer.asked == ["GET /1"]
    assert front.state is State.LINGERING
    await settle()
    assert front.answerer.asked == ["GET /1"]


async def test_who_leaves_while_it_has_to_wait_is_read_on_so_that_its_end_is_seen(fronts):
    front = fronts("callback")
    front.send(PLAIN, request(2) * (READ_BUFFER // 20))
    assert not front.transport.reading
    front.connection.answered(keep_alive=False)
    assert front.transport.reading


# ── another protocol ─────────────────────────────────────────────────────────────────────────────


async def test_a_tunnel_gets_what_came_ahead_and_all_that_comes(brought):
    front = await brought("a tunnel")
    assert front.upstream.written == b"ahead"
    front.send(b" and", b" after")
    assert front.upstream.written == b"ahead and after"
    assert front.answerer.asked == ["GET /1"]
    front.tunnel.feed("upstream", b"back")
    assert front.written == b"back"


async def test_what_comes_on_after_the_answer_of_a_switch_is_not_read_as_http(brought):
    front = await brought("a tunnel")
    front.send(PLAIN, b"\x00" * 9)
    assert front.upstream.written == b"ahead" + PLAIN + b"\x00" * 9
    front.tunnel.end("upstream")
    front.answerer.may_finish.set()
    await settle()
    assert front.state is State.LINGERING


async def test_a_tunnel_can_be_ended_and_both_sides_hear_of_it(brought, fronts, monkeypatch):
    monkeypatch.setattr("authproxy.net.tunnel.QUIET", 0.05)
    front = await brought("a tunnel")
    front.connection.end_tunnel()
    await front.tunnel.closed()
    assert front.transport.ended
    assert front.upstream.ended
    fronts().connection.end_tunnel()  # nothing is there to end


async def test_a_client_that_had_to_wait_is_read_on_in_a_tunnel(fronts):
    front = fronts("task")
    front.send(ODD["an upgrade"][0], b"x" * (READ_BUFFER + 1))
    assert not front.transport.reading
    upstream = Transport()
    front.connection.join(Tunnel(front.transport, upstream, 60))
    assert front.transport.reading
    assert len(upstream.written) == READ_BUFFER + 1


async def test_a_client_that_had_to_wait_waits_on_for_a_tunnel_that_takes_no_more(fronts):
    front = fronts("task")
    front.send(ODD["an upgrade"][0], b"x" * (READ_BUFFER + 1))
    upstream = Transport()
    tunnel = Tunnel(front.transport, upstream, 60)
    upstream.write = lambda _data: tunnel.pause("upstream")
    front.connection.join(tunnel)
    assert not front.transport.reading


# ── whatever comes, in whatever pieces ───────────────────────────────────────────────────────────

SMALL = b"".join(b"1%b\r\nx\r\n" % (b";a" * (number % 2)) for number in range(1500)) + b"0\r\n\r\n"
TALK = [
    *WHOLE.values(),
    *((head + body, "POST /1") for head, body in FRAMED.values()),
    (POST + SMALL, "POST /1"),
    (request(1, "Content-Length: 90000", method="PUT", body=b"y" * 90_000), "PUT /1"),
    (request(1, "Content-Length: 0", method="PUT"), "PUT /1"),
]
STEPS = st.lists(st.sampled_from(["answer", "read", "pause", "resume", "settle", "send"]), max_size=40)


class Talk:
    """Requests that are sent in pieces, and what a client and we can do between two of them."""

    def __init__(self, way, reads_plainly, asked, cuts):
        self.front = Front(way, reads_plainly=reads_plainly)
        self.way = way
        data = b"".join(piece for piece, _ in asked)
        edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
        self.pieces = [data[start:end] for start, end in pairwise(edges) if start != end]

    def send(self):
        if self.pieces and self.front.transport.reading:
            self.front.send(self.pieces.pop(0))

    def answer(self):
        if self.way == "callback" and self.front.state is State.BUSY:
            self.front.answerer.answer()
        self.front.answerer.may_finish.set()

    def read(self):
        if self.front.state is State.BUSY:
            self.front.answerer.requests[-1].payload.read_nowait(-1)

    async def go(self, steps):
        for step in steps:
            match step:
                case "settle":
                    await asyncio.sleep(0)
                case "pause":
                    self.front.connection.pause_writing()
                case "resume":
                    self.front.connection.resume_writing()
                case _:
                    getattr(self, step)()

    @property
    def is_over(self):
        return not self.pieces and self.front.state is State.IDLE and not self.front.connection._ahead


async def talk(*what, steps):
    """Send requests in pieces, with something between two of them each; return what was answered."""
    here = Talk(*what)
    front = here.front
    await here.go(steps)
    for _ in range(5000):
        if here.is_over:
            break
        await here.go(["resume", "send", "answer", "settle"])
    front.time.advance(KEEPALIVE - 1)
    assert not front.transport.closing
    assert front.transport.reading
    assert repr(front.connection) == "<ClientConnection idle>"
    front.time.advance(1)
    await front.leave()
    assert (front.answerer.lost_ones, front.answerer.cancelled) == ([], [])
    return front.written


@settings(deadline=None, max_examples=examples(150))
@given(
    way=st.sampled_from(WAYS),
    plainly=st.booleans(),
    asked=st.lists(st.sampled_from(TALK), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=12),
    steps=STEPS,
)
def test_whatever_comes_in_whatever_pieces_is_answered_once_and_in_its_order(
    way, plainly, asked, cuts, steps
):
    asked = [each for each in asked if each[0].isascii()]
    assume(asked)
    said = "".join(f"<{line}>" for _, line in asked).encode()
    assert asyncio.run(talk(way, plainly, asked, cuts, steps=steps)) == said


async def leave_amid(*what, steps, leave):
    """Talk, and go away at some point; return all requests, those that were broken off, and the answers."""
    here = Talk(*what)
    front = here.front
    await here.go(steps)
    if leave == "shutdown":
        await front.connection.shutdown(1)
    elif leave == "closed":
        front.connection.force_close()
    else:
        front.connection.connection_lost(None)
    await settle()
    assert front.state is State.CLOSED
    front.time.advance(FOREVER)
    return (
        front.answerer.requests,
        [*front.answerer.lost_ones, *front.answerer.cancelled],
        front.written.count(b"<"),
    )


@settings(deadline=None, max_examples=examples(150))
@given(
    way=st.sampled_from(WAYS),
    plainly=st.booleans(),
    asked=st.lists(st.sampled_from(TALK), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=12),
    steps=STEPS,
    leave=st.sampled_from(["lost", "shutdown", "closed"]),
)
def test_whenever_a_client_goes_each_request_is_answered_or_broken_off_once(
    way, plainly, asked, cuts, steps, leave
):
    requests, told, answers = asyncio.run(leave_amid(way, plainly, asked, cuts, steps=steps, leave=leave))
    assert len(requests) == answers + len(told)
    assert len({id(each) for each in told}) == len(told)
