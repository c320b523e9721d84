r"""URLs in the string values of a JSON text, replaced while it streams by.

    …"next": "https:\/\/api.example.com\/v2\/items?page=2"…
             └── opening quote, origin, base path: another prefix ┘└── kept to the byte

The text is never parsed, and nothing of it is made anew. Three things are known at any byte: which containers
are open, whether that is in a string, and what came last outside of one. So a string is known as a value, and
no key (RFC 8259 §4), by its first byte. All of this is found out of whole pieces at once: none is walked byte
by byte. What is held back is the beginning of a string that may yet be one of the prefixes, and nothing else.

What is no JSON passes: no byte is ever lost, whatever comes.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from authproxy.values import DEFAULT_PORTS

QUOTE, BRACE, CLOSING = b'"', b"{"[0], b"}]"
MAX_DEPTH = 1 << 16  # of open containers that are remembered: a byte each
MAX_ROUNDS = 8  # in which pairs of brackets are taken out; what is nested deeper is walked
PORT_DIGITS = 5
NEAR = 8  # bytes before a string, among which is what it stands behind, as a rule
START = 4  # bytes which tell UTF-16 and UTF-32 from UTF-8

_WHITE = b" \t\r\n"
_BEFORE_VALUES = frozenset({b":", b"["})
_UNMARKED = bytes(set(range(256)) - set(b'"{}[]'))
_BEGINS = re.compile(rb'"(?=[hH\\]|\Z)')  # a string that may be one of the prefixes, as far as it is there
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(/))")
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_SPACE = re.compile(rb"[ \t\r\n]")
_BYTE_ORDER_MARKS = (b"\xfe\xff", b"\xff\xfe")


@dataclass(frozen=True, slots=True)
class Prefix:
    """What begins a URL: `origin` without a port, as origins are compared, its `port`, and a raw `path`.

    The origin is lower case; the path is compared as it is, and may be empty.
    """

    origin: str
    port: int
    path: str

    @classmethod
    def of(cls, scheme: str, host: str, port: int, path: str) -> "Prefix":
        """Return that of a URL; `host` is without brackets."""
        return cls(f"{scheme}://{f'[{host}]' if ':' in host else host}", port, path)

    @property
    def authorities(self) -> list[str]:
        """The origin in each way in which it may be written (RFC 3986 §3.2), in lower case."""
        ports = [f":{'0' * count}{self.port}" for count in range(self._zeros + 1)]
        if self._is_default_port:
            ports += ["", ":"]
        return [f"{self.origin}{dot}{port}" for dot in ("", self._dot) for port in ports]

    @property
    def pattern(self) -> bytes:
        """A pattern for it, in each of these ways, and in any spelling that JSON has for that."""
        zeros = b"%b{0,%d}" % (_character("0"), self._zeros)
        port = b"%b%b%b" % (_character(":"), zeros, _as_it_is(str(self.port)))
        if self._is_default_port:
            port = b"(?:%b|%b?)" % (port, _character(":"))
        dot = b"%b?" % _character(self._dot) if self._dot else b""
        return b"%b%b%b%b" % (_either_case(self.origin), dot, port, _as_it_is(self.path))

    @property
    def _is_default_port(self) -> bool:
        return DEFAULT_PORTS[self.origin.partition("://")[0]] == self.port

    @property
    def _zeros(self) -> int:
        """How many of them may stand before the port."""
        return PORT_DIGITS - len(str(self.port))

    @property
    def _dot(self) -> str:
        """That of the root, which a name may end with."""
        return "" if self.origin.endswith("]") else "."


class Prefixes:
    """Prefixes to look for, an earlier one before a later one; the first character of each is an h."""

    def __init__(self, prefixes: Iterable[Prefix]) -> None:
        known = list(prefixes)
        end = b"|".join([QUOTE, *map(_character, "/?#")])
        # What is looked at first makes the search fast: most strings begin with something else.
        self.pattern = re.compile(
            b'"(?=[hH\\\\][tTu\\\\])(?:%b)(?=%b)' % (b"|".join(b"(%b)" % each.pattern for each in known), end)
        )
        self._texts = [
            (len(authority), (authority + each.path).encode())
            for each in known
            for authority in each.authorities
        ]
        self.longest = 1 + 6 * (max(len(text) for _, text in self._texts) + 1)

    def may_begin(self, data: bytes, at: int) -> bool:
        """Tell whether a string that is there from the quote `at` may go on as one of the prefixes."""
        if len(data) - at > self.longest:
            return False
        text = _ESCAPE.sub(_meant, _CUT_ESCAPE.sub(b"", data[at + 1 :]))  # whatever that one comes to
        return any(whole.startswith(text[:size].lower() + text[size:]) for size, whole in self._texts)


def _meant(match: re.Match[bytes]) -> bytes:
    return match[2] or chr(int(match[1], 16)).encode("utf-8", "surrogatepass")


def _character(*spellings: str) -> bytes:
    """Return a pattern for an ASCII character as it stands in a string, escaped or not (RFC 8259 §7)."""
    plain = b"[%b]" % b"".join(re.escape(each.encode()) for each in spellings)
    escapes = b"|".join(map(_hex, spellings))
    slash = b"|\\\\/" if "/" in spellings else b""
    return b"(?:%b|\\\\u00(?:%b)%b)" % (plain, escapes, slash)


def _hex(each: str) -> bytes:
    """Return a pattern for the code of a character, in either case."""
    digits = f"{ord(each):02x}"
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits).encode()


def _as_it_is(text: str) -> bytes:
    return b"".join(map(_character, text))


def _either_case(text: str) -> bytes:
    return b"".join(_character(each, *([each.upper()] if each.isalpha() else [])) for each in text)


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
            if self._prefixes.may_begin(data, at):  # one that goes before it may yet come
                return self._hold(data, at, passed, parts)
            parts += (data[passed : at + 1], self._replacements[(match.lastindex or 1) - 1])
            passed = match.end()
        for match in _BEGINS.finditer(data, max(seen, len(data) - self._prefixes.longest)):
            at = match.start()
            if self._structure.begins_value(at) and self._prefixes.may_begin(data, at):
                return self._hold(data, at, passed, parts)
        self._structure.go_to(len(data))
        if len(self._structure.open) > MAX_DEPTH:
            self._passes = True
        return self._joined(data, len(data), passed, parts)

    def end(self) -> bytes:
        """Return what was held back, now that nothing more comes."""
        held, self._held = self._held, b""
        return held

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
    """Replaces `prefixes` where a plain text, which is one URL, begins with them; the rest passes."""

    def __init__(self, prefixes: Prefixes, replacements: Sequence[bytes]) -> None:
        self._prefixes = prefixes
        self._replacements = replacements
        self._held = QUOTE  # as if it were a string
        self._passes = False

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return all that can be said by now."""
        if self._passes:
            return data
        self._held += data
        return b"" if self._prefixes.may_begin(self._held, 0) else self.end()

    def end(self) -> bytes:
        """Return what was held back, now that nothing more comes."""
        if self._passes:
            return b""
        text, self._held, self._passes = self._held, b"", True
        match = self._prefixes.pattern.match(_SPACE.sub(QUOTE, text + b" ", count=1))
        if match is None:
            return text[1:]
        return self._replacements[(match.lastindex or 1) - 1] + text[match.end() :]
