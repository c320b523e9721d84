r"""How the URLs begin that are looked for in texts, in any spelling, and where such a URL leads.

    "https:\/\/api.example.com:443\/v2   \/items\/..\/..\/..\/bank   ?page=2"
     └── origin, port, base path: a prefix ┘└── path behind it: judged ┘└── never looked at

A client walks the dots of a URL before it asks for it. So one whose path steps out of what it begins with
would lead, with a beginning of ours, to another route; it is left alone, as such a `Location` is.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from authproxy.proxy.rewrite import Mounts, leads_to, walk
from authproxy.values import DEFAULT_PORTS

QUOTE = b'"'
MAX_URL = 8 << 10  # bytes from the quote to the end of the path; a longer one is not judged, and left alone
PORT_DIGITS = 5

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(/))")
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
# A path in a string and what ends it. As a rule no dot of it is spelled in another way.
_PLAIN_PATH = re.compile(rb'(?:[^"?#\\%\x00-\x1f\x7f]++|%(?!2[eE])|\\/)*+(?=["?#])')
# Any, as far as it is there. An escape that is cut is not gone over, so that it may go on with that.
_PATH = re.compile(
    rb'(?:[^"?#\\]++|\\(?:[^u]|u(?!00(?:3[fF]|23)|[0-9a-fA-F]{0,3}\Z)))*+(["?#]|\\u00(?:3[fF]|23))?',
    re.DOTALL,
)
# A backslash is a slash to some; some take controls out, and off the end what they take for white space.
_UNCLEAR = re.compile(r"[\\\x00-\x1f\x7f]")
_END = re.compile(r"[^!-~]+\Z")


@dataclass(frozen=True, slots=True)
class Prefix:
    """What begins a URL: `origin` without a port, as origins are compared, its `port`, and a raw `path`.

    The origin is lower case; the path is compared as it is, and may be empty. A URL that leads to one of the
    mounts `closed`, below where it is to lead, is left alone.
    """

    origin: str
    port: int
    path: str
    closed: Mounts = frozenset()

    @classmethod
    def of(cls, scheme: str, host: str, port: int, path: str, closed: Mounts = frozenset()) -> "Prefix":
        """Return that of a URL; `host` is without brackets."""
        return cls(f"{scheme}://{f'[{host}]' if ':' in host else host}", port, path, closed)

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
        self._closed = [each.closed for each in known]
        self.longest = 1 + 6 * (max(len(text) for _, text in self._texts) + 1)

    def closed(self, match: re.Match[bytes]) -> Mounts:
        """Return where a URL must not lead, with whose beginning there is a `match`."""
        return self._closed[(match.lastindex or 1) - 1]

    def may_begin(self, data: bytes, at: int) -> bool:
        """Tell whether a string that is there from the quote `at` may go on as one of the prefixes."""
        if len(data) - at > self.longest:
            return False
        text = _ESCAPE.sub(_meant, _CUT_ESCAPE.sub(b"", data[at + 1 :]))  # whatever that one comes to
        return any(whole.startswith(text[:size].lower() + text[size:]) for size, whole in self._texts)


def is_plain_path(data: bytes, start: int, bound: int) -> bool:
    """Tell whether a path that stands in a string at `start` ends before `bound`, and has no step `..`."""
    found = _PLAIN_PATH.match(data, start, bound)
    return found is not None and b"/." not in found[0]


def path_in_string(data: bytes, start: int, bound: int) -> tuple[int, bool]:
    """Return to where a path goes that stands in a string at `start`, and whether that is all of it.

    Nothing is looked at from `bound` on. One that is cut goes on where it has come to.
    """
    found = _PATH.match(data, start, bound)
    assert found is not None  # noqa: S101 - an empty one will do
    return (found.end(), False) if found[1] is None else (found.start(1), True)


def stays_below_in_string(path: bytes, closed: Mounts = frozenset()) -> bool:
    """Tell what `stays_below` does, of a `path` as it stands in a JSON string; no if it cannot be read."""
    try:
        return stays_below(json.loads(f'"{path.decode("utf-8", "surrogateescape")}"', strict=False), closed)
    except ValueError:
        return False


def stays_below(path: str, closed: Mounts = frozenset()) -> bool:
    """Tell whether `path`, put behind another one, leads below that, and to none `closed`, whoever reads it.

    Some merge slashes before they walk the dots, so an empty segment is no step down.
    """
    bare = _END.sub("", path)
    if _UNCLEAR.search(bare) is not None or leads_to(bare, closed):
        return False
    return walk([each for each in bare.split("/") if each])[0] == 0


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
