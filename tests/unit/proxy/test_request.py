"""A request as the handler gets it, whoever has read its head."""

import asyncio
from types import SimpleNamespace

import pytest
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD

from authproxy.proxy.plain import PlainReader
from authproxy.proxy.request import MAX_UNREAD, NO_BODY, Request, Stream, Whole
from tests.support.client_side import NoProtocol

HEAD = b"PUT /x?password=s3cr3t HTTP/1.1\r\nHost: a:80\r\nX-A: 1\r\n\r\n"


def connection(sockname=None):
    transport = SimpleNamespace(get_extra_info={"sockname": sockname}.get)
    return SimpleNamespace(transport=transport)


def plainly(data=HEAD, *, client=None):
    head, _ = PlainReader([], limit=1000).read(data)
    return Request(client or connection(), head.method, head.target, EMPTY_PAYLOAD, head)


def by_the_parser(data=HEAD, *, client=None):
    parser = HttpRequestParser(NoProtocol(), asyncio.get_running_loop(), 1 << 16, auto_decompress=False)
    [(message, payload)], _, _ = parser.feed_data(data)
    return Request.parsed(message, payload, client or connection())


READERS = pytest.mark.parametrize("read", [plainly, by_the_parser])


@READERS
@pytest.mark.parametrize("close", [False, True])
async def test_it_is_what_was_read_whoever_has_read_it(read, close):
    asked = read(HEAD[:-2] + b"Connection: close\r\n\r\n" if close else HEAD)
    assert (asked.method, asked.target, asked.version) == ("PUT", "/x?password=s3cr3t", HttpVersion11)
    assert asked.raw_headers[:2] == ((b"Host", b"a:80"), (b"X-A", b"1"))
    assert (asked.headers["host"], asked.headers["x-a"], asked.authority) == ("a:80", "1", "a:80")
    assert len(asked.headers) == len(asked.raw_headers) == 2 + close
    assert asked.keep_alive is not close
    assert asked.payload is EMPTY_PAYLOAD


async def test_only_one_reader_s_notes_are_there():
    assert plainly().message is None
    assert plainly().head.section.authority == "a:80"
    assert by_the_parser().head is None
    assert by_the_parser().message.path == "/x?password=s3cr3t"


async def test_what_only_the_parser_reads():
    asked = by_the_parser(b"GET / HTTP/1.0\r\nX: 1\r\nX: \xe9\r\n\r\n")
    assert (asked.version, asked.keep_alive, asked.authority) == (HttpVersion10, False, "")
    assert asked.raw_headers == ((b"X", b"1"), (b"X", b"\xe9"))
    assert asked.headers.getall("x") == ["1", b"\xe9".decode("utf-8", "surrogateescape")]


@READERS
@pytest.mark.parametrize(
    ("sockname", "address"),
    [(("10.1.2.3", 8080), "10.1.2.3"), (("fd00::1", 8080, 0, 0), "fd00::1"), ("/run/x", None), (None, None)],
)
async def test_it_knows_at_which_address_the_client_came_in(read, sockname, address):
    assert read(client=connection(sockname)).local_address == address


@READERS
async def test_a_client_that_is_gone_came_in_nowhere(read):
    assert read(client=SimpleNamespace(transport=None)).local_address is None


@READERS
async def test_its_repr_tells_no_target(read):
    assert repr(read()) == "<Request PUT>"


# ── a body that is all there ─────────────────────────────────────────────────────────────────────


async def test_a_body_that_is_all_there_is_read_once():
    body = Whole(b"hello")
    assert (body.is_eof(), body.at_eof()) == (True, False)
    assert await body.read(2) == b"hello"
    assert (body.is_eof(), body.at_eof()) == (True, True)
    assert await body.read() == body.read_nowait(-1) == b""


async def test_a_body_that_is_all_there_stays_there_when_its_client_goes():
    body = Whole(b"hello")
    body.set_exception(ConnectionResetError())
    assert body.read_nowait() == b"hello"


# ── a body that is still to come ─────────────────────────────────────────────────────────────────


class Source:
    """Notes whether it is to wait."""

    reading = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


async def test_a_piece_is_read_as_it_came_without_a_copy():
    body, piece = Stream(Source()), b"x" * MAX_UNREAD
    reading = asyncio.ensure_future(body.read(10 * MAX_UNREAD))
    await asyncio.sleep(0)
    assert not reading.done()
    body.feed_data(piece)
    assert await reading is piece
    assert (body.is_eof(), body.at_eof()) == (False, False)
    body.feed_eof()
    assert (body.is_eof(), body.at_eof()) == (True, True)
    assert await body.read() == body.read_nowait() == b""


async def test_the_end_wakes_who_reads():
    body = Stream(Source())
    reading = asyncio.ensure_future(body.read())
    await asyncio.sleep(0)
    body.feed_eof()
    assert await reading == b""


@pytest.mark.parametrize(("size", "read"), [(-1, b"onetwothree"), (6, b"onetwo"), (7, b"onetwo"), (2, b"on")])
async def test_small_pieces_are_joined_as_far_as_they_fit(size, read):
    body = Stream(Source())
    for piece in (b"one", b"two", b"three"):
        body.feed_data(piece)
    assert body.pieces == 3
    assert await body.read(size) == read
    assert body.read_nowait() == b"onetwothree"[len(read) :]
    assert body.pieces == 0


async def test_whoever_sends_it_waits_while_nobody_reads():
    source = Source()
    body = Stream(source)
    body.feed_data(b"x" * MAX_UNREAD)
    assert source.reading
    body.feed_data(b"y")
    body.feed_data(b"z")
    assert not source.reading
    assert body.read_nowait(1) == b"x"
    assert not source.reading  # there is still too much
    assert body.read_nowait(1) == b"x"
    assert source.reading
    assert len(body.read_nowait()) == MAX_UNREAD
    assert body.read_nowait() == b""


async def test_who_reads_hears_that_the_rest_will_not_come():
    body = Stream(Source())
    reading = asyncio.ensure_future(body.read())
    await asyncio.sleep(0)
    body.set_exception(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError):
        await reading
    with pytest.raises(ConnectionResetError):
        body.read_nowait()


def test_a_request_may_go_on_as_if_it_had_come_with_other_headers():
    asked = Request(None, "GET", "/x?t=1", NO_BODY)
    asked.replace("/x", ((b"X-A", b"\xc3\xa9"), (b"x-a", b"2")))
    assert (asked.target, asked.head) == ("/x", None)
    assert asked.headers.getall("X-A") == ["é", "2"]
    assert asked.raw_headers == ((b"X-A", b"\xc3\xa9"), (b"x-a", b"2"))
