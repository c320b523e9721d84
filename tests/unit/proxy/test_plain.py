"""Plain heads: what is one, what is none, and that whatever is read is what a parser reads too."""

import asyncio

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from httptools import HttpResponseParser
from hypothesis import given, settings
from hypothesis import strategies as st

from authproxy.proxy.judge import JUDGED, READ_PLAINLY
from authproxy.proxy.placeholders import placeholder
from authproxy.proxy.plain import (
    MAX_CHUNKS,
    MAX_LINES,
    MAX_LINES_SEEN,
    MAX_ONCE,
    MAX_REMEMBERED,
    MAX_SHAPES,
    MAX_STATUS_LINES,
    MAX_TEXT,
    LineNames,
    PlainReader,
    Shapes,
    _status_lines,
    pairs_of,
    read_reply,
    unchunked,
)
from tests.support.client_side import NoProtocol
from tests.support.examples import examples

HEAD = b"GET /x?a=b HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\n\r\n"
JUDGED_BY_VALUE = {name.lower() for name in JUDGED} - READ_PLAINLY


def reader(**settings):
    return PlainReader(JUDGED_BY_VALUE, **{"limit": 32 << 10} | settings)


def section_of(found):
    head, _ = found
    return head.section


# ── requests ─────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_head_is_read():
    head, rest = reader().read(HEAD)
    section = head.section
    assert (head.method, head.target, rest) == ("GET", "/x?a=b", b"")
    assert (section.authority, section.length, section.keep_alive, section.key) == (
        "localhost:8080",
        None,
        True,
        "",
    )
    assert pairs_of(section.lines) == [(b"Host", b"localhost:8080"), (b"Accept", b"*/*")]


@pytest.mark.parametrize(
    ("line", "keep_alive"),
    [(b"Connection: keep-alive", True), (b"connection: Keep-Alive", True), (b"CONNECTION: close", False)],
)
def test_whether_the_client_goes_on_is_read(line, keep_alive):
    section = section_of(reader().read(HEAD[:-2] + line + b"\r\n\r\n"))
    assert section.keep_alive is keep_alive


@pytest.mark.parametrize("body", [b"", b"hell", b"hello"])
def test_a_body_comes_with_its_head_or_later(body):
    head, rest = reader().read(HEAD[:-2] + b"Content-Length: 5\r\n\r\n" + body)
    assert (head.section.length, rest) == (5, body)


