"""A program beside us: in our group of processes and on our terminal, as under `env` or `sudo`.

    a key of the terminal ─┬─▶ the program          the kernel tells all that are in its foreground,
                           └─▶ us                   so there is nothing to pass on
    kill, a service manager ─▶ us ─▶ the program    passed on

Once the program has stopped, for Ctrl-Z or for whatever else, so do we: the shell above us waits for us, not
for it. A key alone does not stop us; else we might be before the program is, or twice for one stop. Signals
come by a thread of their own, and what becomes of them is decided in the loop. Where the system has no such
signals (`JOB_CONTROL`), the program is started and waited for.
"""

# mypy: disable-error-code="attr-defined"
# What only POSIX has is only used where there is job control.

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from authproxy.capabilities import (
    CONSOLE_SIGNALS,
    JOB_CONTROL,
    O_NOCTTY,
    PASSED_ON,
    TERMINAL_SIGNALS,
    given_limits,
    on_signal,
    pthread_sigmask,
    signals_blocked,
    sigwaitinfo,
)

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # POSIX, shell command language, 2.8.2
BY_A_SIGNAL = 128
STDOUT, STDERR = 1, 2
FOR_THE_PROGRAM = ("SIGPIPE", "SIGXFSZ")  # Python ignores them; programs do not expect that

Mask = frozenset[int] | None
"""The signals that wait; None where none can."""


class NotStarted(Exception):
    """The program could not be started, and why; `code` is the exit code that a shell would have for it."""

    def __init__(self, error: OSError, program: str) -> None:
        found = not isinstance(error, FileNotFoundError)
        has_path = os.sep in program  # else it was looked for on PATH
        super().__init__(error.strerror or str(error) if found or has_path else "command not found")
        self.code = NOT_EXECUTABLE if found else NOT_FOUND


def hold_signals() -> Mask:
    """Have signals wait for `Child`, in this thread and in all that it starts; return the mask from before.

    Those that are ignored, as by nohup, stay so. For the main thread, before there are others.
    """
    if JOB_CONTROL:
        # Where it is ignored, nobody learns how a program has ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return frozenset(pthread_sigmask(signal.SIG_BLOCK, _heard()))
    for number in CONSOLE_SIGNALS:  # for all programs of a console, and it is ours that decides
        signal.signal(number, lambda *_: None)
    return None


def release_signals(mask: Mask) -> None:
    """Have signals do again what they did before `hold_signals` returned `mask`."""
    if mask is not None:
        pthread_sigmask(signal.SIG_SETMASK, mask)


def _heard() -> set[int]:
    return {number for number in PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN}


