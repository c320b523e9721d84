"""What stands below a key's field says what the key is for, and may end in an example.

    connect: Timeout = 10.0
    \"\"\"To accept a connection, TLS included. Example: 5s\"\"\"

The JSON Schema has both, so editors show them, and `docs/reference-configuration.md` is made of it. They are
read from the sources when somebody asks for the schema; no start waits for that.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, get_args, get_type_hints

import yaml

_EXAMPLE = re.compile(r"\s*\bExample: (.+)\Z")


@dataclass(frozen=True, slots=True)
class Description:
    """What a key is for, and a value that it may have, as YAML."""

    text: str
    example: str | None = None

    def as_schema(self) -> dict[str, Any]:
        """Return the annotations of a JSON Schema that say the same (draft 2020-12 §9.1, §9.5)."""
        said: dict[str, Any] = {"description": self.text}
        return said if self.example is None else said | {"examples": [yaml.safe_load(self.example)]}


def descriptions(kind: type) -> dict[str, Description]:
    """Return what is said of the fields of a dataclass, inherited ones included."""
    return {name: said for base in reversed(kind.__mro__) for name, said in _own(base)}


def description(kind: Any, name: str) -> str | None:
    """Return what a key of `kind` is, for a sentence, and no more; None for one that nobody describes."""
    said = descriptions(kind).get(name) if isinstance(kind, type) else None
    if said is None:
        return None
    first = re.split(r"\.(?:\s|$)", said.text, maxsplit=1)[0]
    return first[:1].lower() + first[1:]


def mappings_in(kind: type) -> Iterator[type]:
    """Yield a dataclass and those that its fields hold, each once."""
    waiting, seen = [kind], set()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        if is_dataclass(each):
            yield each
            hints = get_type_hints(each)
            waiting += [hints[field.name] for field in fields(each)]
        else:
            waiting += get_args(each)


@cache
def _own(kind: type) -> tuple[tuple[str, Description], ...]:
    """Return what stands in the class itself; nothing where there are no sources."""
    if not is_dataclass(kind):
        return ()
    try:  # which reads the whole file to find the class
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError):
        return ()
    return tuple(_below(tree.body if isinstance(tree, ast.ClassDef) else []))


def _below(body: list[ast.stmt]) -> Iterator[tuple[str, Description]]:
    """Yield the fields below which there is a text."""
    for field, below in pairwise(body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as text)),
            ):
                yield name, _read(text)


def _read(text: str) -> Description:
    plain = " ".join(text.split())
    example = _EXAMPLE.search(plain)
    return Description(_EXAMPLE.sub("", plain), example and example[1])
