"""The wiring: a configuration becomes token sources, routes and listeners. Here alone the wings meet.

Config ─▶ sources: a stack for each credential, shared by routes
       ─▶ Site ─▶ ProxyHandler ─▶ ProxyServer ─▶ listeners
"""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Protocol, Self

from authproxy import logs
from authproxy.admin.status import RouteStatus, route_status
from authproxy.app.credentials import GrantSources, InnerSource, Stack, TokenSources
from authproxy.app.file_limits import affordable_connections
from authproxy.app.listeners import can_be_opened, configured_addresses, listening_urls, shown_address
from authproxy.app.logins import Logins
from authproxy.app.requests import LocalRequests
from authproxy.app.site import NO_TLS, build_site
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import Fault, TokenError
from authproxy.grants.runner import FlowRunner
from authproxy.grants.steps import Show
from authproxy.net.http_proxy import proxy_for
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.counters import Counters, total
from authproxy.observe.feed import Feed, Sink
from authproxy.observe.observed import Observed
from authproxy.observe.recent import Recent
from authproxy.observe.record import Subscriber
from authproxy.tokens.token import Token

if TYPE_CHECKING:
    from authproxy.app.backend import Backend
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

    def watch(self, is_watched: bool) -> None:  # noqa: FBT001 - it is all there is to say
        """Be told of finished requests, or not any more."""
        ...

    def replaced(self, key: str, refused: Token, token: Token) -> None:
        """Have all go on with `token`."""
        ...

    def forgotten(self, key: str) -> None:
        """Have none go on with the token of the credential `key`."""
        ...


LIMITED_BY_CONFIGURATION = "`limits.connections` sets the limit"
LIMITED_BY_FILES = "`ulimit -n` sets how many file descriptors there are"


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
        self._listeners: list[asyncio.Server] = []
        self._server: ProxyServer | None = None
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
        self.has_admin = True  # somebody may ask what was observed
        self.listening: list[str] = []  # the URLs of the listeners, of all processes
        self._handler: ProxyHandler | None = None
        self._feed: Feed | None = None
        self._tasks: set[asyncio.Task[None]] = set()

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
        self.sources = TokenSources(
            self._inner_source or self.grant_sources.inner_source, credentials=credentials
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
        from authproxy.observe.access_log import AccessLog
        from authproxy.proxy.downstream.server import ProxyServer
        from authproxy.proxy.handler import ProxyHandler

        config, tls = self.config, self._tls.listener
        self.listening = listening_urls(config, proxy)
        subscribers: list[Subscriber] = [self.counters.request]
        if config.log.access and logs.LEVELS[config.log.level] <= logs.LEVELS["info"]:
            access_log = AccessLog(config.log.format)
            self._stack.callback(access_log.flush)
            subscribers.append(access_log)
        self._handler = handler = ProxyHandler(self.site, self.counters, subscribers)
        self.keep_recent()
        limit = self._connection_limit()
        self._server = ProxyServer(
            handler,
            limit=limit,
            limit_hint=LIMITED_BY_FILES if limit < config.limits.connections else LIMITED_BY_CONFIGURATION,
            keepalive=config.limits.keepalive,
            header_bytes=config.limits.header_bytes,
            header_seconds=config.limits.header_timeout,
        )
        for _, sock in proxy:
            listener = await asyncio.get_running_loop().create_server(
                self._server,
                sock=sock,
                ssl=tls,
                # A handshake is not yet a connection that the server could watch.
                ssl_handshake_timeout=config.limits.header_timeout if tls is not None else None,
            )
            self._stack.callback(listener.close)
            self._listeners.append(listener)

    def _connection_limit(self) -> int:
        upstream = sum(route.max_connections for route in self.config.routes)
        return affordable_connections(self.config.limits.connections, upstream=upstream)

    def admin_opens_at(self, address: str, sockets: list[socket.socket]) -> None:
        """Have hints name the admin listener, which `start_admin` will serve on `sockets`."""
        url = shown_address(address, sockets[0], secure=False)
        self.grant_sources.login_url = url if can_be_opened(url) else None

    async def start_admin(self, sockets: list[socket.socket]) -> None:
        """Serve the admin listener on open sockets."""
        from authproxy.app.admin import serve_admin

        self.backend = await serve_admin(self, sockets, self._stack, connections=self._connection_limit())

    async def drain(self) -> None:
        """Stop accepting; let what is in flight finish, for up to `limits.drain` seconds."""
        if self.backend is not None:
            self.backend.end_streams()
        for listener in self._listeners:
            listener.close()
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
        self._handler.unsubscribe(self.recent.add)
        self.recent.resize(admin.keep if admin is not None and self.has_admin else 0)
        if self.recent.keep:
            self._handler.subscribe(self.recent.add)

    def watch(self, is_watched: bool) -> None:  # noqa: FBT001 - it is all there is to say
        """Tell `seen` of finished requests, or not any more."""
        if self._handler is None:
            return
        if self._feed is not None:
            self._handler.unsubscribe(self._feed.take)
            self._feed.close()
            self._feed = None
        if is_watched and self.seen is not None:
            self._feed = Feed(self.seen)
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
            [route, state, number] for route, pool in self.site.pools for state, number in pool.counts.items()
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

    def warn(self) -> None:
        """Say what the operator should know."""
        wanted, affordable = self.config.limits.connections, self._connection_limit()
        if affordable < wanted:
            logs.warning(
                "fewer connections than limits.connections: there are too few file descriptors",
                wanted=wanted,
                possible=affordable,
                hint=LIMITED_BY_FILES,
            )
        for fault in self.config.warnings:
            place = f"{fault.file}:{fault.line}:{fault.column}"
            logs.warning(f"{fault.key} {fault.message}", place=place)
        for route in self.config.routes:
            for warning in route.warnings:
                logs.warning(warning, route=route.name)
            if (proxy := proxy_for(route.upstream, route.http_proxy, own=self.own)) is not None:
                logs.info("goes through an HTTP proxy", route=route.name, proxy=proxy)
            elif proxy_for(route.upstream, route.http_proxy) is not None:
                logs.info("the environment's HTTP proxy is authproxy itself: ignored", route=route.name)
            if route.upstream.startswith("https:") and not route.tls.verify:
                logs.warning(
                    "the upstream's certificate is not verified: anyone on the way can read the credential",
                    route=route.name,
                )

    def prefetch(self) -> None:
        """Fetch the tokens that are wanted at the start, in the background.

        Those of a login are always looked for: whoever waits for `/readyz` should hear that one is needed.
        """
        for route in self.config.routes:
            wanted = route.prefetch or route.grant.needs_person
            if wanted and (stack := self.sources.stack(route)) is not None:
                self._fetch(route, stack)

    def _fetch(self, route: RouteConfig, stack: Stack) -> None:
        """Ask for a token in the background; how that goes is told by the source's state."""

        async def fetch() -> None:
            with contextlib.suppress(TokenError):  # logged by the source; the first request hears of it again
                await stack.outer.token()

        task = asyncio.create_task(fetch(), name=f"fetch {route.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
