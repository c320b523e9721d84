"""Standard error that holds nobody up: a thread writes, and what it cannot get rid of is dropped.

    print, logging ──▶ sys.stderr ──▶ DroppingWriter ── queue, bounded ──▶ thread ──▶ descriptor 2
                                            └ full: dropped, counted, and told in one line later

A pipe that nobody reads blocks whoever writes to it, and a full disk raises. O_NONBLOCK is no way out: it
would belong to everybody who shares the pipe or the terminal, the parent's shell included.

Workers share it as well. What one write brings to a pipe stays together up to PIPE_BUF bytes (POSIX, write);
more may be torn by another's. So a write is whole lines, of that size at most; a longer line goes alone.
"""

import codecs
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

from authproxy.capabilities import after_fork, signals_blocked

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)  # bytes; 512 is the least that POSIX has
MAX_WAITING = 1 << 20  # bytes that wait to be written
RETRY_SECONDS = 1.0  # after a failed write, until the next one
LOOK_SECONDS = 0.05  # between looks at a descriptor that somebody else has made non-blocking
LAST_SECONDS = 1.0  # how long the end of the process waits for what is left


class Target(Protocol):
    """Where lines end up: a raw file."""

    def write(self, data: bytes, /) -> int | None:
        """Write some of `data`; return how much, None if nothing could be taken without waiting."""
        ...


class DroppingWriter(io.RawIOBase):
    """A file whose `write` never waits; a thread writes to `target`.

    `limit` bytes wait at most. Once something was dropped, everything is, until what waited is out; then
    `notice`, which gets the number of lines, makes the line that tells. Times are in seconds.
    """

    def __init__(
        self,
        target: Target,
        notice: Callable[[int], str],
        *,
        limit: int = MAX_WAITING,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        super().__init__()
        self._target = target
        self._notice = notice
        self._limit = limit
        self._retry_seconds = retry_seconds
        self._start_afresh()
        after_fork(self._start_afresh)

    def _start_afresh(self) -> None:
        """Have nothing to write: after a fork what waits, and the thread, are the parent's."""
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._held = 0  # bytes that wait, or are being written
        self._dropped = 0  # lines
        self._failing = False
        self._torn = False  # the last line that was written has no end
        self._thread: threading.Thread | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        piece = bytes(data)
        if not piece:  # nothing to wait for, and nothing that could have been dropped
            return 0
        with self._changed:
            writes = self._start()  # also when the first of all is too much: somebody has to tell of it
            if self._dropped or self._held + len(piece) > self._limit or not writes:
                self._dropped += piece.count(b"\n")
            else:
                self._held += len(piece)
                self._waiting.append(piece)
            self._changed.notify_all()
        return len(piece)

    def finish(self, seconds: float = LAST_SECONDS) -> None:
        """Wait until everything is out, for up to `seconds`; for no more than can be had."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._failing or not (self._held or self._dropped), seconds if self._thread else 0
            )

    def _start(self) -> bool:
        """Start the thread if need be: late, so that who forks before the first line has none."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="stderr", daemon=True)
            try:
                with signals_blocked():  # the supervisor waits for its own by `sigwait`
                    thread.start()
            except RuntimeError:  # there can be no more threads
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._dropped)
                text, told = b"".join(self._waiting), 0
                self._waiting.clear()
                if not text:
                    told = self._dropped
            lost = self._write(text or self._notice(told).encode())
            with self._changed:
                self._held -= len(text)
                self._failing = lost is not None
                if lost is None:
                    self._dropped -= told
                elif text:
                    self._dropped += lost
                self._changed.notify_all()
            if lost is not None:
                time.sleep(self._retry_seconds)

    def _write(self, text: bytes) -> int | None:
        """Write `text`, however long that takes; return None, or how many lines were lost to a failure."""
        begin = 0 if not self._torn else -1
        done = begin
        while done < len(text):
            start = max(done, 0)
            end = _end_of_write(text, start)
            try:
                written = self._target.write(text[start:end] if done >= 0 else b"\n")
            except OSError:
                break
            if written is None:
                time.sleep(LOOK_SECONDS)
            else:
                done += written
        if done > begin:
            self._torn = done > 0 and text[done - 1 : done] != b"\n"
        return text.count(b"\n", max(done, 0)) if done < len(text) else None


def _end_of_write(text: bytes, start: int) -> int:
    """Return up to where to write `text` from `start` on: some whole lines, or a long one."""
    if len(text) - start <= PIPE_BUF:
        return len(text)
    return text.rfind(b"\n", start, start + PIPE_BUF) + 1 or text.find(b"\n", start) + 1 or len(text)


@contextmanager
def dropping_stderr(notice: Callable[[int], str]) -> Iterator[None]:
    """Make `sys.stderr` one that never waits, for the length of the block; see `DroppingWriter`."""
    before: TextIO | None = sys.stderr
    if before is None:  # closed: but its descriptor, left free, would become some client's connection
        target = cast("Target", io.FileIO(os.devnull, "w"))
    else:
        before.flush()
        target = getattr(before.buffer, "raw", before.buffer)
    sys.stderr = _like(before, DroppingWriter(target, notice))
    try:
        yield
    finally:
        finish()
        sys.stderr = cast("TextIO", before)


def _like(before: TextIO | None, writer: DroppingWriter) -> TextIO:
    """Return a text file before `writer` that says what it cannot encode as `before` did."""
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(cast("Any", writer), "utf-8", "backslashreplace", write_through=True)
    try:
        encoding = codecs.lookup(before.encoding).name
    except LookupError:  # the command line's own name for ASCII
        encoding = "ascii"
    kind = cast("Any", type(before))  # the type checker wants a name of the writer, which it never uses
    return cast("TextIO", kind(writer, encoding, before.errors, write_through=True))


def finish() -> None:
    """Write out what waits for standard error, within a bound: for an end that leaves no other chance."""
    writer = getattr(sys.stderr, "buffer", None)
    if isinstance(writer, DroppingWriter):
        writer.finish()
