"""Runs `authproxy exec` as a person does: to its end, or for as long as a test has something to say to it."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.launch import COMMAND, GUARD, environment, write_config

Command = Sequence[str]


def python(code: str, *args: str) -> list[str]:
    """Return a command that runs `code`, with the standard library alone."""
    return [sys.executable, "-I", "-c", code, *args]


def command_line(file: Path, command: Command, args: Sequence[str] = ()) -> list[str]:
    """Return the command line of `authproxy exec` with the configuration in `file`."""
    return [*COMMAND, "exec", "-c", str(file), *args, "--", *command]


def run_beside(
    config: Mapping[str, Any],
    command: Command,
    *args: str,
    env: Mapping[str, str] | None = None,
    before: tuple[str, ...] = (),
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end; `args` go before `--`, `before` goes before all."""
    with tempfile.TemporaryDirectory(prefix="authproxy-") as made:
        directory = Path(made)
        file = write_config(directory, config)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            [*before, *command_line(file, command, args)],
            cwd=directory, env=environment(directory, env), text=True, timeout=GUARD, check=False,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )  # fmt: skip


@contextmanager
def beside(
    config: Mapping[str, Any],
    command: Command,
    *args: str,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[subprocess.Popen[str]]:
    """Have `command` running; its stdin and stdout are the process's. It has ended when the block has."""
    with tempfile.TemporaryDirectory(prefix="authproxy-") as made:
        directory = Path(made)
        file = write_config(directory, config)
        process = subprocess.Popen(
            command_line(file, command, args),
            cwd=directory, env=environment(directory, env), text=True,
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )  # fmt: skip
        watchdog = threading.Timer(GUARD, process.kill)  # whoever reads what never comes
        watchdog.start()
        try:
            with process:
                yield process
                process.communicate(timeout=GUARD)
        finally:
            watchdog.cancel()
            process.kill()


def children(pid: int) -> list[int]:
    """Return the processes that the main thread of a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state(pid: int) -> str:
    """Return the state of a process, as proc(5) has it: T for one that is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