class Child:
    """A program at work. For the loop of the main thread; `mask` is that of `hold_signals`.

    What it writes to stdout goes `to_stderr` where stdout is ours. Raises `NotStarted`.
    """

    def __init__(
        self, argv: Sequence[str], environ: Mapping[str, str], mask: Mask, *, to_stderr: bool = False
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._code: asyncio.Future[int] = self._loop.create_future()
        self._was_told_to_stop = False
        self._dealt_with = threading.Semaphore(0)  # the stop that was told last
        try:
            with given_limits():
                self.pid, wait = _started(argv, environ, mask, to_stderr=to_stderr)
        except OSError as error:
            raise NotStarted(error, argv[0]) from None
        self._start(lambda: self._watch(wait))
        if mask is not None:
            self._start(self._listen)
        else:
            on_signal(signal.SIGTERM, self.signal)

    async def ended(self) -> int:
        """Wait for the program's end; return its exit code, as a shell gives it."""
        return await asyncio.shield(self._code)

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if not self._code.done():
            with contextlib.suppress(OSError):  # it has ended; or it is another user's by now
                os.kill(self.pid, number)

    # ── threads ──────────────────────────────────────────────────────────────────────────────────

    def _start(self, work: Callable[[], None]) -> None:
        with signals_blocked():
            threading.Thread(target=work, daemon=True).start()

    def _tell(self, call: Callable[..., None], *args: int | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *args)

    def _watch(self, wait: "Wait") -> None:
        while (code := wait()) is None:
            self._tell(self._has_stopped)
            self._dealt_with.acquire()
        self._tell(self._has_ended, code)

    def _listen(self) -> None:
        while True:
            number, sender = next_signal()
            self._tell(self._has_come, number, sender)

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────

    def _has_ended(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code if code >= 0 else BY_A_SIGNAL - code)

    def _has_come(self, number: int, sender: int | None) -> None:
        # The program has heard of what a key has sent, and of its own `kill 0`; SIGCONT: see `_has_stopped`.
        if sender is not None and sender != self.pid and number != signal.SIGCONT:
            self._was_told_to_stop = number == signal.SIGTSTP
            self.signal(number)

    def _has_stopped(self) -> None:
        """Stop until somebody has us go on; then the program is to go on too, if it does not already.

        SIGCONT is not passed on later, when it comes to us: by then the program may have stopped again.
        """
        if self._was_told_to_stop or has_terminal(self._group()):  # else nobody would have us go on
            stop_as_by_key()
            while (change := change_of(self.pid)) is STOPPED:
                stop_as_by_key()
            if change is NOTHING:
                self.signal(signal.SIGCONT)
            elif isinstance(change, int):
                self._has_ended(change)
                return
        self._dealt_with.release()

    def _group(self) -> int:
        try:
            return int(os.getpgid(self.pid))
        except OSError:  # it has ended
            return int(os.getpgrp())


Wait = Callable[[], int | None]
"""Waits until the program has ended or stopped: its exit code, minus the signal that ended it, or None."""


def _started(
    argv: Sequence[str], environ: Mapping[str, str], mask: Mask, *, to_stderr: bool
) -> tuple[int, Wait]:
    """Start the program; return its process and what waits for it. Raises OSError."""
    if mask is None:
        path = shutil.which(argv[0], path=environ.get("PATH")) or argv[0]  # npm is npm.cmd on Windows
        stdout = STDERR if to_stderr else None
        process = subprocess.Popen([path, *argv[1:]], env=environ, close_fds=False, stdout=stdout)  # noqa: S603 - the user's own
        return process.pid, process.wait
    moves = [(os.POSIX_SPAWN_DUP2, STDERR, STDOUT)] if to_stderr else []
    as_usual = [getattr(signal, name) for name in FOR_THE_PROGRAM if hasattr(signal, name)]
    try:
        pid = os.posix_spawnp(
            argv[0], list(argv), environ, file_actions=moves, setsigmask=mask, setsigdef=as_usual
        )
    except ValueError as error:  # a NUL character
        raise FileNotFoundError(str(error)) from None

    def wait() -> int | None:
        _, status = os.waitpid(pid, os.WUNTRACED)
        return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)

    return pid, wait


class Change(Enum):
    """What a program has done, its end aside."""

    NOTHING = 0
    STOPPED = 1
    CONTINUED = 2


NOTHING, STOPPED, CONTINUED = Change


def change_of(pid: int) -> Change | int:
    """Return what a program that had stopped has done since; if it has ended, how, as `Wait` has it."""
    found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    if not found:
        return NOTHING
    if os.WIFSTOPPED(status):
        return STOPPED
    return CONTINUED if os.WIFCONTINUED(status) else os.waitstatus_to_exitcode(status)


def next_signal() -> tuple[int, int | None]:
    """Wait for a signal to pass on; return it and the process that sent it, None for the terminal.

    Where the system does not tell, a key's signal is the terminal's while we are in its foreground, and -1
    stands for any other sender.
    """
    numbers = _heard()
    if sigwaitinfo is not None:
        told = sigwaitinfo(numbers)
        return told.si_signo, told.si_pid if told.si_code <= 0 else None  # SI_USER, SI_QUEUE, SI_TKILL
    number = int(signal.sigwait(numbers))
    return number, None if number in TERMINAL_SIGNALS and has_terminal() else -1


def has_terminal(*groups: int) -> bool:
    """Tell whether our group of processes, or one of `groups`, is in the foreground of our terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) in {os.getpgrp(), *groups}
    except OSError:
        return False
    finally:
        os.close(terminal)


def stop_as_by_key() -> None:
    """Stop as Ctrl-Z has us stop, until somebody has us go on. For the main thread.

    Where nobody could, the kernel does not stop us (POSIX, orphaned process groups).
    """
    # One for this thread, while it waits, and only then out with it and the terminal's own: SIGCONT takes
    # away what is left of both (POSIX, signal generation), so that they are one stop.
    signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
    before = pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
    pthread_sigmask(signal.SIG_SETMASK, before)
