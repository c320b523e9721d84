"""The sockets that are listened on: TCP, or a Unix socket that only its owner can reach.

Each listener of the configuration may have several, as a name may have several addresses.
"""

import errno
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from authproxy import logs
from authproxy.capabilities import AF_UNIX, SO_BIND, SO_REUSEPORT
from authproxy.config.model import Config
from authproxy.errors import AuthproxyError
from authproxy.net.own_listeners import OwnListeners
from authproxy.values import is_loopback, split_address


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
    """Open sockets, each with the address it was asked for; a name such as `localhost` may have several.

    Those of the addresses in `passed` belong to a service manager.
    """

    proxy: list[tuple[str, socket.socket]]
    admin: tuple[str, list[socket.socket]] | None = None
    passed: frozenset[str] = frozenset()

    @property
    def addresses(self) -> list[str]:
        """What they were asked for."""
        return [*(address for address, _ in self.proxy), *([self.admin[0]] if self.admin is not None else [])]

    @property
    def sockets(self) -> list[socket.socket]:
        """All of them."""
        return [*(sock for _, sock in self.proxy), *(self.admin[1] if self.admin is not None else [])]

    def unlink(self, addresses: Iterable[str]) -> None:
        """Take the names of our own Unix sockets away, once nobody listens on them any more."""
        for address in addresses:
            if address.startswith("unix:") and address not in self.passed:
                Path(address.removeprefix("unix:")).unlink(missing_ok=True)


Opened = Mapping[str, list[socket.socket]]
"""Sockets that are open already, by the address that they are for."""
NONE_YET: Opened = MappingProxyType({})


def configured_addresses(config: Config) -> list[str]:
    """Return every address that `config` says to listen on."""
    return [*config.listen, *([config.admin.listen] if config.admin is not None else [])]


def own_listeners(config: Config, listeners: Listeners) -> OwnListeners:
    """Return what a request must not be sent to; each process needs to know of all listeners."""
    return OwnListeners(configured_addresses(config), listeners.sockets)


@dataclass(frozen=True, slots=True)
class Before:
    """What is listened on already: on `addresses` for the proxy, in this process by `listeners`.

    `own` are the listeners of all processes.
    """

    addresses: frozenset[str]
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
        for address in config.listen:
            if before is None or address not in before.addresses:
                sockets = already.get(address) or _sockets(address, before, share=share)
                opened += [(address, sock) for sock in sockets]
        return Listeners(opened, _admin_sockets(config, already, before), frozenset(already))
    except ListenError as error:
        close_sockets(Listeners(opened))
        error.hint = _way_out(error, config)
        raise


def _way_out(error: "ListenError", config: Config) -> str:
    """Return what to do about an address that cannot be listened on, and where it is chosen."""
    place = config.place(error.key) or config.file
    elsewhere = f"choose another address: --{error.key} ADDR, or `{error.key}` in {place}"
    return WAYS_OUT.get(error.errno, "{elsewhere}").format(elsewhere=elsewhere)


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


BACKLOG = 1024
PORT_TRIES = 50  # for one that is free on every address of a name
NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""What the system says of an address of a family that it does not have."""


Place = tuple[int, tuple[Any, ...]]
"""A family of addresses, and an address as `bind` takes it."""


class ListenError(AuthproxyError):
    """An address cannot be listened on; `key` is the one that asks for it, `errno` the system's reason."""

    key = "listen"
    errno: int | None = None


WAYS_OUT: Mapping[int | None, str] = {
    errno.EADDRINUSE: "stop that one, or {elsewhere}; port 0 picks a free one",
    errno.EACCES: "ports below 1024 are the administrator's: {elsewhere}",
    errno.EPERM: "ports below 1024 are the administrator's: {elsewhere}",
    errno.EADDRNOTAVAIL: "this machine has no such address: {elsewhere}",
    errno.ENOENT: "make the directory of the socket first, or {elsewhere}",
}


def listening_sockets(address: str, *, share: bool = False, beside: bool = False) -> list[socket.socket]:
    """Return the sockets that listen on a checked address; with `share` others may listen there too.

    With `beside`, they are others of ours: nobody else is looked for. Such a socket is bound, but does not
    listen yet: it would take connections from those that are served already.

    There is one for each address that a name has, all on one port: `localhost` is 127.0.0.1 and ::1, and
    nobody knows which of them a client tries (RFC 8252 §7.3). Raises `ListenError`.
    """
    place = split_address(address)
    try:
        if place is None:
            return [_unix_socket(address.removeprefix("unix:"))]
        return _tcp_sockets(*place, share=share, beside=beside)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "the name does not resolve"
        if error.errno == errno.EADDRINUSE and place is not None:
            reason += _by_whom(*place)
        told = ListenError(f"cannot listen on {address}: {reason}", hint="choose another address")
        told.errno = error.errno
        raise told from error


