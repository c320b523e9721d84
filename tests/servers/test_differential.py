"""The same bytes to authproxy, to nginx and to HAProxy: what does the origin behind each of them see?

    bytes ──┬─▶ authproxy ─▶ origin      whole, in pieces, and with a second request behind
            ├─▶ nginx ─────▶ origin      whole, and with a second request behind
            └─▶ HAProxy ───▶ origin      whole, and with a second request behind

Well-formed requests have to arrive as they were meant, and as through a peer. Of everything else the origin
sees nothing, or what it sees through a peer as well: never a request more.

Continuous integration tries the same few hundred examples each time. `make fuzz` tries others for as long as
SECONDS says. A failure prints the smallest bytes that were found for it.
"""

import asyncio
import itertools
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from .peers import TOKEN, Heard, Lane, Seen, running_authproxy, running_haproxy, running_nginx, say

EXAMPLES = 300  # a property, in continuous integration
MAX_PIECES = 1000  # for an example with a long body
QUIET = 0.04  # seconds of silence after which nothing more is expected
CERTAIN = 2.0  # the same, when an example seems to fail: a busy machine is no fault
SECONDS = float(os.environ.get("AUTHPROXY_FUZZ_SECONDS", "0"))  # for all properties; 0: the usual examples

WAYS = ("whole", "pieces", "followed")
OURS, NGINX, HAPROXY = "authproxy", "nginx", "HAProxy"
SECOND = b"GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n"


# ── what is compared ─────────────────────────────────────────────────────────────────────────────

# Headers between two neighbours: every proxy deals with them in its own way, and makes framing anew.
# `Host` is compared on its own, as nginx puts it first.
BETWEEN_NEIGHBOURS = frozenset(
    b"host connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer upgrade"
    b" transfer-encoding content-length expect http2-settings authorization".split()
)
# A raw 8-bit target is percent-encoded where its line comes whole, and else refused by aiohttp's parser.
EIGHT_BIT_TARGET = re.compile(rb"[\x80-\xff][^\r\n]* HTTP/1")
# How the others differ, and why that is no difference to us:
#     HAProxy   lower-cases names (RFC 9110 §5.1: their case means nothing)
#     nginx     passes on what `Connection` lists (RFC 9110 §7.6.1 says to remove it)
#     both      take `Host` from its line where the target names another (RFC 9112 §3.2.2: the target's)
#     HAProxy   passes on a target in absolute form as it is (RFC 9112 §3.2.2: both forms say the same)
#     nginx     refuses a method that is not in capitals (RFC 9110 §9.1: any token is one)
#     nginx     passes on raw 8-bit characters in a target; we percent-encode them, HAProxy refuses them
# What one of them refuses though it is well-formed, see `said_plainly`:
#     nginx     tabs around a value that it acts upon (RFC 9110 §5.5: blanks and tabs are none of it)
#     HAProxy   a query right behind the authority (RFC 9110 §4.2.3: an empty path means "/")
ABSOLUTE = re.compile(rb"(?i) https?://[^\r\n]* HTTP/1")


@dataclass(frozen=True, slots=True)
class Told:
    """What a request says, without what is between neighbours."""

    method: bytes
    target: bytes
    host: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def of(cls, seen: Seen, listed: frozenset[bytes], *, fold: bool = True) -> "Told":
        kept = tuple(
            (name.lower() if fold else name, value.strip(b"\t "))
            for name, value in seen.headers
            if name.lower() not in listed and spelled(name) not in BETWEEN_NEIGHBOURS
        )
        target = re.sub(rb"[\x80-\xff]", lambda found: b"%%%02X" % found[0][0], seen.target)
        return cls(seen.method, target, b", ".join(seen.all(b"host")), kept, seen.body)


def origin_form(target: bytes) -> bytes:
    """Return `target` without the scheme and the authority that it may begin with."""
    rest = re.sub(rb"(?i)^https?://[^/?#]*", b"", target)
    return rest if rest.startswith(b"/") or rest == target else b"/" + rest


FIELD_LINE = re.compile(rb"(?m)^([!-9;-~]+:)([ \t]*)([^\r\n]*?)([ \t]*)(?=\r$)")
WITHOUT_A_PATH = re.compile(rb"(?im)^([!-~]+ https?://[^/?#\s]+)(?=\?)")


def said_plainly(raw: bytes) -> bytes:
    """Return `raw` with spaces for tabs around values, and with the path that an absolute URL may lack."""

    def spaced(found: re.Match[bytes]) -> bytes:
        name, before, value, after = found.groups()
        return name + b" " * len(before) + value + b" " * len(after)

    return WITHOUT_A_PATH.sub(rb"\1/", FIELD_LINE.sub(spaced, raw))


def spelled(name: bytes) -> bytes:
    """Return `name` as gateways read it: to them `Content_Length` and `Content-Length` are one."""
    return name.lower().replace(b"_", b"-")


