"""The wiring: a configuration becomes token sources, routes and listeners. Here alone the wings meet.

Config ─▶ grants ─▶ CachedSource(PatientSource(GrantSource))   one stack a credential, shared by routes
       ─▶ pools, header rules ─▶ Route ─▶ ProxyHandler ─▶ ProxyServer ─▶ listeners
"""

import asyncio
import contextlib
import os
import socket
import ssl
from pathlib import Path
from typing import Self

from aiohttp import web

from authproxy import logs
from authproxy.admin.status import RouteStatus, route_status
from authproxy.admin.views import admin_application
from authproxy.config.schema import Config, UpstreamTLS
from authproxy.config.schema import Route as RouteConfig
from authproxy.errors import AuthproxyError, TokenError
from authproxy.grants.file import File
from authproxy.grants.hands import Hands
from authproxy.grants.source import GrantSource, WatchedSource
from authproxy.grants.static import NoGrant
from authproxy.proxy.forward import Credential, Sender
from authproxy.proxy.guard import Guard, plain_host
from authproxy.proxy.handler import ProxyHandler
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.route import Route
from authproxy.proxy.router import Allow, RouteTable
from authproxy.proxy.server import ProxyServer
from authproxy.proxy.upstream.pool import Origin, Pool
from authproxy.tokens.patience import PatientSource
from authproxy.tokens.source import CachedSource, HeldSource, token_cache
from authproxy.tokens.token import Token
from authproxy.values import split_address, split_url

BACKLOG = 1024


class ListenError(AuthproxyError):
    """An address cannot be listened on."""


class TokenSources:
    """The stacks of sources, one a credential; routes with an equal `auth` get the same one."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._cache = token_cache()
        self._stacks: dict[str, tuple[CachedSource, HeldSource]] = {}

    def stack(self, route: RouteConfig) -> tuple[CachedSource, HeldSource] | None:
        """Return the cup that holds the route's token and the top of its stack; None for plain forwarding."""
        if isinstance(route.grant, NoGrant):
            return None
        if route.key not in self._stacks:
            self._stacks[route.key] = self._build(route)
        return self._stacks[route.key]

    def _build(self, route: RouteConfig) -> tuple[CachedSource, HeldSource]:
        grant = route.grant
        earned = GrantSource(grant, self._hands, reload=route.reload)
        before = grant.refresh_before
        cached = CachedSource(
            PatientSource(earned, changed=earned.changed),
            self._cache,
            route.key,
            name=route.name,
            refresh_before=None if before == "auto" else before,
        )
        return cached, WatchedSource(cached, grant.path) if isinstance(grant, File) else cached


