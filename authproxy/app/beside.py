"""Serving beside a program: from just before its start until its end, whose exit code is the result.

listen ─▶ start the program ─▶ wait for its end ─▶ a short drain ─▶ its exit code
"""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from authproxy import logs
from authproxy.app.application import App
from authproxy.app.child import Child
from authproxy.app.listeners import Listeners, own_listeners
from authproxy.app.observing import Watcher
from authproxy.app.serving import collect_less, load_meanwhile
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Config

if TYPE_CHECKING:
    from authproxy.app.forward_authority import ForwardAuthority

Start = Callable[["ForwardAuthority | None"], Child]
"""Starts the program, which is to trust the authority of the forward listener, if there is one.

Raises `NotStarted`, and `StoreError`.
"""


async def serve_beside(
    config: Config,
    listeners: Listeners,
    tls: TLSContexts,
    start: Start,
    *,
    retry_rejected: bool = False,
    watcher: Watcher | None = None,
) -> int:
    """Serve on open sockets until the program that `start` starts has ended; return its exit code.

    `watcher` is told of all that comes. Raises `NotStarted`, and `AuthproxyError` if
    `config` cannot be served. Whatever else ends this has the program told to stop, and waits for it: it is
    not left alone with a proxy that is gone.
    """
    own = own_listeners(config, listeners)
    async with App(config, own=own, tls=tls, retry_rejected=retry_rejected) as app:
        await app.start(listeners.proxy)
        if watcher is not None:
            app.observing.tell(watcher)
        app.warn()
        app.route_tokens.prefetch()
        gc.freeze()
        child = start(app.forward_authority)
        try:
            code = await _serve_until_its_end(app, child)
        except BaseException:
            logs.error("the proxy has failed: the program is told to stop")
            child.signal(signal.SIGTERM)
            await child.ended()
            raise
        await app.drain()
    if watcher is not None:
        watcher.ended()
    return code


async def _serve_until_its_end(app: App, child: Child) -> int:
    ended = asyncio.Event()
    loading = asyncio.create_task(load_meanwhile(ended, admin=False, tokens=app.obtains_tokens))
    collect_less()
    try:
        return await child.ended()
    finally:
        ended.set()
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading
