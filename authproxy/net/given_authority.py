"""An authority of the user's own: its certificate, those above it and its key, read from PEM.

    issuer          the first certificate; the key is its
      …             who signed it, in order, as far as they are there
        root        the last one: what clients trust already, or are to

What clients would refuse is refused here, where it can be told: what does not sign, has ended, or does not
belong together (RFC 5280 §6.1).
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from authproxy.net.authority import Authority, SigningKey
from authproxy.net.key_pair import ANOTHER_KEY, DECRYPT_IT, NO_CERTIFICATE, NO_KEY
from authproxy.times import rfc3339

FOR_SERVERS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}

SOON = timedelta(days=30)
ANY_HOST = (
    "may sign for any host (it has no name constraints): whoever gets its key can be any site to those who "
    "trust it; have its nameConstraints permit the routes' hosts alone"
)


class UnusableCertificate(ValueError):
    """The certificates are not those of an authority that can sign now; the text says why, of the file."""


class UnusableKey(ValueError):
    """The key cannot sign for them; the text says why, of the file."""


def read_authority(certificates: bytes, key: bytes, now: datetime) -> Authority:
    """Return the authority. Raises `UnusableCertificate` and `UnusableKey`."""
    issuer, *above = chain = _chain(certificates)
    for number, each in enumerate(chain):
        _check(each, "its certificate" if number == 0 else f"certificate {number + 1}", number, now)
    for number, (each, signer) in enumerate(zip(chain, above, strict=False), 1):
        _check_signed(each, signer, number)
    return Authority(chain[-1], issuer, _key(key, issuer), tuple(chain[1:-1]))


def doubts(certificates: bytes, now: datetime) -> Iterator[str]:
    """Yield what is hardly meant of an authority that can sign: too much, or not for long.

    Raises `UnusableCertificate` where there is none.
    """
    chain = _chain(certificates)
    if not any(_permits_some(each) for each in chain):
        yield ANY_HOST
    end = min(each.not_valid_after_utc for each in chain)
    if now < end < now + SOON:
        yield f"ends soon, at {rfc3339(end.timestamp())}: make another one before, and have clients trust it"


def _permits_some(certificate: x509.Certificate) -> bool:
    """Tell whether its constraints say what may be signed, and so forbid the rest (RFC 5280 §4.2.1.10)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return False
    return bool(found.permitted_subtrees)


def _chain(content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise UnusableCertificate(NO_CERTIFICATE) from None


def _check(certificate: x509.Certificate, what: str, below: int, now: datetime) -> None:
    """Refuse a certificate that cannot be an authority's, with as many others `below` it."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is None or not constraints.ca:
        raise UnusableCertificate(f"{what} is not an authority's (basicConstraints has no CA:TRUE)")
    if constraints.path_length is not None and constraints.path_length < below:
        raise UnusableCertificate(f"{what} permits fewer authorities below it (pathlen) than there are")
    if not _may(certificate, x509.KeyUsage, lambda usage: usage.key_cert_sign):
        raise UnusableCertificate(f"{what} may not sign others (keyUsage has no keyCertSign)")
    if not _may(certificate, x509.ExtendedKeyUsage, lambda usage: bool(FOR_SERVERS.intersection(usage))):
        raise UnusableCertificate(f"{what} may not sign for servers (extendedKeyUsage has no serverAuth)")
    if now >= certificate.not_valid_after_utc:
        end = rfc3339(certificate.not_valid_after_utc.timestamp())
        raise UnusableCertificate(f"{what} has expired, at {end}")
    if now < certificate.not_valid_before_utc:
        begin = rfc3339(certificate.not_valid_before_utc.timestamp())
        raise UnusableCertificate(f"{what} is not valid before {begin}")


def _may(certificate: x509.Certificate, extension: type[Any], permits: Callable[[Any], bool]) -> bool:
    """Tell what `permits` finds in an extension; what has none may do anything."""
    try:
        return permits(certificate.extensions.get_extension_for_class(extension).value)
    except x509.ExtensionNotFound:
        return True


def _check_signed(certificate: x509.Certificate, signer: x509.Certificate, number: int) -> None:
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature):
        raise UnusableCertificate(
            f"certificate {number + 1} should be that of who signed certificate {number}"
        ) from None


def _key(content: bytes, issuer: x509.Certificate) -> SigningKey:
    try:
        key = serialization.load_pem_private_key(content, None)
    except TypeError:
        raise UnusableKey(DECRYPT_IT) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey(NO_KEY) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise UnusableKey("should hold a key of RSA or of an elliptic curve (ECDSA)")
    if key.public_key() != issuer.public_key():
        raise UnusableKey(ANOTHER_KEY)
    return key
