"""`authproxy check`: one line a fault, exit code 2 if there is any."""

import click

from authproxy.cli.options import config_option, load_config


@click.command()
@config_option
def check(*, config_file: str | None) -> None:
    """Validate the configuration. References are resolved; the network is not touched."""
    config = load_config(config_file)
    routes = f"{len(config.routes)} route{'s' if len(config.routes) > 1 else ''}"
    click.echo(f"{config.file}: ok, {routes}")
