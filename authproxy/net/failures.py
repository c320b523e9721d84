"""What went wrong on the way to a server, whoever says it: one name for the errors of every library.

    the resolver, the sockets, OpenSSL, aiohttp  ──▶  Failure  ──▶  each wing's own sentence

The text of a foreign error is never passed on: it may quote a header. What is wrong with TLS is the same on
either side, and stands here (`NO_TLS`).
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

IN_A_CONTAINER = "in a container 127.0.0.1 is the container itself, and the host is host.docker.internal"


class Failure(Enum):
    """What can go wrong, in the order in which a connection meets it."""

    URL = "the URL is not valid"
    DESCRIPTORS = "this process, or the system, cannot open another file or socket"
    DNS = "the host's name does not resolve"
    CONNECT = "the connection was refused, or the host cannot be reached"
    TIMEOUT = "nobody answered in time"
    AUTHORITY = "the certificate is signed by somebody who is not trusted here"
    EXPIRED = "the certificate is no longer valid"
    NOT_YET_VALID = "the certificate is not valid yet"
    OTHER_NAME = "the certificate is that of another host"
    CERTIFICATE = "the certificate is not acceptable for another reason"
    WANTS_CERTIFICATE = "the server wants a client certificate, or another one"
    PLAIN_HTTP = "the server speaks plain http where TLS was expected"
    SPEAKS_TLS = "the server speaks TLS where plain http was expected"
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


_VERIFY_CODES = {  # of OpenSSL, see x509_vfy.h
    9: Failure.NOT_YET_VALID,
    10: Failure.EXPIRED,
    18: Failure.AUTHORITY,
    19: Failure.AUTHORITY,
    20: Failure.AUTHORITY,
    21: Failure.AUTHORITY,
    62: Failure.OTHER_NAME,
    64: Failure.OTHER_NAME,
}
_NOT_TLS_AT_ALL = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
)
"""What OpenSSL takes an answer in plain http for."""
_WANTS_CERTIFICATE = frozenset(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    }
)  # fmt: skip
"""The alerts of a server that does not take our certificate, or misses one."""

TLS_ALERT = b"\x15\x03"
"""How a server begins that speaks TLS and was sent something else (RFC 8446 §5.1)."""

NO_TLS: dict[Failure, tuple[str, str]] = {
    Failure.AUTHORITY: (
        "its certificate is signed by an authority that is not trusted here",
        "name that authority's certificate in {ca}, or correct {url}",
    ),
    Failure.EXPIRED: (
        "its certificate has expired",
        "whoever runs that server has to renew it; or this machine's clock is wrong",
    ),
    Failure.NOT_YET_VALID: ("its certificate is not valid yet", "check this machine's clock"),
    Failure.OTHER_NAME: (
        "its certificate is that of another host",
        "correct the host in {url}: it should be a name in the certificate; or name one of those in {name}",
    ),
    Failure.CERTIFICATE: ("its certificate is not acceptable", "check {url}, and the CA in {ca}"),
    Failure.WANTS_CERTIFICATE: (
        "it wants a client certificate, or does not accept the one that was sent",
        "name the client certificate in {certificate}",
    ),
    Failure.PLAIN_HTTP: ("it speaks plain http there", "write http:// in {url}, or correct its port"),
    Failure.HANDSHAKE: ("handshake failed", "check {url}: is it https at that port?"),
}
"""What is wrong with TLS, and what to do; the names in braces are the settings that a wing has for it."""

UPSTREAM = "upstream"
TOKEN_ENDPOINT_SETTINGS = {
    "ca": "`auth.tls.ca_file`",
    "certificate": "`auth.tls.cert_file` and `auth.tls.key_file`, or those of `client_auth: tls_client_auth`",
    "name": "`auth.tls.server_name`",
}
UPSTREAM_SETTINGS = {
    "ca": "`tls.ca_file`",
    "certificate": "`tls.cert_file` and `tls.key_file`",
    "name": "`tls.server_name`",
}


def tls_hint(failure: Failure, setting: str = UPSTREAM) -> str:
    """Return what to do about `failure`; `setting` is the key that has the server's URL."""
    others = UPSTREAM_SETTINGS if setting == UPSTREAM else TOKEN_ENDPOINT_SETTINGS
    return NO_TLS[failure][1].format(url=f"`{setting}`", **others)


_TELLS_MORE = frozenset({Failure.AUTHORITY, Failure.OTHER_NAME, Failure.CERTIFICATE})


def tls_reason(failure: Failure, error: BaseException) -> str:
    """Return what is wrong with TLS, in OpenSSL's own words too where they tell more."""
    said = getattr(_openssls(error), "verify_message", None)
    return (
        f"{NO_TLS[failure][0]} ({said.rstrip('.')})"
        if said and failure in _TELLS_MORE
        else NO_TLS[failure][0]
    )


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
    if (of_tls := _failure_of_tls(_openssls(error))) is not None:
        return of_tls
    kinds = _SYSTEMS + (_aiohttps() if _is_aiohttps(error) else ())
    found = next((failure for types, failure in kinds if isinstance(error, types)), otherwise)
    if found is Failure.DNS:  # a look-up fails as well, for want of a socket, and does not say so
        return Failure.DESCRIPTORS if out_of_descriptors() else found
    return Failure.DESCRIPTORS if isinstance(error, OSError) and error.errno in NO_DESCRIPTORS else found


def _openssls(error: BaseException) -> BaseException | None:
    """Return what OpenSSL said, where `error` is that or aiohttp's for it."""
    if _is_aiohttps(error):
        told = (getattr(error, "certificate_error", None), getattr(error, "os_error", None), error.__cause__)
        return next((each for each in told if isinstance(each, ssl.SSLError)), None)
    return error if isinstance(error, ssl.SSLError) else None


def _failure_of_tls(error: BaseException | None) -> Failure | None:
    """Return what OpenSSL means; None where it is no more than that TLS failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_CODES.get(getattr(error, "verify_code", 0))
    if isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _NOT_TLS_AT_ALL:
        return Failure.PLAIN_HTTP
    if isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _WANTS_CERTIFICATE:
        return Failure.WANTS_CERTIFICATE
    return None


def _is_aiohttps(error: BaseException) -> bool:
    return any(kind.__module__.startswith("aiohttp.") for kind in type(error).__mro__)


def out_of_descriptors() -> bool:
    """Tell whether this process cannot open another file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in NO_DESCRIPTORS
    return False
