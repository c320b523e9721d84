r"""URLs in the string values of a JSON text, replaced while it streams by.

    …"next": "https:\/\/api.example.com\/v2\/items?page=2"…
             └── opening quote, origin, base path: another prefix ┘└── kept to the byte

The text is never parsed, and nothing of it is made anew. Three things are known at any byte: which containers
are open, whether that is in a string, and what came last outside of one. So a string is known as a value, and
no key (RFC 8259 §4), by its first byte. All of this is found out of whole pieces at once: none is walked byte
by byte. What is held back is the beginning of a string that may yet be one of the prefixes, and one that is
until it is known where it leads; nothing else.

What is no JSON passes: no byte is ever lost, whatever comes.
"""

import re
from collections.abc import Callable, Sequence

from authproxy.proxy.rewrite import Mounts
from authproxy.proxy.url_prefixes import (
    MAX_URL,
    QUOTE,
    Prefixes,
    is_plain_path,
    path_in_string,
    stays_below,
    stays_below_in_string,
)

BRACE, CLOSING = b"{"[0], b"}]"
MAX_DEPTH = 1 << 16  # of open containers that are remembered: a byte each
MAX_ROUNDS = 8  # in which pairs of brackets are taken out; what is nested deeper is walked
NEAR = 8  # bytes before a string, among which is what it stands behind, as a rule
START = 4  # bytes which tell UTF-16 and UTF-32 from UTF-8

_WHITE = b" \t\r\n"
_BEFORE_VALUES = frozenset({b":", b"["})
_UNMARKED = bytes(set(range(256)) - set(b'"{}[]'))
_BEGINS = re.compile(rb'"(?=[hH\\]|\Z)')  # a string that may be one of the prefixes, as far as it is there
# A plain text that may be a URL: up to its query or fragment, or to the white space at its end.
_URL = re.compile(rb"([^\\ \t\r\n?#]*+)(?:([?#])|[ \t\r\n]*+\Z)")
_BYTE_ORDER_MARKS = (b"\xfe\xff", b"\xff\xfe")


class _Structure:
    """What surrounds a place in a text: the open containers, a string, and what came last outside of one.

    It is known up to `_known` in the piece at hand; up to `_counted` it is known whether in a string.
    """

    def __init__(self) -> None:
        self.open = bytearray()
        self._escaped = self._in_string = self._quoted = False
        self._last = b""
        self._piece = b""
        self._known = self._counted = 0

    def take(self, piece: bytes) -> None:
        """Go on with `piece`; the one before was gone over."""
        self._piece, self._known, self._counted = piece, 0, 0

    def begins_value(self, at: int) -> bool:
        """Tell whether the quote `at` is the first byte of a value. No earlier one is asked for again."""
        piece = self._piece
        if self._escaped or piece.find(b"\\", self._counted, at) >= 0:
            self.go_to(at)
        else:
            self._quoted ^= piece.count(QUOTE, self._counted, at) % 2 == 1
            self._counted = at
        if self._quoted:
            return False
        if piece[max(0, at - NEAR) : at].rstrip(_WHITE)[-1:] in _BEFORE_VALUES:
            return True  # as a rule, and then it does not matter in what
        self.go_to(at)
        return not self.open or self.open[-1] != BRACE or self._last == b":"

    def go_to(self, at: int) -> None:
        """Go over the piece up to `at`."""
        piece = self._piece[self._known : at]
        self._known = self._counted = at
        if self._escaped:
            piece, self._escaped = piece[1:], not piece
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"")
            self._escaped = piece.endswith(b"\\")
            piece = piece.replace(b'\\"', b"")
        marks = piece.translate(None, _UNMARKED)
        if self._in_string:
            marks = QUOTE + marks
        # Two quotes side by side change nothing: they enclose no mark, or end a string and begin another.
        outside = marks.replace(b'""', b"").split(QUOTE)
        self._in_string = self._quoted = len(outside) % 2 == 0
        if not self._in_string:
            self._last = piece.rstrip(_WHITE)[-1:] or self._last
        self._bracket(b"".join(outside[::2]))

    def _bracket(self, brackets: bytes) -> None:
        """Open and close containers."""
        for _ in range(MAX_ROUNDS):
            opened = brackets.lstrip(CLOSING)
            if b"}" not in opened and b"]" not in opened:
                if closed := len(brackets) - len(opened):
                    del self.open[-closed:]
                self.open += opened
                return
            brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        for each in brackets:
            if each in CLOSING:
                del self.open[-1:]
            else:
                self.open.append(each)


