"""What went wrong on the way to a server, whoever says it: one name for the errors of every library.

    the resolver, the sockets, OpenSSL, aiohttp  ──▶  Failure  ──▶  each wing's own sentence

The text of a foreign error is never passed on: it may quote a header.
"""

import errno
import os
import socket
import ssl
from enum import Enum

import aiohttp

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


_KINDS: tuple[tuple[tuple[type[BaseException], ...], Failure], ...] = (
    ((TimeoutError,), Failure.TIMEOUT),
    ((aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError), Failure.PROXY),
    ((ssl.SSLCertVerificationError, aiohttp.ClientConnectorCertificateError), Failure.CERTIFICATE),
    ((ssl.SSLError, aiohttp.ClientSSLError), Failure.HANDSHAKE),
    ((socket.gaierror, aiohttp.ClientConnectorDNSError), Failure.DNS),
    ((aiohttp.ClientConnectorError,), Failure.CONNECT),
    ((aiohttp.ServerDisconnectedError,), Failure.CLOSED),
    ((aiohttp.ClientPayloadError,), Failure.CUT_SHORT),
    ((aiohttp.InvalidURL,), Failure.URL),
)
"""The first that fits counts."""


def failure_of(error: BaseException, *, otherwise: Failure) -> Failure:
    """Return what `error` says went wrong; `otherwise` for one that may come of any step."""
    found = next((failure for kinds, failure in _KINDS if isinstance(error, kinds)), otherwise)
    if found is Failure.DNS:  # a look-up fails as well, for want of a socket, and does not say so
        return Failure.DESCRIPTORS if out_of_descriptors() else found
    return Failure.DESCRIPTORS if isinstance(error, OSError) and error.errno in NO_DESCRIPTORS else found


def out_of_descriptors() -> bool:
    """Tell whether this process cannot open another file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in NO_DESCRIPTORS
    return False
