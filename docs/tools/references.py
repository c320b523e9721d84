"""Writes the two pages that are made of the program itself: `make references`.

    the configuration's JSON Schema ─▶ docs/reference-configuration.md
    the command line                ─▶ docs/reference-commands.md

tests/house/test_references.py fails when one of them is not what this makes.
"""

from collections.abc import Callable
from pathlib import Path

from docs.tools.keys import configuration_page
from docs.tools.verbs import commands_page

DOCS = Path(__file__).parents[1]
PAGES: dict[str, Callable[[], str]] = {
    "reference-configuration.md": configuration_page,
    "reference-commands.md": commands_page,
}


def write() -> None:
    """Write both pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
