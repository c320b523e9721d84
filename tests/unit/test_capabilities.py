"""What the system can do, and how; `tests/live/test_windows.py` has where it cannot."""

import asyncio
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from math import inf

import pytest

from authproxy import capabilities
from authproxy.capabilities import (
    Capability,
    cpu_count,
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
    unlock_file,
)


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


def test_a_program_is_ended_with_what_it_started():
    program = "import subprocess; p = subprocess.Popen(['sleep', '60']); print('up', flush=True); p.wait()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout.readline() == b"up\n"
        kill_with_children(process.pid)
        assert process.stdout.read() == b"", "the pipe has an end only when its last writer has"
    assert process.returncode == -signal.SIGKILL


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
