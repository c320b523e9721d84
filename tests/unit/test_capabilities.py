"""What the system can do, and how; `tests/live/test_windows.py` has where it cannot."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from math import inf
from pathlib import Path
from types import SimpleNamespace

import pytest

from authproxy import capabilities
from authproxy.capabilities import (
    FILE_OWNERS,
    Capability,
    cpu_count,
    hold_back,
    is_ours,
    is_readable,
    kill_with_children,
    lock_file,
    loop_factory,
    on_signal,
    on_stop,
    open_file_limits,
    passed_as_file,
    raise_open_file_limit,
    replace_file,
    signals_blocked,
    terminal_watch,
    unlock_file,
)
from tests.support.windows import Msvcrt

ROOT = Path(__file__).parents[2]

pytest.importorskip("fcntl", reason="how Windows does it, all the other tests try there")


def test_a_capability_is_a_truth_value_with_a_reason():
    assert Capability(present=True, lack="none")
    assert not Capability(present=False, lack="none")
    assert capabilities.WORKERS
    assert capabilities.UNIX_SOCKETS
    assert capabilities.FILE_OWNERS
    assert capabilities.FILE_LOCKS


# ── processors, limits ───────────────────────────────────────────────────────────────────────────


def test_processors_that_we_may_not_use_are_not_counted(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2, 5}, raising=False)
    assert cpu_count() == 3


@pytest.mark.parametrize(("found", "counted"), [(4, 4), (None, 1)])
def test_where_that_cannot_be_told_all_are_counted(monkeypatch, found, counted):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: found)
    assert cpu_count() == counted


def test_what_knows_no_limits_has_none(monkeypatch):
    monkeypatch.setattr(capabilities, "resource", None)
    assert open_file_limits() == (inf, inf)
    assert not raise_open_file_limit(2000, inf)


def test_no_limit_on_open_files_is_an_infinite_one(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, resource.RLIM_INFINITY))
    assert open_file_limits() == (1024, inf)


@pytest.mark.parametrize(("refuses", "done"), [(None, True), (OSError, False), (ValueError, False)])
def test_whether_the_system_raised_the_limit_is_told(monkeypatch, refuses, done):
    resource = pytest.importorskip("resource")
    asked = []

    def setrlimit(_which, limits):
        asked.append(limits)
        if refuses is not None:
            raise refuses

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    assert raise_open_file_limit(2000, inf) is done
    assert asked == [(2000, resource.RLIM_INFINITY)]


# ── processes and signals ────────────────────────────────────────────────────────────────────────

ASLEEP = """
import asyncio, os, signal, threading, time
from authproxy.capabilities import run_interruptibly

def interrupt():
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
# The other thread takes the signal: it breaks the loop's wait off as little as one that comes just before it.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
try:
    run_interruptibly(asyncio.sleep(60))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_wakes_a_loop_that_is_just_going_to_sleep():
    command = [sys.executable, "-c", ASLEEP]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    assert done.stdout == "interrupted\n"


def test_signals_are_blocked_for_the_length_of_the_block():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with signals_blocked():
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize("hears", [True, False])
async def test_a_signal_is_heard_whether_or_not_the_loop_can_by_itself(monkeypatch, hears):
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    before = signal.getsignal(signal.SIGUSR1)

    def refuse(*_args):
        raise NotImplementedError

    with monkeypatch.context() as patched:
        if not hears:
            patched.setattr(loop, "add_signal_handler", refuse)
        on_signal(signal.SIGUSR1, lambda number: heard.set() if number == signal.SIGUSR1 else None)
    try:
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.wait_for(heard.wait(), 5)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)


async def test_a_signal_that_is_held_back_is_heard_by_who_wants_to_hear_it():
    heard = asyncio.Event()
    before = signal.getsignal(signal.SIGUSR2)
    hold_back(signal.SIGUSR2)
    try:
        signal.raise_signal(signal.SIGUSR2)  # it would end the process
        on_signal(signal.SIGUSR2, lambda _number: heard.set())
        await asyncio.wait_for(heard.wait(), 5)
        assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize(
    ("has_one", "ignores", "is_gone"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_a_terminal_has_gone_only_if_there_was_one_and_nobody_asked_to_outlive_it(
    monkeypatch, has_one, ignores, is_gone
):
    monkeypatch.setattr(capabilities, "_has_terminal", lambda: has_one)
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_IGN if ignores else signal.SIG_DFL)
    gone = terminal_watch()
    assert not gone()
    monkeypatch.setattr(capabilities, "_has_terminal", lambda: False)
    assert gone() is is_gone


def test_who_cannot_open_the_terminal_has_none(monkeypatch):
    opened, closed = [], []

    def refuse(_path, _flags):
        raise OSError(6, "No such device or address")

    monkeypatch.setattr(os, "open", refuse)
    assert not capabilities._has_terminal()
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append((path, flags)) or 77)
    monkeypatch.setattr(os, "close", closed.append)
    assert capabilities._has_terminal()
    assert opened == [("/dev/tty", os.O_RDWR | os.O_NOCTTY)]
    assert closed == [77]


