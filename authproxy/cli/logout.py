"""`authproxy logout ROUTE`: forget the tokens that are stored for it."""

import asyncio

import click

from authproxy import logs
from authproxy.app import App
from authproxy.cli.options import config_option, find_route, load_config
from authproxy.config.schema import Config, Route


@click.command()
@click.argument("route")
@config_option
def logout(*, route: str, config_file: str | None) -> None:
    """Forget the tokens stored for ROUTE. A proxy that runs goes on with what it holds in memory."""
    config = load_config(config_file)
    wanted = find_route(config, route)
    logs.set_up("error", config.log.format)
    asyncio.run(_logout(config, wanted))
    click.echo(f"forgot the tokens of {route}")


async def _logout(config: Config, route: Route) -> None:
    async with App(config) as app:
        store = app.earning.store(route)
        if store is None:
            raise click.UsageError(f"no tokens are stored for {route.name}")
        async with store.lock(route.key):
            await store.forget(route.key)
