"""Sockets that are listened on: TCP, or a Unix socket that only its owner can reach.

And how many connections there can be: each takes a file descriptor, and a process without any left can
neither accept one nor open one to an upstream.
"""

import contextlib
import os
import socket
import sys
from pathlib import Path

from authproxy import logs
from authproxy.errors import AuthproxyError
from authproxy.values import split_address

BACKLOG = 1024
OWN_FILES = 32  # descriptors besides clients' and upstreams': listeners, the log, the loop, token endpoints


class ListenError(AuthproxyError):
    """An address cannot be listened on."""


def raise_file_limit(connections: int) -> None:
    """Raise the soft limit on open files to what `connections` need, as far as the hard one lets us.

    The usual soft limit, 1024, is for programs that use `select`.
    """
    if sys.platform == "win32":
        return  # there is no such limit
    import resource  # noqa: PLC0415 - not on every platform

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            logs.debug("raised the limit on open files", soft=soft, now=most)


def affordable_connections(wanted: int, *, upstream: int) -> int:
    """Return how many clients can be served at a time: `wanted`, or what descriptors there are for.

    Each may need a connection to an upstream as well, of which there are at most `upstream`.
    """
    if sys.platform == "win32":
        return wanted
    import resource  # noqa: PLC0415 - not on every platform

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    room = files - OWN_FILES
    return min(wanted, max(1, room // 2, room - upstream))


def listening_socket(address: str, *, share: bool = False) -> socket.socket:
    """Return a socket that listens on a checked address; with `share` others may listen there too.

    Raises `ListenError`.
    """
    place = split_address(address)
    try:
        return (
            _unix_socket(address.removeprefix("unix:")) if place is None else _tcp_socket(*place, share=share)
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "the name does not resolve"
        raise ListenError(f"cannot listen on {address}: {reason}", hint="port 0 picks a free port") from error


def _tcp_socket(host: str, port: int, *, share: bool) -> socket.socket:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, place = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(place)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix_socket(path: str) -> socket.socket:
    """Bind a Unix socket that only its owner can reach; one that nobody listens on is replaced."""
    if Path(path).is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) != 0:
                Path(path).unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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


def unlink_address(address: str) -> None:
    """Take a Unix socket's name away, once nobody listens on it any more."""
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)
