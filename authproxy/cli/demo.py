"""`authproxy demo`: everything on loopback, ready for curl."""

from functools import partial

import click
import yaml

from authproxy import logs
from authproxy.app.listeners import can_be_opened, open_listeners
from authproxy.app.serving import attend, run_loop
from authproxy.app.tls import tls_contexts
from authproxy.cli.options import config_option
from authproxy.cli.serve import announce
from authproxy.config.read import parse
from authproxy.demo import Demo, stand_ins
from authproxy.stderr import dropping_stderr


@click.command()
@config_option
@click.option(
    "--listen", default="127.0.0.1:8080", show_default=True, metavar="ADDR", help="Address of the proxy."
)
@click.option("--admin", metavar="ADDR", help="Address of the admin listener.")
@click.option("--no-admin", is_flag=True, help="No admin listener.")
def demo(*, config_file: str | None, listen: str, admin: str | None, no_admin: bool) -> None:  # noqa: ARG001 - every verb takes -c
    """Serve a stand-in for the API of every preset, and the proxy in front of them.

    The stand-ins check what they are sent, as the real ones do: a wrong credential fails.
    """
    overrides: dict[str, object] = {"listen": listen, "token_store": {"type": "memory"}}
    if admin is not None or no_admin:
        overrides["admin"] = {"listen": admin} if admin is not None else False
    run_loop(_demo(overrides))


async def _demo(overrides: dict[str, object]) -> None:
    async with stand_ins() as running:
        config = parse(yaml.safe_dump(running.config()), "the demo's configuration", overrides=overrides)
        with dropping_stderr(logs.dropped_lines):
            logs.set_up(config.log.level, config.log.format)
            listeners = open_listeners(config)
            try:
                await attend(
                    config,
                    listeners,
                    tls_contexts(config),
                    ready=lambda _app: announce(config, listeners, partial(_explain, running)),
                )
            finally:
                listeners.unlink(listeners.addresses)


def _explain(running: Demo, urls: list[str], admin_url: str | None) -> None:
    click.echo("\nThe proxy adds the credential that each API wants. Try:\n")
    for _, line in running.curl_lines(urls[0]):
        click.echo(f"  {line}")
    if admin_url is not None and can_be_opened(admin_url) and running.login_routes:
        click.echo("\nThese need a login first; open in a browser:\n")
        for name in running.login_routes:
            click.echo(f"  {admin_url}/login/{name}")
    click.echo("\nPress Ctrl-C to stop.")
