"""`authproxy logout ROUTE`: forget the tokens that are stored for it."""

import click

from authproxy import logs
from authproxy.app.application import App
from authproxy.capabilities import run_interruptibly
from authproxy.cli.completing import complete_routes
from authproxy.cli.options import config_option, find_route, load_config
from authproxy.cli.terminal import Progress
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig


@click.command()
@click.argument("route", shell_complete=complete_routes)
@config_option
def logout(*, route: str, config_file: str | None) -> None:
    """Forget the tokens stored for ROUTE. A running proxy keeps using what it has in memory."""
    config = load_config(config_file)
    wanted = find_route(config, route)
    logs.set_up("error", config.log.format)
    with Progress("waiting for the token store"):
        found = run_interruptibly(_logout(config, wanted))
    if found:
        click.echo(f"forgot the tokens of {route}")
    else:
        click.echo(f"no tokens are stored for {route}: there is nothing to forget")


async def _logout(config: Config, route: RouteConfig) -> bool:
    """Forget the tokens of `route`; tell whether there were any."""
    async with App(config) as app:
        store = app.grant_sources.store(route)
        if store is None:
            return False
        async with store.lock(route.key):
            found = await store.load(route.key) is not None
            await store.forget(route.key)  # even what cannot be read
        return found
