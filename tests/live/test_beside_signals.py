"""`authproxy exec` and signals: they come to the program once each, and it is the program that decides."""

import os
import signal
import sys
from collections.abc import Callable

import pytest

from tests.support.beside import beside, children, python, state
from tests.support.command import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it is about signals of POSIX")

CONFIG = {"routes": [{"name": "api", "upstream": "http://127.0.0.1:9", "auth": {"grant": "none"}}]}


HEARS = r"""
import os, signal, sys, time
def heard(number, _frame):
    os.write(1, f"{signal.Signals(number).name}\n".encode())  # print cannot be called within itself
    if number == signal.SIGTERM and "ends" in sys.argv:
        sys.exit(5)
for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CONT", "TSTP", "WINCH"):
    signal.signal(getattr(signal, f"SIG{name}"), heard)
os.write(1, b"ready\n")
while True:
    time.sleep(0.01)  # `pause` would wait on if one came just before it
"""


def test_signals_are_passed_on_once_and_the_program_decides() -> None:
    with beside(CONFIG, python(HEARS)) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "WINCH", "TERM", "INT"):
            program.send_signal(getattr(signal, f"SIG{name}"))
            assert program.stdout.readline() == f"SIG{name}\n"
        assert program.poll() is None  # it ignores SIGTERM: nobody but its user ends it
        (child,) = children(program.pid)
        os.kill(child, signal.SIGKILL)
    assert program.returncode == 128 + signal.SIGKILL


def test_a_program_that_ends_by_sigterm_in_its_own_way_has_its_own_code() -> None:
    with beside(CONFIG, python(HEARS, "ends")) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.terminate()
        assert program.stdout.readline() == "SIGTERM\n"
    assert program.returncode == 5


def test_a_program_that_signals_its_whole_group_hears_it_once() -> None:
    code = HEARS.partition("while True")[0] + "os.kill(0, signal.SIGHUP)\n"
    code += "os.write(1, b'asked\\n')\nsys.stdin.readline()\n"
    with beside(CONFIG, python(code), start_new_session=True) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert [program.stdout.readline() for _ in range(3)] == ["ready\n", "SIGHUP\n", "asked\n"]
        program.send_signal(signal.SIGUSR1)  # what came before it has been dealt with by then
        assert program.stdout.readline() == "SIGUSR1\n"
        program.stdin.write("\n")


def ignoring(number: int) -> Callable[[], object]:
    """Return what has a process ignore a signal, and all that it starts."""
    return lambda: signal.signal(number, signal.SIG_IGN)


def test_what_nohup_ignores_stays_ignored() -> None:
    code = "import signal; print(signal.getsignal(1) is signal.SIG_IGN, flush=True); input()"
    with beside(CONFIG, python(code), preexec_fn=ignoring(signal.SIGHUP)) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "True\n"
        program.send_signal(signal.SIGHUP)
        program.stdin.write("\n")
    assert program.returncode == 0


def test_where_sigchld_is_ignored_the_exit_code_is_the_programs_all_the_same() -> None:
    with beside(CONFIG, python("raise SystemExit(5)"), preexec_fn=ignoring(signal.SIGCHLD)) as program:
        pass
    assert program.returncode == 5


def test_sigtstp_stops_both_and_sigcont_has_both_go_on() -> None:
    code = "import sys; print('ready', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)"
    with beside(CONFIG, python(code), process_group=0) as program:  # ours is in its session: it has a parent
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "ready\n"
        (child,) = children(program.pid)
        program.send_signal(signal.SIGTSTP)
        wait_until(lambda: {state(program.pid), state(child)} == {"T"})
        program.send_signal(signal.SIGCONT)
        program.stdin.write("again\n")
        program.stdin.flush()
        assert program.stdout.readline() == "again\n"
        assert state(program.pid) != "T"
        program.stdin.close()
        program.stdin = None
    assert program.returncode == 0
