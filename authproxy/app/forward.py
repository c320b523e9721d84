"""What the forward listener goes by, made of a configuration: each origin of a route, and all the rest.

routes ─▶ by the origin of their upstream ─▶ a site for each, with those routes alone
access ─▶ the keys that callers send           defaults ─▶ the way to any other host
"""

from collections import defaultdict
from typing import TYPE_CHECKING

from authproxy.app.route_building import RouteBuilder
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Config
from authproxy.errors import StoreError
from authproxy.net.http_proxy import HTTPProxy, proxy_for
from authproxy.net.leaves import sni_of
from authproxy.net.own_listeners import OwnListeners
from authproxy.proxy.forward.guard import (
    KEY_HINT,
    RUNS_KEY_HINT,
    ForwardGuard,
    OriginGuard,
    Place,
    host_key,
)
from authproxy.proxy.forward.handler import Origin, listener_of
from authproxy.proxy.forward.site import ForwardSite, Inside, Timeouts, Unmatched
from authproxy.proxy.route import Route
from authproxy.proxy.router import RouteTable
from authproxy.values import port_of, split_url

if TYPE_CHECKING:
    from authproxy.app.site import Site

TRUST = (
    "have it trust {bundle}; `authproxy exec --forward` sets the variables for that, and `authproxy doctor "
    "--forward -- COMMAND` tells what a program trusts"
)

TRUST_ITS_FILE = (
    "it goes by none of the variables that tell it to trust authproxy's CA: give it the file that "
    "SSL_CERT_FILE names by an option or a setting of its own"
)


def forward_site(
    site: "Site", builder: RouteBuilder, own: OwnListeners, planned: OwnListeners
) -> ForwardSite:
    """Return what the forward listener serves by.

    `own` are our listeners, `planned` those that there will be.
    """
    config = site.config
    origins: defaultdict[Origin, list[Route]] = defaultdict(list)
    for route in config.routes:
        url = split_url(route.upstream)
        origin = url.scheme, Place(host_key(url.hostname or ""), port_of(url))
        origins[origin].append(builder.route(route, listener=listener_of(*origin), intercepted=True))
    inside = {
        (scheme, place): Inside(
            OriginGuard(scheme, place, origins=config.allowed_origins),
            RouteTable(routes, at=str(place)),
            site.header_bytes,
            site.body_bytes,
        )
        for (scheme, place), routes in origins.items()
    }
    return ForwardSite(
        guard=_guard(config),
        own=own,
        secure={place: each for (scheme, place), each in inside.items() if scheme == "https"},
        plain={place: each for (scheme, place), each in inside.items() if scheme == "http"},
        unmatched=_unmatched(config, builder, own, planned),
        leaves=site.tls.forward.leaves if site.tls.forward is not None else None,
        sni_of=sni_of,
        handshake_seconds=config.limits.header_timeout,
        trust_hint=lambda: TRUST_ITS_FILE if config.for_one_program else trust_hint(site.tls),
    )


def _guard(config: Config) -> ForwardGuard:
    """Return who may use it."""
    hint = KEY_HINT if config.forward_key is None else RUNS_KEY_HINT
    return ForwardGuard(access_keys=_keys(config), key_hint=hint)


def _keys(config: Config) -> list[str]:
    if config.forward_key is not None:
        return [config.forward_key.get_secret_value()]
    return [key.get_secret_value() for key in config.access.tokens] if config.access else []


def _unmatched(
    config: Config, builder: RouteBuilder, own: OwnListeners, planned: OwnListeners
) -> Unmatched | None:
    """Return the way to hosts that are no routes'; None where there is none."""
    forward, defaults = config.forward, config.forward_defaults
    if forward is None or not forward.tunnels or not (forward.is_local or config.access):
        return None

    def proxy_of(url: str) -> HTTPProxy | None:
        return proxy_for(url, defaults.http_proxy, own=planned)

    timeouts = defaults.timeouts
    return Unmatched(
        own,
        proxy_of=proxy_of,
        timeouts=Timeouts(timeouts.connect, timeouts.response, timeouts.idle),
        reaches_local=forward.is_local,
        remove=(config.access.header,) if config.access else (),
        placeholders=builder.no_placeholders(),
    )


def trust_hint(tls: TLSContexts) -> str:
    """Return what to do about a client that does not trust our certificates."""
    return TRUST.format(bundle=bundle_of(tls) or "our certificate (/forward-ca.pem of the admin listener)")


def bundle_of(tls: TLSContexts) -> str | None:
    """Return the file with what clients are to trust, if it is there."""
    try:
        return str(tls.forward.bundle_file) if tls.forward is not None else None
    except StoreError:
        return None
