"""What `run` tells a person at a terminal once it listens: where everything is, and one line to try.

configuration  authproxy.yaml

  up42    http://127.0.0.1:8080/up42    → https://api.sa.up42.com
  code42  http://127.0.0.1:8080/code42  → https://console.example.com

forward  HTTPS_PROXY=http://127.0.0.1:8888, CA bundle /run/user/1000/authproxy-forward-x3f9k2ab/bundle.pem
page  http://127.0.0.1:8081/
try   curl http://127.0.0.1:8080/up42/
"""

import re
import shlex
from collections.abc import Iterable, Sequence

import click

from authproxy.cli.calling import KEY, Call, URLs, call_of, reachable
from authproxy.cli.terminal import tell
from authproxy.config.document import COMMAND_LINE
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import Forbidden
from authproxy.proxy.allow import Allow

MAX_ROUTES = 20  # that are listed; `authproxy routes` has the rest
USUAL_METHODS = ("GET", "HEAD")  # what asks and changes nothing


def welcome(config: Config, urls: URLs, admin_url: str | None) -> None:
    """Print it to stderr; `urls` are those of the proxy's listeners."""
    for line in _lines(config, urls, admin_url):
        tell(line)


def _lines(config: Config, urls: URLs, admin_url: str | None) -> Iterable[str]:
    read = "from the command line" if config.file == COMMAND_LINE else config.file
    yield f"\n{_bold('configuration')}  {read}\n"
    calls = [(route, call_of(config, route, urls)) for route in config.routes[:MAX_ROUTES]]
    page = page_url(config, admin_url)
    yield from _route_lines(config, calls, page)
    if more := len(config.routes) - len(calls):
        yield f"  … and {more} more: authproxy routes{_option(config)}"
    yield ""
    if urls.forward is not None:
        yield f"{_bold('forward')}  {urls.forward}"
    if page is not None:
        yield f"{_bold('page')}  {page}"
    route, method, path = example(config.routes)
    yield f"{_bold('try')}   {call_of(config, route, urls).curl(path, method)}"
    if config.access is not None:
        yield f"      where ${KEY} is one of access.tokens"


def _route_lines(
    config: Config, calls: Sequence[tuple[RouteConfig, Call]], page: str | None
) -> Iterable[str]:
    names = max(len(route.name) for route, _ in calls)
    places = max(len(call.shown) for _, call in calls)
    for route, call in calls:
        name = click.style(f"{route.name:{names}}", bold=True)
        yield f"  {name}  {call.shown:{places}}  → {route.upstream}"
        if route.grant.needs_person:
            how = f"{page}login/{route.name}" if page else f"authproxy login {route.name}{_option(config)}"
            yield f"  {'':{names}}  needs a login, once: {how}"


def page_url(config: Config, admin_url: str | None) -> str | None:
    """Return the URL of the page, if a browser can open it."""
    if admin_url is None or admin_url.startswith("unix:"):
        return None
    if config.access is None and all(each.startswith("unix:") for each in config.listeners):
        return None  # beside sockets that only their owner reaches, a port shows nothing
    return f"{reachable(admin_url)}/"


def example(routes: Sequence[RouteConfig]) -> tuple[RouteConfig, str, str]:
    """Return a route, a method and a path below it that may well be answered: no login, and allowed."""
    easy = [route for route in routes if not route.grant.needs_person]
    for route in [*easy, *routes]:
        if (found := _allowed(route)) is not None:
            return route, *found
    return routes[0], "GET", "/"


def _allowed(route: RouteConfig) -> tuple[str, str] | None:
    if route.allow is None:
        return "GET", "/"
    allow = Allow(methods=route.allow.methods, paths=route.allow.paths)
    for method in USUAL_METHODS:
        for path in ("/", *(_literal(pattern) for pattern in route.allow.paths or ())):
            try:
                allow.check(method, path)
            except Forbidden:
                continue
            return method, path
    return None


def _literal(pattern: str) -> str:
    """Return a path that fits `pattern`, if nothing before it refuses that one."""
    return re.sub(r"\*+", "", pattern.removeprefix("!"))


def _option(config: Config) -> str:
    return "" if config.file in {COMMAND_LINE, "authproxy.yaml"} else f" -c {shlex.quote(config.file)}"


def _bold(text: str) -> str:
    return click.style(text, bold=True)
