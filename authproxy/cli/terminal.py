"""What is only for a person at a terminal: colour, and a sign of life while something takes its time.

Neither goes to a pipe, to a file, or to a terminal that can only print (`TERM=dumb`).
"""

import os
import sys
import threading
from types import TracebackType
from typing import Self

import click

STDOUT, STDERR = 1, 2
DELAY_SECONDS = 1.0  # what is over sooner needs no sign of life
USUAL_COLUMNS = 80
CLEAR_LINE = "\r\x1b[K"


def is_watched(descriptor: int = STDERR) -> bool:
    """Tell whether a person at a terminal reads what goes to `descriptor`."""
    if (sys.stderr if descriptor == STDERR else sys.stdout) is None:
        return False
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def has_colour(descriptor: int = STDERR) -> bool:
    """Tell whether what goes to `descriptor` may be coloured (https://no-color.org)."""
    return is_watched(descriptor) and _obeys() and not os.environ.get("NO_COLOR")


def _obeys() -> bool:
    """Tell whether the terminal knows more than to print what it gets."""
    return os.environ.get("TERM") != "dumb"


def tell(line: str = "") -> None:
    """Print a line to stderr, with its colours where there may be any."""
    click.echo(line, err=True, color=has_colour())


class Progress:
    """While the block lasts, tells what is waited `for`, and how long already: from the first second on.

    Other lines go out by `tell`. `stop` leaves the terminal to who is to type something.
    """

    def __init__(self, waits_for: str = "", *, delay: float = DELAY_SECONDS) -> None:
        self.waits_for = waits_for
        self._delay = delay
        self._ended = threading.Event()
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._shown = False
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if is_watched() and _obeys():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def tell(self, line: str) -> None:
        """Print a line to stderr, whatever stands there."""
        with self._lock:
            self._clear()
            tell(line)

    def begin(self, waits_for: str) -> None:
        """Tell of something else from now on; of nothing where that is ""."""
        with self._lock:
            self._clear()
            self.waits_for = waits_for
        self._changed.set()

    def stop(self) -> None:
        """Show nothing any more."""
        self._ended.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._clear()

    def _run(self) -> None:
        seconds = 0
        while not self._ended.is_set():
            if self._changed.wait(self._delay):
                self._changed.clear()
                seconds = 0
                continue
            seconds += 1
            with self._lock:
                if self.waits_for and not self._ended.is_set():
                    self._show(f"{self.waits_for} … {seconds} s")

    def _show(self, text: str) -> None:
        click.echo(f"{CLEAR_LINE}{text[: columns_of(STDERR) - 1]}", nl=False, err=True, color=True)
        self._shown = True

    def _clear(self) -> None:
        if self._shown:
            click.echo(CLEAR_LINE, nl=False, err=True, color=True)
            self._shown = False


def columns_of(descriptor: int) -> int:
    """Return how wide the terminal is, of which `descriptor` is one."""
    try:
        return os.get_terminal_size(descriptor).columns or USUAL_COLUMNS
    except OSError:
        return USUAL_COLUMNS
