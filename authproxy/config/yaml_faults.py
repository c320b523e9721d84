"""What PyYAML finds wrong, said to who wrote the file: what it took the text for, and how to write it.

    PyYAML's context and problem ── the row of `SAID` that fits ── a sentence, at the problem or at its start

PyYAML's own messages may quote what the file says, and that may be a secret: none of their text is passed on
but words of its own.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import yaml

from authproxy.errors import Fault
from authproxy.malformed import ESCAPES


@dataclass(frozen=True, slots=True)
class Trouble:
    """One error of PyYAML's, in the text that it was found in; lines and columns count from 0."""

    error: yaml.MarkedYAMLError
    text: str

    @property
    def found_at(self) -> tuple[int, int]:
        mark = self.error.problem_mark or self.error.context_mark
        return (mark.line, mark.column) if mark else (0, 0)

    @property
    def began_at(self) -> tuple[int, int]:
        """Where the thing begins that is not right; as far as PyYAML knows."""
        mark = self.error.context_mark
        return (mark.line, mark.column) if mark else self.found_at

    def line(self, number: int) -> str:
        lines = self.text.splitlines()
        return lines[number] if number < len(lines) else ""

    @property
    def before(self) -> str:
        """What stands in the line before the place where it was found."""
        line, column = self.found_at
        return self.line(line)[:column]


class Said(NamedTuple):
    """A sentence, and whether it is about the place where the thing began."""

    message: str
    where_it_began: bool = False


Row = tuple[str, str | Callable[[Trouble], Said]]

QUOTES = "put the value in quotes"
COMMENT = " (` #` begins a comment: a value that contains it needs quotes)"
CLOSED = (
    "there is text after the closing quote, as a value that begins with a quote ends at the next one; "
    "within '…' a ' is written '', within \"…\" a \" is written \\\""
)
_NO_BLANK = re.compile(r"\s*(?:- +)*[A-Za-z_][\w-]*:[^\s:/]")
_UNQUOTED = re.compile(r"""[:,[{]\s*\$\{""")


def _cannot_begin(trouble: Trouble) -> Said:
    line, column = trouble.found_at
    if trouble.line(line)[column : column + 1] != "\t":
        return Said(f"a value cannot begin with @, % or ` unless it is quoted; {QUOTES}")
    if _is_json(trouble.text):
        return Said(
            "this is JSON indented with tabs, where YAML allows spaces only; "
            "indent it with spaces, as `python3 -m json.tool` does"
        )
    if trouble.before.strip():
        return Said("a tab cannot separate a key from its value; use a space")
    return Said("this line is indented with a tab, where YAML allows spaces only; replace it by spaces")


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _second_colon(trouble: Trouble) -> Said:
    number, _ = trouble.found_at
    for above in range(number, max(number - 3, -1), -1):
        if _NO_BLANK.match(trouble.line(above)) and (above < number or ":" not in trouble.before):
            return Said(f"the space after the colon is missing in line {above + 1}; write `key: value`")
    if trouble.before.count(": ") or trouble.before.rstrip().endswith(":"):
        return Said(f"there is a second `: ` in this line; if it belongs to the value, {QUOTES}")
    return Said("there is a colon where no key can be; a value that contains `: ` needs quotes")


def _within(trouble: Trouble) -> Said:
    """Say what may be wrong within { } or [ ]."""
    problem = trouble.error.problem or ""
    if "stream end" in problem:
        comment = COMMENT if _has_comment(trouble) else ""
        message = f"this bracket is never closed{comment}; close it, or if it belongs to a value, {QUOTES}"
        return Said(message, where_it_began=True)
    if _UNQUOTED.search(trouble.line(trouble.found_at[0])):
        return Said('within { } and [ ] a reference needs quotes: write "${NAME}"')
    if "got ':'" in problem:
        return Said(
            f"there is a second colon in one value; a comma is missing before it, or if it is text, {QUOTES}"
        )
    line = trouble.began_at[0] + 1
    return Said(f"within the brackets that begin in line {line} a comma is missing, or a value needs quotes")


