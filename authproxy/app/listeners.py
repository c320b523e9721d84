"""The listeners that a configuration asks for: which are opened, which stay, and how they are shown.

Each may have several sockets, as a name may have several addresses; `sockets.py` opens them. The proxy's are
`Config.listeners`: where all routes are mounted, or a route's own.
"""

import errno
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from authproxy import logs
from authproxy.app.sockets import ListenError, listening_sockets
from authproxy.capabilities import AF_UNIX, SO_REUSEPORT
from authproxy.config.document import NO_FILES
from authproxy.config.model import Config, address_of
from authproxy.net.own_listeners import OwnListeners
from authproxy.values import bracketed, split_address


class PassedSocket(socket.socket):
    """One that was opened, and is owned, by a service manager; `name` is what it calls it.

    Where it is bound stays known in a process that has closed it, as it is another one's to serve.
    """

    name: str
    _place: Any = None
    _both: bool = False

    def remember(self) -> None:
        """Look up where it is bound. Raises OSError."""
        self._place = self.getsockname()
        if self.family == socket.AF_INET6:
            self._both = not self.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)

    def getsockname(self) -> Any:
        """Return where it is bound."""
        return self._place if self._place is not None else super().getsockname()

    @property
    def takes_both(self) -> bool:
        """Whether connections of IPv4 come to one of IPv6 as well."""
        return self._both


@dataclass(slots=True)
class Listeners:
    """Open sockets, each with its listener; a name such as `localhost` may have several.

    Those of the listeners in `passed` belong to a service manager.
    """

    proxy: list[tuple[str, socket.socket]]
    admin: tuple[str, list[socket.socket]] | None = None
    passed: frozenset[str] = frozenset()

    @property
    def addresses(self) -> list[str]:
        """What they were asked for."""
        admin = [self.admin[0]] if self.admin is not None else []
        return [*(address_of(listener) for listener, _ in self.proxy), *admin]

    @property
    def sockets(self) -> list[socket.socket]:
        """All of them."""
        return [*(sock for _, sock in self.proxy), *(self.admin[1] if self.admin is not None else [])]

    def unlink(self, addresses: Iterable[str]) -> None:
        """Take the names of our own Unix sockets away, once nobody listens on them any more."""
        for address in addresses:
            if address.startswith("unix:") and address not in self.passed:
                Path(address.removeprefix("unix:")).unlink(missing_ok=True)


LOOPBACK = "127.0.0.1"
FREE_PORT = f"{LOOPBACK}:0"

Opened = Mapping[str, list[socket.socket]]
"""Sockets that are open already, by the listener that they are for."""
NONE_YET: Opened = MappingProxyType({})


def configured_addresses(config: Config) -> list[str]:
    """Return every address that `config` says to listen on."""
    admin = [config.admin.listen] if config.admin is not None else []
    return [*map(address_of, config.listeners), *admin]


def each_at_a_free_port(config: Config, names: Iterable[str], host: str = LOOPBACK) -> Config:
    """Return `config` with the routes of these `names` alone, each at a free port of its own on `host`.

    Those that are mounted where all are have one more in common. There is no other, no forward proxy either,
    and no key is wanted.
    """
    wanted, address = frozenset(names), f"{host}:0"
    routes = tuple(replace(route, listen=address) for route in config.routes if route.name in wanted)
    listen = (address,) if any(route.is_shared for route in routes) else ()
    chosen = replace(config, routes=routes, configured=config.configured or config.routes)
    return replace(chosen, listen=listen, admin=None, access=None, forward=None, workers=1)


def own_listeners(config: Config, listeners: Listeners) -> OwnListeners:
    """Return what a request must not be sent to; each process needs to know of all listeners."""
    return OwnListeners(configured_addresses(config), listeners.sockets, ports_of(listeners))


def ports_of(listeners: Listeners) -> dict[str, int]:
    """Return the port that each of the proxy's listeners really got, Unix sockets aside."""
    return {listener: sock.getsockname()[1] for listener, sock in listeners.proxy if sock.family != AF_UNIX}


@dataclass(frozen=True, slots=True)
class Before:
    """What is listened on already: for the proxy by those with `names`, in this process by `listeners`.

    `own` are the listeners of all processes.
    """

    names: frozenset[str]
    listeners: Listeners
    own: OwnListeners


def open_listeners(
    config: Config, *, share: bool = False, already: Opened = NONE_YET, before: Before | None = None
) -> Listeners:
    """Open the sockets that `config` asks for, but for those that are `already` open.

    What was listened on `before` is left out. Raises `ListenError`, and then none is left open.
    """
    opened: list[tuple[str, socket.socket]] = []
    try:
        forward = [config.forward_listener] if config.forward_listener is not None else []
        for listener in [*config.listen, *config.own_listeners, *forward]:
            if before is None or listener not in before.names:
                sockets = already.get(listener) or _proxy_sockets(listener, config, before, share=share)
                opened += [(listener, sock) for sock in sockets]
        return Listeners(opened, _admin_sockets(config, already, before), frozenset(already))
    except ListenError as error:
        close_sockets(Listeners(opened))
        error.hint = _way_out(error, config)
        raise


