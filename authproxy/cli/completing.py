"""What a shell is offered when somebody presses Tab: files, routes, presets.

Each is a function as click calls it. None fails, whatever the configuration is; no reference in it is
resolved, and nothing is contacted.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from authproxy.errors import AuthproxyError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

MAX_FILE = 4 << 20  # bytes; a person waits

# Nothing else gets into a shell's line: the file may be somebody else's, in whose directory one stands.
_NAME = re.compile(r"[a-z0-9-]+\Z")


def complete_files(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]]":
    """Leave it to the shell, which knows its files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def complete_routes(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the configuration's routes."""
    names = _route_names(context.params.get("config_file"))
    return [name for name in names if name.startswith(incomplete)]


def complete_presets(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the presets."""
    from authproxy.config.presets import presets

    return [name for name in presets() if name.startswith(incomplete)]


def _route_names(config_file: str | None) -> list[str]:
    from yaml import YAMLError

    from authproxy.config.find import find_config

    try:
        return _names(find_config(config_file))
    except (AuthproxyError, OSError, ValueError, YAMLError, RecursionError):
        return []


def _names(file: Path) -> list[str]:
    import yaml

    with file.open(encoding="utf-8-sig") as stream:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        document = yaml.load(stream.read(MAX_FILE), Loader=loader)  # noqa: S506 - a safe one
    routes: Any = document.get("routes") if isinstance(document, dict) else None
    if not isinstance(routes, list):
        return []
    named = [each.get("name") for each in routes if isinstance(each, dict)]
    return [name for name in named if isinstance(name, str) and _NAME.match(name)]
