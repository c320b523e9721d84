"""Plain heads: those that can be read in one way only, read in a few steps.

A plain head is printable ASCII, its lines `Name: value` with one space and nothing to trim, no name twice in
any spelling, and no name of which somebody judges the *value*, but the few that are read here. What is not
plain is no fault: it is left to a parser, which knows all the rest and refuses what has to be refused.

    head ─▶ lines ─▶ the sequence of their names ─▶ Shape, worked out once for each sequence
      ├─▶ the section as it stands, seen before? ─▶ all that was worked out of it
      └─▶ the head as it stands, seen before? ─▶ how it was judged, too
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from authproxy.proxy.placeholders import SHORTEST, is_noticed
from authproxy.values import any_spelling

Version = tuple[int, int]  # of HTTP
HTTP_1_0: Version = (1, 0)
HTTP_1_1: Version = (1, 1)
PRINTABLE = bytes(range(0x20, 0x7F))
EMPTY_LINE = b"\r\n\r\n"
MAX_LINES = 100
MAX_LINES_SEEN = 256 << 10  # bytes of lines that are remembered: clients may make them up
LINE_OVERHEAD = 128  # bytes that each takes beside itself
MAX_SHAPES = 512  # sequences of names that are remembered,
MAX_NAMES = 2 << 10  # bytes each: clients may make them up
MAX_REMEMBERED = 256  # header sections that are remembered whole, and heads,
MAX_TEXT = 2 << 10  # bytes each,
MAX_ONCE = 1024  # and those seen once, of which only a hash is
MAX_STATUS_LINES = 256  # of replies that are remembered,
MAX_STATUS_LINE = 100  # bytes each
MAX_DIGITS = 15  # of a length

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): [!-~]+(?: [!-~]+)*\Z")
_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,%d})\Z" % (MAX_DIGITS - 1))
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-9][0-9][0-9]) ([!-~]+(?: [!-~]+)*)\Z")
_CHUNK_SIZE = re.compile(rb"([1-9a-fA-F][0-9a-fA-F]{0,6})\r\n")
MAX_CHUNKS = 64  # of a reply that is all there

METHODS = {each.encode(): each for each in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
KEEPS = {b"keep-alive": True, b"Keep-Alive": True, b"close": False}  # what `Connection` may say

S = TypeVar("S")


class Shapes(dict[tuple[bytes, ...], S | None], Generic[S]):
    """What `judge` says of a sequence of names, each as it was written; None for one that is not plain.

    A name comes once in it, however it is spelled; an empty one is none (see `LineNames`). `judge` gets the
    names in lower case, and as they were written.
    """

    def __init__(self, judge: Callable[[list[bytes], tuple[bytes, ...]], S | None]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, names: tuple[bytes, ...]) -> S | None:
        lower = [name.lower() for name in names]
        spellings = {name.replace(b"_", b"-") for name in lower}
        shape = None
        if len(spellings) == len(names) and b"" not in spellings:
            shape = self._judge(lower, names)
        if len(self) >= MAX_SHAPES:
            self.clear()
        if sum(map(len, names)) <= MAX_NAMES:
            self[names] = shape
        return shape


class Seen(dict[bytes, S], Generic[S]):
    """What was worked out of a text, from its second sight on: what comes once is not worth remembering."""

    def __init__(self) -> None:
        super().__init__()
        self.once: set[int] = set()  # the hashes of those that were seen once

    def add(self, text: bytes, found: S) -> None:
        if len(text) > MAX_TEXT:
            return
        seen = hash(text)
        if seen in self.once:
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[text] = found
            return
        if len(self.once) >= MAX_ONCE:
            self.once.clear()
        self.once.add(seen)


class LineNames(dict[bytes, bytes]):
    """The name in a line of a plain header section; empty for a line that is not plain.

    Most lines come again, in whatever company. With `notices`, `noticed` is set by one in which there may be
    a placeholder, each time: that one is not remembered.
    """

    def __init__(self, *, notices: bool = False) -> None:
        super().__init__()
        self.noticed = False
        self._notices = notices
        self._room = MAX_LINES_SEEN

    def __missing__(self, line: bytes) -> bytes:
        found = _LINE.match(line)
        name = found[1] if found else b""
        if name and self._notices and len(line) >= SHORTEST and is_noticed(line):
            self.noticed = True
            return name
        size = len(line) + len(name) + LINE_OVERHEAD
        if size > self._room:
            self.clear()
            self._room = MAX_LINES_SEEN
        if size <= self._room:
            self._room -= size
            self[line] = name
        return name


def pairs_of(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Return names and values of the lines of a plain section."""
    return [(name, value) for name, _, value in [line.partition(b": ") for line in lines]]


