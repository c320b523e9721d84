"""What the proxy that runs with this configuration says of its routes: asked of its admin listener alone.

With the standard library's client: `routes` is over before aiohttp's would be loaded.
"""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

from authproxy.capabilities import AF_UNIX
from authproxy.cli.calling import URLs, configured_urls, use_of_forward
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.values import reached_at, split_address

SECONDS = 2.0  # for each step: with workers, all of them are asked, which takes one at most
MAX_ANSWER = 64 << 20  # bytes
OK = 200

Statuses = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Running:
    """What was heard: the status of each route by its name, as `/api/status` has it; else why there is none.

    Nothing listens: `not_running`. What listens does not tell, or cannot be found: `unknown`.
    """

    statuses: Statuses = field(default_factory=dict)
    urls: URLs | None = None
    lack: str | None = None

    def status_of(self, route: RouteConfig) -> Mapping[str, Any]:
        """Return what is known of `route`; a route that leads elsewhere is another one."""
        if self.lack is not None:
            return {"state": self.lack}
        status = self.statuses.get(route.name, {})
        return status if status.get("upstream") == route.upstream else {"state": "not_loaded"}


NOT_RUNNING = Running(lack="not_running")
UNKNOWN = Running(lack="unknown")


def known_urls(config: Config, running: Running) -> URLs:
    """Return where the proxy is called: as the one that runs says, else as `config` does."""
    urls = configured_urls(config)
    if running.urls is None:
        return urls
    return URLs(running.urls.shared or urls.shared, {**urls.own, **running.urls.own}, running.urls.forward)


def ask_running(config: Config) -> Running:
    """Ask the admin listener of `config`, which takes two seconds at most."""
    if config.admin is None or config.admin.listen.endswith(":0"):
        return UNKNOWN
    try:
        return _ask(config, config.admin.listen)
    except (ConnectionRefusedError, FileNotFoundError):
        return NOT_RUNNING
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError):
        return UNKNOWN


def _ask(config: Config, address: str) -> Running:
    headers = {"Accept": "application/json"}
    if config.access is not None:
        headers[config.access.header] = config.access.tokens[0].get_secret_value()
    connection = _connection(address)
    try:
        connection.request("GET", "/api/status", headers=headers)
        answer = connection.getresponse()
        if answer.status != OK:
            return UNKNOWN
        return _read(config, json.loads(answer.read(MAX_ANSWER)))
    finally:
        connection.close()


def _read(config: Config, document: Mapping[str, Any]) -> Running:
    statuses = {str(each["name"]): each for each in document["routes"] if each["state"].isidentifier()}
    found = Running(statuses)
    if all(found.status_of(route)["state"] == "not_loaded" for route in config.routes):
        return found  # another configuration's
    forward = document.get("forward", {})
    at, bundle = forward.get("listener"), forward.get("bundle_file")
    listeners = [each for each in document["listeners"] if each.isprintable() and each != at]
    told = at is not None and f"{at}{bundle}".isprintable()
    return Running(statuses, _urls(statuses, listeners, use_of_forward(config, at, bundle) if told else None))


def _urls(statuses: Statuses, listeners: list[str], forward: str | None) -> URLs:
    """Return which of the URLs of `listeners` is whose; at that of `forward` no route is mounted."""
    by_address = {each.partition("://")[2] or each: each for each in listeners}
    listen = {name: by_address.get(each.get("listen") or "") for name, each in statuses.items()}
    own = {name: url for name, url in listen.items() if url is not None}
    return URLs(tuple(each for each in listeners if each not in own.values()), own, forward)


def _connection(address: str) -> HTTPConnection:
    if (place := split_address(address)) is None:
        return _UnixConnection(address.removeprefix("unix:"))
    return HTTPConnection(reached_at(place[0]), place[1], timeout=SECONDS)


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
