"""All steps of all routes, in their order; a route's fault ends that route's steps, never another's.

the file ─▶ the proxy that runs ─▶ each route: config ─▶ secrets ─▶ upstream's DNS, TCP, TLS
                                              ─▶ token endpoint's DNS, TCP, TLS ─▶ token ─▶ upstream
"""

import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from authproxy.app.credentials import GrantSources, TokenSources
from authproxy.app.doctor.configuration import cause, next_step, note_route
from authproxy.app.doctor.network import Target, reach
from authproxy.app.doctor.pasteable import Pasteable
from authproxy.app.doctor.running import examine_running
from authproxy.app.doctor.steps import Listener, Steps, failed, passed, skipped
from authproxy.app.doctor.token import Heard, examine_token
from authproxy.app.doctor.upstream import Question, Upstream
from authproxy.app.listeners import configured_addresses
from authproxy.app.site import build_site
from authproxy.app.tls import tls_contexts
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.config.salvage import FoundRoute, Salvaged
from authproxy.errors import AuthproxyError, ConfigError
from authproxy.grants.runner import FlowRunner
from authproxy.net.dial import Origin
from authproxy.net.http_proxy import ADVICE, proxy_for
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.counters import Counters
from authproxy.observe.observed import Observed
from authproxy.values import split_url

MAX_CONNECT = 10.0  # seconds; a route may say less
MAX_RESPONSE = 30.0


class View(Listener, Protocol):
    """Whoever sees the examination while it goes on."""

    def subject(self, title: str) -> None:
        """See that the steps of another subject follow."""
        ...


@dataclass
class Subject:
    """Whose steps they are: a route, or the proxy as a whole."""

    name: str
    steps: Steps


@dataclass
class Report:
    """What was found."""

    file: str
    has_faults: bool
    proxy: Subject
    routes: list[Subject] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(subject.steps.ok for subject in [self.proxy, *self.routes])

    @property
    def exit_code(self) -> int:
        """2 for a faulty configuration, 1 for another failure, else 0."""
        return 2 if self.has_faults else 0 if self.ok else 1

    def document(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "ok": self.ok,
            "proxy": _document(self.proxy),
            "routes": [{"name": each.name, **_document(each)} for each in self.routes],
        }


def _document(subject: Subject) -> dict[str, Any]:
    return {"ok": subject.steps.ok, "steps": [step.document() for step in subject.steps.taken]}