def _has_comment(trouble: Trouble) -> bool:
    first, last = trouble.began_at[0], trouble.found_at[0]
    return any(" #" in trouble.line(each) for each in range(first, last + 1))


def _block(trouble: Trouble) -> Said:
    if trouble.before.strip():
        return Said(CLOSED)
    return Said(
        f"this line is not indented like the others of what begins in line {trouble.began_at[0] + 1}; "
        "have all keys of a mapping, and all - of a list, begin in the same column"
    )


def _no_colon(_trouble: Trouble) -> Said:
    message = "this is no `key: value`; a colon and a space are missing, or it is indented too little"
    return Said(message, where_it_began=True)


def _quote_open(_trouble: Trouble) -> Said:
    message = (
        "the quote that begins here is never closed; close it, or put the value in the other kind of quotes"
    )
    return Said(message, where_it_began=True)


def _no_value(trouble: Trouble) -> Said:
    line, column = trouble.found_at
    if trouble.line(line)[column - 1 : column + 1] == "[:":
        return Said("a [ begins a list; an address such as [::1]:8080 needs quotes")
    return Said(f"a value is missing here, or it begins with a character of YAML's own; {QUOTES}")


def _not_yaml(trouble: Trouble) -> Said:
    if trouble.line(0).lstrip().startswith("["):
        return Said(
            "this looks like TOML or INI; write `key: value`, as in the file that `authproxy init` makes"
        )
    return Said(
        "there is text after the end of the mapping; a configuration is one mapping of `key: value` lines"
    )


SAID: tuple[Row, ...] = (
    (r"cannot start any token", _cannot_begin),
    (r"mapping values are not allowed", _second_colon),
    (r"expected ',' or '[]}]'", _within),
    (r"expected <block end>", _block),
    (r"could not find expected ':'", _no_colon),
    (r"quoted scalar.*(end of stream|document separator)", _quote_open),
    (r"double-quoted scalar", f"{ESCAPES}, in Windows paths too"),
    (r"block scalar", f"a value that begins with | or > is a block of lines; if it is text, {QUOTES}"),
    (r"mapping keys are not allowed", f"a value cannot begin with `? ` unless it is quoted; {QUOTES}"),
    (r"sequence entries are not allowed",
     f"a list begins in a line of its own; if `- ` belongs to the value, {QUOTES}"),
    (r"scanning an (alias|anchor)|undefined alias",
     f"a * at the start refers to an anchor (&) that is not there, or has no name; if it is text, {QUOTES}"),
    (r"(scanning|parsing) a tag|tag handle", f"a ! at the start is a YAML tag; if it is text, {QUOTES}"),
    (r"duplicate anchor", "two anchors (&) have the same name; give one another"),
    (r"directive", f"a % at the start of a line is a YAML directive; if it is text, {QUOTES}"),
    (r"expected '<document start>'", _not_yaml),
    (r"node content", _no_value),
)  # fmt: skip


def yaml_fault(error: yaml.MarkedYAMLError, text: str, file: str) -> Fault:
    """Return what is wrong with `text`, at its place; nothing of it is repeated."""
    trouble = Trouble(error, text)
    if "single document" in (error.context or ""):
        said = Said("contains more than one document (`---`); only one is allowed: put the others elsewhere")
    else:
        said = _said(trouble)
        said = said._replace(message=f"is not YAML: {said.message}")
    line, column = trouble.began_at if said.where_it_began else trouble.found_at
    return Fault(file, line + 1, column + 1, "", said.message)


def _said(trouble: Trouble) -> Said:
    told = f"{trouble.error.context or ''} {trouble.error.problem or ''}"
    for pattern, how in SAID:
        if re.search(pattern, told):
            return how(trouble) if callable(how) else Said(how)
    return Said(f"cannot be read; if this is a value, {QUOTES}")


def character_fault(error: yaml.reader.ReaderError, text: str, file: str) -> Fault:
    """Return where the character is that YAML does not allow at all, and which one."""
    before = text[: error.position]
    line, column = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
    code = text[error.position : error.position + 1]
    named = f" (U+{ord(code):04X})" if code else ""
    message = f"contains a character that YAML does not allow{named}; remove it"
    return Fault(file, line, column, "", message)