OPTIONS = frozenset({"listen", "admin"})
"""Keys that the command line has too."""
PRIVILEGED = "ports below 1024 need root or CAP_NET_BIND_SERVICE: {elsewhere}"
WAYS_OUT: Mapping[int | None, str] = {
    errno.EADDRINUSE: "stop that one, or {elsewhere}; port 0 picks a free one",
    errno.EACCES: PRIVILEGED,
    errno.EPERM: PRIVILEGED,
    errno.EADDRNOTAVAIL: "this machine has no such address: {elsewhere}",
}
NOT_WRITABLE = "let the user that authproxy runs as write to the directory of the socket, or {elsewhere}"
WAYS_OUT_OF_A_PATH: Mapping[int | None, str] = {
    errno.EADDRINUSE: "stop the process that listens on it, or {elsewhere}",
    errno.EEXIST: "move that away, or {elsewhere}",
    errno.EACCES: NOT_WRITABLE,
    errno.EPERM: NOT_WRITABLE,
    errno.ENOENT: "make the directory of the socket first, or {elsewhere}",
}


def _way_out(error: ListenError, config: Config) -> str:
    """Return what to do about an address that cannot be listened on, and where it is chosen."""
    ways = [f"--{error.key} ADDR"] if error.key in OPTIONS else []
    if config.file not in NO_FILES:
        ways.append(f"`{error.key}` in {config.place(error.key) or config.file}")
    elsewhere = f"choose another address: {', or '.join(ways)}" if ways else "choose another address"
    known = WAYS_OUT_OF_A_PATH if error.is_path else WAYS_OUT
    return known.get(error.errno, "{elsewhere}").format(elsewhere=elsewhere)


def _proxy_sockets(
    listener: str, config: Config, before: Before | None, *, share: bool
) -> list[socket.socket]:
    """Open the sockets of one of the proxy's listeners. Raises `ListenError`, which names its key."""
    try:
        return _sockets(address_of(listener), before, share=share)
    except ListenError as error:
        if (route := config.own_listeners.get(listener)) is not None:
            index = [each.name for each in config.routes].index(route)
            error.key = f"routes[{index}].listen"
        elif listener == config.forward_listener:
            error.key = "forward.listen"
        raise


def _sockets(address: str, before: Before | None, *, share: bool = False) -> list[socket.socket]:
    """Open the sockets of `address`, beside our own ones that are open already; raise `ListenError`.

    127.0.0.1:8080 may become 0.0.0.0:8080: for as long as it takes, both are open.
    """
    place = split_address(address)
    if before is None or place is None or not SO_REUSEPORT or not before.own.listens_at(place[1]):
        return listening_sockets(address, share=share)
    for sock in before.listeners.sockets:
        if sock.family != AF_UNIX and sock.getsockname()[1] == place[1]:
            sock.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
    return listening_sockets(address, share=True, beside=True)


def _admin_sockets(
    config: Config, already: Opened, before: Before | None
) -> tuple[str, list[socket.socket]] | None:
    if config.admin is None:
        return None
    address = config.admin.listen
    now = before.listeners.admin if before is not None else None
    if now is not None and now[0] == address:
        return None
    try:
        return address, already.get(address) or _sockets(address, before)
    except ListenError as error:
        error.key = "admin"
        if not config.admin_is_default:
            raise
        # Nobody asked for this address: a second proxy on the machine must not fail over it.
        logs.warning(
            "no admin listener", cause=error.detail, hint="--admin ADDR chooses another, --no-admin none"
        )
        return None


def shown_address(listener: str, sock: socket.socket, *, secure: bool) -> str:
    """Return the URL of a listener, with the port that it really got."""
    address = address_of(listener)
    if address.startswith("unix:"):
        return address
    host = address.rpartition(":")[0].strip("[]")
    shown = bracketed(host) or "0.0.0.0"  # noqa: S104 - what an empty host means
    return f"http{'s' if secure else ''}://{shown}:{sock.getsockname()[1]}"


def shown_listeners(sockets: list[tuple[str, socket.socket]]) -> dict[str, str]:
    """Return the URL of each listener that is served, as it is without TLS."""
    return {listener: shown_address(listener, sock, secure=False) for listener, sock in reversed(sockets)}


def listening_urls(config: Config, sockets: list[tuple[str, socket.socket]]) -> list[str]:
    """Return the URLs of the listeners where all routes are mounted; a name's sockets are on one port."""
    others = {*config.own_listeners, config.forward_listener}
    return list(dict.fromkeys(_url(config, *each) for each in sockets if each[0] not in others))


def own_urls(config: Config, sockets: list[tuple[str, socket.socket]]) -> dict[str, str]:
    """Return the URL of each listener that is a route's own, by the route's name."""
    own = config.own_listeners
    urls: dict[str, str] = {}
    for listener, sock in sockets:
        if listener in own:
            urls.setdefault(own[listener], _url(config, listener, sock))
    return urls


def forward_url(config: Config, sockets: list[tuple[str, socket.socket]]) -> str | None:
    """Return the URL of the forward proxy, if there is one: plain http, whatever the others speak."""
    at = config.forward_listener
    found = (shown_address(listener, sock, secure=False) for listener, sock in sockets if listener == at)
    return next(found, None) if at is not None else None


def _url(config: Config, listener: str, sock: socket.socket) -> str:
    return shown_address(listener, sock, secure=config.tls is not None)


def url_of(config: Config, listener: str, shown: str) -> str:
    """Return the URL of a listener, which is `shown` as it is without TLS."""
    is_secure = config.tls is not None and listener != config.forward_listener
    return shown.replace("http://", "https://", 1) if is_secure else shown


def can_be_opened(url: str) -> bool:
    """Tell whether a person's browser can open the `url` of a listener; it knows nothing of Unix sockets."""
    return not url.startswith("unix:")


def close_sockets(listeners: Listeners) -> None:
    """Close them all, and take the names of Unix sockets away."""
    for sock in listeners.sockets:
        sock.close()
    listeners.unlink(listeners.addresses)
