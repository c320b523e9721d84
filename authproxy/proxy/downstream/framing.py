"""Where each head and each body ends, in the bytes of one client's connection (RFC 9112 §2.1, §6, §7.1).

    head ──┬─ no body ──────────────────────────────▶ head
           ├─ a length ──▶ body ────────────────────▶ head
           └─ chunked ──▶ size ◀─▶ data
                            └─ 0 ──▶ trailer ───────▶ head

aiohttp's parser is given no more than one of these parts at a time: it forgets good requests with a bad one
behind them, and takes the last trailer of a body for a header of the request that follows. Nothing is judged
here. What is no chunk is handed on to the parser, which refuses it.

A chunk costs the same however small it is, and a client can send tens of thousands at once. So no more than
`room` of them are looked at before others get their turn, and a run of very small ones becomes one chunk.
"""

import re

EMPTY_LINE = b"\r\n\r\n"

_DIGITS = re.compile(rb"[0-9A-Fa-f]+")
_MOST_DIGITS = 16  # of a chunk's size; the parser takes no more

_SMALL_CHUNK = b"|".join(b"[%x%X]\\r\\n.{%d}\\r\\n" % (size, size, size) for size in range(1, 16))
_SMALL_CHUNKS = re.compile(b"(?:%b)++" % _SMALL_CHUNK, re.DOTALL)
_SMALL_CHUNK_AGAIN = re.compile(_SMALL_CHUNK, re.DOTALL)  # of a run that is one

ROOM = 256  # chunks of one client that are looked at in one turn of the loop
SHORTEST_RUN = 1 << 10  # bytes of small chunks that are worth joining
RUN_BYTES = 64  # of a run: they cost about as much as one chunk elsewhere
LINE = 16  # bytes of each chunk that say nothing but its size, and are free

HEAD, BODY, SIZE, EXTENSION, TRAILER, FAULT, EXCESS = range(7)
"""What the next byte belongs to. `FAULT`: nobody can tell, and the parser will say so. `EXCESS`: to chunks
that are little but framing."""


class Malformed(Exception):
    """What came is not HTTP/1.1, or `too_large`: too long a line, or too many of them.

    `reason` says it in words, where that is known.
    """

    def __init__(self, reason: str | None = None, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.too_large = too_large


class Framing:
    """Follows one connection. `section` is how many bytes of the head or trailer have come so far.

    `room` is how many chunks may still be looked at: whoever gives a client its turn sets it. The framing of
    chunks may exceed by `most_excess` bytes what their data accounts for (RFC 9112 §7.1.1).
    """

    __slots__ = ("_digits", "_excess", "_last", "_left", "_most_excess", "part", "room", "section")

    def __init__(self, most_excess: int = 32 << 10) -> None:
        self.part = HEAD
        self.section = 0
        self.room = ROOM
        self._most_excess = most_excess
        self._excess = 0  # bytes of framing, less what is usual for the data there was
        self._last = b""  # bytes of a head or trailer: an empty line may have begun in them
        self._left = 0  # bytes of a body, or of a chunk and the end of its line
        self._digits = b""  # of the size of a chunk

    def length(self, size: int) -> None:
        """Expect a body of `size` bytes, more than none, now that the head is through."""
        self.part, self._left = BODY, size

    def chunks(self) -> None:
        """Expect a body in chunks."""
        self.part, self._left, self._digits, self._excess = SIZE, 0, b"", 0

    def run(self, data: bytes, start: int) -> int:
        """Return where the run of very small chunks from `start` on ends in `data`; `start` if there is none.

        It may be handed on as one chunk: see `joined`.
        """
        if self.part != SIZE or self._left or self._digits:
            return start
        found = _SMALL_CHUNKS.match(data, start, start + self.room * RUN_BYTES)
        if found is None or (size := found.end() - start) < SHORTEST_RUN:
            return start
        self.room -= size // RUN_BYTES
        return found.end()

    def take_inside_body(self, size: int) -> bool:
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
        return self._chunks(data, start) if self.part not in {FAULT, EXCESS} else len(data)

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

    def _count_excess(self, size: int) -> bool:
        """Count `size` bytes of framing; tell whether that is too much."""
        self._excess += size
        if self._excess <= self._most_excess + LINE:
            return False
        self.part = EXCESS
        return True

    def _chunks(self, data: bytes, at: int) -> int:
        size = len(data)
        while at < size and self.room:
            if self._left:
                taken = min(self._left, size - at)
                self._left -= taken
                at += taken
                if not self._left:
                    self.room -= 1
                continue
            if self.part == SIZE:
                found = _DIGITS.match(data, at)
                if (found is None and not self._digits) or len(self._digits) > _MOST_DIGITS:
                    self.part = FAULT
                    return size
                if found is not None:
                    self._digits = (self._digits + found[0]).lstrip(b"0") or b"0"
                    if self._count_excess(found.end() - at):
                        return size
                    at = found.end()
                    continue
                self.part = EXTENSION
            end = data.find(b"\n", at) + 1
            if self._count_excess((end or size) - at) or not end:
                return size
            at, number, self._digits = end, int(self._digits, 16), b""
            self._excess = max(0, self._excess - LINE - 2 * number)
            if not number:
                self.part, self._last, self.section = TRAILER, b"\r\n", 0
                return self._empty_line(data, at)
            self.part, self._left = SIZE, number + len(b"\r\n")
        return at


def joined(run: bytes) -> bytes:
    """Return the data of a run of very small chunks as one chunk."""
    data = b"".join([chunk[3:-2] for chunk in _SMALL_CHUNK_AGAIN.findall(run)])
    return b"%x\r\n%b\r\n" % (len(data), data)
