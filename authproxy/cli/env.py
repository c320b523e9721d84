"""`authproxy env`: the variables that `exec` would set, for the proxy that runs already."""

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

import click

from authproxy.cli.calling import URLs, call_of
from authproxy.cli.completing import complete_routes
from authproxy.cli.options import config_option, find_route, load_config, print_json
from authproxy.cli.running import ask_running, known_urls
from authproxy.cli.shells import SHELLS, settable
from authproxy.cli.variables import variables
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import AuthproxyError

NOT_FORWARD = (
    "--forward is for a program, not for a shell, which would keep the key and the trust: "
    "authproxy exec --forward [ROUTE]... -- COMMAND [ARG]..."
)
BY_CODE_PAGE = "powershell"  # which reads what programs print in the console's encoding; shells take bytes


@click.command()
@click.argument("routes", metavar="[ROUTE]...", nargs=-1, shell_complete=complete_routes)
@config_option
@click.option(
    "--shell", type=click.Choice([*SHELLS, "json"]), default="sh", show_default=True,
    help="Who is to read it: sh is for bash and zsh too, dotenv a .env file, json one flat object.",
)  # fmt: skip
@click.option("--forward", is_flag=True, hidden=True)
def env(*, routes: tuple[str, ...], config_file: str | None, shell: str, forward: bool) -> None:
    """Print variables with the URLs of the proxy that runs with this configuration.

    They are those that `exec` sets: for each ROUTE, or for all, its URL and what is under its `env`;
    AUTHPROXY_URL; NO_PROXY.

    \b
    eval "$(authproxy env)"
    authproxy env --shell fish | source
    authproxy env --shell powershell | Out-String | Invoke-Expression
    """  # noqa: D301 - click takes a backspace for "keep these lines"
    if forward:
        raise click.UsageError(NOT_FORWARD)
    environ = dict(os.environ)
    config = load_config(config_file, needed=routes)
    chosen = [find_route(config, name) for name in dict.fromkeys(routes)] or list(config.routes)
    found = _variables(config, chosen, environ)
    if shell == "json":
        print_json(found)
        return
    for name in found:
        if not settable(name, shell):
            click.echo(f"authproxy: {shell} can have no variable {name}: it is left out", err=True)
    if shell != BY_CODE_PAGE and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    lines = [SHELLS[shell](name, value) for name, value in found.items() if settable(name, shell)]
    click.echo("\n".join(lines), color=True)  # to the byte: what looks like a colour is a value


def _variables(config: Config, routes: Sequence[RouteConfig], environ: dict[str, str]) -> dict[str, str]:
    urls = known_urls(config, ask_running(config))
    found = {route.name: _url(config, route, urls) for route in routes}
    common = next(iter(found.values()))
    if shared := tuple(url for url in urls.shared if not url.startswith("unix:")):
        common = _url(config, replace(routes[0], path="/", host=None, is_shared=True), URLs(shared))
    return variables(config, routes, found, common=common, environ=environ)


def _url(config: Config, route: RouteConfig, urls: URLs) -> str:
    call = call_of(config, route, urls)
    if call.socket is not None:
        raise AuthproxyError(
            f"no URL can name the Unix socket {call.socket}, on which the proxy listens",
            hint="have it listen on 127.0.0.1:PORT as well, or start the program by `authproxy exec`",
        )
    if urlsplit(call.url).port == 0:
        raise AuthproxyError(
            "the proxy listens on whichever port is free, and none that runs says on which",
            hint="start it, with an admin listener on a port of its own (`admin`); or give `listen` a port; "
            "or start the program by `authproxy exec`",
        )
    return call.url
