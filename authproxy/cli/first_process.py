"""Process 1, which a container without an init makes of us.

It is unlike any other: the kernel drops what signals it does not handle, SIGTERM during the start among
them, and makes it the parent of all whose own has ended, so that nobody else waits for those. So the command
goes on in a child, to which every signal is passed on, and whose end is the end.
"""

# mypy: disable-error-code="attr-defined"
# No process of Windows is number 1, so that what only POSIX has is not looked for there.

import contextlib
import os
import signal
import sys
from typing import NoReturn

OURS = 1
MEANT_FOR = ("LISTEN_PID", "WATCHDOG_PID")
"""Variables that say which process a service manager means (sd_listen_fds(3), sd_watchdog_enabled(3))."""


def step_aside() -> None:
    """Go on in a child if this is process 1, which then attends to it; else do nothing."""
    if os.getpid() != OURS:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child:
        _attend(child)
    for name in MEANT_FOR:
        if os.environ.get(name) == str(OURS):
            os.environ[name] = str(os.getpid())
    _take_terminal()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _take_terminal() -> None:
    """Be a group of processes of our own, to which the keys of a terminal go: else each came twice."""
    os.setpgid(0, 0)
    with contextlib.suppress(OSError, ValueError, AttributeError):  # none, or nobody's to have
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())


def _attend(child: int) -> NoReturn:
    """Pass signals on to `child`, wait for whoever ends, and end as `child` does."""
    while True:
        number = signal.sigwait(signal.valid_signals())
        if number == signal.SIGCHLD:
            _wait_for_all(child)
        else:
            os.kill(child, number)


def _wait_for_all(child: int) -> None:
    """Wait for all that have ended; leave when `child` has, with the code that a shell would have."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
