"""An interactive bash on a terminal of its own, with job control; a test types and reads.

with shell(env) as terminal:
    terminal.types("sleep 60\\n")
    terminal.key("z")
    terminal.sees("Stopped")
"""

import os
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from tests.support.launch import GUARD

if sys.platform != "win32":
    import pty
    import termios

BASH = shutil.which("bash")
PROMPT = "next> "
ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]|\r")


class Terminal:
    """What a person has before him."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._unread = ""

    def types(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def key(self, letter: str) -> None:
        """Press a letter with Ctrl."""
        self.types(chr(ord(letter) & 0x1F))

    def sees(self, text: str) -> str:
        """Wait until `text` is there; return what was before it, since the last time."""
        deadline = time.monotonic() + GUARD
        while text not in self._unread:
            assert time.monotonic() < deadline, f"never saw {text!r}: {self._unread!r}"
            if select.select([self._descriptor], [], [], 0.1)[0]:
                piece = os.read(self._descriptor, 65536).decode("utf-8", "replace")
                self._unread += ESCAPES.sub("", piece)
        before, _, self._unread = self._unread.partition(text)
        return before

    def code(self) -> int:
        """Return the exit code of what ran last."""
        self.types("echo co''de=$?.\n")
        self.sees("code=")
        return int(self.sees("."))


@contextmanager
def shell(env: Mapping[str, str]) -> Iterator[Terminal]:
    """Open a terminal with a bash that waits for input."""
    assert BASH is not None
    pid, descriptor = pty.fork()
    if pid == 0:  # pragma: no cover
        settings = termios.tcgetattr(0)
        settings[3] |= termios.NOFLSH  # else Ctrl-Z may drop what is typed after it, some time later
        termios.tcsetattr(0, termios.TCSANOW, settings)
        os.execve(
            BASH,
            [BASH, "--norc", "--noprofile", "-i"],
            {**env, "PS1": PROMPT, "TERM": "dumb", "HISTFILE": ""},
        )
    terminal = Terminal(descriptor)
    try:
        terminal.sees(PROMPT)
        yield terminal
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)
