"""What went wrong on the way to a server, whoever says it: one name for the errors of every library.

    the resolver, the sockets, OpenSSL, aiohttp  ──▶  Failure  ──▶  each wing's own sentence

The text of a foreign error is never passed on: it may quote a header.
"""

import errno
import os
import socket
import ssl
from enum import Enum
from functools import cache

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
NO_DESCRIPTORS_ADVICE = (
    "raise the limit on open files (`ulimit -n`, `LimitNOFILE=`), or lower `limits.connections`"
)


class Failure(Enum):
    """What can go wrong, in the order in which a connection meets it."""

    URL = "a URL that nobody can be asked by"
    DESCRIPTORS = "this process, or the system, cannot open another file or socket"
    DNS = "the host's name does not resolve"
    CONNECT = "nobody takes the connection"
    TIMEOUT = "nobody answered in time"
    CERTIFICATE = "the certificate is not acceptable"
    HANDSHAKE = "no TLS for another reason"
    PROXY = "the HTTP proxy does not lead there"
    CLOSED = "the connection was closed without an answer"
    CUT_SHORT = "the answer broke off"
    NOT_HTTP = "the answer is not HTTP"


Kinds = tuple[tuple[tuple[type[BaseException], ...], Failure], ...]

_SYSTEMS: Kinds = (
    ((TimeoutError,), Failure.TIMEOUT),
    ((ssl.SSLCertVerificationError,), Failure.CERTIFICATE),
    ((ssl.SSLError,), Failure.HANDSHAKE),
    ((socket.gaierror,), Failure.DNS),
)
"""What the errors of Python's own mean, and those of aiohttp's that are such errors too. The first that fits
counts, here and below."""


@cache
def _aiohttps() -> Kinds:
    """Return what aiohttp's errors mean. Only where there is one of them is aiohttp loaded for sure."""
    import aiohttp

    return (
        ((aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError), Failure.PROXY),
        ((aiohttp.ClientConnectorCertificateError,), Failure.CERTIFICATE),
        ((aiohttp.ClientSSLError,), Failure.HANDSHAKE),
        ((aiohttp.ClientConnectorDNSError,), Failure.DNS),
        ((aiohttp.ClientConnectorError,), Failure.CONNECT),
        ((aiohttp.ServerDisconnectedError,), Failure.CLOSED),
        ((aiohttp.ClientPayloadError,), Failure.CUT_SHORT),
        ((aiohttp.InvalidURL,), Failure.URL),
    )


def failure_of(error: BaseException, *, otherwise: Failure) -> Failure:
    """Return what `error` says went wrong; `otherwise` for one that may come of any step."""
    kinds = _SYSTEMS + (_aiohttps() if _is_aiohttps(error) else ())
    found = next((failure for types, failure in kinds if isinstance(error, types)), otherwise)
    if found is Failure.DNS:  # a look-up fails as well, for want of a socket, and does not say so
        return Failure.DESCRIPTORS if out_of_descriptors() else found
    return Failure.DESCRIPTORS if isinstance(error, OSError) and error.errno in NO_DESCRIPTORS else found


def _is_aiohttps(error: BaseException) -> bool:
    return any(kind.__module__.startswith("aiohttp.") for kind in type(error).__mro__)


def out_of_descriptors() -> bool:
    """Tell whether this process cannot open another file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in NO_DESCRIPTORS
    return False
