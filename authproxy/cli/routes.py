"""`authproxy routes`: where each route is called, where it leads, and how it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from authproxy.cli.calling import Call, URLs, call_of
from authproxy.cli.completing import complete_routes
from authproxy.cli.options import (
    config_option,
    find_route,
    json_option,
    load_config,
    print_json,
    warning_lines,
)
from authproxy.cli.running import Running, ask_running, known_urls
from authproxy.cli.terminal import STDOUT, columns_of, has_colour, is_watched
from authproxy.config.effective import effective
from authproxy.config.model import Config

COLUMNS = ("NAME", "URL", "UPSTREAM", "AUTH", "STATE")
GAP = 2  # blanks between two columns
COLOURS = {
    "valid": "green", "failing": "red", "rejected": "red", "refused": "red", "login required": "yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """One route: what the configuration comes to, how it is called, and what the running proxy says of it."""

    settings: Mapping[str, Any]
    call: Call
    status: Mapping[str, Any]

    @property
    def row(self) -> tuple[str, ...]:
        auth = self.settings["auth"]
        return (
            self.settings["name"],
            self.call.shown,
            self.settings["upstream"],
            auth.get("preset") or auth["grant"],
            self.status["state"].replace("_", " "),
        )

    @property
    def rest(self) -> str:
        """What `auth` has besides, secrets masked."""
        known = {"grant", "preset", "hints"}  # the first two have a column, and hints are for failures
        return ", ".join(f"{key}={value}" for key, value in self.settings["auth"].items() if key not in known)

    def document(self) -> dict[str, Any]:
        """Return it for `--json`."""
        state = {"state": self.status["state"], "expires_at": self.status.get("expires_at")}
        return {**self.settings, "url": self.call.shown, **state}

    def details(self) -> dict[str, Any]:
        """Return it for a person who asks for this one, what matters most first."""
        trouble = {
            name: each for name, each in (self.status.get("trouble") or {}).items() if each is not None
        }
        first = {
            "name": self.settings["name"],
            "url": self.call.shown,
            "curl": self.call.curl(),
            "upstream": self.settings["upstream"],
            "state": self.status["state"].replace("_", " "),
            "expires_at": self.status.get("expires_at"),
            "trouble": trouble,
        }
        return {
            name: each for name, each in (first | dict(self.settings)).items() if each not in (None, [], {})
        }


@click.command()
@click.argument("route", required=False, shell_complete=complete_routes)
@config_option
@json_option
def routes(*, route: str | None, config_file: str | None, as_json: bool) -> None:
    """Show where each route is called, where it leads, and its state in the proxy that runs.

    With ROUTE, all of that route's settings, after presets and defaults; secrets as ••••. Nothing but the
    configuration's own admin listener is contacted.
    """
    config = load_config(config_file)
    if route is not None:
        find_route(config, route)
    running = ask_running(config)
    urls = known_urls(config, running)
    found = _found(config, running, urls)
    for line in warning_lines(config):
        click.echo(line, err=True)
    if route is not None:
        [one] = [each for each in found if each.settings["name"] == route]
        print_json(one.document()) if as_json else _print_details(one)
    elif as_json:
        print_json([each.document() for each in found])
    else:
        _print_table(found)
        if urls.forward is not None:
            click.echo(f"{click.style('forward', bold=True)}  {urls.forward}", color=has_colour(STDOUT))


def _found(config: Config, running: Running, urls: URLs) -> list[Shown]:
    return [
        Shown(settings, call_of(config, route, urls), running.status_of(route))
        for settings, route in zip(effective(config), config.routes, strict=True)
    ]


def _print_details(shown: Shown) -> None:
    import yaml

    plain = json.loads(json.dumps(shown.details()))
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110), nl=False)


def _print_table(found: Sequence[Shown]) -> None:
    """Print a table: whole to a pipe, and on a terminal without the settings, so that it fits.

    Where it is too wide all the same, each route has lines of its own.
    """
    if is_watched(STDOUT):
        columns = columns_of(STDOUT)
        lines = _table(COLUMNS, [each.row for each in found])
        if max(map(len, map(click.unstyle, lines))) > columns:
            lines = [line for each in found for line in _lines(each.row, columns)]
    else:
        lines = _table([*COLUMNS, "SETTINGS"], [(*each.row, each.rest) for each in found])
    for line in lines:
        click.echo(line, color=has_colour(STDOUT))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [click.style(_aligned(head, widths), bold=True), *(_aligned(row, widths) for row in rows)]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        _coloured(cell) + " " * (width + GAP - len(cell)) for cell, width in zip(cells, widths, strict=True)
    ]
    return "".join(padded).rstrip()


def _coloured(cell: str) -> str:
    return click.style(cell, fg=COLOURS[cell]) if cell in COLOURS else cell


def _lines(row: Sequence[str], columns: int) -> list[str]:
    """Return the lines of one route: its URLs stay whole, so that they can be copied."""
    name, url, upstream, auth, state = row
    both = f"  {url} → {upstream}"
    return [
        f"{click.style(name, bold=True)}: {auth}, {_coloured(state)}",
        *([both] if len(both) <= columns else [f"  {url}", f"  → {upstream}"]),
    ]
