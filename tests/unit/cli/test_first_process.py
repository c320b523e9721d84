"""Process 1 goes on as its child: signals reach it, all who end are waited for, and its code is the code."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from authproxy.capabilities import SIGCHLD
from authproxy.cli import first_process

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no process 1 of ours on Windows")

CHILD, OTHER = 7, 8


class Left(BaseException):
    """The process has ended, with this code."""


@pytest.fixture
def system(monkeypatch):
    """A system on which signals and ends are made up; `told` is what was passed on."""

    made = SimpleNamespace(signals=[], ended=[], told=[])

    def leave(code):
        raise Left(code)

    monkeypatch.setattr(signal, "sigwait", lambda _set: made.signals.pop(0))
    monkeypatch.setattr(os, "waitpid", lambda _pid, _how: made.ended.pop(0) if made.ended else (0, 0))
    monkeypatch.setattr(os, "kill", lambda pid, number: made.told.append((pid, number)))
    monkeypatch.setattr(os, "_exit", leave)
    return made


def attend(system):
    """Attend to the child until it has ended; return the code."""
    with pytest.raises(Left) as left:
        first_process._attend(CHILD)
    return left.value.args[0]


def test_who_is_not_process_1_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("it forked"))
    first_process.step_aside()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_passed_on(system, number):
    system.signals = [number, SIGCHLD]
    system.ended = [(CHILD, 0)]
    assert attend(system) == 0
    assert system.told == [(CHILD, number)]


@pytest.mark.parametrize(("status", "code"), [(0, 0), (2 << 8, 2), (signal.SIGTERM, 143)])
def test_it_ends_as_the_child_does(system, status, code):
    system.signals = [SIGCHLD]
    system.ended = [(CHILD, status)]
    assert attend(system) == code


def test_everybody_is_waited_for(system):
    system.signals = [SIGCHLD, SIGCHLD]
    system.ended = [(OTHER, 0), (OTHER + 1, 1 << 8), (0, 0), (CHILD, 0)]
    assert attend(system) == 0
    assert system.ended == []


def test_the_child_goes_on_with_the_signals_that_there_were_and_its_code_is_handed_up():
    code = (
        "import os, signal, sys\n"
        "from authproxy.cli import first_process\n"
        "first_process.OURS = os.getpid()\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'WATCHDOG_PID': '5'}\n"
        "before = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "first_process.step_aside()\n"
        "assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before\n"
        "assert os.getpid() != first_process.OURS == os.getppid()\n"
        "assert os.getpgrp() == os.getpid()\n"
        "assert os.environ['LISTEN_PID'] == str(os.getpid())\n"
        "assert os.environ['WATCHDOG_PID'] == '5'\n"
        "sys.exit(5)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (5, "")
