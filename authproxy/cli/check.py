"""`authproxy check`: one line a fault, exit code 2 if there is any."""

import sys

import click

from authproxy.cli.options import config_option, warning_lines
from authproxy.config.build import find_config
from authproxy.config.read import load
from authproxy.errors import ConfigError


@click.command()
@config_option
def check(*, config_file: str | None) -> None:
    """Validate the configuration. References are resolved; the network is not touched."""
    path = find_config(config_file)
    try:
        config = load(path)
    except ConfigError as error:
        click.echo("\n".join(map(str, error.faults)))  # what was asked for, so to stdout
        sys.exit(2)
    for line in warning_lines(config):
        click.echo(line)
    routes = f"{len(config.routes)} route{'s' if len(config.routes) > 1 else ''}"
    click.echo(f"{config.file}: ok, {routes}")