NOT_PLAIN = {
    "no end": HEAD[:-2],
    "no end of a line": HEAD[:-1],
    "no end of the last line": HEAD[:-4],
    "half an end": HEAD[:-4] + b"\r\n\n",
    "nothing": b"",
    "an empty line first": b"\r\n" + HEAD,
    "no section": b"GET / HTTP/1.1\r\n\r\n",
    "a request behind it": HEAD + HEAD,
    "a body without a length": HEAD + b"x",
    "more than its length": HEAD[:-2] + b"Content-Length: 5\r\n\r\nhello!",
    "more than no length": HEAD[:-2] + b"Content-Length: 0\r\n\r\n!",
    "a bare LF": HEAD.replace(b"\r\nAccept", b"\nAccept"),
    "a bare CR": HEAD.replace(b"*/*", b"*\r*"),
    "a fold": HEAD.replace(b"*/*", b"*\r\n /*"),
    "a fold with a tab": HEAD.replace(b"*/*", b"*\r\n\t/*"),
    "a NUL": HEAD.replace(b"*/*", b"*\x00*"),
    "a tab": HEAD.replace(b"*/*", b"*\t*"),
    "an eighth bit": HEAD.replace(b"*/*", b"\xe9"),
    "an eighth bit in the target": HEAD.replace(b"/x", b"/\xe9"),
    "a DEL": HEAD.replace(b"*/*", b"\x7f"),
    "no blank": HEAD.replace(b"Accept: ", b"Accept:"),
    "two blanks": HEAD.replace(b"Accept: ", b"Accept:  "),
    "two blanks in a value": HEAD.replace(b"*/*", b"a  b"),
    "a blank behind": HEAD.replace(b"*/*", b"*/* "),
    "a blank behind one before the last": HEAD.replace(b":8080", b":8080 "),
    "a blank behind the last": HEAD.replace(b"*/*\r\n", b"*/* \r\n"),
    "a blank before the colon": HEAD.replace(b"Accept: ", b"Accept : "),
    "a blank first": HEAD.replace(b"Accept", b" Accept"),
    "nothing behind the colon": HEAD.replace(b"*/*", b""),
    "no colon": HEAD.replace(b"Accept: */*", b"Accept"),
    "no name": HEAD.replace(b"Accept", b""),
    "a name that is none": HEAD.replace(b"Accept", b"Acc(ept"),
    "no Host": HEAD.replace(b"Host", b"Tsoh"),
    "a Host twice": HEAD[:-2] + b"Host: evil\r\n\r\n",
    "a Host in another spelling too": HEAD[:-2] + b"hOST: evil\r\n\r\n",
    "a name twice": HEAD[:-2] + b"aCCEPT: x\r\n\r\n",
    "a name twice, once with an underscore": HEAD[:-2] + b"X-A: 1\r\nX_A: 2\r\n\r\n",
    "a length with an underscore": HEAD[:-2] + b"Content_Length: 5\r\n\r\n",
    "a length and chunks": HEAD[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
    "a length that is none": HEAD[:-2] + b"Content-Length: five\r\n\r\n",
    "a length with a sign": HEAD[:-2] + b"Content-Length: +5\r\n\r\nhello",
    "a length with a nought before": HEAD[:-2] + b"Content-Length: 05\r\n\r\nhello",
    "a length with an underscore in it": HEAD[:-2] + b"Content-Length: 1_0\r\n\r\n",
    "two lengths in one": HEAD[:-2] + b"Content-Length: 5, 5\r\n\r\nhello",
    "a huge length": HEAD[:-2] + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n",
    "a connection that lists": HEAD[:-2] + b"Connection: keep-alive, X-A\r\n\r\n",
    "an upgrade": HEAD[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.0": HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.2": HEAD.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "lower case": HEAD.replace(b"HTTP/1.1", b"http/1.1"),
    "no version": HEAD.replace(b" HTTP/1.1", b""),
    "a fourth word": HEAD.replace(b"HTTP/1.1", b"HTTP/1.1 x"),
    "a fourth word, the version once more": HEAD.replace(b"HTTP/1.1", b"HTTP/1.1 HTTP/1.1"),
    "two blanks in the request line": HEAD.replace(b"GET ", b"GET  "),
    "a tab in the request line": HEAD.replace(b"GET ", b"GET\t"),
    "another method": HEAD.replace(b"GET", b"PURGE"),
    "TRACE": HEAD.replace(b"GET", b"TRACE"),
    "CONNECT": HEAD.replace(b"GET", b"CONNECT"),
    "a method in lower case": HEAD.replace(b"GET", b"get"),
    "a URL": HEAD.replace(b"/x", b"http://localhost:8080/x"),
    "an asterisk": HEAD.replace(b"GET /x?a=b", b"OPTIONS *"),
    "no target": HEAD.replace(b"/x?a=b", b""),
    "a fragment": HEAD.replace(b"/x?a=b", b"/x#a"),
    "too many lines": HEAD[:-2] + b"".join(b"X-%d: 1\r\n" % number for number in range(MAX_LINES)) + b"\r\n",
    "what only aiohttp's parser refuses": HEAD[:-2] + b"Sec-WebSocket-Key1: x\r\n\r\n",
}


@pytest.mark.parametrize("data", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_parser(data):
    reads = reader()
    assert reads.read(data) is None
    assert reads.read(data) is None  # once remembered, too


@pytest.mark.parametrize("name", sorted(JUDGED_BY_VALUE))
@pytest.mark.parametrize("spell", [str, str.upper, lambda name: name.replace("-", "_")])
def test_a_header_whose_value_somebody_judges_is_left_to_the_parser(name, spell):
    assert reader().read(HEAD[:-2] + spell(name).encode() + b": x\r\n\r\n") is None


def test_a_head_that_is_too_large_is_left_to_the_parser():
    assert reader(limit=len(HEAD) - 4).read(HEAD) is not None
    assert reader(limit=len(HEAD) - 5).read(HEAD) is None


def test_the_access_key_is_read_where_one_is_needed():
    data = HEAD[:-2] + b"x-authproxy-KEY: s3cr3t\r\n\r\n"
    assert section_of(reader(key="X-Authproxy-Key").read(data)).key == "s3cr3t"
    assert section_of(reader().read(data)).key == ""
    assert section_of(reader(key="X-Authproxy-Key").read(HEAD)).key == ""
    assert reader(key="X-Authproxy-Key").read(data.replace(b"x-authproxy-KEY", b"x_authproxy_key")) is None


# ── what is remembered ───────────────────────────────────────────────────────────────────────────


def numbered(number):
    return HEAD[:-2] + b"X-Id: %d\r\n\r\n" % number


def test_a_section_is_remembered_from_its_second_sight_on():
    reads = reader()
    sections = [section_of(reads.read(HEAD)) for _ in range(4)]
    assert sections[1] is not sections[0]
    assert sections[1] is sections[2] is sections[3]


def test_a_head_is_remembered_from_its_second_sight_with_a_section_that_is():
    reads = reader()
    heads = [reads.read(HEAD)[0] for _ in range(6)]
    assert len(set(map(id, heads[:4]))) == 4
    assert heads[3] is heads[4] is heads[5]
    assert reads.read(HEAD.replace(b"/x", b"/y"))[0].target == "/y?a=b"


def test_a_head_that_is_remembered_has_any_body_of_its_length():
    reads = reader()
    posted = HEAD[:-2] + b"Content-Length: 5\r\n\r\n"
    for _ in range(5):
        assert reads.read(posted + b"hello")[1] == b"hello"
    assert [reads.read(posted + body)[1] for body in (b"", b"hell")] == [b"", b"hell"]
    assert reads.read(posted + b"hello!") is None
    for _ in range(5):
        assert reads.read(HEAD)[1] == b""
    assert reads.read(HEAD + HEAD) is None


def test_what_is_remembered_has_a_bound():
    reads = reader()
    for number in range(3 * MAX_ONCE):
        reads.read(numbered(number))
    assert len(reads._sections.once) <= MAX_ONCE
    assert not reads._sections
    for number in range(3 * MAX_REMEMBERED):
        for _ in range(4):
            reads.read(numbered(number))
    assert 0 < len(reads._sections) <= MAX_REMEMBERED
    assert 0 < len(reads._heads) <= MAX_REMEMBERED
    large = HEAD[:-2] + b"X-Id: " + b"x" * MAX_TEXT + b"\r\n\r\n"
    before = len(reads._sections)
    assert all(reads.read(large) for _ in range(3))
    assert len(reads._sections) == before


def test_lines_that_are_remembered_have_a_bound():
    names = LineNames()
    for number in range(20 * MAX_LINES_SEEN // 1000):
        assert names[b"X: %1000d" % number] == b""  # more than one blank
        assert names[b"X: %01000d" % number] == b"X"
        assert b"X: %01000d" % number in names
        assert sum(map(len, names)) <= MAX_LINES_SEEN
    assert len(names) > 1
    assert names[b"X: " + b"x" * MAX_LINES_SEEN] == b"X"
    assert sum(map(len, names)) <= MAX_LINES_SEEN


def test_a_line_that_may_hold_a_placeholder_is_noticed_each_time_and_for_its_own_section_only():
    reads = reader()
    held = HEAD[:-2] + b"X-Token: " + placeholder("r").encode() + b"\r\n\r\n"
    for _ in range(3):
        for at in range(3):
            head, _ = reads.read(held.replace(b"/x", b"/%d" % at).replace(b"*/*", b"a/%d" % at))
            assert head.section.noticed
            head, _ = reads.read(numbered(at))
            assert not head.section.noticed


def test_sequences_of_names_that_are_remembered_have_a_bound():
    shapes = Shapes(lambda names, _: len(names))
    for number in range(3 * MAX_SHAPES):
        assert shapes[b"X-%d" % number,] == 1
    assert len(shapes) <= MAX_SHAPES
    assert shapes[b"X" * 5000,] == 1
    assert (b"X" * 5000,) not in shapes


# ── as a parser reads it ─────────────────────────────────────────────────────────────────────────

NAMES = st.sampled_from(
    ["Host", "Accept", "X-A", "x_a", "Content-Length", "Connection", "Cookie", "Te", "", "X Y", "é"]
)
VALUES = st.sampled_from(
    ["a", "a b", "", " a", "a ", "a\tb", "a: b", "5", "0", "05", "close", "keep-alive", "é", "a,b"]
)
TARGETS = st.sampled_from(["/", "/x?y", "*", "/a b", "/é", "http://a/", "/#x", ""])


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@settings(deadline=None, max_examples=examples(300))
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "get", "PURGE"]),
    target=TARGETS,
    version=st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0"]),
    pairs=st.lists(st.tuples(NAMES, st.sampled_from([": ", ":", ":  ", " : "]), VALUES), max_size=4),
    end=st.sampled_from(["\r\n", "\n"]),
)
def test_whatever_is_read_plainly_a_parser_reads_alike(loop, method, target, version, pairs, end):
    lines = [f"{method} {target} {version}", "Host: a", *map("".join, pairs)]
    data = (end.join(lines) + end + end).encode("latin-1")
    found = reader().read(data)
    if found is None:
        return
    parser = HttpRequestParser(NoProtocol(), loop, 1 << 16, auto_decompress=False)
    [(message, _)], _, _ = parser.feed_data(data)
    head, _ = found
    section = head.section
    assert (head.method, head.target) == (message.method, message.path)
    assert tuple(pairs_of(section.lines)) == message.raw_headers
    assert section.keep_alive is not message.should_close
    assert section.authority == message.headers["Host"]
    length = message.headers.get("Content-Length")
    assert section.length == (int(length) if length is not None else None)


def test_what_a_parser_refuses_is_never_plain(loop):
    for name, data in NOT_PLAIN.items():
        parser = HttpRequestParser(NoProtocol(), loop, 1 << 16, auto_decompress=False)
        try:
            parser.feed_data(data)
        except HttpProcessingError:
            assert reader().read(data) is None, name


# ── replies ──────────────────────────────────────────────────────────────────────────────────────

REPLY = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5"


def test_a_plain_reply_is_read():
    reply = read_reply(REPLY)
    assert (reply.status, reply.reason, reply.length, reply.chunked, reply.keep_alive) == (
        200,
        b"OK",
        5,
        False,
        True,
    )
    assert reply.status_line == b"HTTP/1.1 200 OK"
    assert pairs_of(reply.lines) == [(b"Server", b"x"), (b"Content-Length", b"5")]
    reply = read_reply(b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nConnection: close")
    assert (reply.status, reply.reason, reply.length, reply.chunked, reply.keep_alive) == (
        404, b"Not Found", None, True, False,
    )  # fmt: skip
    assert read_reply(b"HTTP/1.1 200 OK\r\nServer: x").chunked is False


@pytest.mark.parametrize(
    "head",
    [
        b"",
        REPLY.replace(b"HTTP/1.1", b"HTTP/1.0"),
        REPLY.replace(b"HTTP/1.1", b"HTTP/2.0"),
        REPLY.replace(b"HTTP/1.1", b"ICY"),
        REPLY.replace(b"200 OK", b"200"),
        REPLY.replace(b"200 OK", b"200 "),
        REPLY.replace(b"200 OK", b"20 OK"),
        REPLY.replace(b"200 OK", b"2000 OK"),
        REPLY.replace(b"200 OK", b"100 Continue"),
        REPLY.replace(b"200 OK", b"101 Switching Protocols"),
        REPLY.replace(b"200 OK", b"200 O\x00K"),
        REPLY.replace(b"200 OK", b"200  OK"),
        REPLY.replace(b"200 OK", b"200 OK "),
        REPLY.replace(b"200 OK", b"200 O  K"),
        REPLY + b"".join(b"\r\nX-%d: 1" % number for number in range(MAX_LINES - 2)),
        REPLY.replace(b"200", b"+20"),
        REPLY.replace(b"Length: 5", b"Length: 5\r\nTransfer-Encoding: chunked"),
        REPLY.replace(b"Length: 5", b"Length: 5\r\ncontent-length: 6"),
        REPLY.replace(b"Length: 5", b"Length: -5"),
        REPLY.replace(b"Length: 5", b"Length: 05"),
        REPLY.replace(b"Content-Length: 5", b"Transfer-Encoding: gzip, chunked"),
        REPLY.replace(b"Content-Length: 5", b"Transfer-Encoding: Chunked"),
        REPLY + b"\r\nUpgrade: h2c",
        REPLY + b"\r\nConnection: close, X-A",
        REPLY + b"\r\nX",
        REPLY + b"\r\n X: 1",
        REPLY + b"\r\nX: 1 ",
        REPLY + b"\r\nX: \xe9",
    ],
)
def test_a_reply_that_is_not_plain_is_left_to_the_parser(head):
    assert read_reply(head) is None


def test_status_lines_that_are_remembered_have_a_bound():
    for number in range(2 * MAX_STATUS_LINES):
        assert read_reply(b"HTTP/1.1 200 %d\r\nServer: x" % number).reason == b"%d" % number
    assert len(_status_lines) == MAX_STATUS_LINES
    _status_lines.clear()
    assert read_reply(b"HTTP/1.1 200 " + b"x" * 200 + b"\r\nServer: x").status == 200
    assert not _status_lines


class Said:
    def __init__(self):
        self.headers = []
        self.body = b""
        self.over = False

    def on_header(self, name, value):
        self.headers.append((name, value))

    def on_headers_complete(self):
        self.keep_alive = self.parser.should_keep_alive()  # which it forgets when the message is over

    def on_body(self, data):
        self.body += data

    def on_message_complete(self):
        self.over = True


def parsed(data):
    said = Said()
    parser = said.parser = HttpResponseParser(said)
    parser.feed_data(data)
    return said, parser


@settings(deadline=None, max_examples=examples(200))
@given(pairs=st.lists(st.tuples(NAMES, st.sampled_from([": ", ":", ":  "]), VALUES), max_size=4))
def test_whatever_of_a_reply_is_read_plainly_a_parser_reads_alike(pairs):
    head = "\r\n".join(["HTTP/1.1 200 OK", "Server: x", *map("".join, pairs)]).encode("latin-1")
    reply = read_reply(head)
    if reply is None:
        return
    said, parser = parsed(head + b"\r\n\r\n")
    assert said.headers == pairs_of(reply.lines)
    assert parser.get_status_code() == reply.status
    if reply.length is not None:  # else its end is the connection's
        assert said.keep_alive is reply.keep_alive


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


@given(pieces=CHUNKS)
def test_chunks_that_are_all_there_are_read_as_a_parser_reads_them(pieces):
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert unchunked(body) == b"".join(pieces)
    said, _ = parsed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert (said.body, said.over) == (b"".join(pieces), True)
    assert unchunked(body[:-1]) is None
    assert unchunked(body + b"x") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0\r\n",
        b"5\r\nhello\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"05\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\nmore\r\n0\r\n\r\n",
        b"0\r\n\r\n0\r\n\r\n",
        b"3\r\n\r\n0\r\n\r\n",
        b"2\r\nokXX1\r\na\r\n0\r\n\r\n",
        b"2\nok\r\n0\r\n\r\n",
        b"fffffffff\r\nhello\r\n0\r\n\r\n",
        b"1\r\nx\r\n" * (MAX_CHUNKS + 1) + b"0\r\n\r\n",
    ],
)
def test_chunks_that_are_not_plain_are_left_to_the_parser(body):
    assert unchunked(body) is None
