"""`authproxy exec` on a terminal: keys come to the program once, and its shell has job control over it."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.beside import command_line
from tests.support.launch import COMMAND, environment, write_config
from tests.support.shell import BASH, PROMPT, Terminal, shell

pytestmark = pytest.mark.skipif(BASH is None, reason="it takes a bash")

CONFIG = {"routes": [{"name": "api", "upstream": "http://127.0.0.1:9", "auth": {"grant": "none"}}]}
COUNTS = """
import signal, sys
heard = []
signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
print("ready", flush=True)
for line in sys.stdin:
    print("heard", len(heard), flush=True)
"""


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with shell(environment(tmp_path)) as made:
        yield made


@pytest.fixture
def beside(tmp_path: Path) -> str:
    """What stands before a command."""
    file = write_config(tmp_path, CONFIG)
    return shlex.join(command_line(file, ()))


def test_ctrl_c_reaches_the_program_once(terminal: Terminal, beside: str, tmp_path: Path) -> None:
    (tmp_path / "counts.py").write_text(COUNTS)
    terminal.types(f"{beside} {sys.executable} -I {tmp_path}/counts.py\n")
    terminal.sees("ready")
    for count in (1, 2, 3):
        terminal.key("c")
        terminal.sees("^C")
        terminal.types("\n")
        terminal.sees(f"heard {count}\n")
    terminal.key("d")
    terminal.sees(PROMPT)
    assert terminal.code() == 0


def test_ctrl_c_ends_a_program_that_does_not_handle_it(terminal: Terminal, beside: str) -> None:
    terminal.types(f"{beside} sh -c 'echo rea''dy; exec sleep 600'\n")
    terminal.sees("ready")
    terminal.key("c")
    terminal.sees(PROMPT)
    assert terminal.code() == 130


def test_ctrl_c_is_for_the_program_that_the_doctor_runs_too(terminal: Terminal, tmp_path: Path) -> None:
    file = write_config(tmp_path, CONFIG)
    command = shlex.join([*COMMAND, "doctor", "--forward", "-c", str(file), "--"])
    terminal.types(f"{command} sh -c 'echo rea''dy; exec sleep 600'\n")
    terminal.sees("ready")
    terminal.key("c")
    terminal.sees("sh: exit code 130")
    terminal.sees("it does not use HTTPS_PROXY")
    terminal.sees(PROMPT)
    assert terminal.code() == 1


def test_ctrl_z_stops_both_and_fg_has_both_go_on_as_often_as_one_likes(
    terminal: Terminal, beside: str
) -> None:
    terminal.types(f"{beside} sh -c 'echo rea''dy; while read line; do echo \"got $line\"; done'\n")
    terminal.sees("ready")
    for word in ("one", "two", "three"):
        terminal.key("z")
        terminal.sees("Stopped")
        terminal.sees(PROMPT)
        terminal.types("fg\n")
        terminal.types(f"{word}\n")
        terminal.sees(f"got {word}")
    terminal.key("d")
    terminal.sees(PROMPT)
    assert terminal.code() == 0


def test_a_program_that_stops_itself_gives_the_terminal_back(terminal: Terminal, beside: str) -> None:
    terminal.types(f"{beside} sh -c 'kill -STOP $$; echo go''es on'\n")
    terminal.sees("Stopped")
    terminal.sees(PROMPT)
    terminal.types("fg\n")
    terminal.sees("goes on")
    terminal.sees(PROMPT)
    assert terminal.code() == 0


def test_a_shell_in_it_has_job_control_of_its_own(terminal: Terminal, beside: str) -> None:
    terminal.types(f"PS1='inner> ' {beside} bash --norc --noprofile -i\n")
    terminal.sees("inner> ")
    terminal.types("sh -c 'echo rea''dy; exec sleep 600'\n")
    terminal.sees("ready")
    terminal.key("z")
    terminal.sees("Stopped")
    terminal.sees("inner> ")
    terminal.types("kill %1; suspend\n")
    terminal.sees("Stopped")
    terminal.sees(PROMPT)
    terminal.types("fg\n")
    terminal.sees("bash")
    terminal.types("exit 3\n")
    terminal.sees(PROMPT)
    assert terminal.code() == 3


def test_in_a_pipeline_every_program_has_the_terminal(terminal: Terminal, beside: str) -> None:
    terminal.types(
        f"{beside} sh -c 'echo from the program' | sh -c 'cat; read line < /dev/tty; echo \"typed $line\"'\n"
    )
    terminal.sees("from the program")
    terminal.types("something\n")
    terminal.sees("typed something")
    terminal.sees(PROMPT)


def test_in_the_background_the_shell_has_the_terminal(terminal: Terminal, beside: str) -> None:
    terminal.types(f"{beside} sh -c 'sleep 600; true' & wait_for=$!; echo in the ''background\n")
    terminal.sees("in the background")
    terminal.sees(PROMPT)
    terminal.key("c")
    terminal.sees("^C")
    terminal.types("\n")  # bash overlooks a Ctrl-C that comes just before it reads, until the next key
    terminal.sees(PROMPT)
    terminal.types("kill -TERM $wait_for; wait $wait_for\n")
    terminal.sees(PROMPT)
    assert terminal.code() == 143
