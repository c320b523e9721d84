"""The wiring: a configuration becomes token sources, routes and listeners. Here alone the wings meet.

Config ─▶ sources: a stack for each credential, shared by routes
       ─▶ Site ─▶ ProxyHandler ─▶ ProxyServer ─▶ listeners

Another configuration takes its place in two steps: `prepare` does all that can fail, `commit` swaps.
"""

import asyncio
import contextlib
import gc
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Self

from authproxy import logs
from authproxy.app.credentials import GrantSources, InnerSource, TokenSources
from authproxy.app.file_limits import affordable_connections, raise_file_limit
from authproxy.app.listeners import (
    Listeners,
    can_be_opened,
    configured_addresses,
    shown_address,
    shown_listeners,
    url_of,
)
from authproxy.app.logins import Logins
from authproxy.app.observing import Observing, Others
from authproxy.app.remarks import remarks
from authproxy.app.route_tokens import RouteTokens
from authproxy.app.served import ServedListener
from authproxy.app.site import NO_TLS, Site, build_site
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Config, address_of
from authproxy.config.route import RouteConfig
from authproxy.errors import AuthproxyError, Fault, StoreError, TokenError
from authproxy.grants.runner import FlowRunner
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.observed import Observed
from authproxy.tokens.token import Token

if TYPE_CHECKING:
    from authproxy.app.admin import AdminListener
    from authproxy.app.backend import Backend
    from authproxy.app.forward_authority import ForwardAuthority
    from authproxy.app.proxy_listeners import ProxyListeners
    from authproxy.grants.discovery import Server
    from authproxy.proxy.downstream.server import ProxyServer
    from authproxy.proxy.handler import ProxyHandler


