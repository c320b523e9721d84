"""References in strings: where a secret comes from, so that it need not stand in the file.

    ${NAME}  ${NAME:-default}  ${file:PATH}  ${keyring:SERVICE/USER}  ${command:PROGRAM ARGS}  $$

Each is resolved once, however often it is written. `again` gives references that ask files and commands
anew and go on with what the environment and the keyring said. No message holds what a reference gave.

A program is not given the variables that hold secrets of the configuration (`withheld`): they are ours.

A `$` before anything else is plain. Where that is hardly meant, `warnings` says how to write it.
"""

import codecs
import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from authproxy.capabilities import kill_with_children
from authproxy.config.document import Given, Item, each_scalar
from authproxy.errors import Fault
from authproxy.malformed import ESCAPES
from authproxy.places import Stamp, stamp_of

COMMAND_TIMEOUT = 30.0  # seconds
RENEWABLE = frozenset({"file", "command"})
STAND_IN = "https://command.invalid"
BYTE_ORDER_MARK = "\ufeff"

_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_UNBRACED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIKE_A_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\Z")  # as hardly anything else is written
_WHOLE_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*\Z")
_ARGUMENT = re.compile(r"\.command\[\d+\]\Z")  # what a shell is told has variables of its own
_DOLLARS = re.compile(r"\$*")
_NOT_A_REFERENCE = (
    "should be ${NAME}, ${NAME:-default}, ${file:PATH}, ${keyring:SERVICE/USER} or ${command:PROGRAM ARGS}; "
    "write $$ for a literal $"
)


class Unresolved(Exception):
    """A reference that leads nowhere; its text names the reference."""