class App:
    """A configuration at work. Use `async with App(config) as app`, then `serve`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.listening: list[str] = []  # the URLs of the listeners
        self.admin_url: str | None = None
        self._stack = contextlib.AsyncExitStack()
        self._listeners: list[asyncio.Server] = []
        self._pools: list[Pool] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        self.sources = TokenSources(await self._stack.enter_async_context(Hands()))
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        for pool in self._pools:
            pool.close()
        await self._stack.aclose()

    async def token(self, route: RouteConfig) -> Token:
        """Return a usable token for `route`. Raises `TokenError`."""
        stack = self.sources.stack(route)
        if stack is None:
            raise TokenError(f"the route {route.name} needs no token: its grant is none")
        return await stack[1].token()

    # ── serving ──────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Open the listeners. Raises `ListenError`, and then nothing is left open."""
        config = self.config
        guard = self._guard()
        access_log = None
        if config.log.access and logs.LEVELS[config.log.level] <= logs.LEVELS["info"]:
            access_log = logs.AccessLog(config.log.format)
            self._stack.callback(access_log.flush)
        handler = ProxyHandler(
            guard,
            RouteTable([self._route(route) for route in config.routes]),
            header_limit=config.limits.header_bytes,
            body_limit=config.limits.body_bytes,
            access_log=access_log,
        )
        self._server = ProxyServer(
            handler,
            limit=config.limits.connections,
            keepalive=config.limits.keepalive,
            header_bytes=config.limits.header_bytes,
        )
        tls = _listener_tls(config)
        for address in config.listen:
            sock = listening_socket(address)
            self._stack.callback(_unlink, address)
            listener = await asyncio.get_running_loop().create_server(self._server, sock=sock, ssl=tls)
            self._stack.callback(listener.close)
            self._listeners.append(listener)
            self.listening.append(shown_address(address, sock, secure=tls is not None))
        await self._start_admin(guard)
        self._prefetch()

    async def drain(self) -> None:
        """Stop accepting; let what is in flight finish, for up to `limits.drain` seconds."""
        for listener in self._listeners:
            listener.close()
        await self._server.drain(self.config.limits.drain)

    def states(self) -> list[RouteStatus]:
        """Return the state of every route's token."""
        found = []
        for route in self.config.routes:
            stack = self.sources.stack(route)
            found.append(route_status(route.name, stack[0] if stack else None))
        return found

    async def _start_admin(self, guard: Guard) -> None:
        admin = self.config.admin
        if admin is None:
            return
        try:
            sock = listening_socket(admin.listen)
        except ListenError as error:
            if not self.config.admin_is_default:
                raise
            # Nobody asked for this address: a second proxy on the machine must not fail over it.
            logs.warning(
                "no admin listener", cause=error.detail, hint="--admin ADDR chooses another, --no-admin none"
            )
            return
        runner = web.AppRunner(admin_application(guard, self.states), access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, sock).start()
        self.admin_url = shown_address(admin.listen, sock, secure=False)

    def _prefetch(self) -> None:
        for route in self.config.routes:
            if route.prefetch and (stack := self.sources.stack(route)) is not None:
                task = asyncio.create_task(_fetch(stack[1]), name=f"prefetch {route.name}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    # ── from configuration to what the data path wants ───────────────────────────────────────────

    def _guard(self) -> Guard:
        config = self.config
        addresses = [*config.listen, *([config.admin.listen] if config.admin else [])]
        hosts = [place[0] for address in addresses if (place := split_address(address)) is not None]
        hosts += [route.host for route in config.routes if route.host]
        access = config.access
        return Guard(
            hosts=[*filter(None, hosts), *config.allowed_hosts],
            origins=config.allowed_origins,
            access_header=access.header if access else "",
            access_keys=[key.get_secret_value() for key in access.tokens] if access else (),
        )

    def _route(self, route: RouteConfig) -> Route:
        url = split_url(route.upstream)
        tls = upstream_tls(route.tls) if url.scheme == "https" else None
        origin = Origin(
            url.hostname or "", url.port or (443 if tls else 80), tls=tls, server_name=route.tls.server_name
        )
        pool = Pool(origin, limit=route.max_connections, connect_seconds=route.timeouts.connect)
        self._pools.append(pool)
        for warning in route.warnings:
            logs.warning(warning, route=route.name)
        if tls is not None and not route.tls.verify:
            logs.warning(
                "the upstream's certificate is not verified: anyone on the way can read the credential",
                route=route.name,
            )
        credential = self._credential(route)
        dropped = [self.config.access.header] if self.config.access else []
        return Route(
            name=route.name,
            host=plain_host(route.host) if route.host else None,
            path=route.path,
            strip=route.path if route.strip_path and route.path != "/" else "",
            base=url.path.rstrip("/"),
            sender=Sender(pool, response_seconds=route.timeouts.response, idle_seconds=route.timeouts.idle),
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
            ),
            credential=credential,
            incoming=route.grant.incoming,
            allow=Allow(methods=route.allow.methods, paths=route.allow.paths, hint=route.allow.hint)
            if route.allow
            else None,
            keep_body=route.retry.max_body if route.retry else 0,
            idle_seconds=route.timeouts.idle,
        )

    def _credential(self, route: RouteConfig) -> Credential | None:
        stack = self.sources.stack(route)
        if stack is None:
            return None
        retry = route.retry
        return Credential(
            stack[1],
            header=route.grant.header,
            scheme=route.grant.scheme,
            statuses=frozenset(retry.statuses) if retry else frozenset(),
            idempotent_only=retry is not None and retry.methods == "idempotent",
            cooldown=retry.cooldown if retry else 0,
        )


async def _fetch(source: HeldSource) -> None:
    with contextlib.suppress(TokenError):  # logged by the source; the first request hears of it again
        await source.token()


def _unlink(address: str) -> None:
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def upstream_tls(settings: UpstreamTLS) -> ssl.SSLContext:
    """Return how to speak TLS to an upstream."""
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.set_alpn_protocols(["http/1.1"])
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def _listener_tls(config: Config) -> ssl.SSLContext | None:
    if config.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(config.tls.cert_file, config.tls.key_file)
    return context


# ── addresses ────────────────────────────────────────────────────────────────────────────────────


def listening_socket(address: str) -> socket.socket:
    """Return a socket that listens on a checked address. Raises `ListenError`."""
    place = split_address(address)
    try:
        return _unix_socket(address.removeprefix("unix:")) if place is None else _tcp_socket(*place)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "the name does not resolve"
        raise ListenError(f"cannot listen on {address}: {reason}", hint="port 0 picks a free port") from error


def _tcp_socket(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, place = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix_socket(path: str) -> socket.socket:
    """Bind a Unix socket that only its owner can reach; one that nobody listens on is replaced."""
    if Path(path).is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) != 0:
                Path(path).unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def shown_address(address: str, sock: socket.socket, *, secure: bool) -> str:
    """Return the URL of a listener, with the port that it really got."""
    if address.startswith("unix:"):
        return address
    host = address.rpartition(":")[0].strip("[]")
    shown = f"[{host}]" if ":" in host else host or "0.0.0.0"  # noqa: S104 - what an empty host means
    return f"http{'s' if secure else ''}://{shown}:{sock.getsockname()[1]}"
