"""The variables that tell a program where its routes are: `exec` sets them for it, `env` prints them.

AUTHPROXY_URL           where the routes are by their `path` and `host`, as the configuration has them
ORDERS_URL              where the route `orders` is, with nothing to put in front of a path
a route's `env`         what the program itself looks for
NO_PROXY, no_proxy      so that none of it goes through an HTTP proxy, but for what is to come to ours
HTTPS_PROXY and others  where ours is, for `exec --forward`
"""

import re
import socket
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from authproxy.config.env_templates import filled
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import ConfigError
from authproxy.net.http_proxy import may_except
from authproxy.proxy.placeholders import placeholders
from authproxy.values import DEFAULT_PORTS

COMMON = "AUTHPROXY_URL"
NO_PROXY = ("NO_PROXY", "no_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
OTHER_LOOPBACK = "127.0.0.2"  # there on Linux and Windows, for where those that everybody uses are taken
EVERYTHING = "*"  # for which there must be nothing else in NO_PROXY
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")  # curl reads no HTTP_PROXY, others do
ENV_PROXY = {"NODE_USE_ENV_PROXY": "1"}  # without it Node looks at none of them

_SEPARATORS = re.compile(r"[\s,]+")


def variables(
    config: Config,
    routes: Iterable[RouteConfig],
    urls: Mapping[str, str],
    *,
    common: str,
    environ: Mapping[str, str],
    forward: str | None = None,
) -> dict[str, str]:
    """Return the variables of `routes`, of `config`, each of which is at one of `urls`, by its name.

    `common` is where all of them are; `environ` is what the program has besides. `forward` is the URL of a
    forward proxy that is to have what goes to the routes' upstreams. Raises `ConfigError` where two routes
    want different values of the same variable.
    """
    routes = list(routes)
    found = {COMMON: common} | {url_variable(route.name): urls[route.name] for route in routes}
    stand_ins = placeholders(config.routes)
    found |= _own(routes, {route.name: _fields(urls[route.name], stand_ins[route.name]) for route in routes})
    proxied: frozenset[str] = frozenset()
    if forward is not None:
        found |= dict.fromkeys(PROXIES, forward) | ENV_PROXY
        proxied = upstream_hosts(routes)
    here = urlsplit(common).hostname or ""
    return found | _no_proxy({**environ, **found}, proxied, dict.fromkeys((*LOOPBACK, here)))


def upstream_hosts(routes: Iterable[RouteConfig]) -> frozenset[str]:
    """Return the hosts of the routes' upstreams."""
    return frozenset(urlsplit(route.upstream).hostname or "" for route in routes)


def direct_loopback(proxied: Collection[str]) -> str:
    """Return a name of this machine that NO_PROXY can have although it has none of the hosts `proxied`."""
    names = ("127.0.0.1", "localhost", *([OTHER_LOOPBACK] if _is_there(OTHER_LOOPBACK) else []))
    return next((name for name in names if not _is_proxied(name, proxied)), names[0])


def _is_there(address: str) -> bool:
    """Tell whether one can listen at `address`."""
    with socket.socket() as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
        return True


def url_variable(route: str) -> str:
    """Return the name of the variable with the URL of a route."""
    return f"{route.upper().replace('-', '_')}_URL"


def _fields(url: str, placeholder: str) -> dict[str, str]:
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    return {"url": url, "host": parts.hostname or "", "port": str(port), "placeholder": placeholder}


def _own(routes: Iterable[RouteConfig], fields: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return what is in each route's `env`."""
    found: dict[str, str] = {}
    setters: dict[str, RouteConfig] = {}
    faults = []
    for route in routes:
        for name, text in route.env.items():
            value = filled(text, fields[route.name])
            first = setters.setdefault(name, route)
            if found.setdefault(name, value) != value:
                faults.append(
                    route.variables[name].fault(
                        f"{name} gets another value from the route {first.name}: name those routes that you "
                        "need, one of the two at most"
                    )
                )
    if faults:
        raise ConfigError(faults)
    return found


def _no_proxy(environ: Mapping[str, str], proxied: Collection[str], direct: Iterable[str]) -> dict[str, str]:
    """Return NO_PROXY, in both spellings, with names that are `direct`; one that is not set is as the other.

    No entry of it is for any of the hosts `proxied`.
    """
    upper, lower = (environ.get(name) for name in NO_PROXY)
    both = (lower if upper is None else upper, upper if lower is None else lower)
    return dict(zip(NO_PROXY, (_grown(value or "", proxied, direct) for value in both), strict=True))


def _grown(value: str, proxied: Collection[str], direct: Iterable[str]) -> str:
    names = [name for name in _SEPARATORS.split(value) if name and not _is_proxied(name, proxied)]
    if names == [EVERYTHING]:  # beside other names it means nothing, to curl and to Python
        return value
    more = (name for name in direct if name not in names and not _is_proxied(name, proxied))
    return ",".join([*names, *more])


def _is_proxied(entry: str, proxied: Collection[str]) -> bool:
    return any(may_except(entry, host) for host in proxied)
