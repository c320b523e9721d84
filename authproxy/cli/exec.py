"""`authproxy exec`: a program, and the proxy beside it for as long as it runs."""

import os

import click

from authproxy.app.child import NotStarted
from authproxy.app.refused_tunnels import RefusedTunnels
from authproxy.cli.options import config_option, find_route, load_config, retry_rejected_option
from authproxy.cli.program import (
    COMMAND,
    Program,
    WithCommand,
    complete_until_command,
    no_command,
    run_beside,
    served_beside,
    with_log_level,
)
from authproxy.logs import LEVELS

USAGE = "authproxy exec [ROUTE]... -- COMMAND [ARG]..."


class Exec(WithCommand):
    """Is of no use without a command."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(context, args)
        if not context.meta.get(COMMAND) and not context.resilient_parsing:
            raise click.UsageError(no_command(context, USAGE), context)
        return rest

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(context), "--", "COMMAND", "[ARG]..."]


@click.command(cls=Exec)
@click.argument("routes", metavar="[ROUTE]...", nargs=-1, shell_complete=complete_until_command)
@config_option
@click.option(
    "--forward",
    is_flag=True,
    help="Have what COMMAND sends to the routes' upstreams come this way too: by HTTPS_PROXY, with "
    "certificates of an authority that COMMAND trusts.",
)
@click.option(
    "--java",
    is_flag=True,
    help="Tell Java too, by JAVA_TOOL_OPTIONS. It gives no proxy a password: whoever is on this machine can "
    "use the forward listener, and so the routes' credentials, while COMMAND runs.",
)
@click.option(
    "--inherit",
    metavar="NAME",
    multiple=True,
    help="Hand a variable on although a secret of the configuration comes from it; repeatable.",
)
@click.option(
    "--log-level", type=click.Choice(list(LEVELS)),
    help="Minimum log level. [default: `log.level` of the configuration, else warning]",
)  # fmt: skip
@retry_rejected_option
@click.pass_context
def exec(  # noqa: A001 - as the verb is called
    context: click.Context,
    *,
    routes: tuple[str, ...],
    config_file: str | None,
    forward: bool,
    java: bool,
    inherit: tuple[str, ...],
    log_level: str | None,
    retry_rejected: bool,
) -> int:
    """Run COMMAND with the proxy beside it, and exit with its exit code.

    Each ROUTE, or every one, is on a free port of 127.0.0.1 for as long as COMMAND runs. Its URL is in a
    variable: ORDERS_API_URL for the route orders-api. AUTHPROXY_URL is where all of them are by their paths.
    What is under `env` of a route is set too, and NO_PROXY grows by the names of this machine.

    With --forward, COMMAND may go on asking the upstreams themselves: HTTPS_PROXY leads to a forward proxy
    for this run, which has what is for the routes' upstreams go the routes' way, and passes on the rest
    unread.

    Variables from which the configuration takes secrets are not handed on. Signals are passed on. The exit
    code is 126 if COMMAND cannot be run, 127 if it is not found, 128+N if signal N ended it.
    """
    if java and not forward:
        raise click.UsageError("--java is about the forward proxy: give --forward too")
    environ = dict(os.environ)  # with the secrets, which are then taken out of the process's own
    config = load_config(config_file, needed=routes)
    chosen = [find_route(config, name) for name in dict.fromkeys(routes)] or list(config.routes)
    served = with_log_level(served_beside(config, chosen, forward=forward, keyed=not java), log_level)
    command = context.meta[COMMAND]
    try:
        return run_beside(
            served,
            command,
            lambda listeners: Program(config, served, listeners, environ, inherit, java),
            retry_rejected=retry_rejected,
            watcher=RefusedTunnels() if forward else None,
        )
    except NotStarted as error:
        click.echo(f"authproxy: cannot run {command[0]}: {error}", err=True)
        return error.code
