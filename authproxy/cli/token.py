"""`authproxy token ROUTE`: a usable token, for tools that take one; `token_formats.py` has their forms."""

import contextlib
import logging
import os
import sys
from math import ceil

import click

from authproxy import logs
from authproxy.app.application import App
from authproxy.capabilities import run_interruptibly
from authproxy.cli import token_formats as forms
from authproxy.cli.completing import complete_routes
from authproxy.cli.options import config_option, find_route, load_config, retry_rejected_option
from authproxy.cli.terminal import Progress
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import TokenError, TokenUnavailable
from authproxy.tokens.shared import UNAVAILABLE
from authproxy.tokens.token import Token

STYLES = ("exec-credential", *forms.LINES, *forms.OPERATIONS)
MAX_ASKED = 64 << 10  # bytes that a helper reads


@click.command()
@click.argument("route", shell_complete=complete_routes)
@click.argument("operation", required=False)
@config_option
@click.option("--header", "as_header", is_flag=True, help="Print the whole header line, or lines.")
@click.option(
    "--format", "style", type=click.Choice(STYLES), metavar="FORMAT",
    help="Print what a tool takes: exec-credential (kubectl), credential-process (AWS-style tools), netrc, "
    "curl (`curl -K -`) or env (a shell); or be a credential helper, git-credential or docker-credential.",
)  # fmt: skip
@retry_rejected_option
def token(
    *,
    route: str,
    operation: str | None,
    config_file: str | None,
    as_header: bool,
    style: str | None,
    retry_rejected: bool,
) -> None:
    """Print a usable token for ROUTE, and nothing else.

    OPERATION is for credential helpers, where git and docker append it: get, store, erase; docker also list.
    """
    if as_header and style is not None:
        raise click.UsageError("--header and --format cannot be used together")
    _check_operation(style, operation)
    config = load_config(config_file)
    wanted = find_route(config, route)
    _log_little(config)
    if style == "git-credential":
        _git(config, wanted, operation, retry_rejected=retry_rejected)
    elif style == "docker-credential":
        _docker(config, wanted, operation, retry_rejected=retry_rejected)
    else:
        with Progress(f"waiting for the token of {route}"):
            got = run_interruptibly(_fetch(config, wanted, retry_rejected=retry_rejected))
        click.echo(_headers(got, wanted) if as_header else _formed(style, got, wanted))


def _headers(got: Token, route: RouteConfig) -> str:
    lines = forms.header_lines(got, route)
    if not lines:
        places = " and ".join(each.said for each in route.grant.places)
        raise click.UsageError(f"the token of {route.name} goes into no header, but into {places}")
    return "\n".join(lines)


def _formed(style: str | None, got: Token, route: RouteConfig) -> str:
    if style == "exec-credential":
        return forms.exec_credential(got, os.environ.get("KUBERNETES_EXEC_INFO", ""))
    return forms.LINES[style](got, route) if style is not None else got.value


def _check_operation(style: str | None, operation: str | None) -> None:
    """Raise `click.UsageError` where there should be an operation, or should be none."""
    operations = forms.OPERATIONS.get(style or "")
    if operations is None and operation is not None:
        helpers = " or ".join(f"--format {each}" for each in forms.OPERATIONS)
        raise click.UsageError(f"unexpected argument {operation!r}: it would belong to {helpers}")
    if operations is not None and operation is None:
        raise click.UsageError(f"--format {style} needs an operation: {', '.join(operations)}")
    if style == "docker-credential" and operation not in forms.OPERATIONS[style]:
        raise click.UsageError(f"unknown operation {operation!r}: choose from {', '.join(operations or ())}")


def _log_little(config: Config) -> None:
    """Have errors logged, and that a store is passed over; what became of the token is told anyway."""
    logs.set_up("warning", config.log.format)
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.levelno >= logging.ERROR or record.msg == UNAVAILABLE)


async def _fetch(config: Config, route: RouteConfig, *, retry_rejected: bool) -> Token:
    async with App(config, retry_rejected=retry_rejected) as app:
        try:
            return await app.token(route)
        except TokenUnavailable as left_alone:
            if left_alone.rejects and left_alone.retry_after is not None:
                when = f"next try in {ceil(left_alone.retry_after)} s; --retry-rejected tries now"
                left_alone.hint = f"{left_alone.hint}; {when}" if left_alone.hint else when
            raise


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────


def _git(config: Config, route: RouteConfig, operation: str | None, *, retry_rejected: bool) -> None:
    """Answer git; what it asks for another host, or in words to come, is left to other helpers."""
    said = _asked()
    asked = forms.git_asks(said)
    if not forms.git_is_for(route, asked):
        return
    if operation == "get":
        got = run_interruptibly(_fetch(config, route, retry_rejected=retry_rejected))
        click.echo(forms.git_credential(got, route, asked, said))
    elif operation == "erase" and (refused := forms.erased(said)) is not None:
        run_interruptibly(_replace(config, route, refused))


def _docker(config: Config, route: RouteConfig, operation: str | None, *, retry_rejected: bool) -> None:
    """Answer docker. There is nothing to store, nor to erase: the credential is in the configuration."""
    if operation == "list":
        click.echo(forms.docker_list(route))
    elif operation == "get":
        server = _asked().strip()
        if not forms.is_upstream(route, server):
            click.echo(forms.NOT_FOUND)
            sys.exit(1)
        got = run_interruptibly(_fetch(config, route, retry_rejected=retry_rejected))
        click.echo(forms.docker_credential(got, route, server))


def _asked() -> str:
    """Return what the tool says on stdin."""
    return sys.stdin.buffer.read(MAX_ASKED).decode("utf-8", "replace")


async def _replace(config: Config, route: RouteConfig, refused: Token) -> None:
    """Have another token stored, if it is the stored one that was refused; whoever asks next gets that."""
    async with App(config) as app:
        if app.grant_sources.store(route) is None:
            return  # each call fetches its own
        stack = app.sources.stack(route)
        if stack is not None:
            with contextlib.suppress(TokenError):  # who asks next is told
                await stack.outer.token(instead_of=refused)
