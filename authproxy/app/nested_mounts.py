"""Mounts below another one that are somebody else's: what an upstream says of itself must not lead there.

A route at `/` and another at `/bank` share the proxy's origin. What the first one's upstream calls its own
`/bank/x` would be the second's here, with a credential that the first one has not. Where both have the same
upstream it is meant.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter

from authproxy.config.route import RouteConfig
from authproxy.proxy.rewrite import Mounts
from authproxy.values import port_of, split_url

_PATH = itemgetter(0)


class NestedMounts:
    """The mounts of `routes`, of which there may be thousands, by their hosts and paths."""

    def __init__(self, routes: Iterable[RouteConfig]) -> None:
        self._mounted: defaultdict[str | None, list[tuple[str, RouteConfig]]] = defaultdict(list)
        for route in routes:
            if route.is_shared:
                self._mounted[route.host].append((_directory(route.path), route))
        for mounted in self._mounted.values():
            mounted.sort(key=_PATH)

    def below(self, mount: RouteConfig, upstream: RouteConfig) -> Mounts:
        """Return the steps from `mount` to each below it, where an answer for `upstream` must not lead."""
        mounted, beginning = self._mounted.get(mount.host, []), _directory(mount.path)
        found = set()
        for path, other in mounted[bisect_right(mounted, beginning, key=_PATH) :]:
            if not path.startswith(beginning):
                break
            if not shares_credential(upstream, other) and _origin(upstream) != _origin(other):
                found.add(tuple(path[len(beginning) :].strip("/").split("/")))
        return frozenset(found)


def shares_credential(route: RouteConfig, other: RouteConfig) -> bool:
    """Tell whether `other` adds no more than `route`: headers and certificates may be credentials too."""
    certificate = other.tls.cert_file, other.tls.key_file
    return (
        route.key == other.key
        and _set(other).items() <= _set(route).items()
        and certificate in {(None, None), (route.tls.cert_file, route.tls.key_file)}
    )


def _set(route: RouteConfig) -> dict[str, str]:
    """Return the headers that are set, by their names in lower case."""
    return {name.lower(): value.get_secret_value() for name, value in route.headers.set.items()}


def _directory(path: str) -> str:
    return path.rstrip("/") + "/"


def _origin(route: RouteConfig) -> tuple[str, str, int]:
    url = split_url(route.upstream)
    return url.scheme, url.hostname or "", port_of(url)