class JSONScanner:
    """Replaces `prefixes` in one text; `replacements` are what they become, each as it stands in a string.

    `foreign` is called once if the text is in UTF-16 or UTF-32: that passes as it is.
    """

    def __init__(
        self,
        prefixes: Prefixes,
        replacements: Sequence[bytes],
        foreign: Callable[[], object] = lambda: None,
    ) -> None:
        self._prefixes = prefixes
        self._replacements = replacements
        self._foreign = foreign
        self._structure = _Structure()
        self._start = b""
        self._held = b""
        self._sought = 0  # up to where of that a path was gone over
        self._passes = False  # whether nothing is looked for any more

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return all that can be said by now."""
        if len(self._start) < START:
            self._look_at_start(data)
        if self._held:
            data, self._held = self._held + data, b""
        if self._passes:
            return data
        parts: list[bytes] = []
        passed = seen = 0  # up to where `data` is among `parts`, and was looked at
        self._structure.take(data)
        for match in self._prefixes.pattern.finditer(data):
            at = seen = match.start()
            if not self._structure.begins_value(at):
                continue
            stays = self._stays_below(data, at, match.end(), self._prefixes.closed(match))
            if stays is None:
                return self._hold(data, at, passed, parts)
            if stays:
                parts += (data[passed : at + 1], self._replacements[(match.lastindex or 1) - 1])
                passed = match.end()
        if (cut := self._cut_short(data, seen)) is not None:
            return self._hold(data, cut, passed, parts)
        self._structure.go_to(len(data))
        if len(self._structure.open) > MAX_DEPTH:
            self._passes = True
        return self._joined(data, len(data), passed, parts)

    def end(self) -> bytes:
        """Return what was held back, now that nothing more comes."""
        held, self._held = self._held, b""
        return held

    def _stays_below(self, data: bytes, at: int, behind: int, closed: Mounts) -> bool | None:
        """Tell whether a URL, whose quote is `at`, leads below its prefix; None while that is not known.

        Until its path ends, it may go on as a prefix that goes before this one, too.
        """
        bound = at + MAX_URL
        if not self._sought and not closed and is_plain_path(data, behind, bound):
            return True
        end, is_all = path_in_string(data, max(behind, at + self._sought), bound)
        if not is_all and len(data) < bound:
            self._sought = end - at
            return None
        self._sought = 0
        return is_all and stays_below_in_string(data[behind:end], closed)

    def _cut_short(self, data: bytes, seen: int) -> int | None:
        """Return where a string begins that may go on as one of the prefixes; what was `seen` is none."""
        for match in _BEGINS.finditer(data, max(seen, len(data) - self._prefixes.longest)):
            at = match.start()
            if self._structure.begins_value(at) and self._prefixes.may_begin(data, at):
                return at
        return None

    def _hold(self, data: bytes, at: int, passed: int, parts: list[bytes]) -> bytes:
        self._structure.go_to(at)
        self._held = data[at:]
        return self._joined(data, at, passed, parts)

    @staticmethod
    def _joined(data: bytes, end: int, passed: int, parts: list[bytes]) -> bytes:
        return b"".join([*parts, data[passed:end]]) if parts else data[:end]

    def _look_at_start(self, data: bytes) -> None:
        """See by the first bytes whether this is UTF-8 (RFC 4627 §3: no other has no zero among them)."""
        self._start += data[: START - len(self._start)]
        if not self._passes and (self._start.startswith(_BYTE_ORDER_MARKS) or b"\0" in self._start):
            self._passes = True
            self._foreign()


class TextScanner:
    """Replaces `prefixes` in a plain text that is one URL, white space at its end aside; another passes."""

    def __init__(self, prefixes: Prefixes, replacements: Sequence[bytes]) -> None:
        self._prefixes = prefixes
        self._replacements = replacements
        self._held = b""
        self._passes = False

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return all that can be said by now."""
        if self._passes:
            return data
        self._held += data
        url = _URL.match(self._held)
        if url is None or url[2] or len(self._held) > MAX_URL:
            return self.end()
        may_be_one = self._match(url[1]) is not None or self._prefixes.may_begin(QUOTE + self._held, 0)
        return b"" if may_be_one else self.end()

    def end(self) -> bytes:
        """Return what was held back, now that nothing more comes."""
        text, self._held, self._passes = self._held, b"", True
        url = _URL.match(text)
        match = self._match(url[1]) if url is not None and len(url[0]) <= MAX_URL else None
        if url is None or match is None:
            return text
        path = url[1][match.end() - len(QUOTE) :]
        if path and not path.startswith(b"/"):
            return text
        if not stays_below(path.decode("utf-8", "surrogateescape"), self._prefixes.closed(match)):
            return text
        return self._replacements[(match.lastindex or 1) - 1] + text[match.end() - len(QUOTE) :]

    def _match(self, url: bytes) -> re.Match[bytes] | None:
        return self._prefixes.pattern.match(QUOTE + url + QUOTE)  # as if it were a string
