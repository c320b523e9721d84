"""Where each head and each body ends, in the bytes of one client's connection (RFC 9112 §2.1, §6, §7.1).

    head ──┬─ no body ──────────────────────────────▶ head
           ├─ a length ──▶ body ────────────────────▶ head
           └─ chunked ──▶ size ◀─▶ data
                            └─ 0 ──▶ trailer ───────▶ head

aiohttp's parser is given no more than one of these parts at a time: it forgets good requests with a bad one
behind them, and takes the last trailer of a body for a header of the request that follows. Nothing is judged
here. What is no chunk is handed on to the parser, which refuses it.
"""

import re

EMPTY_LINE = b"\r\n\r\n"

_DIGITS = re.compile(rb"[0-9A-Fa-f]+")
_MOST_DIGITS = 16  # of a chunk's size; the parser takes no more

HEAD, BODY, SIZE, EXTENSION, TRAILER, FAULT = range(6)
"""What the next byte belongs to. `FAULT`: nobody can tell, and the parser will say so."""


class Framing:
    """Follows one connection. `section` is how many bytes of the head or trailer have come so far."""

    __slots__ = ("_digits", "_last", "_left", "part", "section")

    def __init__(self) -> None:
        self.part = HEAD
        self.section = 0
        self._last = b""  # bytes of a head or trailer: an empty line may have begun in them
        self._left = 0  # bytes of a body, or of a chunk and the end of its line
        self._digits = b""  # of the size of a chunk

    @property
    def between(self) -> bool:
        """Whether the next byte is the first of a head."""
        return self.part == HEAD and not self.section

    def length(self, size: int) -> None:
        """Expect a body of `size` bytes, more than none, now that the head is through."""
        self.part, self._left = BODY, size

    def chunks(self) -> None:
        """Expect a body in chunks."""
        self.part, self._left, self._digits = SIZE, 0, b""

    def is_part_of_body(self, size: int) -> bool:
        """Take `size` bytes if they are some of a body whose length is known, not its last; tell whether."""
        if self.part != BODY or size >= self._left:
            return False
        self._left -= size
        return True

    def end(self, data: bytes, start: int) -> int:
        """Take what comes in `data` from `start` on; return where the part ends: at the latest, there."""
        if self.part in {HEAD, TRAILER}:
            return self._empty_line(data, start)
        if self.part == BODY:
            taken = min(self._left, len(data) - start)
            self._left -= taken
            if not self._left:
                self.part = HEAD
            return start + taken
        return self._chunks(data, start) if self.part != FAULT else len(data)

    def _empty_line(self, data: bytes, start: int) -> int:
        before = self._last
        end = (before + data[start : start + 3]).find(EMPTY_LINE) if before else -1
        if end >= 0:
            end += start - len(before) + len(EMPTY_LINE)
        elif (end := data.find(EMPTY_LINE, start)) >= 0:
            end += len(EMPTY_LINE)
        if end < 0:
            self.section += len(data) - start
            self._last = (before + data[max(start, len(data) - 3) :])[-3:]
            return len(data)
        self.part, self.section, self._last = HEAD, 0, b""
        return end

    def _chunks(self, data: bytes, at: int) -> int:
        size = len(data)
        while at < size:
            if self._left:
                taken = min(self._left, size - at)
                self._left -= taken
                at += taken
                continue
            if self.part == SIZE:
                found = _DIGITS.match(data, at)
                if (found is None and not self._digits) or len(self._digits) > _MOST_DIGITS:
                    self.part = FAULT
                    return size
                if found is not None:
                    self._digits = (self._digits + found[0]).lstrip(b"0") or b"0"
                    at = found.end()
                    continue
                self.part = EXTENSION
            end = data.find(b"\n", at)
            if end < 0:
                return size
            at, number, self._digits = end + 1, int(self._digits, 16), b""
            if not number:
                self.part, self._last, self.section = TRAILER, b"\r\n", 0
                return self._empty_line(data, at)
            self.part, self._left = SIZE, number + len(b"\r\n")
        return size
