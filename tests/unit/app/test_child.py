"""What becomes of signals, stops and ends: with a program that is made up, and signals from a list."""

import asyncio
import os
import queue
import signal
import threading
from types import SimpleNamespace

import pytest

from authproxy.app import child as module
from authproxy.app.child import (
    CONTINUED,
    NOTHING,
    STOPPED,
    Child,
    NotStarted,
    hold_signals,
    next_signal,
    stop_as_by_key,
)
from authproxy.capabilities import JOB_CONTROL
from tests.support.clock import settle
from tests.support.systems import needs

PID = 4711
OTHER = 1
TERMINAL = None

pytestmark = needs(JOB_CONTROL)


class World:
    """A program whose life is a list, and what was done to it and to us."""

    def __init__(self, monkeypatch):
        self.life, self.signals = queue.Queue(), queue.Queue()
        self.sent, self.stops = [], 0
        self.foreground = True
        self.changes = []
        monkeypatch.setattr(
            module, "change_of", lambda pid: self.changes.pop(0) if self.changes else CONTINUED
        )
        monkeypatch.setattr(module, "_started", self.started)
        monkeypatch.setattr(module, "next_signal", self.next_signal)
        monkeypatch.setattr(module, "stop_as_by_key", self.stop)
        monkeypatch.setattr(module, "has_terminal", lambda *groups: self.foreground)
        kill = SimpleNamespace(
            kill=lambda pid, number: self.sent.append((pid, number)), getpgid=lambda pid: pid
        )
        monkeypatch.setattr(module, "os", kill)

    def started(self, argv, environ, mask, *, to_stderr):
        self.given = (argv, environ, mask)
        return PID, self.life.get

    def next_signal(self):
        return self.signals.get()

    def stop(self):
        self.stops += 1


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


async def heard(world, *signals):
    """Have signals come, and what becomes of them be decided."""
    for each in signals:
        world.signals.put(each)
    while not world.signals.empty():
        await asyncio.sleep(0)
    await settle(20)


def child(program="program", mask=frozenset()):
    return Child([program], {"A": "b"}, mask)


@pytest.mark.parametrize(("status", "code"), [(0, 0), (255, 255), (-9, 137), (-15, 143)])
async def test_the_end_is_told_as_a_shell_tells_it(world, status, code):
    made = child()
    assert world.given == (["program"], {"A": "b"}, frozenset())
    world.life.put(status)
    assert await made.ended() == code
    made.signal(signal.SIGTERM)
    assert world.sent == []


async def test_a_signal_of_another_process_is_passed_on(world):
    child()
    await heard(world, (signal.SIGTERM, OTHER), (signal.SIGUSR1, -1))
    assert world.sent == [(PID, signal.SIGTERM), (PID, signal.SIGUSR1)]


async def test_what_the_terminal_or_the_program_itself_sent_to_all_is_not(world):
    child()
    await heard(world, (signal.SIGINT, TERMINAL), (signal.SIGTERM, PID), (signal.SIGHUP, OTHER))
    assert world.sent == [(PID, signal.SIGHUP)]


async def test_a_stop_is_heard_of(world):
    made = child()
    world.life.put(None)
    while not world.stops:
        await asyncio.sleep(0)
    world.life.put(0)
    assert await made.ended() == 0
    assert world.stops == 1


async def test_a_key_stops_us_only_when_the_program_has_stopped(world):
    made = child()
    await heard(world, (signal.SIGTSTP, TERMINAL))
    assert (world.sent, world.stops) == ([], 0)  # it may ignore it
    for count in (1, 2):
        made._has_stopped()
        assert world.stops == count


async def test_a_stop_that_somebody_sent_is_passed_on_and_stops_us_without_a_terminal_too(world):
    made = child()
    world.foreground = False
    await heard(world, (signal.SIGTSTP, OTHER))
    assert (world.sent, world.stops) == ([(PID, signal.SIGTSTP)], 0)
    made._has_stopped()
    assert world.stops == 1


