"""From a configuration to a `Site`: everything that serving goes by, made before a request comes.

    Config ─┬─ guard: who may ask
            ├─ each route: pool, header rules, credential ─▶ Route ─┬─▶ RouteTable
            │                                                       └─▶ a table of its own, at its listener
            └─ limits

A site is frozen. What serves has one, and takes another in its place by one assignment; a request goes on
with what it took from the one it began with. A site that follows another one takes over what has not changed:
connections to upstreams, and what is known of a credential. Nothing is contacted here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from authproxy.app.credentials import TokenSources
from authproxy.app.listeners import configured_addresses
from authproxy.app.route_building import PoolKey, RouteBuilder
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Config, address_of
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.observed import Observed
from authproxy.proxy.guard import BY_EXEC, AdminGuard, Guard
from authproxy.proxy.renewal import Credential
from authproxy.proxy.route import Route
from authproxy.proxy.router import RouteTable
from authproxy.proxy.upstream.pool import Pool
from authproxy.values import split_address

if TYPE_CHECKING:
    from authproxy.proxy.forward.site import ForwardSite

NO_TLS = TLSContexts(None, {})


@dataclass(frozen=True, slots=True)
class Site:
    """What a configuration came to. `header_bytes` and `body_bytes` bound a request.

    `guard` is the proxy's, `admin_guard` the admin listener's; `pools` are the routes' connections;
    `credentials` are what each route's tokens are asked with, by the route's name. `own` has what each
    listener serves by that is a route's own: the same, with that route alone; `forward` what that of forward
    mode does.
    """

    config: Config
    guard: Guard
    admin_guard: Guard
    routes: RouteTable[Route]
    pools: Mapping[PoolKey, Pool]
    header_bytes: int
    body_bytes: int | None
    tls: TLSContexts = NO_TLS
    credentials: Mapping[str, Credential] = field(default_factory=dict, repr=False)
    own: "Mapping[str, Site]" = field(default_factory=dict, repr=False)
    forward: "ForwardSite | None" = field(default=None, repr=False)

    def alone(self, *routes: Route) -> "Site":
        """Return what a listener serves by at which these are all."""
        return replace(self, routes=RouteTable(routes), own={}, forward=None)

    def close(self, *, successor: "Site | None" = None) -> None:
        """Close every connection to an upstream that is idle, and the others as they come back.

        What a `successor` has taken over stays open.
        """
        for key, pool in self.pools.items():
            if successor is None or successor.pools.get(key) is not pool:
                pool.close()
        forward = self.forward
        if forward is not None and forward.unmatched is not None:
            forward.unmatched.close()


def build_site(
    config: Config,
    sources: TokenSources,
    own: OwnListeners,
    tls: TLSContexts = NO_TLS,
    *,
    observed: Observed,
    before: Site | None = None,
    planned: OwnListeners | None = None,
) -> Site:
    """Make the site of `config`, whose tokens come from `sources`. Raises `AuthproxyError`.

    No connection will ever lead to one of `own`; `planned` are those that there will be, if they are others.
    What has not changed is taken over from the site `before`. What is observed of its requests goes to
    `observed`.
    """
    builder = RouteBuilder(
        config, sources, own, tls, observed=observed, before=before, planned=planned or own
    )
    routes = RouteTable([builder.route(each) for each in config.routes if each.is_shared])
    named = {each.name: each for each in config.routes}
    site = Site(
        config=config,
        guard=_guard(config, own, config.allowed_origins),
        admin_guard=_guard(config, own, kind=AdminGuard),
        routes=routes,
        pools=builder.pools,
        header_bytes=config.limits.header_bytes,
        body_bytes=config.limits.body_bytes,
        tls=tls,
        credentials=builder.credentials,
    )
    at_own = {
        listener: site.alone(builder.route(named[name], listener=listener))
        for listener, name in config.own_listeners.items()
    }
    if config.forward is None:
        return replace(site, own=at_own)
    from authproxy.app.forward import forward_site

    return replace(site, own=at_own, forward=forward_site(site, builder, own, planned or own))


def _forward_proxy(config: Config, own: OwnListeners) -> str:
    """Return what to use as a forward proxy; `own` are our listeners."""
    listener = config.forward_listener
    if listener is None:
        return BY_EXEC
    if config.forward_key is not None:  # a run's own, which has told its program where it is
        return "the one in HTTPS_PROXY"
    return f"{own.url_of(listener, address_of(listener))} (`forward.listen`), or {BY_EXEC}"


def _guard(
    config: Config, own: OwnListeners, origins: Iterable[str] = (), kind: type[Guard] = Guard
) -> Guard:
    """Return who may ask; pages of `origins` may. `own` are our listeners."""
    places = map(split_address, configured_addresses(config))
    hosts = [place[0] for place in places if place is not None]
    hosts += [route.host for route in config.routes if route.host]
    access = config.access
    return kind(
        hosts=[*filter(None, hosts), *config.allowed_hosts],
        origins=origins,
        access_header=access.header if access else "",
        access_keys=[key.get_secret_value() for key in access.tokens] if access else (),
        forward_proxy=lambda: _forward_proxy(config, own),
    )