def test_a_signal_after_the_end_of_the_loop_is_no_fault(monkeypatch):
    before = signal.getsignal(signal.SIGUSR1)

    async def serve():
        def refuse(*_args):
            raise NotImplementedError

        monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", refuse)
        on_signal(signal.SIGUSR1, pytest.fail)

    try:
        asyncio.run(serve())
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def heard(monkeypatch):
    """Have three signals say that we should stop; return those that were heard."""
    numbers = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH]
    before = {number: signal.getsignal(number) for number in numbers}
    monkeypatch.setattr(capabilities, "STOP_SIGNALS", tuple(numbers))
    yield []
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_whatever_says_that_we_should_stop_is_heard(heard):
    on_stop(heard.append)
    for number in capabilities.STOP_SIGNALS:
        signal.raise_signal(number)
    async with asyncio.timeout(5):
        while len(heard) < 3:
            await asyncio.sleep(0)
    assert heard == [*capabilities.STOP_SIGNALS]


def test_ctrl_break_is_one_of_them_where_there_is_such_a_key():
    named = {"SIGINT", "SIGTERM"} | ({"SIGBREAK"} & set(dir(signal)))
    assert {each.name for each in capabilities.STOP_SIGNALS} == named


class Console:
    """The console of Windows, as `ctypes` has it."""

    WINFUNCTYPE = c_int = c_uint = None

    def __init__(self):
        self.kernel32 = self.windll = self
        self.handlers = []
        self.WINFUNCTYPE = lambda *_types: lambda handler: handler

    def SetConsoleCtrlHandler(self, handler, add):  # noqa: N802
        assert add == 1
        self.handlers.append(handler)


@pytest.fixture
def console(monkeypatch):
    made = Console()
    monkeypatch.setattr(capabilities, "msvcrt", made)
    monkeypatch.setitem(sys.modules, "ctypes", made)
    monkeypatch.setattr(capabilities, "_console_handlers", [])
    return made


async def test_the_end_of_a_console_is_heard_and_the_system_has_to_wait(heard, console, monkeypatch):
    naps = []
    monkeypatch.setattr(capabilities, "time", SimpleNamespace(sleep=naps.append))
    on_stop(heard.append)
    (handler,) = console.handlers
    assert capabilities._console_handlers == [handler], "else it is gone before it is called"
    assert [handler(event) for event in (0, 1)] == [0, 0], "Ctrl-C and Ctrl-Break have signals"
    assert heard == naps == []
    for event in (2, 5, 6):
        assert await asyncio.to_thread(handler, event) == 1
    await asyncio.sleep(0)
    assert heard == [signal.SIGTERM] * 3
    assert naps == [capabilities.CONSOLE_SECONDS] * 3


def test_the_end_of_a_console_after_the_end_of_the_loop_is_no_fault(heard, console, monkeypatch):
    monkeypatch.setattr(capabilities, "time", SimpleNamespace(sleep=lambda _seconds: None))

    async def serve():
        on_stop(heard.append)

    asyncio.run(serve())
    assert [console.handlers[0](2), heard] == [1, []]


def test_a_program_is_ended_with_what_it_started():
    program = "import subprocess; p = subprocess.Popen(['sleep', '60']); print('up', flush=True); p.wait()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout.readline() == b"up\n"
        kill_with_children(process.pid)
        assert process.stdout.read() == b"", "the pipe has an end only when its last writer has"
    assert process.returncode == -signal.SIGKILL


# ── what others may see ──────────────────────────────────────────────────────────────────────────


