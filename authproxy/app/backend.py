"""What the admin API asks of the application, for all of its processes.

    AdminApplication ─▶ Backend ─┬─ states, tokens: of this process, which obtains them
                                 └─ requests, counts: asked of every process that serves

The site and the configuration are looked at each time: a reload replaces them.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from authproxy import __version__
from authproxy.admin.events import Streams
from authproxy.admin.status import RouteStatus
from authproxy.app.requests import error_of
from authproxy.config.model import address_of
from authproxy.config.route import RouteConfig
from authproxy.errors import AuthproxyError, Fault, NoRoute, NoSuchRequest
from authproxy.grants.registry import grant_name
from authproxy.grants.steps import Show
from authproxy.observe.counters import Counters, total
from authproxy.observe.recent import Filter, percentiles
from authproxy.proxy.guard import Guard
from authproxy.times import rfc3339
from authproxy.values import split_address

if TYPE_CHECKING:
    from authproxy.app.application import App

LOOK_SECONDS = 1.0  # between two looks at states that change by themselves, while somebody watches

AskAll = Callable[[str, Any], Awaitable[list[Any]]]
"""Puts a question of `LocalRequests` to every process that serves."""


class Backend:
    """Answers the admin listener. `watched` is told how many requests a second watchers want to hear of."""

    def __init__(self, app: "App", ask_all: AskAll, watched: Callable[[int], None]) -> None:
        self._app = app
        self._ask_all = ask_all
        self._tell_watched = watched
        self._told: dict[str, str] = {}  # the state of each route that watchers know of
        self._looking: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()
        self.streams = Streams(self._watched)

    @property
    def guard(self) -> Guard:
        return self._app.site.admin_guard

    @property
    def serves_api(self) -> bool:
        """Whether who reaches the listener may use the API: others than a socket's owner reach TCP."""
        config = self._app.config
        if config.access is not None or config.admin is None:
            return True
        admin_is_tcp = split_address(config.admin.listen) is not None
        return not admin_is_tcp or any(
            split_address(address_of(each)) is not None for each in config.listeners
        )

    # ── health, counts and logins ────────────────────────────────────────────────────────────────

    def states(self) -> list[RouteStatus]:
        """Return the state of every route; look for logins that were made elsewhere meanwhile."""
        states = self._app.route_tokens.states()
        self._app.route_tokens.look_for_logins(states)
        return states

    async def metrics(self) -> bytes:
        """Return the counts of all processes in the Prometheus text format.

        The text is made beside the loop: of 1,000 routes it takes 100 ms.
        """
        from authproxy.admin.metrics import exposition

        app = self._app
        snapshots = await app.observing.snapshots()
        connections: Counter[tuple[str, str]] = Counter()
        for snapshot in snapshots:
            for route, state, number in snapshot["connections"]:
                connections[route, state] += number
        return await asyncio.to_thread(
            exposition,
            total(snapshots),
            expiries=app.route_tokens.expiries(),
            connections=[(route, state, number) for (route, state), number in connections.items()],
            states=[(each.route, each.state) for each in app.route_tokens.states()],
            reload=(app.loaded_at, app.config_fault is not None),
        )

    async def authority(self) -> bytes | None:
        """Return the certificate, PEM, of the authority of `tls: auto`, as all processes have it by now."""
        local = self._app.site.tls.local
        if local is None:
            return None
        await local.look()
        return local.authority.root_pem

    async def forward_authority(self) -> bytes | None:
        """Return the certificates, PEM, of the authority of `forward`, as all processes have it.

        None without `forward`, b"" where no upstream speaks TLS.
        """
        forward = self._app.site.tls.forward
        return forward.root_pem if forward is not None else None

    async def begin_login(self, route: str, callback_url: str) -> Show | None:
        return await self._app.route_tokens.begin_login(route, callback_url)

    async def end_login(self, query: Mapping[str, str]) -> tuple[str, str | None] | None:
        return await self._app.route_tokens.end_login(query)

    # ── status ───────────────────────────────────────────────────────────────────────────────────

    async def status(self) -> dict[str, object]:
        """Return the document of `/api/status`."""
        app = self._app
        fault, counters = app.config_fault, await self._counters()
        return {
            "version": __version__,
            "started_at": rfc3339(app.started_at),
            "config": {
                "file": app.config.file,
                "loaded_at": rfc3339(app.loaded_at),
                "fault": asdict(fault) if fault is not None else None,
            },
            "listeners": app.listening,
            **({"ca_file": str(local.kept.public)} if (local := app.site.tls.local) is not None else {}),
            **({"forward": self._forward_status(counters)} if app.config.forward is not None else {}),
            "routes": await self._routes(self.states(), counters),
        }

    def _forward_status(self, counters: Counters) -> dict[str, object]:
        """Return what is told of forward mode: where it is, what clients are to trust, what has come."""
        from authproxy.app.forward import bundle_of

        app, config, tunnels = self._app, self._app.config, counters.tunnels
        return {
            "listener": app.shown.get(config.forward_listener or ""),
            "unmatched": "tunnel" if config.forward is not None and config.forward.tunnels else "refuse",
            "bundle_file": bundle_of(app.site.tls),
            "open": sum(counters.tunnels_open.values()),
            **{outcome: tunnels[outcome,] for outcome in ("intercepted", "tunnelled", "failed")},
            "bytes_in": counters.tunnel_bytes["in",],
            "bytes_out": counters.tunnel_bytes["out",],
        }

    async def route_status(self, name: str) -> dict[str, object]:
        """Return one route's part of that. Raises `NoRoute`."""
        self._route(name)
        [document] = await self._routes(
            [each for each in self._app.route_tokens.states() if each.route == name],
            await self._counters(),
        )
        return document

    async def _counters(self) -> Counters:
        """Return what all processes have counted."""
        return total(await self._app.observing.snapshots())

    async def _routes(self, states: list[RouteStatus], counters: Counters) -> list[dict[str, object]]:
        seconds: dict[str, list[float]] = {}
        for answer in await self._ask_all("latencies", None):
            for name, some in answer.items():
                seconds.setdefault(name, []).extend(some)
        routes = {each.name: each for each in self._app.config.routes}
        listen = self._app.own_addresses()
        return [
            self._document(
                routes[each.route], each, counters, seconds.get(each.route, []), listen.get(each.route)
            )
            for each in states
            if each.route in routes
        ]

    def _document(
        self,
        route: RouteConfig,
        status: RouteStatus,
        counters: Counters,
        seconds: list[float],
        listen: str | None,
    ) -> dict[str, object]:
        answers = counters.routes[route.name].answers if route.name in counters.routes else {}
        injects = [place.shown() for place in route.grant.places] if route.grant.needs_token else []
        return {
            "name": route.name,
            "path": route.path,
            "host": route.host,
            "listen": listen,
            "upstream": route.upstream,
            "grant": grant_name(route.grant),
            "preset": route.preset,
            "injects": injects,
            **status.document(),
            "login_url": self._app.route_tokens.login_url(route, status.state),
            "requests": sum(answers.values()),
            "errors": sum(count for (_, code), count in answers.items() if code >= 500),
            "retries": sum(count for (name, _), count in counters.retries.items() if name == route.name),
            "latency_ms": percentiles(seconds),
        }

    def _route(self, name: str) -> RouteConfig:
        found = next((each for each in self._app.config.routes if each.name == name), None)
        if found is None:
            raise NoRoute("there is no route of that name")
        return found

    # ── tokens and the configuration ─────────────────────────────────────────────────────────────

    async def refresh(self, name: str) -> dict[str, object]:
        """Renew a route's token now; return its status. Raises `NoRoute`, `TokenError`, `TooManyTries`."""
        await self._app.route_tokens.renew(self._route(name))
        return await self.route_status(name)

    async def forget(self, name: str) -> None:
        """Forget a route's token, stored copies, and that it was rejected. Raises `NoRoute`, `StoreError`."""
        await self._app.route_tokens.forget(self._route(name))

    async def reload(self) -> list[Fault]:
        """Read the configuration again; return what is wrong with it, and then nothing has changed."""
        return await self._app.reload_hook() if self._app.reload_hook is not None else []

    # ── requests ─────────────────────────────────────────────────────────────────────────────────

    async def requests(self, wanted: Filter) -> list[dict[str, Any]]:
        """Return the last requests that are wanted, of all processes. Raises `NoRoute`."""
        if wanted.route is not None:
            self._route(wanted.route)
        config = self._app.config
        keep = config.admin.keep if config.admin is not None else 0
        answers = await self._ask_all("requests", wanted.data())
        found = [each for answer in answers for each in answer]
        found.sort(key=lambda each: str(each["id"]), reverse=True)
        return found[: min(keep, wanted.limit)]

    async def request(self, wanted: str) -> dict[str, Any]:
        """Return one request. Raises `NoSuchRequest`."""
        return await self._the_one("request", wanted)

    async def replay(self, wanted: str) -> str:
        """Send a request again; return its new id.

        Raises `NoSuchRequest`, `NotReplayable`, `ConnectionLimit`.
        """
        answer = await self._the_one("replay", wanted)
        error = error_of(answer)
        if error is not None:
            raise error
        return str(answer["id"])

    async def _the_one(self, question: str, wanted: str) -> dict[str, Any]:
        for answer in await self._ask_all(question, wanted):
            if answer is not None:
                found: dict[str, Any] = answer
                return found
        raise NoSuchRequest("no request of that id is remembered")

    # ── the live stream ──────────────────────────────────────────────────────────────────────────

    def seen(self, requests: list[dict[str, Any]], lost: int) -> None:
        """Tell watchers of finished requests, and of how many they are not told."""
        if lost:
            self.streams.lose(lost)
        for each in requests:
            self.streams.publish("request", each)

    def changed(self) -> None:
        """Have watchers told of states that are others now."""
        self._look_now.set()

    def _watched(self, rate: int) -> None:
        self._tell_watched(rate)
        if rate and self._looking is None:
            self._told = {each.route: each.state for each in self._app.route_tokens.states()}
            self._looking = asyncio.create_task(self._look(), name="look at states")
        elif not rate and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def _look(self) -> None:
        """Tell watchers of each change of a state, at once where it is told, else before long."""
        while True:
            self._look_now.clear()
            states = self._app.route_tokens.states()
            others = [each for each in states if self._told.get(each.route) != each.state]
            self._told = {each.route: each.state for each in states}
            if others:
                with contextlib.suppress(AuthproxyError):
                    for document in await self._routes(others, await self._counters()):
                        self.streams.publish("status", document)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look_now.wait()

    def end_streams(self) -> None:
        """End the live streams: the process is about to end."""
        self.streams.close()
