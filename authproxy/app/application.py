"""The wiring: a configuration becomes token sources, routes and listeners. Here alone the wings meet.

Config ─▶ sources: a stack for each credential, shared by routes
       ─▶ pools, header rules ─▶ Route ─▶ ProxyHandler ─▶ ProxyServer ─▶ listeners
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from aiohttp import web

from authproxy import logs
from authproxy.admin.api import admin_application
from authproxy.admin.listener import FEWEST_CONNECTIONS, MAX_CONNECTIONS, AdminServer
from authproxy.admin.status import RouteStatus, route_status
from authproxy.app.credentials import GrantSources, InnerSource, Stack, TokenSources
from authproxy.app.file_limits import affordable_connections
from authproxy.app.listeners import can_be_opened, configured_addresses, shown_address
from authproxy.app.logins import Logins
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import TokenError
from authproxy.grants.interactive import InteractiveGrant
from authproxy.grants.runner import FlowRunner
from authproxy.grants.steps import Show
from authproxy.net.dial import Dialer, Origin
from authproxy.net.http_proxy import proxy_for
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.access_log import AccessLog
from authproxy.observe.counters import Counters, total
from authproxy.proxy.allow import Allow
from authproxy.proxy.downstream.server import ProxyServer
from authproxy.proxy.guard import Guard, plain_host
from authproxy.proxy.handler import ProxyHandler
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.renewal import Credential
from authproxy.proxy.rewrite import Rewriting
from authproxy.proxy.route import Route
from authproxy.proxy.router import RouteTable
from authproxy.proxy.send import Sender
from authproxy.proxy.upstream.pool import Pool
from authproxy.tokens.token import Token
from authproxy.values import split_address, split_url

Snapshot = dict[str, Any]

LIMITED_BY_CONFIGURATION = "`limits.connections` sets the limit"
LIMITED_BY_FILES = "`ulimit -n` sets how many file descriptors there are"


class App:
    """A configuration at work. Use `async with App(config) as app`, then `start`.

    `inner_source` makes what each credential's `CachedSource` wraps; without it, tokens are obtained here.
    `own` are the listeners of all processes, nothing of which is ever asked; by default those of `config`.
    With `retry_rejected` a credential that was rejected before is tried once more.
    """

    def __init__(
        self,
        config: Config,
        inner_source: InnerSource | None = None,
        own: OwnListeners | None = None,
        *,
        retry_rejected: bool = False,
    ) -> None:
        self.config = config
        self.own = own if own is not None else OwnListeners(configured_addresses(config))
        self._retry_rejected = retry_rejected
        self._inner_source = inner_source
        self._stack = contextlib.AsyncExitStack()
        self._listeners: list[asyncio.Server] = []
        self._server: ProxyServer | None = None
        self._pools: list[tuple[str, Pool]] = []
        self.counters = Counters()
        self.others: Callable[[], Awaitable[list[Snapshot]]] | None = None  # the workers' counts
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        directory = Path(self.config.file).parent
        runner = await self._stack.enter_async_context(FlowRunner(own=self.own, directory=directory))
        self.grant_sources = GrantSources(
            self.config, runner, self.counters, retry_rejected=self._retry_rejected
        )
        self._stack.push_async_callback(self.grant_sources.close)
        credentials = len({route.key for route in self.config.routes})
        self.sources = TokenSources(
            self._inner_source or self.grant_sources.inner_source, credentials=credentials
        )
        self._stack.push_async_callback(self.sources.close)
        self._logins = Logins(runner)
        self._stack.push_async_callback(self._logins.close)
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        for _, pool in self._pools:
            pool.close()
        await self._stack.aclose()

    async def token(self, route: RouteConfig) -> Token:
        """Return a usable token for `route`. Raises `TokenError`."""
        stack = self.sources.stack(route)
        if stack is None:
            raise TokenError(f"the route {route.name} needs no token: its grant is none")
        return await stack.outer.token()

    # ── logins ───────────────────────────────────────────────────────────────────────────────────

    async def begin_login(self, route: str, callback_url: str) -> Show | None:
        """Begin a login and return what to show; None when nobody can log in to `route`."""
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

    async def start(self, proxy: list[tuple[str, socket.socket]], tls: TLSContexts) -> None:
        """Serve the routes on open sockets."""
        config = self.config
        access_log = None
        if config.log.access and logs.LEVELS[config.log.level] <= logs.LEVELS["info"]:
            access_log = AccessLog(config.log.format)
            self._stack.callback(access_log.flush)
        handler = ProxyHandler(
            self._guard(config.allowed_origins),
            self.route_table(tls),
            header_limit=config.limits.header_bytes,
            body_limit=config.limits.body_bytes,
            access_log=access_log,
            counters=self.counters,
        )
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
                ssl=tls.listener,
                # A handshake is not yet a connection that the server could watch.
                ssl_handshake_timeout=config.limits.header_timeout if tls.listener is not None else None,
            )
            self._stack.callback(listener.close)
            self._listeners.append(listener)

    def route_table(self, tls: TLSContexts) -> RouteTable[Route]:
        """Make the routes, and all that they stand on; nothing is contacted. Raises `AuthproxyError`."""
        return RouteTable([self._route(route, tls.upstreams.get(route.name)) for route in self.config.routes])

    def _connection_limit(self) -> int:
        upstream = sum(route.max_connections for route in self.config.routes)
        return affordable_connections(self.config.limits.connections, upstream=upstream)

    async def start_admin(self, address: str, sockets: list[socket.socket]) -> None:
        """Serve the admin listener on open sockets."""
        url = shown_address(address, sockets[0], secure=False)
        self.grant_sources.login_url = url if can_be_opened(url) else None
        limits = self.config.limits
        application = admin_application(self._guard(), self, form_seconds=limits.header_timeout)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        server = AdminServer(
            cast("web.Server", runner.server),
            limit=min(MAX_CONNECTIONS, max(FEWEST_CONNECTIONS, self._connection_limit() // 4)),
            keepalive=limits.keepalive,
            header_bytes=limits.header_bytes,
            header_seconds=limits.header_timeout,
        )
        self._stack.push_async_callback(server.shutdown, 0.1)
        for sock in sockets:
            listener = await asyncio.get_running_loop().create_server(server, sock=sock)
            self._stack.callback(listener.close)

    async def drain(self) -> None:
        """Stop accepting; let what is in flight finish, for up to `limits.drain` seconds."""
        for listener in self._listeners:
            listener.close()
        if self._server is not None:
            await self._server.drain(self.config.limits.drain)

    def states(self) -> list[RouteStatus]:
        """Return the state of every route's token."""
        found = []
        for route in self.config.routes:
            stack = self.sources.stack(route)
            found.append(route_status(route.name, stack.cached if stack else None))
            if stack is not None and found[-1].state == "login required":
                self._fetch(route, stack)  # somebody may have logged in elsewhere meanwhile
        return found

    def snapshot(self) -> Snapshot:
        """Return what this process has counted, its connections included, as plain data."""
        connections = [
            [route, state, number] for route, pool in self._pools for state, number in pool.counts.items()
        ]
        return self.counters.snapshot() | {"connections": connections}

    async def metrics(self) -> bytes:
        """Return the counts of all processes in the Prometheus text format."""
        from authproxy.admin.metrics import exposition  # noqa: PLC0415 - not everybody's start should wait for it

        snapshots = [self.snapshot(), *(await self.others() if self.others is not None else [])]
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
        return exposition(total(snapshots), expiries=expiries, connections=rows)

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
            wanted = route.prefetch or (
                isinstance(route.grant, InteractiveGrant) and route.grant.needs_person
            )
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

    # ── from configuration to what the data path wants ───────────────────────────────────────────

    def _guard(self, origins: Iterable[str] = ()) -> Guard:
        """Return who may ask; pages of `origins` may, but never of the admin listener."""
        config = self.config
        addresses = [*config.listen, *([config.admin.listen] if config.admin else [])]
        hosts = [place[0] for address in addresses if (place := split_address(address)) is not None]
        hosts += [route.host for route in config.routes if route.host]
        access = config.access
        return Guard(
            hosts=[*filter(None, hosts), *config.allowed_hosts],
            origins=origins,
            access_header=access.header if access else "",
            access_keys=[key.get_secret_value() for key in access.tokens] if access else (),
        )

    def _route(self, route: RouteConfig, tls: ssl.SSLContext | None) -> Route:
        url = split_url(route.upstream)
        origin = Origin(
            url.hostname or "", url.port or (443 if tls else 80), tls=tls, server_name=route.tls.server_name
        )
        credential = self._credential(route)
        dropped = [self.config.access.header] if self.config.access else []
        strip = route.path if route.strip_path and route.path != "/" else ""
        base = url.path.rstrip("/")
        rewriting = Rewriting(
            str(origin),
            base=base,
            path=route.path,
            strip=strip,
            preserve_host=route.preserve_host,
            secure=self.config.tls is not None,
        )
        return Route(
            name=route.name,
            host=plain_host(route.host) if route.host else None,
            path=route.path,
            strip=strip,
            base=base,
            sender=self._sender(route, origin),
            request_headers=RequestHeaders(
                credential=credential.header if credential else None,
                host=None if route.preserve_host else origin.authority,
                set_pairs=[(name, value.get_secret_value()) for name, value in route.headers.set.items()],
                remove=[*route.headers.remove, *dropped],
            ),
            response_headers=ResponseHeaders(
                set_pairs=[
                    (name, value.get_secret_value()) for name, value in route.response_headers.set.items()
                ],
                remove=route.response_headers.remove,
                rewriting=rewriting if route.rewrite else None,
            ),
            credential=credential,
            incoming=route.grant.incoming,
            allow=Allow(methods=route.allow.methods, paths=route.allow.paths, hint=route.allow.hint)
            if route.allow
            else None,
            keep_body=route.retry.max_body if route.retry else 0,
            idle_seconds=route.timeouts.idle,
        )

    def _sender(self, route: RouteConfig, origin: Origin) -> Sender:
        proxy = proxy_for(route.upstream, route.http_proxy, own=self.own)
        # A proxy that forwards writes the upstream's `Host` itself, and lets no upgrade through.
        forwards = proxy is not None and origin.tls is None and not route.preserve_host

        def pool(*, tunnel: bool) -> Pool:
            dialer = Dialer(origin, proxy=proxy, tunnel=tunnel, own=self.own)
            made = Pool(dialer, limit=route.max_connections, connect_seconds=route.timeouts.connect)
            self._pools.append((route.name, made))
            return made

        return Sender(
            pool(tunnel=not forwards),
            response_seconds=route.timeouts.response,
            idle_seconds=route.timeouts.idle,
            upgrades=pool(tunnel=True) if forwards else None,
        )

    def _credential(self, route: RouteConfig) -> Credential | None:
        stack = self.sources.stack(route)
        if stack is None:
            return None
        retry = route.retry
        return Credential(
            stack.outer,
            header=route.grant.header,
            scheme=route.grant.scheme,
            statuses=frozenset(retry.statuses) if retry else frozenset(),
            idempotent_only=retry is not None and retry.methods == "idempotent",
            cooldown=retry.cooldown if retry else 0,
            asks_freely=route.grant.in_configuration and not route.runs_commands,
        )
