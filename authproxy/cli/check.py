"""`authproxy check`: one line a fault, exit code 2 if there is any."""

import sys

import click

from authproxy.app.application import App
from authproxy.app.tls import tls_contexts
from authproxy.capabilities import run_interruptibly
from authproxy.cli.options import config_option, warning_lines
from authproxy.config.find import find_config
from authproxy.config.model import Config
from authproxy.config.read import load
from authproxy.errors import ConfigError


@click.command()
@config_option
def check(*, config_file: str | None) -> None:
    """Validate the configuration. References are resolved; the network is not touched."""
    path = find_config(config_file)
    try:
        config = load(path)
        run_interruptibly(_prepare(config))
    except ConfigError as error:
        click.echo(error.detail)  # what was asked for, so to stdout
        if error.hint:
            click.echo(f"  hint: {error.hint}", err=True)
        sys.exit(2)
    for line in warning_lines(config):
        click.echo(line)
    routes = f"{len(config.routes)} route{'s' if len(config.routes) > 1 else ''}"
    click.echo(f"{config.file}: ok, {routes}")


async def _prepare(config: Config) -> None:
    """Do what `run` does before it listens, so that it will not fail where we are content.

    Raises `ConfigError`.
    """
    async with App(config, tls=tls_contexts(config, makes=False)):
        pass