class Examination:
    """Examines what was salvaged of a file; `route` names one, None all of them."""

    def __init__(
        self,
        found: Salvaged,
        question: Question,
        view: View,
        *,
        retry_rejected: bool = False,
        route: str | None = None,
    ) -> None:
        self._found = found
        self._config = found.config
        self._question = question
        self._view = view
        self._retry_rejected = retry_rejected
        self._routes = [each for each in found.routes if route is None or each.name == route]
        self._clean = Pasteable(self._config)
        self._heard = Heard()

    async def report(self) -> Report:
        """Take every step."""
        proxy = self._subject("proxy", self._clean(self._found.file))
        report = Report(self._clean(self._found.file), self._found.has_faults, proxy)
        await self._of_the_file(proxy.steps)
        async with AsyncExitStack() as stack:
            sources = await self._sources(stack)
            for found in self._routes:
                title = f"{found.name} → {found.config.upstream}" if found.config is not None else found.name
                report.routes.append(self._subject(found.name, title))
                await self._route(found, sources, report.routes[-1].steps)
        return report

    def _subject(self, name: str, title: str) -> Subject:
        self._view.subject(self._clean(title))
        return Subject(name, Steps(self._view, self._clean.verdict))

    # ── what is no route's ───────────────────────────────────────────────────────────────────────

    async def _of_the_file(self, steps: Steps) -> None:
        faults = self._found.faults
        bad = sum(each.config is None for each in self._found.routes)
        if faults:
            steps.note("config", failed(cause(faults), self._found.hint or next_step(faults)))
        elif bad:
            rest = "; the others are examined" if bad < len(self._found.routes) else ""
            steps.note(
                "config",
                failed(f"{bad} of {len(self._found.routes)} routes cannot be used", f"see below{rest}"),
            )
        else:
            count = len(self._found.routes)
            steps.note("config", passed(f"{count} route{'' if count == 1 else 's'}"))
        if self._config is not None:
            await examine_running(self._config, steps)

    async def _sources(self, stack: AsyncExitStack) -> TokenSources | None:
        """Return where tokens come from: the stacks that the proxy would have."""
        config = self._config
        if config is None or not self._found.is_whole:
            return None
        runner = FlowRunner(own=self._own(config), directory=Path(config.file).parent, heard=self._heard)
        await stack.enter_async_context(runner)
        grants = GrantSources(config, runner, Counters(), retry_rejected=self._retry_rejected)
        stack.push_async_callback(grants.close)
        credentials = len({route.key for route in config.routes})
        sources = TokenSources(grants.inner_source, credentials=credentials, store_of=grants.store_of)
        stack.push_async_callback(sources.close)
        return sources

    def _own(self, config: Config) -> OwnListeners:
        return OwnListeners(configured_addresses(config))

    # ── a route ──────────────────────────────────────────────────────────────────────────────────

    async def _route(self, found: FoundRoute, sources: TokenSources | None, steps: Steps) -> None:
        note_route(found, self._config, steps)
        config, route = self._config, found.config
        if route is None or config is None:
            return
        route = _bounded(route)
        try:
            target = self._target(config, route, found)
        except ConfigError as error:
            steps.note(
                "tls", failed(cause(tuple(error.faults)), "check `tls`: PEM files that belong together")
            )
            return
        except ValueError as error:
            steps.note("tcp", failed(f"no way to {route.upstream}: {error}", ADVICE))
            return
        is_reached = await reach(target, steps)
        if sources is None:
            steps.note("token", skipped("not asked for while the top of the file has faults"))
            return
        try:
            await self._ask(route, target, sources, steps, is_reached=is_reached)
        except AuthproxyError as error:  # of a token store, as a rule
            steps.note("token", failed(error.detail, error.hint or "check `token_store`"))

    async def _ask(
        self, route: RouteConfig, target: Target, sources: TokenSources, steps: Steps, *, is_reached: bool
    ) -> None:
        token = None
        if route.grant.needs_token:
            token = await examine_token(route, sources, self._heard, target.own, steps)
            if token is None:
                steps.note("upstream", skipped("not asked: there is no token"))
                return
            self._clean.add(token.value, token.refresh_token)
        if not is_reached:
            steps.note("upstream", skipped("not asked: it cannot be reached"))
            return
        config = self._alone(route)
        site = build_site(config, sources, target.own, tls_contexts(config), observed=Observed())
        try:
            ready = site.routes.match(route.host or "", route.path)
            upstream = Upstream(
                ready, route, target, lambda used: self._clean.add(used.value, used.refresh_token)
            )
            await steps.take("upstream", upstream.examine(self._question, token))
        finally:
            site.close()

    def _target(self, config: Config, route: RouteConfig, found: FoundRoute) -> Target:
        """Return the route's upstream.

        Raises `ConfigError`, and ValueError for an HTTP proxy that will not do.
        """
        own = self._own(config)
        try:
            tls = tls_contexts(self._alone(route)).upstreams.get(route.name)
        except ConfigError as error:
            line, column = config.places.get(f"{found.key}.tls", (1, 1))
            places = [
                replace(each, line=line, column=column, key=f"{found.key}.tls") for each in error.faults
            ]
            raise ConfigError(places) from error
        proxy = proxy_for(route.upstream, route.http_proxy, own=own)
        setting = "`http_proxy`" if route.http_proxy is not None else "the environment"
        return Target(
            _origin(route, tls), proxy=proxy, proxy_setting=setting, own=own, seconds=route.timeouts.connect
        )

    def _alone(self, route: RouteConfig) -> Config:
        assert self._config is not None  # noqa: S101 - there is a route of it
        return replace(self._config, routes=(route,), tls=None)


def _bounded(route: RouteConfig) -> RouteConfig:
    """Return `route` with timeouts that a person at a terminal can wait for."""
    timeouts = replace(
        route.timeouts,
        connect=min(route.timeouts.connect, MAX_CONNECT),
        response=min(route.timeouts.response, MAX_RESPONSE),
        idle=min(route.timeouts.idle, MAX_RESPONSE),
    )
    return replace(route, timeouts=timeouts)


def _origin(route: RouteConfig, tls: ssl.SSLContext | None) -> Origin:
    url = split_url(route.upstream)
    port = url.port or (443 if tls else 80)
    return Origin(url.hostname or "", port, tls=tls, server_name=route.tls.server_name)
