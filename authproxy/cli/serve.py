"""Serving until a signal says otherwise, in one process or in several; `run` and `demo` share it."""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import click

from authproxy import logs, stderr
from authproxy.app.activation import adopt
from authproxy.app.application import App
from authproxy.app.credentials import check_stores
from authproxy.app.file_limits import raise_file_limit
from authproxy.app.listeners import (
    Listeners,
    PassedSocket,
    forward_url,
    listening_urls,
    open_listeners,
    own_urls,
    shown_address,
)
from authproxy.app.notify import NOBODY, Notify, serving_status
from authproxy.app.reload import Read, Reloader
from authproxy.app.serving import attend, run_loop
from authproxy.app.tls import TLSContexts, tls_contexts
from authproxy.capabilities import SIGHUP, hold_back
from authproxy.cli.calling import URLs, use_of_forward
from authproxy.cli.output import StdoutFault, give_up_stdout
from authproxy.config.model import Config
from authproxy.workers.supervisor import worker_count

Ready = Callable[[URLs, str | None], None]


def say_nothing(_urls: URLs, _admin_url: str | None) -> None:
    """Add nothing to the lines that say where the listeners are."""


def serve(
    config: Config,
    *,
    ready: Ready = say_nothing,
    notify: Notify = NOBODY,
    passed: Sequence[PassedSocket] = (),
    retry_rejected: bool = False,
    read: Read | None = None,
    watches: bool = False,
) -> int:
    """Serve `config` until SIGINT or SIGTERM; finish what is in flight; return the exit code.

    A second signal ends at once. SIGHUP has the configuration read again by `read`; with `watches`, so has a
    change of its files. `ready` gets the URLs of the listeners and of the admin listener. `notify` is the
    service manager, `passed` are the sockets that it has opened. Raises `ListenError`, `ConfigError`.
    """
    with stderr.dropping_stderr(logs.dropped_lines):
        logs.set_up(config.log.level, config.log.format)
        return _serve(
            config, ready, notify, passed, retry_rejected=retry_rejected, read=read, watches=watches
        )


def _serve(
    config: Config,
    ready: Ready,
    notify: Notify,
    passed: Sequence[PassedSocket],
    *,
    retry_rejected: bool,
    read: Read | None,
    watches: bool,
) -> int:
    if SIGHUP is not None and read is not None:
        hold_back(SIGHUP)
    config, opened = adopt(config, passed)
    raise_file_limit(config)
    tls = tls_contexts(config)  # a certificate that cannot be used should fail here, not in a worker
    check_stores(config)  # as well
    count = worker_count(config)
    listeners = open_listeners(config, share=count > 1, already=opened)
    announced = partial(announce, config, listeners, ready, tls)
    serving = partial(notify.ready, status_of(config, listeners))
    again = (lambda: adopt(read(), passed)[0]) if read is not None else None
    try:
        if count > 1:
            from authproxy.workers.processes import Processes

            processes = Processes(
                config,
                listeners,
                tls,
                count=count,
                notify=notify,
                retry_rejected=retry_rejected,
                read=again,
                watches=watches,
            )
            return processes.run(announced, serving)

        def begun(_app: App) -> None:
            announced()
            serving()

        def reloader_of(app: App, read: Read) -> Reloader:
            return Reloader(app, listeners, read, notify=notify)

        run_loop(
            attend(
                config,
                listeners,
                tls,
                ready=begun,
                notify=notify,
                retry_rejected=retry_rejected,
                reloader_of=partial(reloader_of, read=again) if again is not None else None,
                watches=watches,
            )
        )
    finally:
        listeners.unlink(listeners.addresses)
    return 0


def status_of(config: Config, listeners: Listeners) -> str:
    """Return a line that says what is served where."""
    urls = [*listening_urls(config, listeners.proxy), *own_urls(config, listeners.proxy).values()]
    return serving_status(len(config.routes), urls)


def announce(config: Config, listeners: Listeners, ready: Ready, tls: TLSContexts | None = None) -> None:
    """Say where the listeners are; if nobody can be told, serve all the same."""
    try:
        _announce(config, listeners, ready, tls)
    except StdoutFault as fault:
        logs.warning("cannot print the listening addresses", cause=fault.strerror)
        give_up_stdout()


def _announce(config: Config, listeners: Listeners, ready: Ready, tls: TLSContexts | None) -> None:
    stderr.finish()  # warnings come first on a terminal, as they were said first
    shared = listening_urls(config, listeners.proxy)
    proxy = forward_url(config, listeners.proxy)
    forward = _use_of_forward(config, proxy, tls) if proxy is not None else None
    urls = URLs(tuple(shared), own_urls(config, listeners.proxy), forward)
    for url in urls.shared:
        click.echo(f"listening on {url}")
    for route, url in urls.own.items():
        click.echo(f"listening on {url} for {route}")
    if proxy is not None:
        click.echo(f"forwarding on {proxy}")
    admin_url = None
    if listeners.admin is not None:
        address, sockets = listeners.admin
        admin_url = shown_address(address, sockets[0], secure=False)
    if admin_url is not None:
        click.echo(f"admin on {admin_url}")
    sys.stdout.flush()  # before what is said on stderr
    ready(urls, admin_url)
    sys.stdout.flush()


def _use_of_forward(config: Config, url: str, tls: TLSContexts | None) -> str:
    from authproxy.app.forward import bundle_of

    return use_of_forward(config, url, bundle_of(tls) if tls is not None else None)