def told_by(script):
    """Return what a process of its own prints that runs `script`."""
    head = "import ctypes, os, resource\nfrom authproxy import capabilities as can\n"
    head += "dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
    ended = subprocess.run(
        [sys.executable, "-c", head + script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SECRET": "s3cr3t"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_memory_is_private_and_no_core_is_dumped_but_children_are_as_usual():
    script = """
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
print(dumpable())
can.keep_memory_private()
print(dumpable(), resource.getrlimit(resource.RLIMIT_CORE) == (0, hard), flush=True)
os.execv("/proc/self/exe", ["python", "-c", "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"])
"""
    assert told_by(script) == ["1", "0 True", "1"]


def test_what_the_system_refuses_is_done_without(monkeypatch):
    def refuse(*_):
        raise ValueError

    monkeypatch.setattr(capabilities.resource, "setrlimit", refuse)
    monkeypatch.setattr(capabilities, "_libc", lambda: None)
    capabilities.keep_memory_private()


@pytest.mark.parametrize("library", ["can._libc()", "None"])
def test_a_variable_is_cleared_and_what_the_system_shows_of_it_too(library):
    script = f"""
libc = {library}
can._libc = lambda: libc
can.clear_variable("SECRET")
can.clear_variable("NEVER_THERE")
shown = open("/proc/self/environ", "rb").read() if os.path.exists("/proc/self/environ") else b""
print("SECRET" in os.environ, b"s3cr3t" in shown and libc is not None, b"PATH=" in shown)
os.execvp("sh", ["sh", "-c", "echo ${{SECRET-gone}}"]) if print(end="", flush=True) is None else None
"""
    seen, child = told_by(script)
    assert seen == f"False False {Path('/proc/self/environ').exists()}"
    assert child == "gone"


def test_a_python_that_cannot_call_c_has_no_library(monkeypatch):
    assert capabilities._libc() is not None
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert capabilities._libc() is None


def test_where_there_are_no_groups_of_processes_the_systems_own_program_ends_it(monkeypatch):
    ran = []
    monkeypatch.delattr(os, "killpg")
    with subprocess.Popen(["sleep", "60"]) as process:
        monkeypatch.setattr(subprocess, "run", lambda argv, **_: ran.append(argv))
        kill_with_children(process.pid)
        assert process.wait(20) == -signal.SIGKILL
        kill_with_children(process.pid)  # that it has ended already is no fault
    assert ran == [["taskkill", "/F", "/T", "/PID", f"{process.pid}"]] * 2


# ── the event loop, files ────────────────────────────────────────────────────────────────────────


def test_where_uvloop_is_not_installed_asyncios_own_loop_will_do(monkeypatch):
    assert loop_factory() is not None
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None


@pytest.mark.parametrize("polls", [True, False])
def test_a_socket_is_readable_when_something_came_or_it_ended(monkeypatch, polls):
    if not polls:
        monkeypatch.delattr(select, "poll")
    here, there = socket.socketpair()
    with here:
        assert not is_readable(here.fileno())
        there.close()
        assert is_readable(here.fileno())


def test_a_file_of_another_user_is_not_ours(tmp_path, monkeypatch):
    assert is_ours(tmp_path.stat())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not is_ours(tmp_path.stat())
    monkeypatch.delattr(os, "geteuid")
    assert is_ours(tmp_path.stat()), "where files have no owner"


@pytest.mark.parametrize("windows", [False, True])
def test_one_at_a_time_holds_the_lock_of_a_file(tmp_path, monkeypatch, windows):
    if windows:
        monkeypatch.setattr(capabilities, "fcntl", None)
        monkeypatch.setattr(capabilities, "msvcrt", Msvcrt("msvcrt"))
    one, other = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    lock_file(one)
    with pytest.raises(BlockingIOError):
        lock_file(other)
    unlock_file(one)
    lock_file(other)
    os.close(one)
    os.close(other)


def test_where_python_knows_no_locks_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(capabilities, "fcntl", None)
    monkeypatch.setattr(capabilities, "msvcrt", None)
    with (tmp_path / "lock").open("w") as file:
        for ask in (lock_file, unlock_file):
            with pytest.raises(OSError, match=r"[Ll]ocks"):
                ask(file.fileno())


def test_a_file_takes_the_place_of_another(tmp_path):
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    replace_file(tmp_path / "new", tmp_path / "old")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("old", b"new")]


@pytest.mark.skipif(capabilities.resource is None, reason="there are no such limits")
def test_a_program_has_the_limits_that_we_were_started_with(monkeypatch):
    set_to, now = (
        [],
        {capabilities.resource.RLIMIT_CORE: (0, 9), capabilities.resource.RLIMIT_NOFILE: (4096, 8192)},
    )
    given = {capabilities.resource.RLIMIT_CORE: (7, 9), capabilities.resource.RLIMIT_NOFILE: (1024, 8192)}
    monkeypatch.setattr(capabilities, "_LIMITS", given)
    monkeypatch.setattr(capabilities.resource, "getrlimit", now.__getitem__)
    monkeypatch.setattr(
        capabilities.resource, "setrlimit", lambda which, limits: set_to.append((which, limits))
    )
    with capabilities.given_limits():
        assert set_to == list(given.items())
    assert set_to[2:] == list(now.items())


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_is_passed_as_a_file_can_be_read_and_is_gone_afterwards(monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(capabilities, "memfd_create", None)
    with passed_as_file(b"content") as path:
        assert Path(path).read_bytes() == b"content"
        if FILE_OWNERS:
            assert Path(path).parent.stat().st_mode & 0o077 == 0 or path.startswith("/proc/self/fd/")
    assert not Path(path).exists()
