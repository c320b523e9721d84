"""References in strings: where a secret comes from, so that it need not stand in the file.

    ${NAME}  ${NAME:-default}  ${file:PATH}  ${keyring:SERVICE/USER}  ${command:PROGRAM ARGS}  $$

Each is resolved once, however often it is written. `again` gives references that ask files and commands
anew and go on with what the environment and the keyring said. No message holds what a reference gave.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from authproxy.config.document import Item, each_scalar
from authproxy.errors import Fault

COMMAND_TIMEOUT = 30.0  # seconds
RENEWABLE = frozenset({"file", "command"})

_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_NOT_A_REFERENCE = (
    "should be ${NAME}, ${NAME:-default}, ${file:PATH}, ${keyring:SERVICE/USER} or ${command:PROGRAM ARGS}; "
    "write $$ for a literal $"
)


class Unresolved(Exception):
    """A reference that leads nowhere; its text names the reference."""


class References:
    """Resolves the references of one file, whose directory relative paths start from."""

    def __init__(
        self, directory: Path, environ: Mapping[str, str], known: Mapping[str, str] | None = None
    ) -> None:
        self._directory = directory
        self.environ = dict(environ)
        self._known = dict(known or {})

    def again(self, kinds: frozenset[str] = RENEWABLE) -> "References":
        """Return references that ask sources of these `kinds` anew."""
        kept = {
            reference: value
            for reference, value in self._known.items()
            if reference.partition(":")[0] not in kinds
        }
        return References(self._directory, self.environ, kept)

    def resolved(self, item: Item, faults: list[Fault]) -> Item:
        """Return `item` with every string in it resolved; what cannot be is added to `faults`."""

        def change(scalar: Item) -> Item:
            written = scalar.value if scalar.written is None else scalar.written
            if not isinstance(written, str) or "$" not in written:
                return scalar
            problems: list[str] = []
            text, sources = self._expand(written, problems)
            faults.extend(scalar.fault(problem) for problem in problems)
            return replace(scalar, value=text, written=written, sources=sources)

        return each_scalar(item, change)

    def _expand(self, text: str, problems: list[str]) -> tuple[str, frozenset[str]]:
        pieces: list[str] = []
        sources: frozenset[str] = frozenset()
        position = 0
        while (dollar := text.find("$", position)) >= 0:
            pieces.append(text[position:dollar])
            following = text[dollar + 1 : dollar + 2]
            if following != "{":
                pieces.append("$")
                position = dollar + (2 if following == "$" else 1)
                continue
            end = _closing_brace(text, dollar + 2)
            if end is None:
                problems.append("a reference ${ is not closed with }; write $${ for a literal ${")
                return "", sources
            value, read = self._value(text[dollar + 2 : end], problems)
            pieces.append(value)
            sources |= read
            position = end + 1
        pieces.append(text[position:])
        return "".join(pieces), sources

    def _value(self, reference: str, problems: list[str]) -> tuple[str, frozenset[str]]:
        kind, colon, rest = reference.partition(":")
        if colon and kind in READERS:
            try:
                if reference not in self._known:
                    self._known[reference] = READERS[kind](rest, self._directory)
                return self._known[reference], frozenset({kind})
            except Unresolved as unresolved:
                problems.append(str(unresolved))
                return "", frozenset()
        match = _NAME.match(reference)
        if match is None:
            problems.append(f"a reference {_NOT_A_REFERENCE}")
            return "", frozenset()
        name, default = match.groups()
        value = self.environ.get(name)
        if default is not None and not value:
            value, sources = self._expand(default, problems)
            return value, sources | {"env"}
        if value is None:
            problems.append(f"environment variable {name} is not set (reference ${{{name}}})")
        return value or "", frozenset({"env"})


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return None


def _without_newline(text: str) -> str:
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _text(content: bytes, reference: str) -> str:
    try:
        return _without_newline(content.decode())
    except UnicodeDecodeError:
        raise Unresolved(f"what the reference {reference} gives is not UTF-8 text") from None


def _file(path: str, directory: Path) -> str:
    reference = f"${{file:{path}}}"
    try:
        content = (directory / Path(path).expanduser()).read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "there is no such path"
        raise Unresolved(f"the file cannot be read: {reason} (reference {reference})") from None
    return _text(content, reference)


def _keyring(entry: str, _directory: Path) -> str:
    reference = f"${{keyring:{entry}}}"
    service, slash, user = entry.rpartition("/")
    if not slash or not service or not user:
        raise Unresolved("a keyring reference should be ${keyring:SERVICE/USER}")
    try:
        import keyring  # noqa: PLC0415 - an extra
    except ImportError:
        raise Unresolved(
            f"the package keyring is not installed (reference {reference}): pip install 'authproxy[keyring]'"
        ) from None
    try:
        password: str | None = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001 - each backend has errors of its own
        raise Unresolved(
            f"the keyring cannot be asked: {type(error).__name__} (reference {reference})"
        ) from None
    if password is None:
        raise Unresolved(f"the keyring has no such entry (reference {reference})")
    return password


def _command(line: str, directory: Path) -> str:
    try:
        argv = shlex.split(line)
    except ValueError:
        raise Unresolved("a quotation mark is not closed (reference ${command:…})") from None
    if not argv:
        raise Unresolved("a command reference should be ${command:PROGRAM ARGS}")
    reference = f"${{command:{argv[0]}{' …' if argv[1:] else ''}}}"
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own program, without a shell
            argv,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no command line"
        raise Unresolved(f"the program cannot be run: {reason} (reference {reference})") from None
    with process:
        try:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its children too, or they keep the pipe open
            raise Unresolved(
                f"the program took more than {COMMAND_TIMEOUT:.0f} s (reference {reference})"
            ) from None
    if process.returncode:
        raise Unresolved(f"the program failed with exit code {process.returncode} (reference {reference})")
    return _text(output, reference)


READERS: dict[str, Callable[[str, Path], str]] = {"file": _file, "keyring": _keyring, "command": _command}
