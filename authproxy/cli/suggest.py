"""What to say of a name that does not exist: the one that was probably meant, and those there are."""

from collections.abc import Collection

import click

MAX_LISTED = 40  # names; a configuration may have thousands


def no_such(
    what: str, name: str, known: Collection[str], where: str = "", *, context: click.Context | None = None
) -> click.UsageError:
    """Return the fault that there is no `what` called `name`; `where` is a place such as ` in proxy.yaml`."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    others = f" (choose from {_listed(known)})" if list(known) != close else ""
    return click.UsageError(f"there is no {what} {name!r}{where}{meant}{others}", context)


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:MAX_LISTED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
