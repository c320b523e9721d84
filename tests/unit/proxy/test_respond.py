"""Answers as they are written to the client, and whether its connection goes on."""

import asyncio
import json
import socket
import struct

import pytest
from aiohttp.http import HttpVersion10, HttpVersion11
from multidict import CIMultiDict

from authproxy.errors import (
    BadReply,
    BadRequest,
    BodyTooLarge,
    ConnectionLimit,
    Forbidden,
    NoRoute,
    RequestTimeout,
)
from authproxy.proxy import respond
from authproxy.proxy.rewrite import Rewriting
from tests.support.clock import settle

from .answering import PAGE, PLAIN, context, odd, plain, route, written

# ── a reply that is all there ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("parts", [[b"yes"], [b"y", b"es"], [b"y", b"e", b"s"]])
def test_a_reply_that_is_all_there_goes_out_in_one_write(parts):
    asked, reply = context(), plain(body=b"")
    reply.parts = parts
    writes = []
    asked.request.connection.transport.write = writes.append
    assert respond.send_whole(asked, asked.route, reply) is True
    assert writes == [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nServer: x\r\n\r\nyes"]
    assert (asked.answer_begun, asked.status, asked.sent) == (True, 200, 3)


FRAMES = [
    # status, length, method, version, wants to go on, draining ─▶ lines, body, goes on, framed
    (200, 3, "GET", HttpVersion11, True, False, [], b"yes", True, True),
    (200, 3, "GET", HttpVersion11, False, False, ["Connection: close"], b"yes", False, True),
    (200, 3, "GET", HttpVersion11, True, True, ["Connection: close"], b"yes", False, True),
    (200, 3, "GET", HttpVersion10, True, False, ["Connection: keep-alive"], b"yes", True, True),
    (200, 3, "GET", HttpVersion10, False, False, ["Connection: close"], b"yes", False, True),
    (200, None, "GET", HttpVersion11, True, False, ["Transfer-Encoding: chunked"], b"3\r\nyes\r\n0\r\n\r\n",
     True, True),
    (200, None, "GET", HttpVersion11, False, False, ["Transfer-Encoding: chunked", "Connection: close"],
     b"3\r\nyes\r\n0\r\n\r\n", False, True),
    (200, None, "GET", HttpVersion10, True, False, ["Connection: close"], b"yes", False, False),
    (200, None, "HEAD", HttpVersion11, True, False, [], b"", True, True),
    (200, 3, "HEAD", HttpVersion11, True, False, [], b"", True, True),
    (204, None, "GET", HttpVersion11, True, False, [], b"", True, True),
    (304, None, "GET", HttpVersion11, True, False, [], b"", True, True),
    (204, None, "GET", HttpVersion10, True, False, ["Connection: keep-alive"], b"", True, True),
]  # fmt: skip


@pytest.mark.parametrize("reads", ["plainly", "by the parser"])
@pytest.mark.parametrize("sends", ["whole", "stream"])
@pytest.mark.parametrize("row", FRAMES)
async def test_how_an_answer_is_framed_and_whether_the_connection_goes_on(reads, sends, row):
    status, length, method, version, wants, draining, lines, body, goes_on, framed = row
    said = b"yes" if body else b""
    if reads == "plainly":
        frame = b"\r\nContent-Length: %d" % length if length is not None else b""
        reply = plain(b"HTTP/1.1 %d Fine\r\nServer: x" % status + frame, said)
        own = ["Server: x", *(["Content-Length: 3"] if length else [])]
    else:
        reply, own = odd(status, (b"Server", b"x"), body=said, length=length), ["Server: x"]
    asked = context(method=method, version=version, keep_alive=wants)
    asked.request.connection.draining = draining
    if sends == "whole":
        assert respond.send_whole(asked, asked.route, reply) is goes_on
    else:
        assert await respond.stream(asked, asked.route, reply) is goes_on
    if sends == "stream" and lines[:1] == ["Transfer-Encoding: chunked"]:
        assert body.startswith(b"3\r\nyes")
    assert written(asked) == ([f"HTTP/1.1 {status} Fine", *own, *lines], body)
    assert (asked.framed, asked.status, asked.sent) == (framed, status, len(said))


@pytest.mark.parametrize("reply", [plain(b"HTTP/1.1 204 No\r\nContent-Length: 0\r\nX: 1", b""),
                                   odd(204, (b"content-length", b"0"), (b"X", b"1"), body=b"")])  # fmt: skip
def test_a_204_has_no_length(reply):
    asked = context()
    respond.send_whole(asked, asked.route, reply)
    assert written(asked)[0][1:] == ["X: 1"]


def test_an_empty_body_of_unknown_length_is_the_last_chunk_only():
    asked = context()
    respond.send_whole(asked, asked.route, odd(body=b"", length=None))
    assert written(asked)[1] == b"0\r\n\r\n"


@pytest.mark.parametrize("reply", [plain(), odd(200, (b"Vary", b"Accept"))])
def test_a_page_that_may_ask_may_read(reply):
    asked = context(origin=PAGE)
    respond.send_whole(asked, asked.route, reply)
    assert f"Access-Control-Allow-Origin: {PAGE}" in written(asked)[0]
    assert "Vary: Origin" in written(asked)[0]


def test_to_a_client_that_is_gone_nothing_is_sent():
    asked = context()
    asked.request.connection.transport = None
    assert respond.send_whole(asked, asked.route, plain()) is False
    assert (asked.cause, asked.answer_begun) == (respond.CLIENT_GONE, False)


@pytest.mark.parametrize("reply", [plain(PLAIN + b"\r\nLocation: /x"), odd(200, (b"Location", b"/x"))])
def test_a_header_that_cannot_be_passed_on_is_the_upstream_s_fault(monkeypatch, reply):
    def fails(*_):
        raise ValueError("s3cr3t")

    monkeypatch.setattr(Rewriting, "value", fails)
    asked = context()
    asked.route = route(rewriting=Rewriting("https://api.example", base="", path="/", strip=""))
    with pytest.raises(BadReply, match="the upstream sent a header that cannot be passed on"):
        respond.send_whole(asked, asked.route, reply)
    assert asked.request.connection.transport.written == b""


# ── a body that is changed ───────────────────────────────────────────────────────────────────────


class Doubling:
    """Stands in for what changes bodies: holds what is in capitals back, and doubles the rest."""

    def __init__(self):
        self.held = b""

    def begin(self, _context, reply):
        if reply.status != 200:
            return None
        reply.headers, reply.plain, reply.length = [(b"Server", b"x")], None, None
        return self

    def feed(self, data):
        if data.isupper():
            self.held += data
            return b""
        held, self.held = self.held, b""
        return held + data * 2

    def end(self):
        held, self.held = self.held, b""
        return held


@pytest.mark.parametrize("make", [plain, odd])
def test_a_whole_body_that_is_changed_goes_out_in_chunks_as_nobody_knows_its_length(make):
    asked, sends = context(), route(bodies=Doubling())
    assert respond.send_whole(asked, sends, make()) is True
    lines, body = written(asked)
    assert lines[1:] == ["Server: x", "Transfer-Encoding: chunked"]
    assert (body, asked.sent) == (b"6\r\nyesyes\r\n0\r\n\r\n", 6)
    asked = context(version=HttpVersion10)
    assert respond.send_whole(asked, sends, make()) is False
    assert written(asked)[1] == b"yesyes"
    asked = context(method="HEAD")
    assert respond.send_whole(asked, sends, make(body=b"")) is True
    assert (written(asked)[0][1:], written(asked)[1]) == (["Server: x"], b"")


def test_one_that_is_left_alone_goes_as_it_is():
    asked = context()
    respond.send_whole(asked, route(bodies=Doubling()), plain(b"HTTP/1.1 201 Made\r\nContent-Length: 3"))
    assert written(asked) == (["HTTP/1.1 201 Made", "Content-Length: 3"], b"yes")


async def test_a_body_is_changed_as_it_arrives_and_what_is_held_comes_last():
    asked, reply = context(), odd(body=b"", length=9, end=False)
    sending = asyncio.create_task(respond.stream(asked, route(bodies=Doubling()), reply))
    expected = b""
    for piece, more in [(b"a", b"2\r\naa\r\n"), (b"B", b""), (b"c", b"3\r\nBcc\r\n"), (b"D", b"")]:
        reply.feed(piece)
        await settle()
        expected += more
        assert written(asked)[1] == expected  # an empty chunk would be the last one
    reply.end()
    assert await sending is True
    assert written(asked)[1] == expected + b"1\r\nD\r\n0\r\n\r\n"
    assert asked.sent == 6


# ── a reply that is still coming ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("length", "body"), [(6, [b"yes", b"sir"]), (None, [b"3\r\nyes\r\n", b"3\r\nsir\r\n", b"0\r\n\r\n"])]
)
async def test_a_reply_is_passed_on_as_it_arrives(length, body):
    asked, reply = context(), odd(body=b"", length=length, end=False)
    sending = asyncio.create_task(respond.stream(asked, asked.route, reply))
    await settle()
    assert asked.answer_begun  # the head does not wait
    for number, piece in enumerate([b"yes", b"sir"], 1):
        reply.feed(piece)
        await settle()
        assert written(asked)[1] == b"".join(body[:number])
        assert asked.sent == 3 * number
    reply.end()
    assert await sending is True
    assert written(asked)[1] == b"".join(body)


