"""The event loop and the signals: serving on open sockets until a signal says otherwise."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any, TypeVar

from authproxy import logs
from authproxy.app.application import App
from authproxy.app.credentials import InnerSource
from authproxy.app.listeners import Listeners, own_listeners
from authproxy.app.notify import NOBODY, Notify
from authproxy.app.reload import Reloader
from authproxy.app.tls import TLSContexts
from authproxy.app.watch import watch
from authproxy.capabilities import SIGHUP, loop_factory, on_signal, on_stop, terminal_watch
from authproxy.config.model import Config
from authproxy.net.own_listeners import OwnListeners

T = TypeVar("T")

GARBAGE_THRESHOLDS = (50_000, 20, 100)  # objects made before a look, and looks before a longer one

LOAD_AGAIN_SECONDS, LOAD_AGAIN_AT_LAST = 0.5, 30.0  # each pause is twice the one before
PARSER = ("authproxy.proxy.downstream.parser",)
ADMIN = ("authproxy.app.admin", "authproxy.admin.metrics")
TOKENS = (
    "authproxy.grants.http",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.kdf.hkdf",
    "cryptography.hazmat.primitives.twofactor.hotp",
)


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the fastest event loop there is; return what it does."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)


def collect_less() -> None:
    """Look for reference cycles less often: a request leaves none, and looking costs a tenth of it.

    What was there when serving began is not looked through: among 10,000 routes that holds requests up for
    0.4 s, for the little garbage that a start leaves.
    """
    gc.collect()
    gc.freeze()  # what is here now stays to the end
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def load_the_rest(*, admin: bool, tokens: bool) -> None:
    """Load what neither the start nor every request needs: in a thread, while the first are served already.

    Whoever needs some of it before it is there loads it by the same import, and waits for this one. Raises
    `ImportError` or `OSError`.
    """
    for name in (*PARSER, *(ADMIN if admin else ()), *(TOKENS if tokens else ())):
        import_module(name)


async def load_meanwhile(stop: asyncio.Event, *, admin: bool, tokens: bool) -> None:
    """Have the rest loaded, unless `stop` comes first.

    Without a file descriptor no module can be read; the first clients may have taken them all.
    """
    pause = LOAD_AGAIN_SECONDS
    while not stop.is_set():
        try:
            await asyncio.to_thread(load_the_rest, admin=admin, tokens=tokens)
        except (ImportError, OSError) as error:
            logs.warning("a module cannot be loaded yet", cause=type(error).__name__)
        else:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
        pause = min(2 * pause, LOAD_AGAIN_AT_LAST)


class Signals:
    """What a process has been told to do: `stop`, and then to be quick about it (`hurry`), or to reload."""

    def __init__(self) -> None:
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()
        self._reloader: Reloader | None = None
        self._terminal_is_gone = terminal_watch()
        self._tasks: set[asyncio.Task[object]] = set()
        on_stop(self._stop_or_hurry)

    def reload_by(self, reloader: Reloader | None, *, watches: bool = False) -> None:
        """Reload at SIGHUP, which has waited until now; if it `watches`, also when a file changes."""
        self._reloader = reloader
        if SIGHUP is not None:
            on_signal(SIGHUP, self._reload_or_stop)
        if reloader is not None and watches:
            self._begin(watch(lambda: reloader.files, reloader.reload))

    def reload_no_more(self) -> None:
        """Let nothing change any more."""
        self._reloader = None
        for task in self._tasks:
            task.cancel()

    def _stop_or_hurry(self, number: int) -> None:
        if self.stop.is_set():
            self.hurry.set()
        else:
            logs.debug("stopping", signal=signal.Signals(number).name)
        self.stop.set()

    def _reload_or_stop(self, number: int) -> None:
        if self._terminal_is_gone():
            self._stop_or_hurry(number)
        elif self._reloader is not None:
            self._begin(self._reloader.reload())

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        self._tasks.add(task := asyncio.create_task(work))
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logs.logger.error("reloading failed", exc_info=error)


async def attend(
    config: Config,
    listeners: Listeners,
    tls: TLSContexts,
    *,
    ready: Callable[[App], None],
    own: OwnListeners | None = None,
    inner_source: InnerSource | None = None,
    alive: int | None = None,
    notify: Notify = NOBODY,
    retry_rejected: bool = False,
    reloader_of: Callable[[App], Reloader] | None = None,
    watches: bool = False,
) -> None:
    """Serve on open sockets until a signal.

    `own` are the listeners of all processes, if there are others than `listeners`; `inner_source` says where
    tokens come from, if not from here; `alive` is a descriptor that ends with the process above us; `notify`
    tells the service manager that we live, and stop: that we are ready, `ready` may tell it. `reloader_of`
    makes what SIGHUP asks, and with `watches` a change of the configuration's files.
    """
    signals = Signals()
    if alive is not None:
        asyncio.get_running_loop().add_reader(alive, signals.stop.set)
    own = own or own_listeners(config, listeners)
    async with App(config, inner_source, own, tls=tls, retry_rejected=retry_rejected) as app:
        if listeners.admin is not None:
            app.admin_opens_at(*listeners.admin)
        if listeners.proxy:
            await app.start(listeners.proxy)
        if inner_source is None:
            app.warn()
            app.route_tokens.prefetch()
            await app.keep_certificate()
            app.keep_authority()
        gc.freeze()
        ready(app)
        notify.watch()
        await load_meanwhile(signals.stop, admin=listeners.admin is not None, tokens=app.obtains_tokens)
        if listeners.admin is not None and not signals.stop.is_set():
            await app.start_admin(listeners.admin[1])
        reloader = reloader_of(app) if reloader_of is not None else None
        signals.reload_by(reloader, watches=watches)
        collect_less()
        await signals.stop.wait()
        notify.stopping()
        signals.reload_no_more()
        await _drain(app, signals.hurry)


async def _drain(app: App, hurry: asyncio.Event) -> None:
    """Let what is in flight finish, unless there is a `hurry`."""
    drained = asyncio.create_task(app.drain())
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait([drained, hurried], return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not drained.done():
        drained.cancel()
        app.sources.in_a_hurry = True
        logs.warning("stopped at once by a second signal")
