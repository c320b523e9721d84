"""Reloading: another configuration takes the place of the one at work, whole or not at all.

    read ─▶ check ─▶ open what is new ─▶ prepare, in all processes ─┬─▶ commit
                                        a fault, at any of them ─┴─▶ abandon: the old one goes on

One reload goes on at a time. What comes meanwhile is read after it, once for all who asked.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from authproxy import logs
from authproxy.app.application import App, Change, Stopping
from authproxy.app.credentials import check_stores
from authproxy.app.listeners import (
    Before,
    Listeners,
    close_sockets,
    configured_addresses,
    open_listeners,
    ports_of,
    shown_listeners,
    url_of,
)
from authproxy.app.notify import NOBODY, serving_status
from authproxy.app.sockets import ListenError
from authproxy.app.tls import TLSContexts, tls_contexts
from authproxy.config.model import Config
from authproxy.errors import AuthproxyError, ConfigError, Fault
from authproxy.net.own_listeners import OwnListeners

Read = Callable[[], Config]
"""Reads the configuration again. Raises `ConfigError`."""


class Others(Protocol):
    """The other processes, which change together with this one."""

    def own_share(self, opened: Listeners) -> Listeners:
        """Return what of `opened` is this process's own to serve."""
        ...

    async def prepare(self, config: Config, opened: Listeners, own: OwnListeners, tls: TLSContexts) -> None:
        """Have them prepare to serve `config`; once that returns, they will.

        Raises `AuthproxyError`, and then they go on as before.
        """
        ...

    async def commit(self) -> None:
        """Have them serve by what they have prepared."""
        ...


class ServiceManager(Protocol):
    """Who is told how a reload goes: `app.notify.Notify`, or who passes it on."""

    def reloading(self) -> None:
        """Tell that the configuration is read again."""
        ...

    def ready(self, status: str | None = None) -> None:
        """Tell that this is over, and how things are."""
        ...


class Nobody:
    """There is this process alone."""

    def own_share(self, opened: Listeners) -> Listeners:
        """Return everything."""
        return opened

    async def prepare(self, config: Config, opened: Listeners, own: OwnListeners, tls: TLSContexts) -> None:
        """Tell nobody."""

    async def commit(self) -> None:
        """Tell nobody."""


