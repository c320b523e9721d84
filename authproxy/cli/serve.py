"""Serving until a signal says otherwise, in one process or in several; `run` and `demo` share it."""

import os
import socket
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import click

from authproxy import logs, stderr
from authproxy.app.application import App
from authproxy.app.credentials import check_stores
from authproxy.app.file_limits import raise_file_limit
from authproxy.app.listeners import Listeners, open_listeners, own_listeners, shown_address, unlink_sockets
from authproxy.app.serving import attend, run_loop
from authproxy.app.tls import TLSContexts, tls_contexts
from authproxy.capabilities import AF_UNIX
from authproxy.cli.output import StdoutFault, give_up_stdout
from authproxy.config.model import Config
from authproxy.workers.broker import Broker
from authproxy.workers.broker_client import BrokerClient
from authproxy.workers.supervisor import Child, Supervisor, shared_listeners, worker_count

Ready = Callable[[list[str], str | None], None]
Share = list[tuple[str, socket.socket]]  # the listeners of one worker, each with its address


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
            return _serve_with_workers(config, listeners, tls, count, ready, retry_rejected=retry_rejected)
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
    # A name's sockets are on one port, so that they have one URL.
    urls = list(
        dict.fromkeys(
            shown_address(address, sock, secure=config.tls is not None) for address, sock in listeners.proxy
        )
    )
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


def close_all_but(share: Share, sockets: list[socket.socket]) -> None:
    """Close what others listen on: connections to an address are refused when nobody has it open."""
    own = [sock for _, sock in share]
    for sock in sockets:
        if sock not in own:
            sock.close()


def _serve_with_workers(
    config: Config,
    listeners: Listeners,
    tls: TLSContexts,
    count: int,
    ready: Ready,
    *,
    retry_rejected: bool,
) -> int:
    alive, above = os.pipe()  # its other end closes when the supervisor is gone, however that came
    lines = [socket.socketpair(AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
    own = own_listeners(config, listeners)
    shares = shared_listeners(listeners, count)
    sockets = [sock for share in shares for _, sock in share]

    def as_child(work: Callable[[], Coroutine[Any, Any, None]], share: Share) -> Callable[[], int]:
        def run() -> int:
            os.close(above)
            close_all_but(share, sockets)
            os.setpgid(0, 0)  # Ctrl-C is for the supervisor, who passes it on
            run_loop(work())
            return 0

        return run

    def keep() -> Coroutine[Any, Any, None]:
        def start(app: App) -> None:
            broker = Broker(config, app.sources, [ours for ours, _ in lines])
            broker.start()
            app.others = broker.counts

        return attend(
            config,
            Listeners([], listeners.admin),
            tls,
            ready=start,
            own=own,
            alive=alive,
            retry_rejected=retry_rejected,
        )

    def serve_share(number: int, share: Share) -> Coroutine[Any, Any, None]:
        async def work() -> None:
            channel = BrokerClient(lines[number][1])

            def start(app: App) -> None:
                channel.counts = app.snapshot
                channel.replaced = app.sources.replaced

            await attend(
                config,
                Listeners(share),
                tls,
                ready=start,
                own=own,
                inner_source=channel.inner_source,
                alive=alive,
            )

        return work()

    children = [Child("broker", as_child(keep, []))]
    for number, share in enumerate(shares):
        work = as_child(lambda n=number, s=share: serve_share(n, s), share)  # type: ignore[misc]
        children.append(Child(f"worker {number + 1}", work))
    return Supervisor(children, sockets).run(lambda: announce(config, listeners, ready))