async def test_no_faster_than_the_client_takes_it_and_what_is_not_taken_is_not_sent():
    asked, reply = context(), odd(length=6, end=False)
    connection = asked.request.connection
    connection.writing_paused, connection.transport.untaken = True, 2
    sent = []

    async def drained(seconds):
        sent.append((seconds, asked.sent))
        connection.writing_paused = False

    connection.drained = drained
    sending = asyncio.create_task(respond.stream(asked, asked.route, reply))
    await settle()
    assert sent == [(77, 1)]
    assert asked.sent == 3
    reply.end()
    assert await sending is True


@pytest.mark.parametrize("when", ["before", "amid"])
async def test_a_client_that_goes_ends_it(when):
    asked, reply = context(), odd(body=b"", length=6, end=False)
    if when == "before":
        asked.request.connection.transport = None
    sending = asyncio.create_task(respond.stream(asked, asked.route, reply))
    await settle()
    asked.request.connection.transport = None
    reply.feed(b"yes")
    with pytest.raises(ConnectionResetError):
        await sending
    assert asked.sent == 0


async def test_a_reply_that_breaks_off_ends_it():
    asked, reply = context(), odd(length=6, end=False)
    reply.end(BadReply("gone"))
    with pytest.raises(BadReply, match="gone"):
        await respond.stream(asked, asked.route, reply)
    assert asked.sent == 3


