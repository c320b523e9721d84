"""`authproxy demo`: everything on loopback, ready for curl."""

import click
import yaml

from authproxy.app import App
from authproxy.cli.options import config_option
from authproxy.cli.serve import run_loop, serve
from authproxy.config.read import parse
from authproxy.demo import Demo, stand_ins


@click.command()
@config_option
@click.option(
    "--listen", default="127.0.0.1:8080", show_default=True, metavar="ADDR", help="Where the proxy listens."
)
@click.option("--admin", metavar="ADDR", help="Where the admin listener is.")
@click.option("--no-admin", is_flag=True, help="No admin listener.")
def demo(*, config_file: str | None, listen: str, admin: str | None, no_admin: bool) -> None:  # noqa: ARG001 - every verb takes -c
    """Serve a stand-in for the API of every preset, and the proxy before them.

    The stand-ins check what they are sent, as the real ones do: a wrong credential fails.
    """
    overrides: dict[str, object] = {"listen": listen}
    if admin is not None or no_admin:
        overrides["admin"] = {"listen": admin} if admin is not None else False
    run_loop(_demo(overrides))


async def _demo(overrides: dict[str, object]) -> None:
    async with stand_ins() as running:
        config = parse(yaml.safe_dump(running.config()), "the demo's configuration", overrides=overrides)
        await serve(config, ready=lambda app: _explain(app, running))


def _explain(app: App, running: Demo) -> None:
    click.echo("\nThe proxy adds what each API wants. Try:\n")
    for _, line in running.curl_lines(app.listening[0]):
        click.echo(f"  {line}")
    click.echo("\nCtrl-C ends it.")
