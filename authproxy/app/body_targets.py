"""Where what an upstream says of itself in a body leads: its route, or another with the same credential.

    the caller asked           another route is
    where all are mounted      there as well, perhaps by another name; or at a listener of its own
    a route's own listener     at a listener of its own, or else where all are mounted

Ports are looked up when they are needed: which one port 0 became is not known before.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from string import punctuation
from urllib.parse import quote

from authproxy.app.nested_mounts import NestedMounts, shares_credential
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.net.own_listeners import OwnListeners
from authproxy.proxy.body_rewriting import BodyRewriting, Target
from authproxy.proxy.rewrite import Mounts, as_sent, origin_parts
from authproxy.proxy.url_prefixes import Prefix
from authproxy.values import bracketed, reached_at, split_address, split_url

_PORT = re.compile(r":[0-9]*\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a route is called: by a `host`, None for the one that was asked, and at a `port`, likewise."""

    host: str | None = None
    port: Callable[[], int] | None = None

    def authority(self, asked: str) -> str:
        """Return host and port, for one who has `asked` by these."""
        port = _PORT.search(asked)
        host = asked[: port.start()] if port is not None else asked
        if self.port is None:
            return f"{self.host or host}{port[0] if port is not None else ''}"
        return f"{self.host or host}:{self.port()}"


AS_ASKED = Place()


def body_rewriting(
    config: Config,
    route: RouteConfig,
    *,
    listener: str,
    own: OwnListeners,
    mounts: NestedMounts,
    untouched: Callable[[str], None],
) -> BodyRewriting | None:
    """Return what rewrites the bodies of `route`, as it is mounted or at its own `listener`, if anything.

    `own` knows the ports of all listeners, `mounts` those of all routes.
    """
    if route.rewrite is None or not route.rewrite.bodies:
        return None
    others = sorted(_others(config, route, listener, own, mounts), key=lambda each: -len(each.prefix.path))
    if listener:
        itself = _target(replace(route, path="/"), AS_ASKED)
    else:
        itself = _target(route, AS_ASKED, mounts.below(route, route))
    if itself is None:
        return None
    return BodyRewriting(
        route.rewrite.bodies,
        limit=route.rewrite.max,
        targets=[itself, *others],
        preserve_host=route.preserve_host,
        secure=bool(config.tls),
        untouched=untouched,
    )


def _others(
    config: Config, route: RouteConfig, listener: str, own: OwnListeners, mounts: NestedMounts
) -> Iterator[Target]:
    """Yield the other routes to which an answer of `route` may lead, as far as a URL does."""
    finder = _Finder(config, route, listener, own)
    for other in config.routes:
        found = finder.find(other) if other.name != route.name and shares_credential(route, other) else None
        if found is None:
            continue
        at, place = found
        closed = mounts.below(other, route) if at is other else frozenset()
        if (target := _target(at, place, closed)) is not None:
            yield target


def _target(route: RouteConfig, place: Place, closed: Mounts = frozenset()) -> Target | None:
    """Return `route`, mounted at its `path`, what is `closed` aside; None where its URL is no URL to find."""
    url = split_url(route.upstream)
    origin = origin_parts(url.scheme, url.netloc)
    if origin is None:
        return None
    base, mount = quote(url.path.rstrip("/"), safe=punctuation), as_sent(route.path.rstrip("/"))
    return Target(Prefix.of(*origin, base if route.strip_path else base + mount, closed), place, mount)


@dataclass(frozen=True, slots=True)
class _Finder:
    """Finds another route for who has asked `route`, as it is mounted or at its own `listener`."""

    config: Config
    route: RouteConfig
    listener: str
    own: OwnListeners

    def find(self, other: RouteConfig) -> tuple[RouteConfig, Place] | None:
        """Return `other` with the path at which it is, and where that is."""
        if not self.listener and other.is_shared:
            return other, self._beside(other)
        for listener, name in self.config.own_listeners.items():
            if name == other.name and (place := self._at(listener, other.listen or "")) is not None:
                return replace(other, path="/"), place
        if other.is_shared:
            places = (self._at(each, each) for each in self.config.listen)
            if (place := next(filter(None, places), None)) is not None:
                return other, replace(place, host=other.host or place.host)
        return None

    def _beside(self, other: RouteConfig) -> Place:
        """Return where `other` is, that is mounted where `route` is."""
        if other.host is not None or self.route.host is None:
            return Place(other.host)
        # All that comes by the name which was asked is for `route`, or for others with that name.
        addresses = (split_address(each) for each in self.config.listen)
        host = next((each[0] for each in addresses if each is not None), "localhost")
        return Place(bracketed(reached_at(host)))

    def _at(self, listener: str, address: str) -> Place | None:
        """Return the place of one of our listeners; None for a Unix socket."""
        where = split_address(address)
        if where is None:
            return None
        host, port = where
        anywhere = host != reached_at(host) or not host
        return Place(None if anywhere else bracketed(host), lambda: self.own.ports.get(listener, port))
