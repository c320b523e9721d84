"""The wiring: a configuration becomes token sources, routes and listeners. Here alone the wings meet.

Config ─▶ sources: a stack for each credential, shared by routes
       ─▶ Site ─▶ ProxyHandler ─▶ ProxyServer ─▶ listeners

Another configuration takes its place in two steps: `prepare` does all that can fail, `commit` swaps.
"""

import asyncio
import contextlib
import gc
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Protocol, Self

from authproxy import logs
from authproxy.admin.status import RouteStatus, route_status
from authproxy.app.credentials import GrantSources, InnerSource, Stack, TokenSources
from authproxy.app.file_limits import affordable_connections, raise_file_limit
from authproxy.app.listeners import (
    Listeners,
    can_be_opened,
    configured_addresses,
    shown_address,
    shown_listeners,
)
from authproxy.app.logins import Logins
from authproxy.app.remarks import LIMITED_BY_FILES, remarks
from authproxy.app.requests import LocalRequests
from authproxy.app.served import ServedListener
from authproxy.app.site import NO_TLS, Site, build_site
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import AuthproxyError, Fault, TokenError
from authproxy.grants.runner import FlowRunner
from authproxy.grants.steps import Show
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.counters import Counters, total
from authproxy.observe.feed import Feed, Sink
from authproxy.observe.observed import Observed
from authproxy.observe.recent import Recent
from authproxy.observe.record import Subscriber
from authproxy.tokens.token import Token

if TYPE_CHECKING:
    from authproxy.app.admin import AdminListener
    from authproxy.app.backend import Backend
    from authproxy.observe.access_log import AccessLog
    from authproxy.proxy.downstream.server import ProxyServer
    from authproxy.proxy.handler import ProxyHandler

Snapshot = dict[str, Any]


class Others(Protocol):
    """The processes that serve, where this one does not: it obtains the tokens and has the admin listener."""

    async def counts(self) -> list[Snapshot]:
        """Return what each of them has counted."""
        ...

    async def ask_all(self, question: str, about: Any) -> list[Any]:
        """Return what each of them answers to a question of `LocalRequests`."""
        ...

    def watch(self, rate: int) -> None:
        """Be told of finished requests, `rate` a second at most, or not any more (0)."""
        ...

    def replaced(self, key: str, refused: Token, token: Token) -> None:
        """Have all go on with `token`."""
        ...

    def forgotten(self, key: str) -> None:
        """Have none go on with the token of the credential `key`."""
        ...


