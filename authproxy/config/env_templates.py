"""Variables of a route's `env`: templates, which `authproxy exec` and `authproxy env` fill for a program.

    NAME: "text with {url}, {host}, {port} or {placeholder}; {{ and }} are braces"

What is filled in is public. `checks.variable_faults` sees to it that no value holds a secret.
"""

import re
from collections.abc import Mapping
from string import Formatter

FIELDS = ("url", "host", "port", "placeholder")
"""What may stand in braces: the route's address for the program, parts of it, and the route's placeholder."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_UNLIKE = "should hold {url}, {host}, {port} or {placeholder} and nothing else in braces; write {{ for a {"


def variable_name(value: str) -> str:
    """Return the name of a variable. Raises ValueError for what a shell could not set."""
    if not _NAME.match(value):
        raise ValueError("should be the name of a variable: letters, digits and _, no digit first")
    return value


def template(value: str) -> str:
    """Return a template. Raises ValueError, which never quotes it: a reference may have given it."""
    if "\0" in value:
        raise ValueError("should not contain a NUL character: no variable can hold one")
    try:
        parts = list(Formatter().parse(value))
    except ValueError:
        raise ValueError(_UNLIKE) from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in FIELDS or form or conversion):
            raise ValueError(_UNLIKE)
    return value


def fields_of(text: str) -> frozenset[str]:
    """Return what `text`, a template, wants to have filled in."""
    return frozenset(name for _, name, _, _ in Formatter().parse(text) if name is not None)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return `text`, a template, with `values` for its fields."""
    return text.format_map(values)
