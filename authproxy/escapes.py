"""What a text says below its percent-encoding, and where in the text that stands.

    /login?next=%2Fcb%3Fto%3D%252Fx%253Fkey%253D1     as it is
    /login?next=/cb?to=%2Fx%3Fkey%3D1                 a level less
    /login?next=/cb?to=/x?key=1                       two levels less

A URL that is a parameter of a URL is encoded once more at each step. At each level the delimiters of that one
stand plainly, and what is a part of a value is still encoded.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator

MAX_LEVELS = 16  # the whole text is looked through for each

_KEPT = '"<>'  # they end a URL where they stand in a text; encoded they are a part of it
_PLAIN = {f"{code:02x}": chr(code) for code in range(0x21, 0x7F) if chr(code) not in _KEPT}
_ESCAPE = re.compile(f"%({'|'.join(_PLAIN)})", re.IGNORECASE)


class Layer:
    """A `text`, and where each place of it is in the one that it was made of.

    Escapes of characters that are not printable ASCII, of blanks and of what ends a URL stay.
    """

    __slots__ = ("_escapes", "_outer", "text")

    def __init__(self, text: str, outer: "Layer | None" = None) -> None:
        self._outer = outer
        self._escapes: list[int] = []
        self.text = text if outer is None else _ESCAPE.sub(self._character, text)

    @property
    def is_plain(self) -> bool:
        """Whether no escape was resolved here: there is nothing below."""
        return not self._escapes

    def place(self, at: int) -> int:
        """Return where the character at `at`, or the end, is in the text that all began with."""
        if self._outer is None:
            return at
        return self._outer.place(at + 2 * bisect_left(self._escapes, at))

    def _character(self, escape: re.Match[str]) -> str:
        self._escapes.append(escape.start() - 2 * len(self._escapes))
        return _PLAIN[escape[1].lower()]


def layers(text: str) -> Iterator[Layer]:
    """Yield `text` as it is, and then with a level of percent-encoding less each, as long as there is one."""
    layer = Layer(text)
    yield layer
    for _ in range(MAX_LEVELS):
        if "%" not in layer.text:
            return
        layer = Layer(layer.text, layer)
        if layer.is_plain:
            return
        yield layer