def _by_whom(host: str, port: int) -> str:
    from authproxy.app.port_owner import owner_of

    owner = owner_of(places_of(host, port))
    return f" by {owner}" if owner is not None else ""


def another_socket(sock: socket.socket) -> socket.socket:
    """Return a socket that shares the address of `sock`, which was opened to be shared.

    Raises `ListenError`.
    """
    place = sock.getsockname()
    try:
        return _tcp_socket(sock.family, place, share=True, alone=_is_alone(sock), listens=listens(sock))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ListenError(f"cannot listen on {place[0]} port {place[1]} once more: {reason}") from error


def listens(sock: socket.socket) -> bool:
    """Tell whether a socket takes connections, or is only bound."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _is_alone(sock: socket.socket) -> bool:
    return sock.family == socket.AF_INET6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def _tcp_sockets(host: str, port: int, *, share: bool, beside: bool = False) -> list[socket.socket]:
    places = places_of(host, port)
    tries = PORT_TRIES if port == 0 and len(places) > 1 else 1
    while True:
        tries -= 1
        try:
            if share and port and not beside:
                # Shared, it would be shared with another proxy of this user as well, who takes every other
                # connection. Without SO_REUSEPORT the system tells whether somebody listens there.
                for sock in _on_one_port(places, share=False):
                    sock.close()
            return _on_one_port(places, share=share, listens=not beside)
        except OSError as error:
            # The port that the first address got may be taken on another one.
            if tries == 0 or error.errno != errno.EADDRINUSE:
                raise


def places_of(host: str, port: int) -> list[Place]:
    """Return every address that `host` has, IPv4 first."""
    if is_loopback(host) and host.rstrip(".").lower().endswith("localhost"):
        # What the name means, whatever a resolver says (RFC 6761 §6.3).
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places: dict[Place, None] = {(int(family), place): None for family, _, _, _, place in found}
    return sorted(places, key=lambda each: each[0] != socket.AF_INET)


def _on_one_port(places: list[Place], *, share: bool, listens: bool = True) -> list[socket.socket]:
    """Listen on every one of `places`; a family that this machine lacks is left out of several."""
    sockets: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        for family, (host, port, *rest) in places:
            same = sockets[0].getsockname()[1] if sockets else port
            try:
                place = (host, same, *rest)
                alone = len(places) > 1
                sockets.append(_tcp_socket(family, place, share=share, alone=alone, listens=listens))
            except OSError as error:
                if error.errno not in NO_SUCH_FAMILY:
                    raise
                lacking = error
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets and lacking is not None:
        raise lacking
    return sockets


def _tcp_socket(
    family: int, place: tuple[Any, ...], *, share: bool, alone: bool, listens: bool = True
) -> socket.socket:
    """Listen on `place`; one of IPv6 takes no IPv4 with it when it is `alone` in its family."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if SO_BIND is not None:
            sock.setsockopt(socket.SOL_SOCKET, SO_BIND, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and alone:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        if listens:
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix_socket(path: str) -> socket.socket:
    """Bind a Unix socket that only its owner can reach; one that nobody listens on is replaced."""
    if Path(path).is_socket():
        with socket.socket(AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) != 0:
                Path(path).unlink()
    sock = socket.socket(AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def shown_address(address: str, sock: socket.socket, *, secure: bool) -> str:
    """Return the URL of a listener, with the port that it really got."""
    if address.startswith("unix:"):
        return address
    host = address.rpartition(":")[0].strip("[]")
    shown = f"[{host}]" if ":" in host else host or "0.0.0.0"  # noqa: S104 - what an empty host means
    return f"http{'s' if secure else ''}://{shown}:{sock.getsockname()[1]}"


def shown_listeners(sockets: list[tuple[str, socket.socket]]) -> dict[str, str]:
    """Return the URL of each address that is listened on, as it is without TLS."""
    return {address: shown_address(address, sock, secure=False) for address, sock in reversed(sockets)}


def listening_urls(config: Config, sockets: list[tuple[str, socket.socket]]) -> list[str]:
    """Return the URLs of the proxy's listeners; a name's sockets are on one port, so they have one."""
    secure = config.tls is not None
    return list(dict.fromkeys(shown_address(address, sock, secure=secure) for address, sock in sockets))


def can_be_opened(url: str) -> bool:
    """Tell whether a person's browser can open the `url` of a listener; it knows nothing of Unix sockets."""
    return not url.startswith("unix:")


def close_sockets(listeners: Listeners) -> None:
    """Close them all, and take the names of Unix sockets away."""
    for sock in listeners.sockets:
        sock.close()
    listeners.unlink(listeners.addresses)