LIMITED_BY_CONFIGURATION = "`limits.connections` sets the limit"


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
        self._served: list[ServedListener] = []
        self._server: ProxyServer | None = None
        self._handler: ProxyHandler | None = None
        self._access_log: AccessLog | None = None
        self._admin: AdminListener | None = None
        self._admin_sockets: list[socket.socket] = []
        self.counters = Counters()
        self.observed = Observed()
        self.recent = Recent(0)
        self.requests = LocalRequests(self.recent, lambda: self.config, lambda: self._server)
        self.others: Others | None = None  # the workers, if this process has some
        self.seen: Sink | None = None  # told of finished requests while somebody watches
        self.backend: Backend | None = None
        self.started_at = self.loaded_at = time()
        self.config_fault: Fault | None = None  # why the last reload changed nothing
        self.reload_hook: Callable[[], Awaitable[list[Fault]]] | None = None
        self.shown: dict[str, str] = {}  # the URL, without TLS, of each address that any process listens on
        self._feed: Feed | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()  # no change begins once the end has begun
        self.draining = False

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._enter(stack)
            self._stack = stack.pop_all()
        return self

    async def _enter(self, stack: contextlib.AsyncExitStack) -> None:
        directory = Path(self._config.file).parent
        runner = await stack.enter_async_context(FlowRunner(own=self.own, directory=directory))
        self.grant_sources = GrantSources(
            self._config, runner, self.counters, retry_rejected=self._retry_rejected
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
        self._logins = Logins(runner)
        stack.push_async_callback(self._logins.close)
        self.site = build_site(self._config, self.sources, self.own, self._tls, observed=self.observed)

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        self.site.close()
        await self._stack.aclose()

    @property
    def config(self) -> Config:
        return self.site.config

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

    # ── logins ───────────────────────────────────────────────────────────────────────────────────

    async def begin_login(self, route: str, callback_url: str) -> Show | None:
        """Begin a login and return what to show; None when nobody can log in to `route`."""
        from authproxy.grants.interactive import InteractiveGrant

        found = next((each for each in self.config.routes if each.name == route), None)
        if found is None or not isinstance(found.grant, InteractiveGrant):
            return None
        redirect_uri = found.grant.comes_back_to or callback_url
        adopt = partial(self.sources.adopt, found)
        return await self._logins.start(route, found.grant, redirect_uri, adopt, http_proxy=found.http_proxy)

    async def end_login(self, query: Mapping[str, str]) -> tuple[str, str | None] | None:
        """End the login that `query` belongs to; return its route and advice; None when there is none."""
        return await self._logins.came_back(query)

    # ── serving ──────────────────────────────────────────────────────────────────────────────────

    async def start(self, proxy: list[tuple[str, socket.socket]]) -> None:
        """Serve the routes on open sockets."""
        from authproxy.proxy.downstream.server import ProxyServer
        from authproxy.proxy.handler import ProxyHandler

        self._handler = ProxyHandler(self.site, self.counters, self._subscribers())
        self.keep_recent()
        self._stack.callback(self._flush)
        self._server = ProxyServer(self._handler, **self._limits())
        self._stack.callback(self._accept_no_more)
        for address, sock in proxy:
            self._served.append(await self._create(self.site, address, sock))
            await self._served[-1].begin()
        self.shown = shown_listeners(self.served)

    def _subscribers(self) -> list[Subscriber]:
        """Return who is told of each request."""
        from authproxy.observe.access_log import AccessLog

        subscribers: list[Subscriber] = [self.counters.request]
        log = self.config.log
        self._flush()
        self._access_log = None
        if log.access and logs.LEVELS[log.level] <= logs.LEVELS["info"]:
            self._access_log = AccessLog(log.format)
            subscribers.append(self._access_log)
        if self._feed is not None:
            subscribers.append(self._feed.take)
        return subscribers

    def _flush(self) -> None:
        if self._access_log is not None:
            self._access_log.flush()

    def _limits(self) -> dict[str, Any]:
        """Return what the server bounds."""
        limits, limit = self.config.limits, affordable_connections(self.config)
        return {
            "limit": limit,
            "limit_hint": LIMITED_BY_FILES if limit < limits.connections else LIMITED_BY_CONFIGURATION,
            "keepalive": limits.keepalive,
            "header_bytes": limits.header_bytes,
            "header_seconds": limits.header_timeout,
        }

    async def _create(self, site: Site, address: str, sock: socket.socket) -> ServedListener:
        assert self._server is not None  # noqa: S101 - `start` has made it
        seconds = site.config.limits.header_timeout
        return await ServedListener.create(
            address, sock, self._server, tls=site.tls.listener, handshake_seconds=seconds
        )

    def _accept_no_more(self) -> None:
        for listener in self._served:
            listener.close()

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
            if self._server is not None:
                for address, sock in [*opened.proxy, *self._with_other_tls(site)]:
                    served.append(await self._create(site, address, sock))
            if opened.admin is not None:
                await asyncio.to_thread(import_module, "authproxy.app.admin")
        except BaseException:
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

        self._begin(close(), name="let go")

    @property
    def listening(self) -> list[str]:
        """The URLs of the proxy's listeners, of all processes."""
        config = self.config
        urls = [self.shown[address] for address in dict.fromkeys(config.listen) if address in self.shown]
        return [each.replace("http://", "https://", 1) if config.tls is not None else each for each in urls]

    @property
    def served(self) -> list[tuple[str, socket.socket]]:
        """What this process accepts requests on, each with the address that it was asked for."""
        return [(each.address, each.sock) for each in self._served]

    def _with_other_tls(self, site: Site) -> list[tuple[str, socket.socket]]:
        """Return the sockets that stay, but speak TLS otherwise then; who waits on them goes on waiting."""
        tls = site.tls.listener
        seconds = site.config.limits.header_timeout if tls is not None else None
        return [
            (each.address, each.sock.dup())
            for each in self._served
            if each.address in site.config.listen
            and (each.tls is not tls or each.handshake_seconds != seconds)
        ]

    def abandon(self, change: Change) -> None:
        """Go on as before."""
        change.site.close(successor=self.site)
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
            if self._server is not None and self._handler is not None:
                self._handler.serve(self.site, self._subscribers())
                self.keep_recent()
                self._server.adjust(**self._limits())
            old.close(successor=self.site)
            await self._change_listeners(change)
        if self._inner_source is None:
            self.warn(since=old.config)
            known = {route.key for route in old.config.routes}
            self.prefetch([route for route in config.routes if route.key not in known])
        gc.collect()  # what was replaced is in reference cycles, and those are looked for seldom

    def let_go(self) -> None:
        """Close, in the background, what the configuration before had and this one does not have."""
        self.sources.keep(self.config.routes)
        self._let_go()

    async def _change_listeners(self, change: Change) -> None:
        for listener in change.served:
            try:
                await listener.begin()
            except OSError as error:  # of one that is bound already
                logs.error("cannot listen", address=listener.address, cause=error.strerror)
        replaced = {each.address for each in change.served}
        stay = [
            each
            for each in self._served
            if each.address in self.config.listen and each.address not in replaced
        ]
        gone = [each for each in self._served if each not in stay]
        self._served = [*stay, *change.served]
        for listener in gone:
            listener.end()
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
        self.keep_recent()
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
            self._accept_no_more()
        if self._server is not None:
            await self._server.drain(self.config.limits.drain)

    def states(self) -> list[RouteStatus]:
        """Return the state of every route's token."""
        refused, found = self.observed.standings.refused(), []
        for route in self.config.routes:
            stack = self.sources.stack(route)
            source = stack.cached if stack is not None else None
            found.append(
                route_status(route.name, source, refused.get(route.name), started_at=self.started_at)
            )
        return found

    def look_for_logins(self, states: list[RouteStatus]) -> None:
        """Look whether the logins that are missing were made elsewhere meanwhile."""
        missing = {each.route for each in states if each.state == "login_required"}
        for route in self.config.routes:
            if route.name in missing and (stack := self.sources.stack(route)) is not None:
                self._fetch(route, stack)

    def login_url(self, route: RouteConfig) -> str | None:
        """Return where a person logs in to `route`; None where nobody has to, or nobody can."""
        base = self.grant_sources.login_url
        return f"{base}/login/{route.name}" if base is not None and route.grant.needs_person else None

    async def renew(self, route: RouteConfig) -> None:
        """Renew the route's token now, because a person asked. Raises `TokenError`, `TooManyTries`."""
        stack = self.sources.stack(route)
        if stack is None:
            return
        old = stack.cached.cached
        token = await stack.cached.renew()
        if self.others is not None and old is not None and old != token:
            self.others.replaced(route.key, old, token)

    async def forget(self, route: RouteConfig) -> None:
        """Forget the route's token, stored copies of it, and that it was rejected. Raises `StoreError`."""
        stack = self.sources.stack(route)
        if stack is None:
            return
        try:
            await stack.outer.forget()
        finally:
            if self.others is not None:
                self.others.forgotten(route.key)
        if route.grant.needs_person:
            self._fetch(route, stack)  # whoever looks should see that a login is needed

    # ── what is observed ─────────────────────────────────────────────────────────────────────────

    def keep_recent(self) -> None:
        """Remember as many requests as the configuration says; none without an admin listener."""
        if self._handler is None:
            return
        admin = self.config.admin
        is_asked = self._inner_source is not None or bool(self._admin_sockets)  # by the broker, or here
        self._handler.unsubscribe(self.recent.add)
        self.recent.resize(admin.keep if admin is not None and is_asked else 0)
        if self.recent.keep:
            self._handler.subscribe(self.recent.add)

    def watch(self, rate: int) -> None:
        """Tell `seen` of finished requests, `rate` a second at most, or not any more (0)."""
        if self._handler is None:
            return
        if rate and self._feed is not None:
            self._feed.rate = rate
        elif self._feed is not None:
            self._handler.unsubscribe(self._feed.take)
            self._feed.close()
            self._feed = None
        elif rate and self.seen is not None:
            self._feed = Feed(self.seen, rate)
            self._handler.subscribe(self._feed.take)

    async def snapshots(self) -> list[Snapshot]:
        """Return what each process has counted."""
        return [self.snapshot(), *(await self.others.counts() if self.others is not None else [])]

    def answer(self, question: str, about: Any) -> Any:
        """Answer a question of another process."""
        return self.snapshot() if question == "counts" else self.requests.questions[question](about)

    async def ask_all(self, question: str, about: Any) -> list[Any]:
        """Put a question of `LocalRequests` to every process that serves."""
        if self.others is not None:
            return await self.others.ask_all(question, about)
        return [self.requests.questions[question](about)]

    def snapshot(self) -> Snapshot:
        """Return what this process has counted, its connections included, as plain data."""
        connections = [
            [key.route, state, number]
            for key, pool in self.site.pools.items()
            for state, number in pool.counts.items()
        ]
        return self.counters.snapshot() | {"connections": connections}

    async def metrics(self) -> bytes:
        """Return the counts of all processes in the Prometheus text format."""
        from authproxy.admin.metrics import exposition

        snapshots = await self.snapshots()
        connections: Counter[tuple[str, str]] = Counter()
        for snapshot in snapshots:
            for route, state, number in snapshot["connections"]:
                connections[route, state] += number
        expiries = {}
        for each in self.config.routes:
            stack = self.sources.stack(each)
            if stack is not None and (moment := stack.cached.expires_at) is not None:
                expiries[each.name] = moment
        rows = [(route, state, number) for (route, state), number in connections.items()]
        return exposition(
            total(snapshots),
            expiries=expiries,
            connections=rows,
            states=[(each.route, each.state) for each in self.states()],
            reload=(self.loaded_at, self.config_fault is not None),
        )

    def warn(self, since: Config | None = None) -> None:
        """Say what the operator should know, and could not have known `since` an earlier configuration."""
        known = {str(each) for each in remarks(since, self.own)} if since is not None else set()
        for remark in remarks(self.config, self.own):
            if str(remark) not in known:
                logs.log(remark.level, remark.event, **remark.facts)

    def prefetch(self, routes: Iterable[RouteConfig] | None = None) -> None:
        """Fetch the tokens of `routes`, by default of all, that are wanted at the start, in the background.

        Those of a login are always looked for: whoever waits for `/readyz` should hear that one is needed.
        """
        for route in self.config.routes if routes is None else routes:
            wanted = route.prefetch or route.grant.needs_person
            if wanted and (stack := self.sources.stack(route)) is not None:
                self._fetch(route, stack)

    def _fetch(self, route: RouteConfig, stack: Stack) -> None:
        """Ask for a token in the background; how that goes is told by the source's state."""

        async def fetch() -> None:
            with contextlib.suppress(TokenError):  # logged by the source; the first request hears of it again
                await stack.outer.token()

        self._begin(fetch(), name=f"fetch {route.name}")

    def _begin(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        self._tasks.add(task := asyncio.create_task(work, name=name))
        task.add_done_callback(self._tasks.discard)
