"""Secrets that are known again wherever they turn up, whole or in part, in whatever spelling.

    canaries = Canaries()
    password = canaries.made("password")     a new secret
    canaries.add("token", text)              one that was made elsewhere
    canaries.look("the log", data)           fails if there is any of one in there

What is looked for are pieces of letters and digits, which quoting for URLs, JSON and HTML leaves alone: a
secret that was cut is found as well. In Base64 a piece has three spellings, as it may begin anywhere.
"""

import base64
import re
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass, field

PIECE = 10  # characters; long enough to be there by no chance
LONG = 28  # characters of a secret's core
AWKWARD = "/+%&=?\"'<>"  # what is spelled in other ways in URLs, JSON, HTML and shells
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

_CORE = re.compile(rb"[A-Za-z0-9]{%d,}" % PIECE)
_URL_SAFE = re.compile(rb"[A-Za-z0-9_-]{%d,}" % PIECE)  # for one in which `-` and `_` stand close together


@dataclass
class Canaries:
    """All secrets of a test, and how many places were searched for them."""

    needles: dict[bytes, str] = field(default_factory=dict)
    lengths: set[int] = field(default_factory=set)
    places: int = 0
    size: int = 0

    def made(self, name: str, *, awkward: str = AWKWARD, alphabet: str = "") -> str:
        """Return a new secret, in which no other one is."""
        letters = alphabet or string.ascii_letters + string.digits
        core = "".join(secrets.choice(letters) for _ in range(LONG if not alphabet else 32))
        text = core[: LONG // 2] + awkward + core[LONG // 2 :]
        self.add(name, text)
        return text

    def add(self, name: str, text: str) -> None:
        """Look for `text` from now on."""
        found = _CORE.findall(text.encode()) or _URL_SAFE.findall(text.encode())
        assert found, f"{name} has no piece that could be looked for"
        for core in found:
            for piece in _pieces(core):
                self.needles[piece] = name
                self.lengths.add(len(piece))

    def found_in(self, data: bytes) -> set[bytes]:
        """Return the pieces of secrets that are in `data`."""
        found: set[bytes] = set()
        for length in self.lengths:
            there = {data[start : start + length] for start in range(len(data) - length + 1)}
            found |= {piece for piece in there if piece in self.needles}
        return found

    def look(self, place: str, data: bytes | str, *, but: frozenset[str] = frozenset()) -> None:
        """Fail if `data`, which stands at `place`, has any of a secret in it, but for those called `but`."""
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        self.places += 1
        self.size += len(raw)
        found = {needle for needle in self.found_in(raw) if self.needles[needle] not in but}
        if found:
            names = sorted({self.needles[needle] for needle in found})
            about = [_around(raw, needle) for needle in sorted(found)[:3]]
            raise AssertionError(f"{place} has {', '.join(names)}: {about}")


def _pieces(core: bytes) -> Iterator[bytes]:
    """Yield the ends and the middle of `core`, plain, as hexadecimal and as they are inside of Base64."""
    middle = (len(core) - PIECE) // 2
    for start in {0, middle, len(core) - PIECE}:
        piece = core[start : start + PIECE]
        yield piece
        yield piece.hex().encode()
        for shift in range(3):
            encoded = base64.b64encode(b"\0" * shift + piece)
            # What shares bits with a neighbour is unknown: the ends are left out.
            yield encoded[(shift * 8 + 5) // 6 : (shift + PIECE) * 8 // 6]


def _around(data: bytes, needle: bytes) -> str:
    start = data.find(needle)
    return data[max(0, start - 80) : start + 80].decode("utf-8", "replace")
