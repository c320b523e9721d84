"""Socket activation: the sockets that a service manager has opened for us (sd_listen_fds(3)).

    LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES ── passed_sockets ──┬── adopt ──▶ Config, and what of it
                                                      Config ──┘             is open already

They stay open in the service manager while we restart: who connects meanwhile waits, and is served. So they
are never bound, and the name of a Unix one is never taken away.

    named `admin`                    the admin listener
    named `forward`                  that of the forward proxy, unless a route is called so
    named as a route is              that route's own listener, unless it is at an address of `listen`
    at an address that we listen on  that listener
    any other                        instead of the addresses of `listen` for which none was passed
"""

import os
import socket
from collections.abc import Iterable, MutableMapping
from dataclasses import replace

from authproxy import logs
from authproxy.app.listeners import Opened, PassedSocket
from authproxy.app.sockets import ListenError, places_of
from authproxy.capabilities import AF_UNIX
from authproxy.config.model import Config, address_of
from authproxy.errors import ConfigError, Fault
from authproxy.values import bracketed, is_loopback, split_address

FIRST = 3  # the descriptor of the first socket
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
ADMIN, FORWARD = "admin", "forward"
ADMIN_LISTENER = "the admin listener"  # among those of `Config.listeners`, be it spelled as one of them is
UNSPECIFIED = frozenset({"0.0.0.0", "::"})  # noqa: S104 - nothing is bound there
UNIT_HINT = "in a .socket unit: ListenStream=HOST:PORT or ListenStream=/PATH, and Accept=no"


def passed_sockets(environ: MutableMapping[str, str] = os.environ) -> list[PassedSocket]:
    """Return the sockets that were passed to this process, and take the variables away.

    Raises `ListenError`.
    """
    pid, count, names = (environ.pop(name, "") for name in VARIABLES)
    if pid != str(os.getpid()):  # they were meant for another process
        return []
    if not (count.isascii() and count.isdecimal()):
        raise ListenError("LISTEN_FDS should be a number: how many sockets are passed")
    called = [*names.split(":"), *[""] * int(count)]
    return [_passed(FIRST + index, called[index]) for index in range(int(count))]


def _passed(descriptor: int, name: str) -> PassedSocket:
    what = f"descriptor {descriptor}{f' ({name})' if name else ''}, which LISTEN_FDS announces,"
    try:
        sock = PassedSocket(fileno=descriptor)
        fits = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        sock.set_inheritable(False)
        sock.remember()
    except OSError as error:
        raise ListenError(f"{what} is no socket: {error.strerror}", hint=UNIT_HINT) from error
    if not fits or sock.family not in {socket.AF_INET, socket.AF_INET6, AF_UNIX}:
        raise ListenError(f"{what} does not listen for TCP or Unix streams", hint=UNIT_HINT)
    if sock.family == AF_UNIX and not str(sock.getsockname()).startswith("/"):
        raise ListenError(f"{what} has no path: abstract Unix sockets have no owner", hint=UNIT_HINT)
    sock.name = name
    return sock


def adopt(config: Config, passed: Iterable[PassedSocket]) -> tuple[Config, Opened]:
    """Return `config` as it is with the sockets that were `passed`, and which of its listeners they are.

    Raises `ConfigError` for one that other machines reach, unless the configuration lets them.
    """
    admin = config.admin
    addresses = _addresses(config)
    known_as: dict[str, str] = {}  # by the listener of the configuration, or a route that has none
    opened: dict[str, list[socket.socket]] = {}
    others: dict[str, None] = {}
    own = {route: listener for listener, route in config.own_listeners.items()}
    routes = {route.name for route in config.routes}
    for sock in passed:
        meant = next((each for each, at in addresses.items() if _covers(sock, at)), None)
        if sock.name == ADMIN:
            if admin is None:
                logs.warning("a socket was passed for the admin listener, which is off: nobody serves it")
                continue
            meant = ADMIN_LISTENER
        elif sock.name == FORWARD and sock.name not in routes and config.forward is not None:
            meant = config.forward_listener
        elif sock.name in own or (meant is None and sock.name in routes):
            meant = own.get(sock.name, sock.name)  # so a route that has no address of its own gets one
        known = addresses.get(meant) if meant is not None else None
        address = known if known is not None and _is_at(sock, known) else place_of(sock)
        if meant is None:
            others[address] = None
        else:
            address = known_as.setdefault(meant, address)
        opened.setdefault(address, []).append(sock)
    _refuse_remote(config, opened)
    listen = [known_as.get(each, each) for each in config.listen if each in known_as or not others]
    if others:
        logs.info("listening on sockets that were passed, instead of `listen`", passed=", ".join(others))
    if admin is not None:
        admin = replace(admin, listen=known_as.get(ADMIN_LISTENER, admin.listen))
    forward = config.forward
    if forward is not None:
        at = config.forward_listener or forward.listen
        forward = replace(forward, listen=known_as.get(at, forward.listen))
    at_own = {route: known_as.get(own.get(route, route)) for route in routes}
    return replace(
        config,
        listen=(*listen, *others),
        admin=admin,
        forward=forward,
        routes=tuple(replace(each, listen=at_own[each.name] or each.listen) for each in config.routes),
    ), opened


def _addresses(config: Config) -> dict[str, str]:
    """Return where `config` says that each listener is."""
    admin = {ADMIN_LISTENER: config.admin.listen} if config.admin is not None else {}
    return {listener: address_of(listener) for listener in config.listeners} | admin


def place_of(sock: socket.socket) -> str:
    """Return where `sock` is bound, as the configuration would say it."""
    if sock.family == AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"{bracketed(host)}:{port}"


def _is_at(sock: socket.socket, address: str) -> bool:
    """Tell whether `sock` is bound at `address`, or at one of those that it is a name for."""
    place = split_address(address)
    if place is not None and sock.family != AF_UNIX:
        return (sock.family, sock.getsockname()[:2]) in _places(*place)
    mine, other = place_of(sock), address
    return place is None and os.path.realpath(mine[len("unix:") :]) == os.path.realpath(other[len("unix:") :])


def _covers(sock: PassedSocket, address: str) -> bool:
    """Tell whether who connects to `address` comes to `sock`, be it one for every address of the machine."""
    if _is_at(sock, address):
        return True
    place = split_address(address)
    if place is None or sock.family == AF_UNIX:
        return False
    host, port = sock.getsockname()[:2]
    if port != place[1] or host not in UNSPECIFIED:
        return False
    return sock.takes_both or any(family == sock.family for family, _ in _places(*place))


def _places(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    """Return the family, and the host and the port, of every address that `host` has."""
    try:
        return [(family, place[:2]) for family, place in places_of(host, port)]
    except OSError:  # it does not resolve
        return []


def _refuse_remote(config: Config, opened: Opened) -> None:
    """Raise `ConfigError` for what `config` itself could not listen on."""
    if config.allow_remote or config.access is not None:
        return
    faults = [
        Fault(
            config.file, 0, 0, "listen",
            f"the socket that was passed, {address}, lets other machines use the credentials; have it on "
            "127.0.0.1 (ListenStream=127.0.0.1:PORT), or set `access`, or `allow_remote: true`",
        )
        for address in opened
        if (place := split_address(address)) is not None and not is_loopback(place[0])
    ]  # fmt: skip
    if faults:
        raise ConfigError(faults)