# ── requests ─────────────────────────────────────────────────────────────────────────────────────


class RequestShape(NamedTuple):
    """Where the lines stand whose values are read; -1 for one that is not there."""

    host: int
    connection: int
    length: int
    key: int


class Section:
    """The header section of a plain request.

    `length` is None when there is no `Content-Length`; `authority` is the value of `Host`, `key` that of the
    access key's header, `size` how many bytes it has. What is worked out of it is kept here: `host` is the
    one that the guard has let it in to, and `worked_out` has its lines as they go on, for each route.
    `noticed` tells that there may be a placeholder in it.
    """

    __slots__ = (
        "authority", "host", "keep_alive", "key", "length", "lines", "names", "noticed", "size", "worked_out",
    )  # fmt: skip

    def __init__(
        self, lines: list[bytes], names: tuple[bytes, ...], shape: RequestShape, size: int = 0
    ) -> None:
        self.lines = lines
        self.size = size
        self.names = names
        self.authority = lines[shape.host][len("host: ") :].decode("ascii")
        self.keep_alive = True
        self.length: int | None = None
        self.key = lines[shape.key].partition(b": ")[2].decode("ascii") if shape.key >= 0 else ""
        self.host = ""
        self.noticed = False
        self.worked_out: dict[object, bytes | None] = {}


class PlainHead:
    """The head of a plain request; `line` is its first one, as it came.

    `route` is None until it is judged. If it passes, it is where the request goes, `path` what it asks for,
    and `outgoing` the head as it goes on there.
    """

    __slots__ = ("line", "method", "outgoing", "path", "route", "section", "target")
    outgoing: bytes
    path: str

    def __init__(self, line: bytes, method: str, target: str, section: Section) -> None:
        self.line = line
        self.method = method
        self.target = target
        self.section = section
        self.route: Any = None


class PlainReader:
    """Reads plain requests. `judged` are the headers whose values somebody judges, `key` that of access keys.

    A head of more than `limit` bytes is not plain.
    """

    def __init__(self, judged: Iterable[str], *, key: str = "", limit: int) -> None:
        self._judged = {any_spelling(name).encode() for name in judged}
        self._key = key.lower().encode() if key else None
        self._any_key = any_spelling(key).encode()
        self._limit = limit
        self._shapes: Shapes[RequestShape] = Shapes(self._shape)
        self._names = LineNames(notices=True)
        self._sections: Seen[Section] = Seen()
        self._heads: Seen[PlainHead] = Seen()

    def read(self, data: bytes) -> tuple[PlainHead, bytes] | None:
        """Return the head that `data` begins with, and what is behind it, if that is plain and whole."""
        text, end, rest = data.partition(EMPTY_LINE)
        if not end:
            return None
        head = self._heads.get(text) or self._head(text)
        if head is None:
            return None
        if rest and (head.section.length is None or len(rest) > head.section.length):
            return None
        return head, rest

    def _head(self, text: bytes) -> PlainHead | None:
        if len(text) > self._limit:
            return None
        line, _, lines = text.partition(b"\r\n")
        known = self._sections.get(lines)
        section = known or self._section(lines)
        words = line.split(b" ")
        if section is None or len(words) != 3 or words[2] != b"HTTP/1.1" or line.translate(None, PRINTABLE):
            return None
        method, target = METHODS.get(words[0]), words[1]
        if method is None or target[:1] != b"/" or b"#" in target:
            return None
        head = PlainHead(line, method, target.decode("ascii"), section)
        if known is not None:  # else it was not seen before either
            self._heads.add(text, head)
        return head

    def _shape(self, names: list[bytes], _written: tuple[bytes, ...]) -> RequestShape | None:
        spelled = [name.replace(b"_", b"-") for name in names]
        if b"host" not in names or not self._judged.isdisjoint(spelled):
            return None

        def place(name: bytes | None) -> int:
            return names.index(name) if name in names else -1

        if any(name != there for name, there in zip(names, spelled, strict=True) if there in _READ_HERE):
            return None
        if self._key is not None and self._any_key in spelled and self._key not in names:
            return None
        return RequestShape(place(b"host"), place(b"connection"), place(b"content-length"), place(self._key))

    def _section(self, text: bytes) -> Section | None:
        lines, known = text.split(b"\r\n"), self._names
        if len(lines) > MAX_LINES:
            return None
        known.noticed = False
        names = tuple([known[line] for line in lines])
        shape = self._shapes[names]
        if shape is None:
            return None
        section = Section(lines, names, shape, len(text))
        section.noticed = known.noticed
        if shape.connection >= 0:
            keeps = KEEPS.get(lines[shape.connection][len("connection: ") :])
            if keeps is None:
                return None
            section.keep_alive = keeps
        if shape.length >= 0:
            section.length = length_in(lines[shape.length])
            if section.length is None:
                return None
        self._sections.add(text, section)
        return section


