"""Every `SSLContext` there is: for listeners, for upstreams and token endpoints.

Each function reads what it is given anew, and raises one of `key_pair.UNUSABLE` for what cannot be used.
"""

import ssl

from authproxy import logs
from authproxy.net.key_pair import CA_FILE, NO_CERTIFICATE, UnusableFile, load_pair

HTTP_CAME = "a client spoke plain http to a listener of https"
USE_HTTPS = "call it by https://; without `tls` the addresses of `listen` serve http"
HTTP_1_1 = ["http/1.1"]  # all that is spoken here (RFC 7301 §6)


class _ClientSide(ssl.SSLObject):
    """TLS with a client of a listener; asyncio closes what fails, and tells nobody."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                logs.info(HTTP_CAME, hint=USE_HTTPS)
            else:
                logs.debug(
                    "no TLS with a client", cause=(error.reason or "unknown").lower().replace("_", " ")
                )
            raise


def listener_context(cert_file: str, key_file: str) -> ssl.SSLContext:
    """Return how to speak TLS to clients of a listener, of whom no certificate is asked."""
    context = told_of(without_certificate())
    load_pair(context, cert_file, key_file)
    return context


def told_of(context: ssl.SSLContext) -> ssl.SSLContext:
    """Have what fails with clients of a listener logged."""
    context.sslobject_class = _ClientSide
    return context


def without_certificate() -> ssl.SSLContext:
    """Return the same before it has a certificate to show."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(HTTP_1_1)
    return context


def upstream_context(
    *,
    ca_file: str | None = None,
    cert_file: str | None = None,
    key_file: str | None = None,
    verify: bool = True,
) -> ssl.SSLContext:
    """Return how to speak TLS to a server whose certificate `ca_file`, or the system's store, vouches for.

    `cert_file` and `key_file` are our own certificate (RFC 8705 for token endpoints); without `verify` any of
    theirs will do.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise UnusableFile(CA_FILE, NO_CERTIFICATE) from error
    context.set_alpn_protocols(HTTP_1_1)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_file is not None:
        load_pair(context, cert_file, key_file)
    return context