@pytest.mark.parametrize(
    ("changes", "stops", "sent"),
    [
        ([NOTHING], 1, [(PID, signal.SIGCONT)]),
        ([CONTINUED], 1, []),
        ([STOPPED, STOPPED, CONTINUED], 3, []),
        ([STOPPED, NOTHING], 2, [(PID, signal.SIGCONT)]),
        ([-15], 1, []),
    ],
)
async def test_a_program_goes_on_when_we_do_and_not_later(world, changes, stops, sent):
    made = child()
    world.changes = list(changes)
    made._has_stopped()
    assert (world.stops, world.sent, world.changes) == (stops, sent, [])
    await heard(world, (signal.SIGCONT, OTHER))  # late: it may have stopped again
    assert world.sent == sent
    if changes == [-15]:
        assert await made.ended() == 143


async def test_a_program_that_somebody_else_stops_does_not_stop_us_where_nobody_could_go_on(world):
    made = child()
    world.foreground = False
    made._has_stopped()
    assert world.stops == 0


@pytest.mark.parametrize(
    ("program", "error", "code", "why"),
    [
        ("program", FileNotFoundError(2, "No such file"), 127, "command not found"),
        ("./program", FileNotFoundError(2, "No such file"), 127, "No such file"),
        ("program", PermissionError(13, "no"), 126, "no"),
        ("program", OSError(8, "format"), 126, "format"),
    ],
)
async def test_what_cannot_be_started_says_why(monkeypatch, program, error, code, why):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(module, "_started", fails)
    with pytest.raises(NotStarted, match=f"^{why}$") as raised:
        child(program)
    assert raised.value.code == code


def test_signals_wait_but_for_those_that_are_ignored(monkeypatch):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ignored, child = signal.signal(signal.SIGUSR2, signal.SIG_IGN), signal.getsignal(signal.SIGCHLD)
    try:
        assert hold_signals() == before
        waits = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert {signal.SIGTERM, signal.SIGINT, signal.SIGTSTP} <= waits
        assert signal.SIGUSR2 not in waits
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        number, sender = next_signal()
        assert number == signal.SIGTERM
        assert sender in {os.getpid(), -1}
        monkeypatch.setattr(module, "sigwaitinfo", None)  # as on macOS
        for has_terminal, sender in ((True, None), (False, -1)):
            monkeypatch.setattr(module, "has_terminal", lambda has_terminal=has_terminal: has_terminal)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            assert next_signal() == (signal.SIGINT, sender)
            signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
            assert next_signal() == (signal.SIGHUP, -1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGUSR2, ignored)
        signal.signal(signal.SIGCHLD, child)


def test_we_are_stopped_by_a_signal_of_our_own_in_this_very_thread(monkeypatch):
    heard = []
    before = signal.signal(signal.SIGTSTP, lambda number, _frame: heard.append(threading.current_thread()))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
    try:
        stop_as_by_key()
        assert heard == [threading.main_thread()]
        assert signal.SIGTSTP in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGTSTP, before)


async def test_without_job_control_a_program_is_started_and_waited_for(monkeypatch):
    started = []

    class Popen:
        pid = PID

        def __init__(self, argv, **settings):
            started.append((argv, settings))

        def wait(self):
            return 3

    monkeypatch.setattr(module.subprocess, "Popen", Popen)
    monkeypatch.setattr(module.shutil, "which", lambda name, path: f"{path}/{name}.cmd")
    made = Child(["npm", "run"], {"PATH": "/bin"}, None)
    assert await made.ended() == 3
    settings = {"env": {"PATH": "/bin"}, "close_fds": False, "stdout": None}
    assert started == [(["/bin/npm.cmd", "run"], settings)]


@pytest.mark.parametrize("to_stderr", [True, False])
async def test_what_it_writes_to_stdout_may_go_to_stderr(monkeypatch, to_stderr):
    spawned, popened = [], []
    monkeypatch.setattr(
        module.os, "posix_spawnp", lambda *args, **settings: spawned.append(settings) or 2**22
    )
    module._started(["program"], {}, frozenset(), to_stderr=to_stderr)
    moves = [(module.os.POSIX_SPAWN_DUP2, 2, 1)] if to_stderr else []
    assert spawned[0]["file_actions"] == moves
    process = SimpleNamespace(pid=PID, wait=None)
    monkeypatch.setattr(
        module.subprocess, "Popen", lambda *args, **settings: popened.append(settings) or process
    )
    module._started(["program"], {}, None, to_stderr=to_stderr)
    assert popened[0]["stdout"] == (2 if to_stderr else None)
