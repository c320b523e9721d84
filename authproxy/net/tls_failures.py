"""Why there is no TLS, in words: one name for what OpenSSL, asyncio and aiohttp each say in their own way.

    the chain of an error ─▶ TLSFault ─▶ a sentence, and the setting that mends it

The numbers are those of X509_verify_cert_error_string(3), the reasons those of OpenSSL 1.1 and 3.
"""

import ssl
from collections.abc import Iterator
from enum import Enum


class TLSFault(Enum):
    """What is wrong with a handshake; the value goes on a sentence that names the server."""

    UNKNOWN_CA = "its certificate is signed by an authority that is not trusted here"
    EXPIRED = "its certificate has expired"
    NOT_YET_VALID = "its certificate is not valid yet"
    WRONG_NAME = "its certificate is for another name"
    NOT_TLS = "it does not speak TLS there, but probably plain http"
    WANTS_CERTIFICATE = "it does not accept us without another client certificate"
    CERTIFICATE = "its certificate is not acceptable"
    HANDSHAKE = "the handshake failed"


_VERIFY_CODES = {
    2: TLSFault.UNKNOWN_CA, 18: TLSFault.UNKNOWN_CA, 19: TLSFault.UNKNOWN_CA, 20: TLSFault.UNKNOWN_CA,
    21: TLSFault.UNKNOWN_CA, 9: TLSFault.NOT_YET_VALID, 10: TLSFault.EXPIRED, 62: TLSFault.WRONG_NAME,
    64: TLSFault.WRONG_NAME,
}  # fmt: skip
_REASONS = {
    "WRONG_VERSION_NUMBER": TLSFault.NOT_TLS,
    "HTTP_REQUEST": TLSFault.NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": TLSFault.NOT_TLS,
    "RECORD_LAYER_FAILURE": TLSFault.NOT_TLS,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": TLSFault.WANTS_CERTIFICATE,
    "TLSV1_ALERT_UNKNOWN_CA": TLSFault.WANTS_CERTIFICATE,
    "SSLV3_ALERT_BAD_CERTIFICATE": TLSFault.WANTS_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": TLSFault.WANTS_CERTIFICATE,
}

_UPSTREAM = {
    TLSFault.UNKNOWN_CA: "name that authority's certificate in `tls.ca_file`",
    TLSFault.EXPIRED: "have it renewed where the server is run, or correct this machine's clock",
    TLSFault.NOT_YET_VALID: "correct this machine's clock, or wait until the certificate is valid",
    TLSFault.WRONG_NAME: "correct the host in `{key}`, or give the certificate's name in `tls.server_name`",
    TLSFault.NOT_TLS: "write http:// in `{key}`, or the port that speaks TLS",
    TLSFault.WANTS_CERTIFICATE: "name the client certificate in `tls.cert_file` and `tls.key_file`",
}
_TOKEN_ENDPOINT = _UPSTREAM | {
    TLSFault.UNKNOWN_CA: "name its CA in SSL_CERT_FILE, or correct `{key}`",
    TLSFault.WRONG_NAME: "correct the host in `{key}`",
    TLSFault.WANTS_CERTIFICATE: "name the client certificate in `cert_file` and `key_file` "
    "(`client_auth: tls_client_auth`)",
}
UPSTREAM = "upstream"


def tls_fault(error: BaseException) -> TLSFault:
    """Return what `error`, or what it was raised from, says is wrong."""
    found = TLSFault.HANDSHAKE
    for each in _chain(error):
        # aiohttp's own kinds of these have neither number nor reason: what they are of comes behind them.
        if isinstance(each, ssl.SSLCertVerificationError):
            found = _VERIFY_CODES.get(getattr(each, "verify_code", 0), TLSFault.CERTIFICATE)
            if hasattr(each, "verify_code"):
                return found
        elif isinstance(each, ssl.SSLError) and getattr(each, "reason", None) in _REASONS:
            return _REASONS[each.reason]
    return found


def tls_hint(fault: TLSFault, key: str = UPSTREAM) -> str:
    """Return what mends `fault`; `key` is the setting that has the server's URL."""
    hints = _UPSTREAM if key == UPSTREAM else _TOKEN_ENDPOINT
    return hints.get(fault, "check `{key}`, and the certificate there").format(key=key)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what is behind it; aiohttp has that in attributes of its own."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (getattr(each, name, None) for name in ("certificate_error", "os_error"))
        left += [each.__cause__, *(found for found in inner if isinstance(found, BaseException))]
