"""Output that survives a terminal, a pipe or a locale that cannot show every character.

A dot of `••••` becomes `*`, and so on; what has no likeness is escaped as in JSON, so that a line that was
JSON still is. Names of files that are no text (surrogates) are escaped too, in UTF-8 as well.
"""

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

LIKENESSES = {"•": "*", "…": "...", "–": "-", "—": "-", "→": "->", "’": "'"}  # noqa: RUF001 - so they are

_HANDLER = "authproxy"


class StdoutFault(OSError):
    """What was written to stdout could not be, or it is closed."""


def prepare_output() -> None:
    """Let nothing that is written from here on fail for its characters; for the rest, raise `StdoutFault`."""
    codecs.register_error(_HANDLER, _likeness)
    if sys.stdout is None:
        _lead_to_nowhere(1)  # left free it would become some connection of ours
        sys.stdout = _Stdout(cast("Any", _Closed()), "utf-8", write_through=True)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue  # closed, or somebody else's
        encoding, lines, through = stream.encoding, stream.line_buffering, stream.write_through
        is_ascii = codecs.lookup(encoding).name == "ascii"
        if name == "stdout":
            kind: type[io.TextIOWrapper] = _ASCIIStdout if is_ascii else _Stdout
            sys.stdout = kind(stream.detach(), encoding, _HANDLER, None, lines, through)
        elif is_ascii:
            sys.stderr = _ASCII(stream.detach(), "ascii", _HANDLER, None, lines, through)
        else:
            stream.reconfigure(errors=_HANDLER)


def give_up_stdout() -> None:
    """Let go what stdout did not take, so that the end of the process does not try it once more."""
    with contextlib.suppress(io.UnsupportedOperation):  # it was closed from the beginning
        _lead_to_nowhere(sys.stdout.fileno())


def _lead_to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def is_unicode(stream: TextIO | None) -> bool:
    """Tell whether every character can be written to `stream`."""
    return (getattr(stream, "encoding", None) or "").lower().startswith("utf")


class _ASCII(io.TextIOWrapper):
    """A stream of ASCII under a name that click does not know: to one that it does it would write UTF-8."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "ASCII and nothing else"


class _Stdout(io.TextIOWrapper):
    """A stream whose faults can be told from all others."""

    def write(self, text: str, /) -> int:
        with _as_fault_of_stdout():
            return super().write(text)

    def flush(self) -> None:
        with _as_fault_of_stdout():
            super().flush()


class _ASCIIStdout(_Stdout, _ASCII):
    """Both."""


class _Closed(io.RawIOBase):
    """What stands in for a descriptor that was closed before the start."""

    def writable(self) -> bool:
        return True

    def write(self, _data: object, /) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


@contextlib.contextmanager
def _as_fault_of_stdout() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StdoutFault(error.errno, error.strerror) from error


def _likeness(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(LIKENESSES.get(each) or _escaped(each) for each in characters), error.end


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
