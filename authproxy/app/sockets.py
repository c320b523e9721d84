"""Sockets that listen, as the system opens them: TCP, or a Unix socket that only its owner can reach.

A name may have several addresses; then there are several sockets, on one port.
"""

import errno
import os
import socket
from pathlib import Path
from typing import Any

from authproxy.capabilities import AF_UNIX, SO_BIND, SO_REUSEPORT
from authproxy.errors import AuthproxyError
from authproxy.values import is_loopback, split_address

BACKLOG = 1024
PORT_TRIES = 50  # for one that is free on every address of a name
NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""What the system says of an address of a family that it does not have."""


Place = tuple[int, tuple[Any, ...]]
"""A family of addresses, and an address as `bind` takes it."""


class ListenError(AuthproxyError):
    """An address cannot be listened on; `key` is the one that asks for it, `errno` the system's reason.

    `is_path` tells that it is a Unix socket's.
    """

    key = "listen"
    errno: int | None = None
    is_path = False


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
        number = error.errno
        if number == errno.EADDRINUSE and place is not None:
            reason += _by_whom(*place)
        elif number == errno.EADDRINUSE and _is_no_socket(Path(address.removeprefix("unix:"))):
            number, reason = errno.EEXIST, "there is something else of that name, which is no socket"
        told = ListenError(f"cannot listen on {address}: {reason}", hint="choose another address")
        told.errno, told.is_path = number, place is None
        raise told from error


def _is_no_socket(path: Path) -> bool:
    return path.exists() and not path.is_socket()


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