class References:
    """Resolves the references of one file, whose directory relative paths start from."""

    def __init__(
        self, directory: Path, environ: Mapping[str, str], known: dict[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.environ = dict(environ)
        self.withheld: frozenset[str] = frozenset()
        self._known = known if known is not None else {}
        self.warnings: list[Fault] = []
        self.files: dict[Path, Stamp] = {}  # those that were read, as they were just before

    def again(self, kinds: frozenset[str] = RENEWABLE) -> "References":
        """Return references that ask sources of these `kinds` anew."""
        kept = {
            reference: value
            for reference, value in self._known.items()
            if reference.partition(":")[0] not in kinds
        }
        again = References(self.directory, self.environ, kept)
        again.withheld = self.withheld
        return again

    def without_commands(self) -> "References":
        """Return references that run no program, `STAND_IN` for what it would say; the rest they share."""
        return _WithoutCommands(self.directory, self.environ, self._known)

    def resolved(self, item: Item, faults: list[Fault]) -> Item:
        """Return `item` with every string in it resolved; what cannot be is added to `faults`."""

        def change(scalar: Item) -> Item:
            written = scalar.value if scalar.written is None else scalar.written
            if not isinstance(written, str) or "$" not in written:
                return scalar
            expanding = _Expanding(self, written)
            text = expanding.text(written)
            faults.extend(scalar.fault(problem) for problem in expanding.problems)
            for name in dict.fromkeys(() if _ARGUMENT.search(scalar.key) else expanding.unbraced):
                self.warnings.append(scalar.fault(self._unbraced(name)))
            return replace(
                scalar,
                value=text,
                written=written,
                sources=frozenset(expanding.sources),
                variables=frozenset(expanding.variables),
                given=tuple(expanding.given),
                doubled=expanding.doubled,
            )

        return each_scalar(item, change)

    def _unbraced(self, name: str) -> str:
        if name in self.environ:
            return f"${name} is plain text; the variable is ${{{name}}}"
        return "a $ without braces is plain text; a variable is ${NAME}"  # what follows may be a password's

    def read(self, kind: str, rest: str) -> str:
        """Return what `${kind:rest}` gives, read at most once. Raises `Unresolved`."""
        reference = f"{kind}:{rest}"
        if reference not in self._known:
            if kind == "file":
                self._remember(rest)
            found = READERS[kind](rest, self)
            _refuse_mark(found, shown(reference))
            self._known[reference] = found
        return self._known[reference]

    def _remember(self, path: str) -> None:
        with contextlib.suppress(RuntimeError, ValueError):  # what cannot be a path is told by who reads it
            file = path_in(self.directory, path)
            self.files[file] = stamp_of(file)

    def variable(self, name: str) -> str | None:
        """Return an environment variable. Raises `Unresolved` when it is not text."""
        value = self.environ.get(name)
        if value is not None:
            try:
                value.encode()
            except UnicodeEncodeError:  # the system's bytes, smuggled through
                raise Unresolved(f"the value of ${{{name}}} is not UTF-8 text") from None
            _refuse_mark(value, f"${{{name}}}")
        return value


class _WithoutCommands(References):
    def read(self, kind: str, rest: str) -> str:
        return STAND_IN if kind == "command" else super().read(kind, rest)


class _Expanding:
    """One string on its way: what its references gave, and what is wrong or odd about it."""

    def __init__(self, references: References, written: str) -> None:
        self._references = references
        self._written = written
        self.problems: list[str] = []
        self.sources: set[str] = set()
        self.variables: set[str] = set()
        self.given: list[Given] = []
        self.unbraced: list[str] = []
        self.doubled = False

    def text(self, text: str, *, nested: bool = False) -> str:
        """Return `text` with its references resolved; `nested` is a default within a reference."""
        done = ""
        position = 0
        while (dollar := text.find("$", position)) >= 0:
            done += text[position:dollar]
            following = text[dollar + 1 : dollar + 2]
            if following != "{":
                self._look_at(text, dollar)
                done += "$"
                position = dollar + (2 if following == "$" else 1)
                continue
            end = _closing_brace(text, dollar + 2)
            if end is None:
                self.problems.append("a reference ${ is not closed with }; write $${ for a literal ${")
                return ""
            reference = text[dollar + 2 : end]
            value = self._value(reference)
            if not nested:
                may_be_empty = reference.endswith(":-") and _NAME.match(reference) is not None
                self.given.append(
                    Given(len(done), len(done) + len(value), shown(reference), may_be_empty=may_be_empty)
                )
            done += value
            position = end + 1
        return done + text[position:]

    def _value(self, reference: str) -> str:
        kind, colon, rest = reference.partition(":")
        try:
            if colon and kind in READERS:
                value = self._references.read(kind, rest)
                self.sources.add(kind)
                return value
            name, default = _variable(reference)
            self.sources.add("env")
            self.variables.add(name)
            found = self._references.variable(name)
        except Unresolved as unresolved:
            self.problems.append(str(unresolved))
            return ""
        if default is not None and not found:
            return self.text(default, nested=True)
        if found is None:
            self.problems.append(self._unset(name))
        return found or ""

    def _unset(self, name: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(name, self._references.environ, 1, 0.8)
        way_out = f"did you mean ${{{near[0]}}}?" if near else f"set it, or give a default: ${{{name}:-…}}"
        return f"environment variable {name} is not set (reference ${{{name}}}); {way_out}"

    def _look_at(self, text: str, dollar: int) -> None:
        """Take note of a `$NAME` that was hardly meant literally, and of a `$$` that nobody needed."""
        if text[dollar - 1 : dollar] == "$" and dollar:
            return  # the end of a longer row, which was looked at from its start
        row = _DOLLARS.match(text, dollar)
        count = len(row[0]) if row else 1
        after = _UNBRACED.match(text, dollar + count)
        variable = after is not None and self._is_variable(after[0], alone=count == 1)
        if count == 1 and after is not None and variable:
            self.unbraced.append(after[0])
        if count in {2, 3} and not variable and text[dollar + count : dollar + count + 1] != "{":
            self.doubled = True

    def _is_variable(self, name: str, *, alone: bool) -> bool:
        whole = alone and self._written == f"${name}" and bool(_WHOLE_VARIABLE.match(name))
        return whole or name in self._references.environ or bool(_LIKE_A_VARIABLE.match(name))


def _variable(reference: str) -> tuple[str, str | None]:
    """Return the name and the default of a reference to the environment. Raises `Unresolved`."""
    match = _NAME.match(reference)
    if match is None:
        kind, _, name = reference.partition(":")
        if kind == "env" and _NAME.match(name):
            raise Unresolved("an environment variable is written ${NAME}, without `env:`")
        raise Unresolved(f"a reference {_NOT_A_REFERENCE}")
    return match[1], match[2]


def shown(reference: str) -> str:
    """Return a reference without what may be secret in it: a default, a program's arguments."""
    kind, colon, rest = reference.partition(":")
    if kind == "command":
        words = rest.split()
        return f"${{command:{words[0] if words else ''}{' …' if words[1:] else ''}}}"
    if colon and kind in READERS:
        return f"${{{reference}}}"
    return f"${{{kind}}}" if _NAME.match(reference) else "${…}"


def references_in(text: str) -> list[str]:
    """Return the references in `text`, fit to print; nothing is read."""
    found, position = [], 0
    while (dollar := text.find("${", position)) >= 0:
        end = _closing_brace(text, dollar + 2)
        row = len(text[:dollar]) - len(text[:dollar].rstrip("$"))
        if end is None or row % 2:  # not closed, or escaped
            position = dollar + 2
            continue
        found.append(shown(text[dollar + 2 : end]))
        position = end + 1
    return found


def _refuse_mark(text: str, reference: str) -> None:
    if text.startswith(BYTE_ORDER_MARK):
        raise Unresolved(
            f"the value of {reference} begins with a byte order mark (U+FEFF); save it as UTF-8 without one"
        )


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
        raise Unresolved(f"the value of {reference} {not_utf8(content)}") from None


def not_utf8(content: bytes) -> str:
    """Return what to say of bytes that are not UTF-8: some editors, and PowerShell, write UTF-16."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "is UTF-16, not UTF-8 text; save it as UTF-8"
    return "is not UTF-8 text; save it as UTF-8"


def path_in(directory: Path, path: str) -> Path:
    """Return the path that `${file:path}` names. Raises RuntimeError for a home that nobody has."""
    return directory / Path(path).expanduser()


def _file(path: str, references: References) -> str:
    reference = f"${{file:{path}}}"
    if any(character < " " for character in path):
        raise Unresolved(f"the path of a ${{file:…}} has a control character in it; {ESCAPES}")
    try:
        content = path_in(references.directory, path).read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "there is no such path"
        told = f"the file cannot be read: {reason} (reference {reference})"
        raise Unresolved(f"{told}{_looked_for(path, references.directory, error)}") from None
    return _text(content, reference)


def _looked_for(path: str, directory: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "; let the user that authproxy runs as read it"
    if isinstance(error, IsADirectoryError):
        return "; name a file in it"
    if isinstance(error, FileNotFoundError) and not Path(path).expanduser().is_absolute():
        return f"; it was looked for in {directory}"
    return ""


def _keyring(entry: str, _references: References) -> str:
    reference = f"${{keyring:{entry}}}"
    service, slash, user = entry.rpartition("/")
    if not slash or not service or not user:
        raise Unresolved("a keyring reference should be ${keyring:SERVICE/USER}")
    try:
        import keyring
    except ImportError:
        raise Unresolved(
            f"the package keyring is not installed (reference {reference}): pip install 'authproxy[keyring]'"
        ) from None
    try:
        password: str | None = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001 - each backend has errors of its own
        raise Unresolved(
            f"the keyring cannot be asked: {type(error).__name__} (reference {reference}); "
            "where there is none, as on most servers, use ${file:PATH}"
        ) from None
    if password is None:
        raise Unresolved(
            f"the keyring has no such entry (reference {reference}); `keyring set {service} {user}` makes one"
        )
    return password


def _command(line: str, references: References) -> str:
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
            cwd=references.directory,
            env={name: value for name, value in os.environ.items() if name not in references.withheld},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid command line"
        raise Unresolved(f"the program cannot be run: {reason} (reference {reference})") from None
    with process:
        try:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT)
        except subprocess.TimeoutExpired:
            kill_with_children(process.pid)  # its children too, or they keep the pipe open
            raise Unresolved(
                f"the program took more than {COMMAND_TIMEOUT:.0f} s (reference {reference})"
            ) from None
    if process.returncode:
        raise Unresolved(
            f"the program failed with exit code {process.returncode} (reference {reference}); "
            "run it by itself to see what it says"
        )
    return _text(output, reference)


Reader = Callable[[str, References], str]

READERS: dict[str, Reader] = {"file": _file, "keyring": _keyring, "command": _command}
