"""Every `SSLContext` there is: for listeners, for upstreams and token endpoints.

Each function reads what it is given anew, and raises one of `UNUSABLE` for what cannot be used.
"""

import ssl

UNUSABLE = (ssl.SSLError, OSError, ValueError)

HTTP_1_1 = ["http/1.1"]  # all that is spoken here (RFC 7301 §6)


def listener_context(cert_file: str, key_file: str) -> ssl.SSLContext:
    """Return how to speak TLS to clients, of whom no certificate is asked."""
    context = without_certificate()
    context.load_cert_chain(cert_file, key_file)
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
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(HTTP_1_1)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_file is not None:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file, password="")
    return context
