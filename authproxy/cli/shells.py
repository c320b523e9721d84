"""How variables are written for a shell, or for who reads a file of them."""

import re
import shlex
from collections.abc import Callable, Mapping

from authproxy.errors import AuthproxyError

_POWERSHELL_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")  # each of them ends what one of them began
_FISH_ESCAPED = re.compile(r"['\\]")
_BARE = re.compile(r"[^\s#$'\"`]*\Z")  # what nobody who reads a .env makes anything else of
_UNFIT_FOR_SINGLE = re.compile(r"['\\]")
_UNFIT_FOR_DOUBLE = re.compile(r"[\"\\$`\n\r]")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _sh(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str) -> str:
    quoted = _FISH_ESCAPED.sub(lambda found: f"\\{found[0]}", value)
    return f"set -gx {name} '{quoted}'"


def _powershell(name: str, value: str) -> str:
    quoted = _POWERSHELL_QUOTES.sub(lambda found: found[0] * 2, value)
    return f"${{env:{name}}} = '{quoted}'"


def _dotenv(name: str, value: str) -> str:
    if _BARE.match(value):
        return f"{name}={value}"
    if not _UNFIT_FOR_SINGLE.search(value) and "${" not in value:  # which some fill in, in any quotes
        return f"{name}='{value}'"
    if not _UNFIT_FOR_DOUBLE.search(value):
        return f'{name}="{value}"'
    raise AuthproxyError(
        f"the value of {name} cannot be written so that everybody who reads a .env file reads it alike",
        hint="each reader has its own way with ${ and with quotation marks of both kinds; use --shell json",
    )


SHELLS: Mapping[str, Callable[[str, str], str]] = {
    "sh": _sh,
    "fish": _fish,
    "powershell": _powershell,
    "dotenv": _dotenv,
}
"""Of each shell, what sets a variable; `sh` is for bash and zsh too."""


def settable(name: str, shell: str) -> bool:
    """Tell whether `shell` can have a variable of that name: 42_URL is none for `sh`."""
    return shell not in {"sh", "fish"} or _IDENTIFIER.match(name) is not None
