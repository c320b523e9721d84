"""Heartbeats of forked processes, for the one that forked them: each sets a byte of memory that all share."""

import mmap
from functools import partial

from authproxy.app.notify import keep_calling


class Heartbeats:
    """Those of `count` processes, every so many `seconds` while a process's loop runs; just one for None."""

    def __init__(self, count: int, seconds: float | None) -> None:
        self.seconds = seconds
        self._beats = mmap.mmap(-1, count)

    def start(self, number: int) -> None:
        """Let the heart of process `number`, counted from 0, beat; for its running loop."""
        if self.seconds is None:
            self._beat(number)
        else:
            keep_calling(partial(self._beat, number), self.seconds)

    def _beat(self, number: int) -> None:
        self._beats[number] = 1

    def all_beat(self) -> bool:
        """Tell whether every one has beaten since this was last true."""
        if not all(self._beats[:]):
            return False
        self._beats[:] = bytes(len(self._beats))
        return True
