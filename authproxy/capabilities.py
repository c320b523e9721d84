"""What this system can do, and why not where it cannot. No other module asks which system it is on.

    constants    what may be missing altogether: who needs it says so at the start, by its `lack`
    functions    what every system can do, each in its own way

On Windows there are no processes to fork, no Unix sockets in Python and no owners of files as POSIX has them;
a file's lock, the end of a process and a signal have other names there.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl
    import resource


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether the system can do something, as a truth value; `lack` is the sentence for when it cannot."""

    present: bool
    lack: str

    def __bool__(self) -> bool:
        return self.present


# ── what may be missing ──────────────────────────────────────────────────────────────────────────

UNIX_SOCKETS = Capability(hasattr(socket, "AF_UNIX"), "Python has no Unix sockets on this system")
WORKERS = Capability(
    bool(UNIX_SOCKETS) and hasattr(os, "fork") and hasattr(socket, "SO_REUSEPORT"),
    "this system cannot fork processes that share a listener",
)
FILE_OWNERS = Capability(
    hasattr(os, "geteuid"), "files have no owner and no mode here that would keep others from them"
)

AF_UNIX: Any = getattr(socket, "AF_UNIX", None)
SIGCHLD: Any = getattr(signal, "SIGCHLD", None)
SIGHUP: Any = getattr(signal, "SIGHUP", None)
SIGUSR1: Any = getattr(signal, "SIGUSR1", None)
SIGALRM: Any = getattr(signal, "SIGALRM", None)
ITIMER_REAL: Any = getattr(signal, "ITIMER_REAL", None)
SO_REUSEPORT: Any = getattr(socket, "SO_REUSEPORT", None)
SO_BIND: int = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
"""To be set before `bind`: on Windows SO_REUSEADDR would let any process take our port."""
PR_SET_DUMPABLE = 4  # of Linux's prctl(2)
MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes, as unix(7) has it; elsewhere less

REPLACE_TRIES = 200
REPLACE_POLL = 0.005  # seconds

# Flags of `os.open` that some systems lack; there they change nothing.
O_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would change line ends
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)  # Windows lets only administrators make links
O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)  # Windows has no pipes that are in a directory
O_DIRECTORY: int | None = getattr(os, "O_DIRECTORY", None)  # Windows opens, and flushes, no directory


# ── processors, limits ───────────────────────────────────────────────────────────────────────────


def cpu_count() -> int:
    """Return how many processors this process may use; fewer than there are, in a container, as a rule."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)  # from Python 3.13 on
    return count() or 1


def open_file_limits() -> tuple[float, float]:
    """Return the soft and the hard limit on open files; `inf` for none."""
    if sys.platform == "win32":
        return inf, inf
    else:  # noqa: RET505 - the type checker would find the rest unreachable
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _finite(soft), _finite(hard)


def raise_open_file_limit(soft: int, hard: float) -> bool:
    """Set the soft limit on open files; tell whether the system did: some allow less than they say."""
    if sys.platform == "win32":
        return False
    else:  # noqa: RET505
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (soft, resource.RLIM_INFINITY if hard == inf else int(hard))
            )
            return True
        return False


def _finite(limit: int) -> float:
    if sys.platform == "win32":
        return limit
    else:  # noqa: RET505
        return inf if limit == resource.RLIM_INFINITY else limit


# ── processes and signals ────────────────────────────────────────────────────────────────────────


def after_fork(call: Callable[[], None]) -> None:
    """Have `call` made in every process that is forked from now on, where there can be any."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Let no signal be delivered to this thread, nor to one that it starts, for the length of the block."""
    if sys.platform == "win32":  # there they come to the main thread only
        yield
    else:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hold_back(number: int) -> None:
    """Have a signal wait until `on_signal` has somebody hear it."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})


def keep_memory_private() -> None:
    """Have no core dumped, and let no other process of this user read our memory or our environment.

    As far as the system can: Linux gives /proc/PID to root, and refuses `ptrace` to all others, for a process
    that is not dumpable (prctl(2)); what we start is as usual again.
    """
    if sys.platform == "win32":
        return
    else:  # noqa: RET505
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if sys.platform == "linux" and (libc := _libc()) is not None:
            libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def clear_variable(name: str) -> None:
    """Take a variable out of our environment, and its value out of what the system shows of it.

    /proc/PID/environ, and `ps` on macOS, go on showing the memory in which the environment came.
    """
    if sys.platform != "win32" and (libc := _libc()) is not None:
        import ctypes  # noqa: PLC0415 - as in `_libc`

        libc.getenv.restype = ctypes.c_void_p
        if (value := libc.getenv(os.fsencode(name))) is not None:
            ctypes.memset(value, 0, len(ctypes.string_at(value)))
    os.environ.pop(name, None)


def _libc() -> Any:
    """Return the system's C library; None for a Python that cannot call it."""
    try:
        import ctypes  # noqa: PLC0415 - not in every Python

        return ctypes.CDLL(None)
    except (ImportError, OSError):
        return None


def on_signal(number: int, call: Callable[[int], None]) -> None:
    """Have the running loop make `call` when the signal comes. For the main thread."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, call, number)
    except NotImplementedError:  # the loops of Windows hear of none by themselves
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(call, number))
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def terminal_watch() -> Callable[[], bool]:
    """Return what tells whether the terminal that we were started from has gone since.

    SIGHUP means both: that, and "read your configuration again". Who started us by nohup wants the latter.
    """
    if SIGHUP is None or signal.getsignal(SIGHUP) is signal.SIG_IGN or not _has_terminal():
        return lambda: False
    return lambda: not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def kill_with_children(pid: int) -> None:
    """End a program that was started in a session of its own, and what it started.

    On Windows only the program: nothing holds its children together there.
    """
    if sys.platform == "win32":
        os.kill(pid, signal.SIGTERM)
    else:
        os.killpg(pid, signal.SIGKILL)


# ── the event loop ───────────────────────────────────────────────────────────────────────────────


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the fastest event loop there is: uvloop's; None for asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def is_readable(descriptor: int) -> bool:
    """Tell whether a read from the socket would return at once, its end included."""
    if sys.platform == "win32":
        return bool(select.select([descriptor], [], [], 0)[0])
    else:  # noqa: RET505 - `select` cannot take descriptors from 1024 on
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def is_ours(status: os.stat_result) -> bool:
    """Tell whether a file belongs to the user we run as; true where files have no owner."""
    if sys.platform == "win32":
        return True
    else:  # noqa: RET505
        return status.st_uid == os.geteuid()


def lock_file(descriptor: int) -> None:
    """Lock an open file, without waiting; who dies lets go of it.

    Raises BlockingIOError while another one holds it, OSError where files cannot be locked.
    """
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # may lie behind the end of the file
        except PermissionError as error:
            raise BlockingIOError from error
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock_file(descriptor: int) -> None:
    """Let go of a lock, whoever else has the descriptor. Raises OSError."""
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def replace_file(new: Path, old: Path) -> None:
    """Rename `new` to `old`, which may be there. Raises OSError.

    Windows refuses that while anybody has `old` open, be it to read it: that is over in a moment.
    """
    for _ in range(REPLACE_TRIES if sys.platform == "win32" else 0):
        with contextlib.suppress(PermissionError):
            new.replace(old)
            return
        time.sleep(REPLACE_POLL)
    new.replace(old)
