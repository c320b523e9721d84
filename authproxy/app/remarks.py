"""What an operator should know of a configuration that is no fault: said at the start, and after a reload."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from authproxy.app.file_limits import affordable_connections
from authproxy.config.checks import OPENED_BY_A_BROWSER
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.logs import LEVELS
from authproxy.net.http_proxy import proxy_for
from authproxy.net.own_listeners import OwnListeners

LIMITED_BY_FILES = "`ulimit -n` sets how many file descriptors there are"


@dataclass(frozen=True, slots=True)
class Remark:
    """A line of the log: its level, its event, and the facts behind it."""

    level: int
    event: str
    facts: dict[str, object] = field(default_factory=dict)


def remarks(config: Config, own: OwnListeners) -> Iterator[Remark]:
    """Yield what is to be said of `config`; `own` are our listeners."""
    wanted, possible = config.limits.connections, affordable_connections(config)
    if possible < wanted:
        yield Remark(
            LEVELS["warning"],
            "fewer connections than limits.connections: there are too few file descriptors",
            {"wanted": wanted, "possible": possible, "hint": LIMITED_BY_FILES},
        )
    for fault in config.warnings:
        place = f"{fault.file}:{fault.line}:{fault.column}"
        yield Remark(LEVELS["warning"], f"{fault.key} {fault.message}", {"place": place})
    for route in config.routes:
        yield from _of_route(route, own)


def _of_route(route: RouteConfig, own: OwnListeners) -> Iterator[Remark]:
    name: dict[str, object] = {"route": route.name}
    for warning in route.warnings:
        yield Remark(LEVELS["warning"], warning, name)
    if route.grant.needs_token and (queries := [place.said for place in route.grant.places if place.query]):
        into = " and ".join(queries)
        event = f"the credential goes into {into}, which servers and proxies log; is there a header for it?"
        yield Remark(LEVELS["warning"], event, name)
    if (proxy := proxy_for(route.upstream, route.http_proxy, own=own)) is not None:
        yield Remark(LEVELS["info"], "goes through an HTTP proxy", {**name, "proxy": proxy})
    elif proxy_for(route.upstream, route.http_proxy) is not None:
        event = "the environment's HTTP proxy is authproxy itself: ignored"
        yield Remark(LEVELS["info"], event, name)
    if route.upstream.startswith("https:") and not route.tls.verify:
        event = "the upstream's certificate is not verified: anyone on the way can read the credential"
        yield Remark(LEVELS["warning"], event, name)
    if _asks_unverified(route):
        event = "the token endpoint's certificate is not verified: anyone on the way can read the credential"
        yield Remark(LEVELS["warning"], event, name)


def _asks_unverified(route: RouteConfig) -> bool:
    """Whether a token endpoint is asked, by TLS, whose certificate nobody verifies."""
    asked = (url for key, url in route.grant.urls() if key != OPENED_BY_A_BROWSER)
    return any(url.startswith("https:") and not route.transport.tls_to(url).verify for url in asked)
