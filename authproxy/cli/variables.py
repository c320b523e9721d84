"""The variables that tell a program where its routes are: `exec` sets them for it, `env` prints them.

AUTHPROXY_URL           where the routes are by their `path` and `host`, as the configuration has them
ORDERS_URL              where the route `orders` is, with nothing to put in front of a path
a route's `env`         what the program itself looks for
NO_PROXY, no_proxy      so that none of it goes through an HTTP proxy
"""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.config.variables import filled
from authproxy.errors import ConfigError
from authproxy.proxy.placeholders import placeholders
from authproxy.values import DEFAULT_PORTS

COMMON = "AUTHPROXY_URL"
NO_PROXY = ("NO_PROXY", "no_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERYTHING = "*"  # for which there must be nothing else in NO_PROXY


def variables(
    config: Config,
    routes: Iterable[RouteConfig],
    urls: Mapping[str, str],
    *,
    common: str,
    environ: Mapping[str, str],
) -> dict[str, str]:
    """Return the variables of `routes`, of `config`, each of which is at one of `urls`, by its name.

    `common` is where all of them are; `environ` is what the program has besides. Raises `ConfigError` where
    two routes want different values of the same variable.
    """
    routes = list(routes)
    found = {COMMON: common} | {url_variable(route.name): urls[route.name] for route in routes}
    stand_ins = placeholders(config.routes)
    found |= _own(routes, {route.name: _fields(urls[route.name], stand_ins[route.name]) for route in routes})
    return found | _no_proxy({**environ, **found})


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


def _no_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """Return NO_PROXY, in both spellings, with the names of loopback; one that is not set is as the other."""
    upper, lower = (environ.get(name) for name in NO_PROXY)
    both = (lower if upper is None else upper, upper if lower is None else lower)
    return dict(zip(NO_PROXY, map(_grown, both), strict=True))


def _grown(value: str | None) -> str:
    names = [name for each in (value or "").split(",") if (name := each.strip())]
    if names == [EVERYTHING]:  # beside other names it means nothing, to curl and to Python
        return value or ""
    return ",".join([*names, *(name for name in LOOPBACK if name not in names)])
