"""Serving until a signal says otherwise; `run` and `demo` share it."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click

from authproxy import logs
from authproxy.app import App
from authproxy.config.schema import Config


def run_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` on uvloop where there is one."""
    if sys.platform == "win32":
        asyncio.run(work)
    else:
        import uvloop  # noqa: PLC0415 - not on every platform

        uvloop.run(work)


async def serve(config: Config, *, ready: Callable[[App], None] = lambda _app: None) -> None:
    """Serve `config` until SIGINT or SIGTERM; finish what is in flight. A second signal ends at once.

    Raises `ListenError`. `ready` is called once the listeners are open.
    """
    stop = asyncio.Event()
    hurry = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            hurry.set()
        logs.info("stopping", signal=signal.Signals(number).name)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    logs.set_up(config.log.level, config.log.format)
    async with App(config) as app:
        await app.start()
        for url in app.listening:
            click.echo(f"listening on {url}")
        if app.admin_url is not None:
            click.echo(f"admin on {app.admin_url}")
        ready(app)
        sys.stdout.flush()
        await stop.wait()
        drained = asyncio.create_task(app.drain())
        await asyncio.wait([drained, asyncio.create_task(hurry.wait())], return_when=asyncio.FIRST_COMPLETED)
        if not drained.done():
            drained.cancel()
            logs.warning("ended at once, by a second signal")
