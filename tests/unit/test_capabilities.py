"""What the system can do; and everything, where it is one that cannot do much."""

import asyncio
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from authproxy import capabilities
from authproxy.capabilities import (
    Capability,
    cpu_count,
    hold_back,
    is_ours,
    is_readable,
    kill_with_children,
    lock_file,
    loop_factory,
    on_signal,
    open_file_limits,
    raise_open_file_limit,
    replace_file,
    signals_blocked,
    terminal_watch,
    unlock_file,
)

ROOT = Path(__file__).parents[2]


def test_a_capability_is_a_truth_value_with_a_reason():
    assert Capability(present=True, lack="none")
    assert not Capability(present=False, lack="none")
    assert capabilities.WORKERS
    assert capabilities.UNIX_SOCKETS
    assert capabilities.FILE_OWNERS


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


def test_no_limit_on_open_files_is_an_infinite_one(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, resource.RLIM_INFINITY))
    assert open_file_limits() == (1024, inf)


@pytest.mark.parametrize(("refuses", "done"), [(None, True), (OSError, False), (ValueError, False)])
def test_whether_the_system_raised_the_limit_is_told(monkeypatch, refuses, done):
    asked = []

    def setrlimit(_which, limits):
        asked.append(limits)
        if refuses is not None:
            raise refuses

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    assert raise_open_file_limit(2000, inf) is done
    assert asked == [(2000, resource.RLIM_INFINITY)]


# ── processes and signals ────────────────────────────────────────────────────────────────────────


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

    monkeypatch.setattr(resource, "setrlimit", refuse)
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


# ── the event loop, files ────────────────────────────────────────────────────────────────────────


def test_where_uvloop_is_not_installed_asyncios_own_loop_will_do(monkeypatch):
    assert loop_factory() is not None
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None


def test_a_socket_is_readable_when_something_came_or_it_ended():
    here, there = socket.socketpair()
    with here:
        assert not is_readable(here.fileno())
        there.close()
        assert is_readable(here.fileno())
    assert hasattr(select, "poll")


def test_a_file_of_another_user_is_not_ours(tmp_path, monkeypatch):
    assert is_ours(tmp_path.stat())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not is_ours(tmp_path.stat())


def test_one_at_a_time_holds_the_lock_of_a_file(tmp_path):
    one, other = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    lock_file(one)
    with pytest.raises(BlockingIOError):
        lock_file(other)
    unlock_file(one)
    lock_file(other)
    os.close(one)
    os.close(other)


def test_a_file_takes_the_place_of_another(tmp_path):
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    replace_file(tmp_path / "new", tmp_path / "old")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("old", b"new")]


# ── Windows, as far as it can be made up ─────────────────────────────────────────────────────────


def on_windows(script, directory):
    """Run `script` in a process that lacks what Windows lacks; return what it prints."""
    head = "from tests.support.windows import become_windows\nloop = become_windows()\n"
    ended = subprocess.run(
        [sys.executable, "-c", head + script],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_every_module_can_be_imported_where_there_is_no_posix(tmp_path):
    script = """
from math import inf
from authproxy import capabilities as can
print(bool(can.WORKERS), bool(can.UNIX_SOCKETS), bool(can.FILE_OWNERS))
print(can.open_file_limits() == (inf, inf), can.loop_factory(), can.cpu_count() > 0)
with can.signals_blocked():
    can.after_fork(print)
import os
os.environ["SECRET"] = "s3cr3t"
can.keep_memory_private()
can.clear_variable("SECRET")
print("SECRET" in os.environ)
"""
    assert on_windows(script, tmp_path) == ["False False False", "True None True", "False"]


def test_what_cannot_be_had_there_is_a_fault_with_its_key_and_the_way_out(tmp_path):
    script = """
from authproxy.app.credentials import check_stores
from authproxy.config.read import parse
from authproxy.errors import ConfigError
ROUTE = "routes: [{name: a, upstream: 'https://a.example', auth: {grant: none}}]"
for keys in ("workers: 4", "workers: auto", "listen: unix:/run/a", "token_store: {type: redis, key: k, url: unix:///a}"):
    try:
        parse(keys + "\\n" + ROUTE, "proxy.yaml")
        print("fine")
    except ConfigError as error:
        print(error)
"""
    workers, auto, listen, redis = on_windows(script, tmp_path)
    assert workers == (
        "proxy.yaml:1:10: workers: should be 1 or auto: this system cannot fork processes that share a "
        "listener; start it several times on ports of their own instead"
    )
    assert auto == "fine"
    assert listen == "proxy.yaml:1:9: listen: should be HOST:PORT: Python has no Unix sockets on this system"
    assert "token_store.url: should begin with redis:// or rediss://: Python has no Unix sockets" in redis


def test_a_store_of_tokens_works_there_with_a_lock_of_its_own(tmp_path):
    script = """
import os
from pathlib import Path
from authproxy.errors import StoreBusy
from authproxy.tokens.stores.file import FileStore
from authproxy.tokens.token import Token

async def two_processes():
    def store():
        return FileStore(Path("tokens"), "a passphrase", lock_seconds=0.05)

    one, other = store(), store()
    await one.save("a", Token("first", 2e9))
    print((await other.load("a")).value)
    async with one.lock("a"):
        try:
            async with other.lock("a"):
                print("two hold it")
        except StoreBusy as busy:
            print("busy")
    async with other.lock("a"):
        await other.save("a", Token("second", 2e9))
    print((await one.load("a")).value)
    os.symlink("tokens", "link")
    try:
        await FileStore(Path("link"), "a passphrase").load("a")
    except Exception as error:
        print(error)

loop.run_until_complete(two_processes())
"""
    assert on_windows(script, tmp_path) == ["first", "busy", "second", "link is a symbolic link"]


def test_a_file_that_somebody_reads_there_is_replaced_when_he_has_done(tmp_path):
    script = """
from pathlib import Path
from authproxy import capabilities
naps, rename = [], Path.replace
def replace(new, old):
    if len(naps) < 3:
        raise PermissionError
    return rename(new, old)
Path.replace = replace
capabilities.time = type("Time", (), {"sleep": naps.append})
Path("new").write_bytes(b"new")
Path("old").write_bytes(b"old")
capabilities.replace_file(Path("new"), Path("old"))
print(Path("old").read_text(), len(naps))
naps = []
capabilities.REPLACE_TRIES = 2
Path("new").write_bytes(b"newer")
try:
    capabilities.replace_file(Path("new"), Path("old"))
except PermissionError:
    print(Path("old").read_text())
"""
    assert on_windows(script, tmp_path) == ["new 3", "new"]
