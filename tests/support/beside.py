"""Runs `authproxy exec` as a person does: to its end, or for as long as a test has something to say to it."""

import subprocess
import sys
import tempfile
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
        options.setdefault("stdin", subprocess.DEVNULL) if "input" not in options else None
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
        try:
            with process:
                yield process
                process.communicate(timeout=GUARD)
        finally:
            process.kill()
