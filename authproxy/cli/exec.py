"""`authproxy exec`: a program, and the proxy beside it for as long as it runs."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from authproxy import logs
from authproxy.app.beside import serve_beside
from authproxy.app.child import Child, NotStarted, hold_signals, release_signals
from authproxy.app.credentials import check_stores
from authproxy.app.file_limits import raise_file_limit
from authproxy.app.listeners import (
    Listeners,
    each_at_a_free_port,
    listening_urls,
    open_listeners,
    own_urls,
)
from authproxy.app.serving import run_loop
from authproxy.app.tls import tls_contexts
from authproxy.cli.completing import complete_files, complete_routes
from authproxy.cli.options import config_option, find_route, load_config, retry_rejected_option
from authproxy.cli.variables import NO_PROXY, variables
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.logs import LEVELS
from authproxy.stderr import dropping_stderr

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMAND = "authproxy.exec.command"  # where the context keeps what stands behind --
NO_COMMAND = "put -- before COMMAND: authproxy exec [ROUTE]... -- COMMAND [ARG]..."
DRAIN = 1.0  # seconds; whoever is left was started by the program, which has ended


class WithCommand(click.Command):
    """Takes what stands behind `--` as it is; to click it would be more of the routes."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, context.meta[COMMAND] = args[:at], args[at + 1 :]
        rest = super().parse_args(context, args)
        if not context.meta.get(COMMAND) and not context.resilient_parsing:
            raise click.UsageError(NO_COMMAND, context)
        return rest

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(context), "--", "COMMAND", "[ARG]..."]


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]] | list[str]":
    """Return routes; behind `--` it is the shell that knows more."""
    complete = complete_files if COMMAND in context.meta else complete_routes
    return complete(context, parameter, incomplete)


@click.command(cls=WithCommand)
@click.argument("routes", metavar="[ROUTE]...", nargs=-1, shell_complete=_complete)
@config_option
@click.option(
    "--inherit", metavar="NAME", multiple=True,
    help="Hand a variable on although a secret of the configuration comes from it; repeatable.",
)  # fmt: skip
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
    inherit: tuple[str, ...],
    log_level: str | None,
    retry_rejected: bool,
) -> int:
    """Run COMMAND with the proxy beside it, and exit with its exit code.

    Each ROUTE, or every one, is on a free port of 127.0.0.1 for as long as COMMAND runs. Its URL is in a
    variable: ORDERS_API_URL for the route orders-api. AUTHPROXY_URL is where all of them are by their paths.
    What is under `env` of a route is set too, and NO_PROXY grows by the names of this machine.

    Variables from which the configuration takes secrets are not handed on. Signals are passed on. The exit
    code is 126 if COMMAND cannot be run, 127 if it is not found, 128+N if signal N ended it.
    """
    environ = dict(os.environ)  # with the secrets, which are then taken out of the process's own
    config = load_config(config_file, needed=routes)
    chosen = [find_route(config, name) for name in dict.fromkeys(routes)] or list(config.routes)
    served = _beside(config, chosen, log_level)
    command = context.meta[COMMAND]
    mask = hold_signals()  # to the end: what comes after the program's own is not to change the exit code
    with dropping_stderr(logs.dropped_lines):
        logs.set_up(served.log.level, served.log.format)
        raise_file_limit(served)
        check_stores(served)
        tls = tls_contexts(served)
        listeners = open_listeners(served)
        own = _variables(config, served, listeners, environ)
        _tell_overridden(own, environ)
        start = partial(Child, command, _environment(environ, config, inherit) | own, mask)
        try:
            return run_loop(serve_beside(served, listeners, tls, start, retry_rejected=retry_rejected))
        except NotStarted as error:
            click.echo(f"authproxy: cannot run {command[0]}: {error}", err=True)
            return error.code
        except BaseException:
            release_signals(mask)  # there is no program for them to go to
            raise


def _beside(config: Config, routes: Sequence[RouteConfig], log_level: str | None) -> Config:
    """Return what is served beside a program: `routes` alone, each on a port of its own, and nothing else."""
    level: Any = log_level or (config.log.level if config.place("log.level") is not None else "warning")
    served = each_at_a_free_port(config, [route.name for route in routes])
    limits = replace(config.limits, drain=min(config.limits.drain, DRAIN))
    return replace(served, tls=None, limits=limits, log=replace(config.log, level=level))


def _variables(
    config: Config, served: Config, listeners: Listeners, environ: Mapping[str, str]
) -> dict[str, str]:
    own = own_urls(served, listeners.proxy)
    common = next(iter([*listening_urls(served, listeners.proxy), *own.values()]))
    return variables(config, served.routes, own, common=common, environ=environ)


def _environment(environ: Mapping[str, str], config: Config, inherit: Collection[str]) -> dict[str, str]:
    """Return what a program gets of `environ`: not where our secrets are, but for what it is to `inherit`."""
    for name in sorted(set(inherit) - config.secret_variables):
        logs.warning("--inherit is of no use: no secret of the configuration comes from it", variable=name)
    withheld = config.secret_variables.difference(inherit)
    return {name: value for name, value in environ.items() if name not in withheld}


def _tell_overridden(own: Mapping[str, str], environ: Mapping[str, str]) -> None:
    for name, value in own.items():
        if name not in NO_PROXY and environ.get(name, value) != value:
            logs.info("a variable that was set is overridden", variable=name)