def listed_in(raw: bytes) -> frozenset[bytes]:
    """Return the names that any `Connection` line in `raw` lists."""
    lines = re.findall(rb"(?i)connection[^\r\n:]*:([^\r\n]*)", raw)
    return frozenset(name.strip().lower() for line in lines for name in line.split(b",")) - {b""}


# ── the world ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Example:
    """Bytes to send, whole and in pieces of `size`."""

    raw: bytes
    size: int

    @property
    def answers(self) -> int:
        """How many answers there will be; 0 where nobody knows."""
        return 0

    @property
    def closes(self) -> bool:
        """Whether it says itself that nothing comes behind it."""
        return False

    def __repr__(self) -> str:
        return f"{self.raw!r} in pieces of {self.size}"


@dataclass
class Outcome:
    """What one proxy made of one example: what arrived, and what it said."""

    seen: list[Seen]
    unreadable: list[bytes]
    heard: Heard

    def told(self, example: Example) -> list[Told]:
        """Return what arrived, as far as it can be compared with what arrived through others."""
        listed, is_absolute = listed_in(example.raw), ABSOLUTE.search(example.raw)
        told = [Told.of(each, listed) for each in self.seen]
        return (
            [replace(each, host=b"", target=origin_form(each.target)) for each in told]
            if is_absolute
            else told
        )

    @property
    def ended(self) -> bool:
        """Whether the proxy has said that nothing more is taken on this connection."""
        return self.heard.closed or re.search(rb"(?i)\r\nconnection: *close\r\n", self.heard.data) is not None

    def __repr__(self) -> str:
        arrived = "".join(f"\n      {each}" for each in self.seen) or " nothing"
        odd = "".join(f"\n      unreadable: {each!r}" for each in self.unreadable)
        end = "closed" if self.heard.closed else "open"
        return f"arrived:{arrived}{odd}\n    said ({end}): {self.heard.data!r}"


Outcomes = dict[tuple[str, str], Outcome]


