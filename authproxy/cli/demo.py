"""`authproxy demo`: everything on loopback, ready for curl."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click
import yaml

from authproxy import logs
from authproxy.app.listeners import can_be_opened, open_listeners
from authproxy.app.serving import attend, run_loop
from authproxy.app.tls import tls_contexts
from authproxy.cli.calling import URLs
from authproxy.cli.options import config_option
from authproxy.cli.serve import announce
from authproxy.config.document import DEMO
from authproxy.config.read import parse
from authproxy.demo import FIRST_PORT, Demo, announced, stand_ins
from authproxy.stderr import dropping_stderr

HEAD = f"""\
# What `authproxy demo` serves. All secrets here are made up, and open nothing but its stand-ins.
# Those listen on the ports from {FIRST_PORT} on while it runs, or on others where one of these is taken.
"""


@click.command()
@config_option
@click.option(
    "--listen", default="127.0.0.1:8080", show_default=True, metavar="ADDR", help="Address of the proxy."
)
@click.option("--admin", metavar="ADDR", help="Address of the admin listener.")
@click.option("--no-admin", is_flag=True, help="No admin listener.")
@click.option("--print-config", is_flag=True, help="Print the configuration that it serves, and end.")
def demo(
    *,
    config_file: str | None,  # noqa: ARG001 - every verb takes -c
    listen: str,
    admin: str | None,
    no_admin: bool,
    print_config: bool,
) -> None:
    """Serve a stand-in for the API of every preset, and the proxy in front of them.

    The stand-ins check what they are sent, as the real ones do: a wrong credential fails.
    """
    if admin is not None and no_admin:
        raise click.UsageError("--admin and --no-admin cannot be used together")
    overrides: dict[str, object] = {"listen": listen, "token_store": {"type": "memory"}}
    if admin is not None or no_admin:
        overrides["admin"] = {"listen": admin} if admin is not None else False
    if print_config:
        click.echo(_configuration(announced(), overrides), nl=False)
    else:
        run_loop(_demo(overrides))


def _configuration(running: Demo, overrides: dict[str, object]) -> str:
    """Return the whole configuration as YAML, for people too."""
    return HEAD + yaml.safe_dump(overrides | running.config(), sort_keys=False, allow_unicode=True, width=110)


async def _demo(overrides: dict[str, object]) -> None:
    async with stand_ins(first_port=FIRST_PORT) as running:
        config = parse(_configuration(running, overrides), DEMO)
        with dropping_stderr(logs.dropped_lines), _quiet(running) as quiet:
            logs.set_up(config.log.level, config.log.format)
            listeners = open_listeners(config)

            def explain(urls: URLs, admin_url: str | None) -> None:
                _explain(running, urls.shared[0], admin_url)
                quiet.is_explained = True

            try:
                await attend(
                    config,
                    listeners,
                    tls_contexts(config),
                    ready=lambda _app: announce(config, listeners, explain),
                )
            finally:
                listeners.unlink(listeners.addresses)


class _Quiet(logging.Filter):
    """Keeps the log from a newcomer before the explanation, and what that says anyway after it."""

    def __init__(self, login_routes: list[str]) -> None:
        super().__init__()
        self.is_explained = False
        self._login_routes = login_routes

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        route = getattr(record, "facts", {}).get("route")
        return self.is_explained and not (record.levelno == logging.WARNING and route in self._login_routes)


@contextmanager
def _quiet(running: Demo) -> Iterator[_Quiet]:
    quiet = _Quiet(running.login_routes)
    logs.logger.addFilter(quiet)
    try:
        yield quiet
    finally:
        logs.logger.removeFilter(quiet)


def _explain(running: Demo, url: str, admin_url: str | None) -> None:
    click.echo("\nThe proxy adds the credential that each API wants. Try, in another terminal:\n")
    for _, line in running.curl_lines(url):
        click.echo(f"  {line}")
    for what, line in running.repeat_lines(url):
        click.echo(f"\n{what}\n\n  {line}")
    if admin_url is not None and can_be_opened(admin_url):
        click.echo(f"\nWhat was done to each request:\n\n  {admin_url}/")
        if running.login_routes:
            click.echo("\nThese need a login first; open in a browser:\n")
        for name in running.login_routes:
            click.echo(f"  {admin_url}/login/{name}")
    click.echo("\nIts configuration: authproxy demo --print-config\nPress Ctrl-C to stop.")