# ── our own word ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "request_", "goes_on"),
    [
        (Forbidden("no"), {}, True),
        (NoRoute("no"), {}, True),
        (BadReply("no"), {}, True),
        (Forbidden("no"), {"keep_alive": False}, False),
        (Forbidden("no"), {"method": "CONNECT"}, False),
        (Forbidden("no"), {"whole": False}, True),
        (BodyTooLarge("no"), {}, False),
        (RequestTimeout("no"), {}, False),
        (BadRequest("no"), {}, False),
    ],
)
def test_what_went_wrong_is_said_and_whether_the_connection_goes_on(error, request_, goes_on):
    asked = context(**request_)
    assert respond.can_answer(asked)
    assert respond.send_problem(asked, error) is goes_on
    head, body = written(asked)
    assert head[0].startswith(f"HTTP/1.1 {error.status} ")
    assert ("Connection: close" in head) is not goes_on
    assert json.loads(body)["detail"] == "no"
    assert (asked.status, asked.sent, asked.cause) == (error.status, len(body), "no")
    assert not respond.can_answer(asked)


def test_a_head_is_told_without_a_body_and_a_page_may_read_why():
    asked = context(method="HEAD", origin=PAGE)
    respond.send_problem(asked, Forbidden("no"))
    head, body = written(asked)
    assert (body, asked.sent) == (b"", 0)
    assert f"Access-Control-Allow-Origin: {PAGE}" in head


