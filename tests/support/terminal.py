"""A terminal for the command to write to, of which a test reads what a person would see.

with terminal() as screen:
    with running_proxy(config, stderr=screen.descriptor):
        screen.wait_for("try")
"""

import os
import re
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.command import wait_until

if sys.platform != "win32":
    import fcntl
    import pty
    import termios

COLUMNS = 80
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Screen:
    """What was written so far; `descriptor` is the end that a program gets."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._written = b""

    @property
    def raw(self) -> str:
        """All of it, with the escapes that a terminal obeys."""
        return self._written.decode("utf-8", "replace").replace("\r\n", "\n")

    @property
    def text(self) -> str:
        """All of it without them."""
        return ESCAPES.sub("", self.raw)

    def wait_for(self, text: str) -> str:
        """Return all that was written once it holds `text`."""
        wait_until(lambda: text in self.text, lambda: f"never wrote {text!r}: {self.raw!r}")
        return self.text

    def read_from(self, descriptor: int) -> None:
        while True:
            try:
                piece = os.read(descriptor, 65536)
            except OSError:  # nobody has the other end any more
                return
            if not piece:
                return
            self._written += piece


@contextmanager
def terminal(columns: int = COLUMNS) -> Iterator[Screen]:
    """Open a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    screen = Screen(theirs)
    reader = threading.Thread(target=screen.read_from, args=(ours,), daemon=True)
    reader.start()
    try:
        yield screen
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