class Reloader:
    """Reads the configuration again, and has `app` serve by it.

    `listeners` are what this process listens on; they are kept up to date. With `share`, what is opened for
    the proxy can be shared with `others`. `faults` is what is wrong with what was read last; `app`
    is told of it, and when what is at work was read. `files` are those to watch: what was read
    last names them, even if it does not come to work. `notify` is told that, and how, it goes on.
    """

    def __init__(
        self,
        app: App,
        listeners: Listeners,
        read: Read,
        *,
        share: bool = False,
        others: Others | None = None,
        notify: ServiceManager = NOBODY,
    ) -> None:
        self.faults: list[Fault] = []
        self.files = app.config.files
        self._app = app
        self._listeners = listeners
        self._read = read
        self._share = share
        self._others: Others = others or Nobody()
        self._notify = notify
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[list[Fault]] | None = None
        app.reload_hook, app.renew_hook = self.reload, self.renew

    async def reload(self) -> list[Fault]:
        """Load the configuration as it is now; return what is wrong with it, which is logged as well."""
        if self._next is None:
            self._next = asyncio.create_task(self._when_it_is_our_turn(), name="reload")
        return await asyncio.shield(self._next)

    async def renew(self) -> None:
        """Serve by the same configuration, with what is to be made anew: an authority that ends."""
        async with self._turn:
            try:
                await self._change(self._app.config)
            except (AuthproxyError, OSError) as error:
                cause = _faults_of(error, self._app.config.file)[0].message
                logs.warning("the forward proxy's authority cannot be renewed", cause=cause)

    async def _when_it_is_our_turn(self) -> list[Fault]:
        async with self._turn:
            self._next = None  # what is read from here on may miss a later change
            self._notify.reloading()
            try:
                self.faults = await self._reload()
            finally:
                self._notify.ready(self._status())
            self._app.config_fault = self.faults[0] if self.faults else None
            return self.faults

    def _status(self) -> str:
        config, shown = self._app.config, self._app.shown
        routed = [each for each in config.listeners if each in shown and each != config.forward_listener]
        urls = [url_of(config, each, shown[each]) for each in routed]
        status = serving_status(len(config.routes), dict.fromkeys(urls))
        return f"{status}; not reloaded: {self.faults[0]}" if self.faults else status

    async def _reload(self) -> list[Fault]:
        try:
            config = await self._read_again()
            await self._change(config)
        except (AuthproxyError, OSError) as error:
            return _told(_faults_of(error, self._app.config.file))
        except Exception as error:  # noqa: BLE001 - whoever watches the files goes on doing so
            logs.logger.error("reloading failed", exc_info=error)
            return _told([Fault(self._app.config.file, 0, 0, "", "something went wrong inside authproxy")])
        self._app.loaded_at = time.time()
        logs.info("configuration reloaded", file=config.file, routes=len(config.routes))
        return []

    async def _read_again(self) -> Config:
        try:
            config = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self.files = {**self._app.config.files, **error.files}
            raise
        self.files = config.files
        return config

    async def _change(self, config: Config) -> None:
        """Serve by `config`, if that can be; else raise what is wrong."""
        before = self._app.config
        tls = await asyncio.to_thread(self._check, config)
        at = Before(frozenset(before.listeners), self._listeners, self._app.own)
        try:
            opened = open_listeners(config, share=self._share, before=at)
        except ListenError as error:
            raise ConfigError([config.fault(error.key, error.detail)]) from error
        shown = shown_listeners(opened.proxy)  # while they are open in here
        try:
            change = await self._prepare(config, opened, tls)
            await self._commit(change)
        except BaseException:
            close_sockets(opened)
            raise
        await self._others.commit()
        self._app.let_go()
        self._app.shown |= shown
        for listener, url in shown.items():
            deed = "forwarding" if listener == config.forward_listener else "listening"
            logs.info(deed, url=url_of(config, listener, url), route=config.own_listeners.get(listener))
        if before.forward is not None and config.forward is None:
            logs.info("forwarding no more")
        self._remember(before, config, opened)
        if config.workers != before.workers:
            logs.warning("`workers` takes effect when authproxy is started again")

    def _check(self, config: Config) -> TLSContexts:
        """Look at what can be known before anything is changed; raise what is wrong."""
        tls = tls_contexts(config, self._app.site.tls)
        check_stores(config)
        return tls

    async def _prepare(self, config: Config, opened: Listeners, tls: TLSContexts) -> Change:
        addresses = configured_addresses(config)
        own = OwnListeners(addresses, opened.sockets, ports_of(opened))
        own.keep(self._app.own, set(configured_addresses(self._app.config)).intersection(addresses))
        change = await self._app.prepare(config, self._others.own_share(opened), tls, own)
        try:
            await self._others.prepare(config, opened, own, tls)
        except BaseException:
            self._app.abandon(change)
            raise
        return change

    async def _commit(self, change: Change) -> None:
        try:
            await self._app.commit(change)
        except Stopping:
            self._app.abandon(change)
            raise

    def _remember(self, before: Config, config: Config, opened: Listeners) -> None:
        """Know what is listened on now; take the names of sockets away that nobody listens on any more."""
        gone = set(configured_addresses(before)).difference(configured_addresses(config))
        self._listeners.unlink(gone)
        self._listeners.proxy[:] = self._app.served
        self._listeners.admin = opened.admin or (self._listeners.admin if config.admin is not None else None)


def _faults_of(error: AuthproxyError | OSError, file: str) -> list[Fault]:
    """Return what is wrong, each with the place where it is to be mended, as far as that is known."""
    if isinstance(error, ConfigError):
        return error.faults
    detail = error.detail if isinstance(error, AuthproxyError) else error.strerror
    return [Fault(file, 0, 0, "", detail or "cannot be put to work")]


def _told(faults: list[Fault]) -> list[Fault]:
    """Log `faults`, and return them."""
    for fault in faults:
        cause = ": ".join(filter(None, [fault.key, fault.message]))
        logs.error("fault in the configuration", place=fault.place, cause=cause)
    logs.error("configuration not reloaded: the old one goes on", faults=len(faults))
    return faults