@pytest.mark.parametrize("gone", ["gone", "closing"])
def test_who_is_gone_is_told_nothing(gone):
    asked = context()
    transport = asked.request.connection.transport
    if gone == "gone":
        asked.request.connection.transport = None
    else:
        transport.closing = True
    assert not respond.can_answer(asked)
    assert respond.send_problem(asked, Forbidden("no")) is False
    assert (transport.written, asked.cause, asked.status) == (b"", respond.CLIENT_GONE, 0)


@pytest.mark.parametrize(
    ("error", "cause"), [(BadReply("it broke off"), "it broke off"), (RuntimeError("s3cr3t"), "RuntimeError")]
)
@pytest.mark.parametrize("framed", [True, False])
def test_an_answer_that_has_begun_is_cut_short_and_never_looks_whole(error, cause, framed, caplog):
    asked = context()
    asked.answering(200, 3)
    asked.framed = framed
    assert not respond.can_answer(asked)
    assert respond.send_problem(asked, error) is False
    transport = asked.request.connection.transport
    assert (transport.written, transport.closing) == (b"", True)
    reset = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert transport.options == ([] if framed else [reset])
    assert (asked.status, asked.sent, asked.cause) == (200, 3, cause)
    [record] = caplog.records
    assert record.getMessage() == "answer broken off"
    assert record.facts == {"route": "api", "cause": cause}


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("wanted", ["", "X-Key, X-A"])
def test_a_preflight_is_answered_with_what_it_asks_for(keep_alive, wanted):
    more = {"Access_Control_Request_Headers": wanted} if wanted else {}
    asked = context(
        method="OPTIONS", keep_alive=keep_alive, Access_Control_Request_Method="PUT", **more
    )  # fmt: skip
    assert respond.send_preflight(asked, PAGE) is keep_alive
    head, body = written(asked)
    assert (head[0], body, asked.status) == ("HTTP/1.1 204 No Content", b"", 204)
    lines = {
        "Access-Control-Allow-Methods: PUT",
        f"Access-Control-Allow-Origin: {PAGE}",
        "Access-Control-Max-Age: 600",
        "Vary: Origin",
    }
    lines |= {f"Access-Control-Allow-Headers: {wanted}"} if wanted else set()
    lines |= set() if keep_alive else {"Connection: close"}
    assert lines <= set(head[1:])
    assert wanted or not any("Allow-Headers" in line for line in head)


def test_a_preflight_of_who_is_gone_is_not_answered():
    asked = context(method="OPTIONS", Access_Control_Request_Method="PUT")
    asked.request.connection.transport = None
    respond.send_preflight(asked, PAGE)
    assert asked.status == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BadRequest("x"), "bad_request"),
        (NoRoute("x"), "no_route"),
        (ConnectionLimit("x"), "connection_limit"),
    ],
)
def test_a_refusal_is_counted_by_its_kind(error, reason):
    assert respond.reason_of(error) == reason


# ── what a request wants ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "version", "expects"),
    [("100-continue", HttpVersion11, True), ("100-Continue", HttpVersion11, True),
     ("100-continue", HttpVersion10, False), ("a miracle", HttpVersion10, False)],
)  # fmt: skip
def test_who_waits_for_a_100(value, version, expects):
    assert respond.expects_continue(context(version=version, Expect=value).request) is expects


@pytest.mark.parametrize("values", [["a miracle"], ["100-continue", "more"], [""]])
def test_another_expectation_is_400(values):
    request = context().request
    request.headers = CIMultiDict([("Expect", value) for value in values])
    with pytest.raises(BadRequest, match="the only expectation that is known"):
        respond.expects_continue(request)


@pytest.mark.parametrize(
    ("method", "headers", "preflight"),
    [("OPTIONS", {"Access_Control_Request_Method": "PUT"}, True), ("OPTIONS", {}, False),
     ("GET", {"Access_Control_Request_Method": "PUT"}, False)],
)  # fmt: skip
def test_what_a_preflight_is(method, headers, preflight):
    assert respond.is_preflight(context(method=method, **headers).request) is preflight
