"""What several verbs share: where the configuration is, which route is meant, how results are printed."""

import json
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import click

from authproxy.capabilities import clear_variable
from authproxy.cli.completing import complete_files
from authproxy.cli.output import is_unicode
from authproxy.cli.suggest import no_such
from authproxy.config.find import find_config
from authproxy.config.model import Config
from authproxy.config.read import load
from authproxy.config.route import RouteConfig

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """Add `-c/--config`."""
    return click.option(
        "-c",
        "--config",
        "config_file",
        metavar="FILE",
        shell_complete=complete_files,
        help="The configuration file. [default: see `run --help`]",
    )(function)


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(function)


def retry_rejected_option(function: F) -> F:
    """Add `--retry-rejected`."""
    return click.option(
        "--retry-rejected", is_flag=True,
        help="Try a credential again that was rejected before; too many attempts may lock its account.",
    )(function)  # fmt: skip


def load_config(config_file: str | None, *, needed: Collection[str] = ()) -> Config:
    """Return the configuration, found and checked; `needed` are routes, as for `load`, or none for all.

    Raises `ConfigError`.
    """
    config = load(find_config(config_file), needed=needed or None)
    forget_secret_variables(config)
    return config


def forget_secret_variables(config: Config) -> None:
    """Take the variables that held secrets out of the environment: what we start has no use for them."""
    for name in config.secret_variables:
        clear_variable(name)


def warning_lines(config: Config) -> list[str]:
    """Return what is no fault of the configuration, but hardly meant; one line each, with its place."""
    return [str(replace(each, message=f"warning: {each.message}")) for each in config.warnings]


def find_route(config: Config, name: str) -> RouteConfig:
    """Return the route `name`. Raises `click.UsageError`, which lists those there are."""
    for route in config.routes:
        if route.name == name:
            return route
    raise no_such("route", name, [route.name for route in config.routes], f" in {config.file}")


def print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=not is_unicode(sys.stdout)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; nothing is cut short when the output is not a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=1000)
    console.print(table)
