"""Output that survives a terminal, a pipe or a locale that cannot show every character.

A dot of `••••` becomes `*`, and so on; what has no likeness is escaped as in JSON, so that a line that was
JSON still is. Names of files that are no text (surrogates) are escaped too, in UTF-8 as well.
"""

import codecs
import io
import sys
from typing import TextIO

LIKENESSES = {"•": "*", "…": "...", "–": "-", "—": "-", "→": "->", "’": "'"}  # noqa: RUF001 - so they are

_HANDLER = "authproxy"


def survive_any_encoding() -> None:
    """Let nothing that is written to stdout and stderr from here on fail for its characters."""
    codecs.register_error(_HANDLER, _likeness)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue  # closed, or somebody else's
        if codecs.lookup(stream.encoding).name == "ascii":
            lines, through = stream.line_buffering, stream.write_through
            stream = _ASCII(stream.detach(), "ascii", _HANDLER, None, lines, through)
            setattr(sys, name, stream)
        else:
            stream.reconfigure(errors=_HANDLER)


def is_unicode(stream: TextIO | None) -> bool:
    """Tell whether every character can be written to `stream`."""
    return (getattr(stream, "encoding", None) or "").lower().startswith("utf")


class _ASCII(io.TextIOWrapper):
    """A stream of ASCII under a name that click does not know: to one that it does it would write UTF-8."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "ASCII and nothing else"


def _likeness(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(LIKENESSES.get(each) or _escaped(each) for each in characters), error.end


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