class World:
    """Every proxy at work, each with a lane for each way to send an example."""

    def __init__(self, runner: asyncio.Runner, lanes: dict[tuple[str, str], Lane]) -> None:
        self._runner = runner
        self._lanes = lanes

    def send(self, example: Example, *, quiet: float, settle: float = 0.0) -> Outcomes:
        """Send `example` in every way; return what became of it when it was quiet for so many seconds.

        `settle` is how long what came before may still arrive.
        """
        return self._runner.run(self._send(example, quiet, settle))

    async def _send(self, example: Example, quiet: float, settle: float) -> Outcomes:
        await asyncio.sleep(settle)
        raw = example.raw
        size = max(example.size, len(raw) // MAX_PIECES)
        sent = {
            "whole": [raw],
            "pieces": [raw[start : start + size] for start in range(0, len(raw), size)],
            "followed": [raw + SECOND],
        }

        async def one(key: tuple[str, str], lane: Lane) -> tuple[tuple[str, str], Outcome]:
            _, way = key
            lane.origin.forget()
            answers = example.answers + (way == "followed" and not example.closes) if example.answers else 0
            heard = await say(lane.url, sent[way], answers=answers, quiet=quiet)
            return key, Outcome(list(lane.origin.seen), list(lane.origin.unreadable), heard)

        return dict(await asyncio.gather(*(one(key, lane) for key, lane in self._lanes.items())))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("peers")
    ways = {OURS: WAYS, NGINX: ("whole", "followed"), HAPROXY: ("whole", "followed")}
    lanes = {(proxy, way): Lane(proxy) for proxy, its_ways in ways.items() for way in its_ways}
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        for lane in lanes.values():
            lane.origin_port = runner.run(lane.origin.listen())
            stack.callback(lambda lane=lane: runner.run(lane.origin.close()))
        of = {proxy: [lane for (name, _), lane in lanes.items() if name == proxy] for proxy in ways}
        stack.enter_context(running_nginx(directory, of[NGINX]))
        stack.enter_context(running_haproxy(directory, of[HAPROXY]))
        ours = stack.enter_context(running_authproxy(of[OURS]))
        yield World(runner, lanes)
        for proxy in ours:
            assert proxy.process.poll() is None
            log = proxy.log()
            assert "internal error" not in log, log
            assert "Traceback" not in log, log
            assert TOKEN not in log


# ── what our answers must be like ────────────────────────────────────────────────────────────────


def answers_in(data: bytes) -> list[tuple[int, bytes]]:
    """Return the status and the head of each final answer. Anything that is none of it fails."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.1 (\d{3}) [^\r\n]*(?:\r\n[!-9;-~]+: ?[^\r\n]*)*\Z", head)
        assert end, f"an answer without an end: {head!r}"
        assert match, f"not an answer: {head!r}"
        status = int(match[1])
        if status < 200:
            continue
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        assert length, f"an answer without a length: {head!r}"
        if data.startswith(b"{"):  # a problem of ours; HEAD has none
            assert len(data) >= int(length[1]), f"an answer without its end: {head!r}"
            data = data[int(length[1]) :]
        found.append((status, head))
    return found


def own(answers: list[tuple[int, bytes]]) -> list[int]:
    return [status for status, head in answers if b"\r\nProxy-Status: " in head]


# ── well-formed requests ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Request:
    """A request, and what it means."""

    raw: bytes
    meant: Told
    closes: bool


@dataclass(frozen=True, repr=False)
class Stream(Example):
    """Well-formed requests, one behind the other."""

    requests: tuple[Request, ...]

    @property
    def answers(self) -> int:
        return len(self.requests)

    @property
    def closes(self) -> bool:
        return self.requests[-1].closes


TCHAR = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# TRACE and CONNECT are refused; nginx takes no lower case.
METHODS = (
    b"GET HEAD POST PUT DELETE OPTIONS PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH BIND"
    b" REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE"
    b" MKCALENDAR LINK UNLINK SOURCE QUERY LIST BAN REFRESH VERSION-CONTROL"
).split()
NAMES = (
    b"Accept Accept-Encoding Accept-Language Cache-Control Content-Encoding Content-Language Content-Type"
    b" Content-MD5 Cookie Date DNT ETag Forwarded From If-Match If-Modified-Since If-None-Match If-Range"
    b" Last-Modified Max-Forwards Pragma Range Referer Sec-WebSocket-Key Server User-Agent Via Warning"
    b" X-Forwarded-For X-Forwarded-Proto X-A X-B X_C"
).split()
TARGETS = (
    b"/ /? /?? /a/../b /a/./b /a//b// //evil.example/x /%2e /a%2Fb?x=%20 /http://other.example/ /a;v=1/b;w"
    b" /:80/x@y /a%00b%0d%0a /?a=b&&c /~ /'()*!$&+,;= /?/? /*"
).split()
# aiohttp's parser refuses to see these repeated.
ONLY_ONCE = frozenset(
    b"content-type content-location content-range etag max-forwards server user-agent".split()
)
RESERVED = BETWEEN_NEIGHBOURS | {b"origin", b"sec-fetch-site", b"sec-fetch-mode"}
LEFT_HERE = ((b"TE", b"trailers"), (b"Keep-Alive", b"timeout=5"), (b"Proxy-Connection", b"keep-alive"))


def bytes_of(alphabet: bytes, **sizes: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), **sizes).map(bytes)


# What is no well-formed path, and refused by design (test_router, test_trust): steps, also behind blanks, and
# characters in an encoding that is none (RFC 3986 §2.1).
REFUSED = re.compile(
    rb"(?i)\.\.|%(?:u[0-9a-f]{4}|(?:c[01]|e0|f0)%)|\.%(?:[01][0-9a-f]|20|7f)|%(?:[01][0-9a-f]|20|7f)\."
)
targets = st.one_of(
    st.sampled_from(TARGETS),
    bytes_of(re.sub(rb"[#^`|]", b"", TCHAR) + b"/:@()=,;?", max_size=30).map(lambda rest: b"/" + rest),
    bytes_of(b'ab/?"<>[]\\^`{|}', max_size=20).map(lambda rest: b"/" + rest),
).filter(lambda target: target in TARGETS or not REFUSED.search(target))

values = bytes_of(bytes(range(0x21, 0x7F)) + b'  \t,,;;==""\\\x80\xa0\xc3\xa9\xff', max_size=25).map(
    lambda value: value.strip(b" \t")
)
names = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES).map(bytes.lower),
    st.sampled_from(NAMES).map(bytes.swapcase),
    bytes_of(TCHAR, min_size=1, max_size=12),
).filter(lambda name: spelled(name) not in RESERVED)
spaces = st.sampled_from([b" ", b" ", b"", b"  "])
blanks = st.sampled_from([b" ", b" ", b"", b"  ", b"\t", b"\t "])
contents = st.one_of(
    st.binary(max_size=60),
    st.just(SECOND.replace(b"/second", b"/from-a-body")),
    st.binary(min_size=1, max_size=3).map(lambda some: some * 3000),
    st.just(b"0\r\n\r\n" + SECOND.replace(b"/second", b"/from-a-body")),
)
hosts = st.sampled_from(
    [b"localhost", b"LOCALHOST:8080", b"127.0.0.1", b"[::1]:80", b"a-b.example", b"x.example.:1"]
)
extensions = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"', b";a=1;b=2"])


@st.composite
def chunked(draw: st.DrawFn, content: bytes) -> bytes:
    """Return `content` in chunks of any size, their sizes spelled in any way."""
    wire = b""
    while content:
        size = draw(st.integers(1, max(1, min(len(content), 5000))))
        piece, content = content[:size], content[size:]
        number = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"0000%X"])) % len(piece)
        wire += number + draw(extensions) + b"\r\n" + piece + b"\r\n"
    wire += draw(st.sampled_from([b"0", b"000"])) + draw(extensions) + b"\r\n"
    if draw(st.booleans()):
        wire += draw(st.sampled_from([b"X-Trailer: 1\r\n", b"X-Trailer: 1\r\nAuthorization: Basic eDp5\r\n"]))
    return wire + b"\r\n"


Lines = list[tuple[bytes, bytes]]


def with_singletons_once(lines: Lines) -> Lines:
    lower = [name.lower() for name, _ in lines]
    return [
        line
        for number, line in enumerate(lines)
        if lower[number] not in ONLY_ONCE or lower[number] not in lower[:number]
    ]


@st.composite
def framed(draw: st.DrawFn, how: str) -> tuple[bytes, Lines, bytes]:
    """Return a body, the lines that frame it, and the body on the wire."""
    if how == "none":
        return b"", [], b""
    content = draw(contents)
    if how == "length":
        name = draw(st.sampled_from([b"Content-Length", b"content-length", b"CONTENT-LENGTH"]))
        return content, [(name, b"%d" % len(content))], content
    name = draw(st.sampled_from([b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-Encoding"]))
    return content, [(name, draw(st.sampled_from([b"chunked", b"Chunked"])))], draw(chunked(content))


@st.composite
def connection(draw: st.DrawFn, version: bytes, names: list[bytes], *, may_close: bool) -> Lines:
    """Return a `Connection` line that lists some of `names`, or none, and other lines that go no further."""
    listed: list[bytes] = draw(st.lists(st.sampled_from([*names, b"X-Nobody"]), max_size=2))
    if may_close and draw(st.booleans()):
        listed.append(b"close")
    elif version == b"HTTP/1.0":
        listed.append(b"keep-alive")
    joint = draw(st.sampled_from([b",", b", ", b" , "]))
    lines = [(draw(st.sampled_from([b"Connection", b"connection"])), joint.join(listed))] if listed else []
    if version == b"HTTP/1.1":
        lines += draw(st.sampled_from([[]] * 5 + [[line] for line in LEFT_HERE]))
    return lines


@st.composite
def requests(draw: st.DrawFn, *, last: bool = True) -> Request:
    """Return a well-formed request; only the `last` one may end its connection."""
    method, target, host = draw(st.sampled_from(METHODS)), draw(targets), draw(hosts)
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
    lines = draw(st.lists(st.tuples(names, values), max_size=8).map(with_singletons_once))
    how = draw(st.sampled_from(["none", "length", "chunked"]))
    if version == b"HTTP/1.0":  # HAProxy wants no body in a GET of HTTP/1.0
        how = "none" if method in {b"GET", b"HEAD", b"DELETE"} else "length"
    content, frames, wire = draw(framed(how))
    if content and version == b"HTTP/1.1" and draw(st.integers(0, 5)) == 5:
        frames.append((b"Expect", b"100-continue"))
    frames += draw(connection(version, [name for name, _ in lines], may_close=last))
    head = [(b"Host", host), *lines, *frames]
    if draw(st.booleans()):
        head = draw(st.permutations(head))
    raw = b" ".join([method, target, version]) + b"\r\n"
    for name, value in head:
        # Round what they act upon themselves, nginx and aiohttp take spaces, but no tabs.
        blank = spaces if name.lower() in BETWEEN_NEIGHBOURS else blanks
        raw += name + b":" + draw(blank) + value + draw(blank) + b"\r\n"
    listed = listed_in(raw)
    gone = BETWEEN_NEIGHBOURS | (listed - {b"content-type", b"cookie"})
    told = tuple((name, value) for name, value in head if name.lower() not in gone)
    return Request(raw + b"\r\n" + wire, Told(method, target, host, told, content), b"close" in listed)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    count = draw(st.integers(1, 3))
    each = tuple(draw(requests(last=number == count - 1)) for number in range(count))
    raw = b"".join(one.raw for one in each)
    return Stream(raw, draw(st.sampled_from([1, 1, 2, 7, 31, 200])), each)


def faults_of_well_formed(stream: Stream, outcomes: Outcomes) -> list[str]:
    """Return what is wrong with what became of `stream`."""
    found = []
    meant = [each.meant for each in stream.requests]
    second = [] if stream.closes else [Told(b"GET", b"/second", b"localhost", (), b"")]
    for way in WAYS:
        ours = outcomes[OURS, way]
        expected = meant + (second if way == "followed" else [])
        if [Told.of(seen, frozenset(), fold=False) for seen in ours.seen] != expected:
            found.append(f"{way}: not what was meant")
        by_peers = [
            outcomes[peer, "followed" if way == "followed" else "whole"].told(stream)
            for peer in (NGINX, HAPROXY)
        ]
        if ours.told(stream) not in by_peers:
            found.append(f"{way}: not what arrives through either peer")
        found += [f"{way}: {fault}" for fault in faults_of_answers(ours)]
        if ours.ended != stream.closes:
            found.append(f"{way}: the connection is {'closed' if ours.ended else 'open'}")
    return found


def faults_of_answers(ours: Outcome) -> list[str]:
    """Return what is wrong with our answers, whatever they answer."""
    try:
        answers = answers_in(ours.heard.data)
    except AssertionError as error:
        return [str(error)]
    found = []
    if any(status >= 500 for status, _ in answers):
        found.append("a 5xx of our own making")
    if any(status in {400, 431} for status in own(answers)[:-1]):
        found.append("something after a refusal")
    if {400, 431} & set(own(answers)) and not ours.ended:
        found.append("a refusal that leaves the connection open")
    passed_on = [int(number) for number in re.findall(rb"\r\nX-Saw: (\d+)", ours.heard.data)]
    if passed_on != list(range(1, len(ours.seen) + 1)):
        found.append("not every request's answer, one behind the other")
    if ours.unreadable:
        found.append("unreadable bytes arrived")
    if any(seen.all(b"authorization") != [b"Bearer " + TOKEN.encode()] for seen in ours.seen):
        found.append("not just our credential")
    if TOKEN.encode() in ours.heard.data:
        found.append("the credential was told to the client")
    return found


def test_well_formed_requests_arrive_as_they_were_meant(world: World) -> None:
    explore(streams(), faults_of_well_formed, world)


# ── requests that are not well-formed ────────────────────────────────────────────────────────────


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODIES = [b"hello", SMUGGLED, b"0\r\n\r\n" + SMUGGLED, b"5\r\nhello\r\n0\r\n\r\n", b""]
# `%d` and `%x` are the right number.
LENGTHS = [
    b"+%d", b"-%d", b"0x%x", b"%d,%d", b"%d, %d", b"%d %d", b" %d\t", b"%d;", b"%d_0", b"%d.0", b"%de0",
    b'"%d"', b"", b"0%d", b"%d\x0b", b"\x0c%d", b"%d\x00", b"%d\xa0", b"\xef\xbc\x95", b"9" * 18,
    b"9" * 20, b"18446744073709551616", b"%d\r\n %d", b"%d\n", b"%d\r",
]  # fmt: skip
ENCODINGS = [
    b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"chunked,", b",chunked", b", chunked",
    b"\tchunked", b"chunked\t", b"chunked ", b"xchunked", b"chunkedx", b"\x0bchunked", b"chunked\x0b",
    b"chunked\x00", b"\x00chunked", b'"chunked"', b"chunked;q=1", b"identity", b"identity, chunked", b"",
    b"chunked\xa0", b"c\xc4\xa5unked", b"\r\n chunked", b"x\r\n chunked", b"chun\r\n ked", b"chunked\r\n ",
    b"chunked\n", b"chunked\r", b"CHUNKED", b"cHuNkEd", b"deflate",
]  # fmt: skip
FRAMES = [
    b"Content-Length", b"Transfer-Encoding", b"content-length", b"transfer-encoding", b"Content-Length ",
    b"Transfer-Encoding ", b"Transfer-Encoding\t", b" Transfer-Encoding", b"\tContent-Length",
    b"Transfer_Encoding", b"Content_Length", b"Transfer-Encoding\x00", b"Transfer-Encoding\x0b",
    b"\x0bTransfer-Encoding", b"Transfer-Encoding\xa0", b"Content-Length\x00", b"X\nTransfer-Encoding",
    b"X: y\nTransfer-Encoding", b"X: y\rTransfer-Encoding", b"X: y\nContent-Length",
    b"Transfer-\r\n Encoding", b"Transfer-Encoding: x\r\nTransfer-Encoding",
    b"Content-Length: 0\r\nContent-Length", b"X:\r", b"Content-Length:", b"Transfer-Encoding:",
    b":Content-Length", b"Content Length", b"Content-Length: 3\r\nX",
]  # fmt: skip
SIZES = [
    b"+%x", b"-%x", b"0x%x", b" %x", b"%x ", b"%x\t", b"%x;", b"%x;\n", b"%x;a\n", b"%x;a=\r", b'%x;a="',
    b'%x;a="\r\n"', b"%x\n", b"\n%x", b"%x\r", b"\r\n%x", b"%x\r\r", b"%x_0", b"%x.", b"", b"g", b"%x,",
    b"%x %x", b"f" * 17, b"1" + b"0" * 16, b"0" * 40 + b"%x", b"%x\x00", b"%x;\x00", b"%x\x0b",
    b"%x;a\x7f", b"%xh", b"%x;a=" + b"b" * 200, b"%x;;", b"%x ;a", b"0",
]  # fmt: skip
AFTER_CHUNK = [
    b"", b"\n", b"\r", b"\r\r\n", b"\n\n", b"\r\n\r\n", b"x\r\n", b"\r\nx", b" \r\n", b"\0\r\n", b"\n\r",
]  # fmt: skip
ENDS = [
    b"0\r\n\r", b"0\r\n", b"0", b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"00000000000000000000\r\n\r\n",
    b"0\r\nX : y\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"0\r\nX\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX: y\n\r\n", b"0\r\nX: \x00\r\n\r\n", b"0 \r\n\r\n",
    b"-0\r\n\r\n", b"0;\n\r\n\r\n", b"", b"0\r\n\r\n0\r\n\r\n", b"0\r\n\r\r\n",
]  # fmt: skip
HOSTS = [
    [], [b""], [b"localhost", b"localhost"], [b"localhost", b"evil.example"], [b"a@localhost"],
    [b"localhost/x"], [b"local host"], [b"localhost, evil.example"], [b"localhost:"], [b"localhost:x"],
    [b"localhost:99999"], [b"localhost:80:80"], [b"[::1"], [b"::1"], [b"localhost\x00"], [b"localhost\t"],
    [b"\xe9.example"], [b"localhost#"], [b"localhost?x"], [b"http://localhost"], [b"localhost\\x"],
    [b"%6cocalhost"], [b"localhost%00"], [b".."], [b"-"], [b"_"], [b"[::1]x"], [b"[v1.a]"],
    [b"localhost:+80"], [b"localhost:-1"],
]  # fmt: skip
VERSIONS = [
    b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.01", b"http/1.1",
    b"HTTP/1,1", b"HTTP/1", b"HTTP/1.", b"HTTP/", b"", b"HTTP/1.1 ", b"HTTP/1.1\t", b" HTTP/1.1",
    b"HTTP /1.1", b"HTTP/1.1x", b"XHTTP/1.1", b"HTTP/-1.1", b"HTTP/+1.1", b"HTTP/1.1\x00", b"HTTP/3",
    b"HTTP/1.1 HTTP/1.1", b"HTTP/1.1\r",
]  # fmt: skip
BENT_TARGETS = [
    b"http://localhost/x", b"http://localhost", b"http://localhost?x", b"HTTP://LOCALHOST/x",
    b"https://localhost/x", b"http://evil.example/x", b"http:///x", b"http:/x", b"http:x",
    b"http://a@localhost/x", b"http://localhost:99999/x", b"ftp://localhost/x", b"localhost:80", b"*",
    b"x", b"", b"/a b", b"/a\tb", b"/#x", b"/x#", b"/\x00", b"/\x7f", b"/\x01", b"/\x0b", b"/../x",
    b"/%2e%2e/x", b"/a/../../x", b"//", b"?x", b"#x", b"\\x", b"/\r", b"/\n", b"http://localhost/#x",
    b"http://localhost\\x", b"http://[::1]/x", b"http://localhost/ x", b"://x", b"/ HTTP/1.1\r\nX: y",
    b"http://localhost:/x", b"http://LOCALHOST:80/x",
]  # fmt: skip
BENT_METHODS = [
    b"get", b"GET\t", b" GET", b"\tGET", b"G ET", b"GET\x00", b"G(T", b"", b"G\x80T", b"FOO",
    b"GETGETGETGETGETGETGETGETGETGETGET", b"TRACE", b"CONNECT", b"PRI", b"\r\nGET", b"\nGET",
    b"\r\n\r\nGET", b"\rGET", b" \r\nGET", b"GET / HTTP/1.1\r\n\r\nGET", b"GET /\r\nGET", b"Get",
    b"\xef\xbb\xbfGET",
]  # fmt: skip
BENT_LINES = [
    b"X : y", b" X: y", b"\tX: y", b"X", b": y", b":", b"", b"X y: z", b"X\x00: y", b"X: \x00",
    b"X: a\x0bb", b"X: a\x7fb", b"X: a\x01b", b"X: a\rb", b"X: a\nb", b"X: a\r\n b", b"X: a\r\n\tb",
    b"X:\r\n y", b"X: a\r\n ", b"X: a\r", b"X: a\n", b"\x0bX: y", b"X\xe9: y", b"X(: y", b"X,Y: z",
    b'"X": y', b"X=Y: z", b"X;: y", b"\r\nX: y", b"\nX: y", b"\rX: y", b"X: y\r\n\r\n", b"X: y\n\n",
    b"Connection: close, x", b"Connection: content-length", b"Connection: transfer-encoding",
    b"Connection: host", b"Connection: keep-alive, close", b"Connection: \x00",
    b"Connection: close\r\nConnection: keep-alive", b"Upgrade: h2c", b"Expect: 100-continue",
    b"Expect: 200-ok", b"Expect: 100-continue, x", b"TE: chunked", b"TE: trailers, chunked",
    b"Trailer: Content-Length", b"Content-Encoding: chunked", b"Proxy-Connection: close",
    b"X-A: " + b"y" * 9000,
]  # fmt: skip


def filled(pattern: bytes, number: int) -> bytes:
    """Return `pattern` with `number` in every place there is for it."""
    return re.sub(rb"%[dx]", lambda found: found[0] % number, pattern)


# What stands in a good request, and what may stand there instead.
GOOD = {
    "method": b"POST", "target": b"/first", "version": b"HTTP/1.1", "hosts": [b"localhost"],
    "line": b"X-B: 2", "length name": b"Content-Length", "length": b"%d",
    "encoding name": b"Transfer-Encoding", "encoding": b"chunked", "size": b"%x",
    "after chunk": b"\r\n", "end": b"0\r\n\r\n",
}  # fmt: skip
BENDS = {
    "method": [b"GET", b"HEAD", b"OPTIONS", *BENT_METHODS], "target": BENT_TARGETS,
    "version": [b"HTTP/1.0", *VERSIONS], "hosts": HOSTS, "line": BENT_LINES, "length name": FRAMES,
    "length": LENGTHS, "encoding name": FRAMES, "encoding": ENCODINGS, "size": SIZES,
    "after chunk": AFTER_CHUNK, "end": ENDS,
}  # fmt: skip


FRAMINGS = ("length", "chunked", "both", "none")


def assembled(part: dict[str, Any], framing: str, content: bytes, *, spare: int | None = None) -> bytes:
    """Return a request made of `part`. Its `Content-Length` is right unless `spare` says another."""
    lines, wire = [b"X-A: 1", part["line"]], content
    if framing in {"chunked", "both"}:
        lines.append(part["encoding name"] + b": " + part["encoding"])
        chunk = filled(part["size"], len(content)) + b"\r\n" + content + part["after chunk"]
        wire = (chunk if content else b"") + part["end"]
    if framing in {"length", "both"}:
        length = filled(part["length"], len(wire) if spare is None else spare)
        lines.insert(len(content) % 3, part["length name"] + b": " + length)  # before the other, or behind it
    start = b" ".join([part["method"], part["target"], *([part["version"]] if part["version"] else [])])
    head = [start, *(b"Host: " + value for value in part["hosts"]), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + wire


def each_bend() -> Iterator[Example]:
    """Yield a request for each bend there is, with nothing else wrong."""
    for what, values in BENDS.items():
        framing = (
            "chunked" if what in {"encoding", "encoding name", "size", "after chunk", "end"} else "length"
        )
        for value in values:
            yield Example(assembled({**GOOD, what: value}, framing, SMUGGLED), 1)


@st.composite
def bent(draw: st.DrawFn) -> Example:
    """Return a request of which one thing or two are not as they should be, maybe behind a good one."""
    part: dict[str, Any] = dict(GOOD)
    for what in draw(st.lists(st.sampled_from(sorted(BENDS)), min_size=1, max_size=2)):
        part[what] = draw(st.sampled_from(BENDS[what]))
    framing, content = draw(st.sampled_from(FRAMINGS)), draw(st.sampled_from(BODIES))
    raw = assembled(part, framing, content, spare=draw(st.sampled_from([None, 5, len(content)])))
    if draw(st.booleans()):
        raw = draw(scratched(raw))
    before = draw(st.sampled_from([b"", b"", b"", SECOND.replace(b"second", b"before")]))
    return Example(before + raw, draw(st.sampled_from([1, 1, 1, 2, 3, 13, 100])))


LINE_ENDS = [
    b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"\n\n", b"", b" \r\n", b"\r\n ", b"\r\n\t",
    b"\x00\r\n", b"\x0b\r\n", b"\x85\r\n",
]  # fmt: skip


@st.composite
def scratched(draw: st.DrawFn, raw: bytes) -> bytes:
    """Return `raw` with a byte or a line end too many, too few or for another; or torn off."""
    kind = draw(st.sampled_from(["end", "byte", "gone", "torn"]))
    if kind == "end":
        first, *rest = raw.split(b"\r\n")
        if not rest:
            return raw
        at = draw(st.integers(0, len(rest) - 1))
        other = draw(st.sampled_from(LINE_ENDS))
        return first + b"".join(
            (other if number == at else b"\r\n") + line for number, line in enumerate(rest)
        )
    at = draw(st.integers(0, max(0, len(raw) - 1)))
    if kind == "torn":
        return raw[:at] or raw
    if kind == "gone":
        return raw[:at] + raw[at + 1 :]
    return (
        raw[:at]
        + bytes([draw(st.sampled_from(b"\x00\x01\x0b\x0c\r\n \t\x7f\x80\xa0\xff:;,%-0a"))])
        + raw[at:]
    )


def is_among(some: list[Told], others: list[Told]) -> bool:
    """Whether `others` holds all of `some`, in their order."""
    left = iter(others)
    return all(each in left for each in some)


def is_refused_for_its_method(told: list[Told], nginx: Outcome, example: Example) -> bool:
    """Whether nginx read the same up to a method in small letters, such as `helloGET`."""
    known = list(itertools.takewhile(lambda each: re.fullmatch(rb"[A-Z_-]+", each.method), told))
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", nginx.heard.data)
    read_alike = known == nginx.told(example) and statuses[-1:] == [b"400"]
    return 0 < len(known) < len(told) and read_alike


def waits_for_more(whole: Outcome) -> bool:
    """Whether a peer waits for the rest of what it has."""
    return not (whole.seen or whole.heard.data or whole.heard.closed)


def faults_of_bent(example: Example, outcomes: Outcomes) -> list[str]:
    """Return what is wrong with what became of `example`."""
    found = []
    whole, pieces, followed = (outcomes[OURS, way] for way in WAYS)
    for way in WAYS:
        ours = outcomes[OURS, way]
        peers = [outcomes[peer, "followed" if way == "followed" else "whole"] for peer in (NGINX, HAPROXY)]
        told = ours.told(example)
        odd = is_refused_for_its_method(told, peers[0], example)
        if not odd and not any(is_among(told, peer.told(example)) for peer in peers):
            found.append(f"{way}: more than arrives through either peer, or something else")
        if way == "followed" and not odd and not ours.ended and all(peer.ended for peer in peers):
            found.append(f"{way}: the connection stays open")
        found += [f"{way}: {fault}" for fault in faults_of_answers(ours)]
    if whole.told(example) != pieces.told(example) and not EIGHT_BIT_TARGET.search(example.raw):
        found.append("in pieces it is something else")
    if whole.ended and not pieces.ended:
        found.append("in pieces the connection stays open")
    # We may refuse a request before its body is there; then what is behind it may be the rest of the body.
    completed = any(
        waits_for_more(outcomes[peer, "whole"])
        and is_among(followed.told(example), outcomes[peer, "followed"].told(example))
        for peer in (NGINX, HAPROXY)
    )
    if whole.ended and whole.told(example) != followed.told(example) and not completed:
        found.append("with a request behind it, it is something else")
    return found


# What was once found, and is tried each time.
FOUND = [
    # nginx refuses the method `helloGET`; HAProxy passes on the absolute form, or refuses the other host.
    Example(b"POST http://[::1]/x HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nX-B: 2\r\n\r\nhello", size=1),
    Example(b"POST http://localhost/x HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nX-B: 2\r\n\r\nhello", size=1),
    # The body is whole only with the first letter of the request behind it, which HAProxy reads alike.
    Example(
        b"TRACE /first HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nContent-Length: 43\r\nX-B: 2\r\n\r\n"
        b"GET /smuggled HTTP/1.1\nHost: localhost\r\n\r\n",
        size=1,
    ),
    # A refused request whose body comes later is refused like one whose body is there.
    Example(
        b"TRACE /first HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nX-A: 1\r\nX-B: 2\r\n\r\n0\r\n\r\n"
        b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
        size=1,
    ),
    # nginx refuses the tab, HAProxy the query without a path.
    Example(b"POST http://localhost?x HTTP/1.1\r\nHost: localhost\t\r\nContent-Length: 0\r\n\r\n", size=1),
]


def test_what_is_said_plainly_is_no_other_request() -> None:
    raw = b"POST http://a?x HTTP/1.1\t\r\nHost:\ta\t \r\nX: b\tc\r\n\tfolded\t\r\nY\t: d\n\r\n\tbody\t"
    assert said_plainly(raw) == raw.replace(b"a?", b"a/?").replace(b":\ta\t ", b": a  ")


def test_of_nothing_that_is_bent_arrives_what_arrives_through_no_peer(world: World) -> None:
    for example in [*FOUND, *each_bend()]:
        if faults := judged(example, faults_of_bent, world):
            pytest.fail(faults, pytrace=False)


def test_of_anything_else_nothing_arrives_but_what_arrives_through_a_peer(world: World) -> None:
    explore(bent(), faults_of_bent, world)


# ── trying examples ──────────────────────────────────────────────────────────────────────────────

PROPERTIES = 2
Judge = Callable[[Any, Outcomes], list[str]]


def explore(examples: st.SearchStrategy[Any], faults_of: Judge, world: World) -> None:
    """Let every proxy see the usual examples; or others each time, for this property's share of SECONDS."""
    tried = 0

    def holds(example: Example) -> None:
        nonlocal tried
        tried += 1
        if faults := judged(example, faults_of, world):
            pytest.fail(faults, pytrace=False)

    usual = settings(
        max_examples=EXAMPLES,
        derandomize=not SECONDS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    until = time.monotonic() + SECONDS / PROPERTIES
    run = usual(given(examples)(holds))
    run()
    while time.monotonic() < until:
        seed(random.SystemRandom().getrandbits(64))(run)()
    print(f"\n{tried} examples: {faults_of.__name__}")


def judged(example: Example, faults_of: Judge, world: World) -> str:
    """Return what is wrong with what becomes of `example`; nothing when all is well.

    What is not as through a peer may be as what it says plainly is through one.
    """
    plainly = replace(example, raw=said_plainly(example.raw))
    for quiet, settle in ((QUIET, 0.0), (CERTAIN, CERTAIN)):
        outcomes = world.send(example, quiet=quiet, settle=settle)
        faults = faults_of(example, outcomes)
        if faults and plainly.raw != example.raw:
            by_peers = world.send(plainly, quiet=quiet, settle=settle)
            outcomes |= {(proxy, way): each for (proxy, way), each in by_peers.items() if proxy != OURS}
            faults = faults_of(example, outcomes)
        if not faults:
            return ""
    return report(example, outcomes, faults)


def report(example: Example, outcomes: Outcomes, faults: list[str]) -> str:
    """Return what was sent, what became of it everywhere, and what is wrong with that."""
    each = "\n".join(f"  {proxy}, {way}: {outcome!r}" for (proxy, way), outcome in outcomes.items())
    return "\n".join([*faults, f"  {example!r}", each])
