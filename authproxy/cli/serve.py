"""Serving until a signal says otherwise, in one process or in several; `run` and `demo` share it."""

import sys
from collections.abc import Callable
from functools import partial

import click

from authproxy import logs, stderr
from authproxy.app.credentials import check_stores
from authproxy.app.file_limits import raise_file_limit
from authproxy.app.listeners import (
    Listeners,
    listening_urls,
    open_listeners,
    shown_address,
    unlink_sockets,
)
from authproxy.app.serving import attend, run_loop
from authproxy.app.tls import tls_contexts
from authproxy.cli.output import StdoutFault, give_up_stdout
from authproxy.config.model import Config
from authproxy.workers.supervisor import worker_count

Ready = Callable[[list[str], str | None], None]


def say_nothing(_urls: list[str], _admin_url: str | None) -> None:
    """Add nothing to the lines that say where the listeners are."""


def serve(config: Config, *, ready: Ready = say_nothing, retry_rejected: bool = False) -> int:
    """Serve `config` until SIGINT or SIGTERM; finish what is in flight; return the exit code.

    A second signal ends at once. `ready` gets the URLs of the listeners and of the admin listener. Raises
    `ListenError`, `ConfigError`.
    """
    with stderr.dropping_stderr(partial(logs.dropped_lines, config.log.format)):
        logs.set_up(config.log.level, config.log.format)
        return _serve(config, ready, retry_rejected=retry_rejected)


def _serve(config: Config, ready: Ready, *, retry_rejected: bool) -> int:
    raise_file_limit(config.limits.connections + sum(route.max_connections for route in config.routes))
    tls = tls_contexts(config)  # a certificate that cannot be used should fail here, not in a worker
    check_stores(config)  # as well
    count = worker_count(config)
    listeners = open_listeners(config, share=count > 1)
    try:
        if count > 1:
            from authproxy.workers.processes import Processes

            processes = Processes(config, listeners, tls, count=count, retry_rejected=retry_rejected)
            return processes.run(partial(announce, config, listeners, ready))
        run_loop(
            attend(
                config,
                listeners,
                tls,
                ready=lambda _app: announce(config, listeners, ready),
                retry_rejected=retry_rejected,
            )
        )
    finally:
        unlink_sockets(listeners)
    return 0


def announce(config: Config, listeners: Listeners, ready: Ready) -> None:
    """Say where the listeners are; if nobody can be told, serve all the same."""
    try:
        _announce(config, listeners, ready)
    except StdoutFault as fault:
        logs.warning("cannot print the listening addresses", cause=fault.strerror)
        give_up_stdout()


def _announce(config: Config, listeners: Listeners, ready: Ready) -> None:
    stderr.finish()  # warnings come first on a terminal, as they were said first
    urls = listening_urls(config, listeners.proxy)
    for url in urls:
        click.echo(f"listening on {url}")
    admin_url = None
    if listeners.admin is not None:
        address, sockets = listeners.admin
        admin_url = shown_address(address, sockets[0], secure=False)
    if admin_url is not None:
        click.echo(f"admin on {admin_url}")
    ready(urls, admin_url)
    sys.stdout.flush()
