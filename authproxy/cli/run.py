"""`authproxy run`: serve."""

import os
from functools import partial
from typing import Any

import click

from authproxy.app.activation import passed_sockets
from authproxy.app.notify import Notify
from authproxy.app.reload import Read
from authproxy.cli.completing import complete_presets
from authproxy.cli.options import config_option, forget_secret_variables, retry_rejected_option
from authproxy.cli.serve import Ready, say_nothing, serve
from authproxy.cli.terminal import is_watched
from authproxy.config.find import find_config
from authproxy.config.model import Config
from authproxy.config.read import load
from authproxy.logs import LEVELS


@click.command()
@config_option
@click.option(
    "--listen",
    "listen",
    metavar="ADDR",
    multiple=True,
    help="Where to listen: HOST:PORT or unix:/PATH; repeatable.",
)
@click.option("--admin", metavar="ADDR", help="Address of the admin listener.")
@click.option("--no-admin", is_flag=True, help="No admin listener.")
@click.option("--workers", metavar="N", help="Number of worker processes, or auto: one per processor.")
@click.option("--log-level", type=click.Choice(list(LEVELS)), help="Minimum log level.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Log format.")
@click.option(
    "--upstream", metavar="URL", help="Serve one route, mounted at /, without a configuration file."
)
@click.option(
    "--preset", metavar="NAME", shell_complete=complete_presets, help="With --upstream: its preset."
)
@click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True,
    help="With --upstream: a key of the route or of its auth; repeatable. Write ${NAME} for a secret, "
    "in single quotes: other users can read a command line.",
)  # fmt: skip
@click.option("--watch", is_flag=True, help="Reload the configuration when its files change.")
@retry_rejected_option
def run(
    *,
    config_file: str | None,
    listen: tuple[str, ...],
    admin: str | None,
    no_admin: bool,
    workers: str | None,
    log_level: str | None,
    log_format: str | None,
    upstream: str | None,
    preset: str | None,
    settings: tuple[str, ...],
    watch: bool,
    retry_rejected: bool,
) -> int:
    """Serve until SIGINT or SIGTERM; reload the configuration on SIGHUP.

    The configuration is the first of: -c, $AUTHPROXY_CONFIG, ./authproxy.yaml, config.yaml in the user's
    configuration directory, /etc/authproxy/config.yaml.
    """
    if admin is not None and no_admin:
        raise click.UsageError("--admin and --no-admin cannot be used together")
    if upstream is None and (preset is not None or settings):
        raise click.UsageError("--preset and --set need --upstream")
    if upstream is not None and config_file is not None:
        raise click.UsageError("--upstream and --config cannot be used together")
    # First: what `load` starts is not to be given what is meant for us.
    notify, passed = Notify.from_environment(), passed_sockets()
    environ = dict(os.environ)  # with the secrets, which are then taken out of the process's own
    overrides = _overrides(listen, admin, log_level, log_format, no_admin=no_admin)
    if workers is not None:
        overrides["workers"] = workers
    if upstream is not None:
        from authproxy.config.command_line import from_command_line

        read = partial(from_command_line, upstream, preset, settings, environ=environ, overrides=overrides)
    else:
        read = partial(load, find_config(config_file), environ=environ, overrides=overrides)
    again = partial(_read, read)
    config = again()
    return serve(
        config,
        ready=_welcome(config) if is_watched() else say_nothing,
        notify=notify,
        passed=passed,
        retry_rejected=retry_rejected,
        read=again,
        watches=watch,
    )


def _welcome(config: Config) -> Ready:
    from authproxy.cli.welcome import welcome

    return partial(welcome, config)


def _read(read: Read) -> Config:
    """Return what `read` does; what the environment had for it alone is not there any more."""
    config = read()
    forget_secret_variables(config)
    return config


def _overrides(
    listen: tuple[str, ...],
    admin: str | None,
    log_level: str | None,
    log_format: str | None,
    *,
    no_admin: bool,
) -> dict[str, Any]:
    """Return what the command line says over the file."""
    overrides: dict[str, Any] = {}
    if listen:
        overrides["listen"] = list(listen)
    if no_admin:
        overrides["admin"] = False
    elif admin is not None:
        overrides["admin"] = {"listen": admin}
    log = {"level": log_level, "format": log_format}
    if given := {key: value for key, value in log.items() if value is not None}:
        overrides["log"] = given
    return overrides