_READ_HERE = frozenset({b"host", b"connection", b"content-length"})


# ── replies ──────────────────────────────────────────────────────────────────────────────────────


class _StatusLines(dict[bytes, tuple[int, bytes]]):
    """Status and reason of a status line; the status is 0 for one that is not plain."""

    def __missing__(self, line: bytes) -> tuple[int, bytes]:
        match = _STATUS_LINE.match(line)
        found = (int(match[1]), match[2]) if match else (0, b"")
        if len(self) < MAX_STATUS_LINES and len(line) <= MAX_STATUS_LINE:
            self[line] = found
        return found


_status_lines = _StatusLines()


class ReplyShape(NamedTuple):
    """Where the lines stand that frame a reply; -1 for one that is not there."""

    connection: int
    length: int
    encoding: int


def _reply_shape(names: list[bytes], _written: tuple[bytes, ...]) -> ReplyShape | None:
    if b"upgrade" in names or (b"content-length" in names and b"transfer-encoding" in names):
        return None

    def place(name: bytes) -> int:
        return names.index(name) if name in names else -1

    return ReplyShape(place(b"connection"), place(b"content-length"), place(b"transfer-encoding"))


_reply_names = LineNames()
_reply_shapes: Shapes[ReplyShape] = Shapes(_reply_shape)


class PlainReply:
    """The head of a plain reply. `length` is None when it has none; then it may be `chunked`.

    `goes_as_it_is` tells whether its framing needs no word of ours: it has a length, and is no 204, in which
    some would wait for that (RFC 9110 §8.6). `worked_out` has the head as it goes on, for each that made one
    of it and had nothing to rewrite.
    """

    __slots__ = (
        "chunked", "goes_as_it_is", "keep_alive", "length", "lines", "names", "reason", "status",
        "status_line", "worked_out",
    )  # fmt: skip

    def __init__(self, status_line: bytes, names: tuple[bytes, ...], lines: list[bytes]) -> None:
        self.status_line = status_line
        self.status, self.reason = _status_lines[status_line]
        self.names = names
        self.lines = lines
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = True
        self.goes_as_it_is = False
        self.worked_out: dict[object, bytes] = {}


_replies: "Seen[PlainReply]" = Seen()


def read_reply(head: bytes) -> PlainReply | None:
    """Return what a reply's head says, which comes without the empty line; None if it is not plain."""
    reply = _replies.get(head)
    if reply is None and (reply := _read_reply(head)) is not None:
        _replies.add(head, reply)
    return reply


def _read_reply(head: bytes) -> PlainReply | None:
    status_line, _, section = head.partition(b"\r\n")
    lines = section.split(b"\r\n") if section else []
    if len(lines) >= MAX_LINES:  # the status line is one as well
        return None
    names = tuple([_reply_names[line] for line in lines])
    shape = _reply_shapes[names]
    if shape is None:
        return None
    reply = PlainReply(status_line, names, lines)
    connection, length, encoding = shape
    if connection >= 0:
        keeps = KEEPS.get(lines[connection][len("connection: ") :])
        if keeps is None:
            return None
        reply.keep_alive = keeps
    if length >= 0:
        reply.length = length_in(lines[length])
        if reply.length is None:
            return None
    elif encoding >= 0:
        if lines[encoding][len("transfer-encoding: ") :] != b"chunked":
            return None
        reply.chunked = True
    reply.goes_as_it_is = reply.length is not None and reply.status != 204
    return reply if reply.status else None


def length_in(line: bytes) -> int | None:
    """Return what a `Content-Length` says, if that can be read in one way only."""
    digits = line[len("content-length: ") :]
    return int(digits) if _LENGTH.match(digits) else None


def unchunked(body: bytes) -> bytes | None:
    """Return the data of a chunked body that is all there, without extensions and trailers; else None."""
    if not body.endswith(b"\r\n0\r\n\r\n"):
        return b"" if body == b"0\r\n\r\n" else None
    pieces: list[bytes] = []
    at, end = 0, len(body) - len(b"0\r\n\r\n")
    while at < end:
        size = _CHUNK_SIZE.match(body, at, end)
        if size is None or len(pieces) == MAX_CHUNKS:
            return None
        start = size.end()
        at = start + int(size[1], 16)
        if at + 2 > end or body[at : at + 2] != b"\r\n":
            return None
        pieces.append(body[start:at])
        at += 2
    return b"".join(pieces)
