"""`authproxy check`: one line a fault, exit code 2 if there is any."""

import sys

import click

from authproxy.cli.options import config_option, load_config
from authproxy.errors import ConfigError


@click.command()
@config_option
def check(*, config_file: str | None) -> None:
    """Validate the configuration. References are resolved; the network is not touched."""
    try:
        config = load_config(config_file)
    except ConfigError as error:
        click.echo("\n".join(map(str, error.faults)))  # what was asked for, so to stdout
        sys.exit(2)
    routes = f"{len(config.routes)} route{'s' if len(config.routes) > 1 else ''}"
    click.echo(f"{config.file}: ok, {routes}")
