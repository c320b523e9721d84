"""What this system can do, and why not where it cannot. No other module asks which system it is on.

    constants    what may be missing altogether: who needs it says so at the start, by its `lack`
    functions    what every system can do, each in its own way

On Windows there are no processes to fork, no Unix sockets in Python and no owners of files as POSIX has them;
a file's lock, the end of a process and a signal have other names there. What counts is what Python has here,
not what the system is called; `docs/platforms.md` says what becomes of each thing that is missing.
"""

import asyncio
import contextlib
import errno
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def _module(name: str) -> Any:
    """Return a module of the standard library, or None where Python has none of that name."""
    try:
        return import_module(name)
    except ImportError:
        return None


fcntl, msvcrt, resource = map(_module, ("fcntl", "msvcrt", "resource"))


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether the system can do something, as a truth value; `lack` is the sentence for when it cannot."""

    present: bool
    lack: str

    def __bool__(self) -> bool:
        return self.present


# ── what may be missing ──────────────────────────────────────────────────────────────────────────

AF_UNIX: Any = getattr(socket, "AF_UNIX", None)
SO_REUSEPORT: Any = getattr(socket, "SO_REUSEPORT", None)
SO_BIND: int | None = getattr(socket, "SO_EXCLUSIVEADDRUSE", getattr(socket, "SO_REUSEADDR", None))
"""To be set before `bind`: on Windows SO_REUSEADDR would let any process take our port."""

# Of use to workers only: who has seen that there can be any needs no other test.
fork: Any = getattr(os, "fork", None)
setpgid: Any = getattr(os, "setpgid", None)
WNOHANG: Any = getattr(os, "WNOHANG", None)
SIGCHLD: Any = getattr(signal, "SIGCHLD", None)
SIGALRM: Any = getattr(signal, "SIGALRM", None)
setitimer: Any = getattr(signal, "setitimer", None)
ITIMER_REAL: Any = getattr(signal, "ITIMER_REAL", None)
pthread_sigmask: Any = getattr(signal, "pthread_sigmask", None)
sigwait: Any = getattr(signal, "sigwait", None)
SIG_BLOCK: Any = getattr(signal, "SIG_BLOCK", None)
SIG_UNBLOCK: Any = getattr(signal, "SIG_UNBLOCK", None)
SIG_SETMASK: Any = getattr(signal, "SIG_SETMASK", None)

# To watch over a program, and to pass signals on to it; without them it is only waited for.
posix_spawnp: Any = getattr(os, "posix_spawnp", None)
WUNTRACED: Any = getattr(os, "WUNTRACED", None)
WCONTINUED: Any = getattr(os, "WCONTINUED", None)
sigwaitinfo: Any = getattr(signal, "sigwaitinfo", None)
SIGTSTP: Any = getattr(signal, "SIGTSTP", None)
PASSED_ON: frozenset[int] = frozenset(
    getattr(signal, f"SIG{name}")
    for name in (
        "HUP",
        "INT",
        "QUIT",
        "USR1",
        "USR2",
        "ALRM",
        "TERM",
        "CONT",
        "TSTP",
        "TTIN",
        "TTOU",
        "WINCH",
    )
    if hasattr(signal, f"SIG{name}")
)
"""What a program beside us gets to hear that was sent to us."""
TERMINAL_SIGNALS: frozenset[int] = PASSED_ON & {
    getattr(signal, f"SIG{name}", None) for name in ("INT", "QUIT", "TSTP", "TTIN", "TTOU", "WINCH")
}
"""What a terminal sends to all in its foreground, us and the program alike."""

UNIX_SOCKETS = Capability(
    AF_UNIX is not None and hasattr(os, "umask"),
    "Python has no Unix sockets on this system",
)
WORKERS = Capability(
    None not in {AF_UNIX, SO_REUSEPORT, fork, setpgid, WNOHANG, SIGCHLD, pthread_sigmask, sigwait}
    and None not in {SIGALRM, setitimer, ITIMER_REAL}
    and hasattr(os, "register_at_fork"),
    "this system cannot fork processes that share a listener",
)
JOB_CONTROL = Capability(
    None not in {posix_spawnp, WNOHANG, WUNTRACED, WCONTINUED, pthread_sigmask, sigwait, SIGTSTP},
    "this system cannot pass signals on to a program",
)
FILE_LOCKS = Capability(bool(fcntl or msvcrt), "Python cannot lock files on this system")
FILE_OWNERS = Capability(
    hasattr(os, "geteuid"), "files have no owner and no mode here that would keep others from them"
)

SIGHUP: Any = getattr(signal, "SIGHUP", None)
SIGUSR1: Any = getattr(signal, "SIGUSR1", None)
send_fds: Any = getattr(socket, "send_fds", None)
recv_fds: Any = getattr(socket, "recv_fds", None)
PR_SET_DUMPABLE = 4  # of Linux's prctl(2)
POLLIN: Any = getattr(select, "POLLIN", None)
SIGKILL: Any = getattr(signal, "SIGKILL", signal.SIGTERM)  # by which Windows ends a process at once
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)
"""By which somebody says that we should stop; the last one is Ctrl-Break, of Windows."""
CONSOLE_SIGNALS = tuple(number for number in STOP_SIGNALS if number != signal.SIGTERM)
"""Those that a console sends to all its programs."""
MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes, as unix(7) has it; elsewhere less

CONSOLE_ENDS = frozenset({2, 5, 6})
"""Events of a console on Windows: it is closed, its user logs off, the system shuts down."""
CONSOLE_SECONDS = 60.0  # longer than the system waits for us
_console_handlers: list[Any] = []  # the system knows but their addresses

REPLACE_TRIES = 200
REPLACE_POLL = 0.005  # seconds

memfd_create: Any = getattr(os, "memfd_create", None)
DESCRIPTORS = "/proc/self/fd"  # where Linux shows a process what it has open, as files

# Flags of `os.open` that some systems lack; there they change nothing.
O_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would change line ends
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)  # Windows lets only administrators make links
O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)  # Windows has no pipes that are in a directory
O_NOCTTY: int = getattr(os, "O_NOCTTY", 0)
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
    if resource is None:
        return inf, inf
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _finite(soft), _finite(hard)


def raise_open_file_limit(soft: int, hard: float) -> bool:
    """Set the soft limit on open files; tell whether the system did: some allow less than they say."""
    if resource is None:
        return False
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (soft, resource.RLIM_INFINITY if hard == inf else int(hard))
        )
    except (OSError, ValueError):
        return False
    return True


_LIMITS = (
    {each: resource.getrlimit(each) for each in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)}
    if resource is not None
    else {}
)
"""The limits as we were given them, before we made them ours."""


@contextlib.contextmanager
def given_limits() -> Iterator[None]:
    """Have the limits that we were started with for the length of the block, for a program to have them."""
    ours = {each: resource.getrlimit(each) for each in _LIMITS}
    for each, (soft, _) in _LIMITS.items():
        resource.setrlimit(each, (soft, ours[each][1]))
    try:
        yield
    finally:
        for each, limit in ours.items():
            resource.setrlimit(each, limit)


def _finite(limit: int) -> float:
    return inf if limit == resource.RLIM_INFINITY else limit


# ── processes and signals ────────────────────────────────────────────────────────────────────────


def after_fork(call: Callable[[], None]) -> None:
    """Have `call` made in every process that is forked from now on, where there can be any."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Let no signal be delivered to this thread, nor to one that it starts, for the length of the block."""
    if pthread_sigmask is None:  # on Windows they come to the main thread only
        yield
        return
    before = pthread_sigmask(SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        pthread_sigmask(SIG_SETMASK, before)


def hold_back(number: int) -> None:
    """Have a signal wait until `on_signal` has somebody hear it."""
    if pthread_sigmask is not None:
        pthread_sigmask(SIG_BLOCK, {number})


def keep_memory_private() -> None:
    """Have no core dumped, and let no other process of this user read our memory or our environment.

    As far as the system can: Linux gives /proc/PID to root, and refuses `ptrace` to all others, for a process
    that is not dumpable (prctl(2)); what we start is as usual again.
    """
    if resource is not None:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    libc = _libc()
    if libc is not None and hasattr(libc, "prctl"):
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def clear_variable(name: str) -> None:
    """Take a variable out of our environment, and its value out of what the system shows of it.

    /proc/PID/environ, and `ps` on macOS, go on showing the memory in which the environment came.
    """
    ctypes, libc = _module("ctypes"), _libc()
    if libc is not None and hasattr(libc, "getenv"):
        libc.getenv.restype = ctypes.c_void_p
        if (value := libc.getenv(os.fsencode(name))) is not None:
            ctypes.memset(value, 0, len(ctypes.string_at(value)))
    os.environ.pop(name, None)


def _libc() -> Any:
    """Return the system's C library; None for a Python that cannot call it, and on Windows."""
    if (ctypes := _module("ctypes")) is None or msvcrt is not None:
        return None
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None


def run_interruptibly(work: Coroutine[Any, Any, T]) -> T:
    """Do what `asyncio.run` does, and be interrupted by the first Ctrl-C, whenever it comes.

    A signal that comes just before the loop goes to sleep breaks no wait off, and the `KeyboardInterrupt`
    that Python makes of it is due only once something else wakes the loop; so here the signal does
    (https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd). The loops of Windows see to it.
    """
    with asyncio.Runner() as runner:
        if pthread_sigmask is None:
            return runner.run(work)
        loop = runner.get_loop()
        reader, writer = socket.socketpair()
        with reader, writer:
            reader.settimeout(0)
            writer.settimeout(0)
            loop.add_reader(reader, reader.recv, 4096)
            before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            try:
                return runner.run(work)
            finally:
                signal.set_wakeup_fd(before)
                loop.remove_reader(reader)


def on_signal(number: int, call: Callable[[int], None]) -> None:
    """Have the running loop make `call` when the signal comes. For the main thread."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, call, number)
    except NotImplementedError:  # the loops of Windows hear of none by themselves
        signal.signal(number, lambda *_: _tell(loop, call, number))
    if pthread_sigmask is not None:
        pthread_sigmask(SIG_UNBLOCK, {number})


def terminal_watch() -> Callable[[], bool]:
    """Return what tells whether the terminal that we were started from has gone since.

    SIGHUP means both: that, and "read your configuration again". Who started us by nohup wants the latter.
    """
    if SIGHUP is None or signal.getsignal(SIGHUP) is signal.SIG_IGN or not _has_terminal():
        return lambda: False
    return lambda: not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | O_NOCTTY))
    except OSError:
        return False
    return True


def on_stop(call: Callable[[int], None]) -> None:
    """Have the running loop make `call`, with a signal, whenever somebody says that we should stop.

    For the main thread. On Windows it is also made when the console is closed, its user logs off, or the
    system shuts down, of which no signal tells; the system gives us some seconds then.
    """
    for number in STOP_SIGNALS:
        on_signal(number, call)
    loop = asyncio.get_running_loop()
    _on_console_end(lambda: _tell(loop, call, signal.SIGTERM))


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[int], None], number: int) -> None:
    """Have `loop` make `call`, from any thread; one that is closed is at its end anyway."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, number)


def _on_console_end(call: Callable[[], None]) -> None:
    ctypes = _module("ctypes") if msvcrt is not None else None
    windows = getattr(ctypes, "windll", None)
    if ctypes is None or windows is None:
        return

    def ends(event: int) -> int:
        if event not in CONSOLE_ENDS:
            return 0  # Ctrl-C and Ctrl-Break have signals
        call()
        time.sleep(CONSOLE_SECONDS)  # whoever returns from here is ended at once
        return 1

    handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(ends)
    _console_handlers.append(handler)
    windows.kernel32.SetConsoleCtrlHandler(handler, 1)


def kill_with_children(pid: int) -> None:
    """End a program that was started in a session of its own, and what it started."""
    if hasattr(os, "killpg"):
        os.killpg(pid, SIGKILL)
        return
    with contextlib.suppress(
        OSError
    ):  # nothing holds them together on Windows, but its own program finds them
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(pid)], capture_output=True, check=False)  # noqa: S603, S607
    with contextlib.suppress(OSError):  # it has ended by now, if all is well
        os.kill(pid, SIGKILL)


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
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, POLLIN)
        return bool(poll.poll(0))
    with selectors.DefaultSelector() as selector:  # takes a descriptor of its own, or any below 1024
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(0))


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def is_ours(status: os.stat_result) -> bool:
    """Tell whether a file belongs to the user we run as; true where files have no owner."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def lock_file(descriptor: int) -> None:
    """Lock an open file, without waiting; who dies lets go of it.

    Raises BlockingIOError while another one holds it, OSError where files cannot be locked.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    try:
        _lock_first_byte(descriptor, "LK_NBLCK")
    except PermissionError as error:
        raise BlockingIOError from error


def unlock_file(descriptor: int) -> None:
    """Let go of a lock, whoever else has the descriptor. Raises OSError."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    else:
        _lock_first_byte(descriptor, "LK_UNLCK")


def _lock_first_byte(descriptor: int, mode: str) -> None:
    """Lock or unlock the byte that stands for the file on Windows; it may lie behind the file's end."""
    if msvcrt is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    os.lseek(descriptor, 0, os.SEEK_SET)
    msvcrt.locking(descriptor, getattr(msvcrt, mode), 1)


@contextlib.contextmanager
def passed_as_file(content: bytes) -> Iterator[str]:
    """Have `content` in a file of ours, for those who read nothing else, for the length of the block.

    It is in memory where the system can do that (memfd_create(2)), else in the directory for temporary files.
    """
    if memfd_create is None or not Path(DESCRIPTORS).is_dir():
        with tempfile.TemporaryDirectory(prefix="authproxy-") as directory:  # which is its owner's alone
            path = Path(directory, "passed")
            path.write_bytes(content)
            yield str(path)
        return
    with os.fdopen(memfd_create("authproxy"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"{DESCRIPTORS}/{file.fileno()}"


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