class Stopping(AuthproxyError):
    """It is too late for another configuration."""


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration that is ready to take the place of the one at work.

    `served` accept nobody yet. `admin` are open sockets, where that listener moves.
    """

    site: Site
    own: OwnListeners
    served: list[ServedListener] = field(default_factory=list)
    admin: tuple[str, list[socket.socket]] | None = None


class App:
    """A configuration at work. Use `async with App(config) as app`, then `start`.

    `inner_source` makes what each credential's `CachedSource` wraps; without it, tokens are obtained here.
    `own` are the listeners of all processes, nothing of which is ever asked; by default those of `config`.
    With `retry_rejected` a credential that was rejected before is tried once more. Entering raises
    `AuthproxyError` if `config` cannot be served.
    """

    def __init__(
        self,
        config: Config,
        inner_source: InnerSource | None = None,
        own: OwnListeners | None = None,
        *,
        tls: TLSContexts = NO_TLS,
        retry_rejected: bool = False,
    ) -> None:
        self._config = config  # the one it begins with
        self._tls = tls
        self.own = own if own is not None else OwnListeners(configured_addresses(config))
        self._retry_rejected = retry_rejected
        self._inner_source = inner_source
        self._stack = contextlib.AsyncExitStack()
        self._handler: ProxyHandler | None = None
        self._listeners: ProxyListeners | None = None
        self._admin: AdminListener | None = None
        self._admin_sockets: list[socket.socket] = []
        self.observing = Observing(self)
        self.observed = Observed(counters=self.observing.counters)
        self.others: Others | None = None  # the workers, if this process has some
        self.backend: Backend | None = None
        self.started_at = self.loaded_at = time()
        self.config_fault: Fault | None = None  # why the last reload changed nothing
        self.reload_hook: Callable[[], Awaitable[list[Fault]]] | None = None
        self.renew_hook: Callable[[], Awaitable[None]] | None = None
        self.shown: dict[str, str] = {}  # the URL, without TLS, of each listener that any process has
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()  # no change begins once the end has begun
        self._keeps_certificate = self._keeps_authority = False
        self.draining = False

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._enter(stack)
            self._stack = stack.pop_all()
        return self

    async def _enter(self, stack: contextlib.AsyncExitStack) -> None:
        directory = Path(self._config.file).parent
        runner = await stack.enter_async_context(
            FlowRunner(own=self.own, directory=directory, discovered=self._discovered)
        )
        self.grant_sources = GrantSources(
            self._config, runner, self.observing.counters, retry_rejected=self._retry_rejected
        )
        stack.push_async_callback(self.grant_sources.close)
        credentials = len({route.key for route in self._config.routes})
        if self._inner_source is not None:
            self.sources = TokenSources(self._inner_source, credentials=credentials)
        else:
            self.sources = TokenSources(
                self.grant_sources.inner_source,
                credentials=credentials,
                store_of=self.grant_sources.store_of,
            )
        stack.push_async_callback(self.sources.close)
        logins = Logins(runner)
        stack.push_async_callback(logins.close)
        self.route_tokens = RouteTokens(self, logins)
        self.site = build_site(self._config, self.sources, self.own, self._tls, observed=self.observed)

    def _discovered(self, issuer: str, server: "Server") -> None:
        """Know what `issuer` publishes, here and in the workers."""
        found = (server.token_url, server.token_url_with_certificate)
        urls = tuple(url for url in found if url is not None)
        if self.learn(issuer, urls) and self.others is not None:
            self.others.published(issuer, urls)

    def learn(self, issuer: str, urls: tuple[str, ...]) -> bool:
        """Know the token endpoints that `issuer` publishes; tell whether that is news."""
        if self.sources.published.get(issuer) == urls:
            return False
        self.sources.published[issuer] = urls
        if self._handler is not None:
            self._handler.forget()
        return True

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        self.site.close()
        await self._stack.aclose()

    @property
    def config(self) -> Config:
        return self.site.config

    @property
    def forward_authority(self) -> "ForwardAuthority | None":
        """Who signs for the hosts of `forward`, if there is that."""
        return self.site.tls.forward

    @property
    def server(self) -> "ProxyServer | None":
        """Who has the connections of clients, if this process serves."""
        return self._listeners.server if self._listeners is not None else None

    @property
    def is_asked(self) -> bool:
        """Whether somebody can ask for the last requests: by the broker, or by an admin listener."""
        return self._inner_source is not None or bool(self._admin_sockets)

    @property
    def obtains_tokens(self) -> bool:
        """Whether there are tokens that this process has to ask for."""
        grants = [route.grant for route in self.config.routes]
        return self._inner_source is None and any(
            each.needs_token and not each.in_configuration for each in grants
        )

    async def token(self, route: RouteConfig) -> Token:
        """Return a usable token for `route`. Raises `TokenError`."""
        stack = self.sources.stack(route)
        if stack is None:
            raise TokenError(f"the route {route.name} needs no token: its grant is none")
        return await stack.outer.token()

    # ── serving ──────────────────────────────────────────────────────────────────────────────────

    async def start(self, proxy: list[tuple[str, socket.socket]]) -> None:
        """Serve the routes on open sockets."""
        from authproxy.app.proxy_listeners import ProxyListeners
        from authproxy.proxy.handler import ProxyHandler

        self._handler = ProxyHandler(self.site, self.observing.counters, self.observing.subscribers())
        self.observing.attach(self._handler)
        self._stack.callback(self.observing.flush)
        self._stack.callback(self.site.tls.end)
        self.site.tls.begin()
        await self.keep_certificate()
        self._listeners = ProxyListeners(self._handler, self.config)
        self._stack.callback(self._listeners.close)
        await self._listeners.begin(proxy, self.site)
        self.shown = shown_listeners(self.served)

    @property
    def served(self) -> list[tuple[str, socket.socket]]:
        """What this process accepts requests on, each with the address that it was asked for."""
        return self._listeners.sockets if self._listeners is not None else []

    @property
    def listening(self) -> list[str]:
        """The URLs of the proxy's listeners, of all processes; those of routes' own last."""
        config = self.config
        return [url_of(config, each, self.shown[each]) for each in config.listeners if each in self.shown]

    def own_addresses(self) -> dict[str, str]:
        """Return the addresses that are routes' own, with the ports that they really have, by the route."""
        return {
            route: self.shown.get(listener, address_of(listener)).removeprefix("http://")
            for listener, route in self.config.own_listeners.items()
        }

    # ── another configuration ────────────────────────────────────────────────────────────────────

    async def prepare(self, config: Config, opened: Listeners, tls: TLSContexts, own: OwnListeners) -> Change:
        """Make everything that serving by `config` takes; `opened` are the sockets that are new.

        `own` are the listeners of all processes by then. Raises `AuthproxyError`, and OSError.
        """
        if self.draining:
            raise Stopping("authproxy is stopping")
        raise_file_limit(config)
        served: list[ServedListener] = []
        try:
            site = self._build(config, tls, own)
            if tls.forward is not None:
                await asyncio.to_thread(tls.stage)
            if self._listeners is not None:
                served = await self._listeners.prepare(opened.proxy, site)
            if opened.admin is not None:
                await asyncio.to_thread(import_module, "authproxy.app.admin")
        except BaseException:
            tls.abandon()
            self._take_back(served)
            raise
        return Change(site, own, served, opened.admin)

    def _build(self, config: Config, tls: TLSContexts, own: OwnListeners) -> Site:
        """Make the site of `config`; meanwhile, which takes no wait, sources are those of `config`."""
        self.grant_sources.use(config)
        try:
            return build_site(
                config, self.sources, self.own, tls, observed=self.observed, before=self.site, planned=own
            )
        finally:
            self.grant_sources.use(self.config)

    def _take_back(self, served: list[ServedListener]) -> None:
        """Close what was made for a configuration that does not come to work."""
        for listener in served:
            listener.close()
        self.sources.keep(self.config.routes, hand_over=False)
        self._let_go()

    def _let_go(self) -> None:
        """Close the sources, and the stores, that are not in use any more, in the background."""

        async def close() -> None:
            await self.sources.let_go()
            await self.grant_sources.close_unused(self.sources.stores)

        self.in_background(close(), name="let go")

    def abandon(self, change: Change) -> None:
        """Go on as before."""
        change.site.close(successor=self.site)
        change.site.tls.abandon()
        self._take_back(change.served)

    async def commit(self, change: Change) -> None:
        """Serve by what was prepared: from the next request on, without a wait in between.

        Who asks for the credentials of before is still served; `let_go` closes those. Raises `Stopping`.
        """
        async with self._changing:
            if self.draining:
                raise Stopping("authproxy is stopping")
            old, self.site = self.site, change.site
            config = self.config
            self.grant_sources.use(config)
            self.own.become(change.own)
            logs.set_up(config.log.level, config.log.format)
            self._publish()
            if self._listeners is not None and self._handler is not None:
                self._handler.serve(self.site, self.observing.subscribers())
                self.observing.keep_recent()
                self._listeners.adjust(config)
                self._listeners.serve(self.site, change.served)
            old.close(successor=self.site)
            if self._listeners is not None:
                await self._listeners.change(change.served, config)
            await self._change_admin(change)
            await self.keep_certificate()
        if self._inner_source is None:
            self.keep_authority()
            self.warn(since=old.config)
            known = {route.key for route in old.config.routes}
            self.route_tokens.prefetch([route for route in config.routes if route.key not in known])
        gc.collect()  # what was replaced is in reference cycles, and those are looked for seldom

    def _publish(self) -> None:
        """Have what clients read say what is at work now."""
        try:
            self.site.tls.publish()
        except StoreError as error:
            logs.error("what clients of the forward proxy read is not up to date", cause=error.detail)

    def let_go(self) -> None:
        """Close, in the background, what the configuration before had and this one does not have."""
        self.sources.keep(self.config.routes)
        self._let_go()

    async def _change_admin(self, change: Change) -> None:
        if self._admin is not None:
            self._admin.adjust(self.config.limits, affordable_connections(self.config))
        if change.admin is not None:
            self.admin_opens_at(*change.admin)
            await self.start_admin(change.admin[1])
        elif self.config.admin is None and self._admin is not None:
            self._admin.close()
            self._admin_sockets = []
            self.grant_sources.login_url = None

    def admin_opens_at(self, address: str, sockets: list[socket.socket]) -> None:
        """Remember requests for the admin listener, which `start_admin` will serve on `sockets`.

        Hints name it from now on.
        """
        self._admin_sockets = sockets
        self.observing.keep_recent()
        url = shown_address(address, sockets[0], secure=False)
        self.grant_sources.login_url = url if can_be_opened(url) else None

    async def start_admin(self, sockets: list[socket.socket]) -> None:
        """Serve the admin listener on open sockets, and nowhere else."""
        from authproxy.app.admin import serve_admin

        self._admin_sockets = sockets
        if self._admin is not None:
            await self._admin.listen(sockets)
            return
        self._admin = await serve_admin(
            self, sockets, self._stack, connections=affordable_connections(self.config)
        )
        self.backend = self._admin.backend

    async def drain(self) -> None:
        """Stop accepting; let what is in flight finish, for up to `limits.drain` seconds."""
        self.draining = True
        if self.backend is not None:
            self.backend.end_streams()
        async with self._changing:  # a change that has begun is carried out first
            if self._listeners is not None:
                self._listeners.close()
        if self.server is not None:
            await self.server.drain(self.config.limits.drain)

    def warn(self, since: Config | None = None) -> None:
        """Say what the operator should know, and could not have known `since` an earlier configuration."""
        known = {str(each) for each in remarks(since, self.own)} if since is not None else set()
        for remark in remarks(self.config, self.own):
            if str(remark) not in known:
                logs.log(remark.level, remark.event, **remark.facts)

    async def keep_certificate(self) -> None:
        """Have the certificate of `tls: auto`, if there is one, valid now, and kept so from now on."""
        if self.site.tls.local is None or self._keeps_certificate:
            return
        from authproxy.app.local_certificate import LOOK_SECONDS

        await self.site.tls.local.look()  # we may have been forked long after it was made
        self._keeps_certificate = True

        async def keep() -> None:
            while (local := self.site.tls.local) is not None:
                if self._inner_source is None:
                    local.tell_of_its_end()
                await asyncio.sleep(LOOK_SECONDS)
                await local.look()
            self._keeps_certificate = False

        self.in_background(keep(), name="keep the local certificate valid")

    def keep_authority(self) -> None:
        """Have another authority for `forward`, if there is one, made in time, from now on."""
        if self.site.tls.forward is None or self._keeps_authority:
            return
        from authproxy.app.forward_authority import LOOK_SECONDS

        self._keeps_authority = True

        async def keep() -> None:
            while (forward := self.site.tls.forward) is not None:
                if forward.lacks(self.config) and self.renew_hook is not None:
                    await self.renew_hook()
                await asyncio.sleep(LOOK_SECONDS)
            self._keeps_authority = False

        self.in_background(keep(), name="keep the forward proxy's authority")

    def in_background(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Have `work` done, which ends with this at the latest."""
        self._tasks.add(task := asyncio.create_task(work, name=name))
        task.add_done_callback(self._tasks.discard)
