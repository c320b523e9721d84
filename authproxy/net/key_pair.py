"""A certificate and its key, of files, into an `SSLContext`; and which of the files it is that will not do.

OpenSSL says the same of a key that is encrypted, of one that is none and of two that are swapped, so the
files are looked at once more. What they hold is never told.
"""

import ssl
from pathlib import Path

UNUSABLE = (ssl.SSLError, OSError, ValueError)

CA_FILE, CERT_FILE, KEY_FILE = "ca_file", "cert_file", "key_file"
DECRYPT_IT = "is encrypted, and nobody can be asked for its passphrase: `openssl pkey` writes it without one"
NO_CERTIFICATE = "holds no certificate that can be read; it should be PEM"
NO_KEY = "holds no private key that can be read; it should be PEM"
ANOTHER_KEY = "is not the key of the first certificate in cert_file"

SWAPPED = "holds a key: cert_file and key_file are swapped"
REPLACE_IT = "is too weak for this machine's OpenSSL: have one made with a larger key, or a newer hash"

CERTIFICATE = (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN TRUSTED CERTIFICATE-----")
KEY = b"PRIVATE KEY-----"
ENCRYPTED = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")
TOO_WEAK = {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}


class UnusableFile(ValueError):
    """A file that TLS cannot be spoken with: `key` is the setting that names it, the text what is wrong."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def load_pair(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    """Have `context` show the certificate in `cert_file`; its key is there too without a `key_file`.

    Raises `UnusableFile`, also for a key with a passphrase: nobody is asked for one.
    """
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file, password="")
    except UNUSABLE as error:
        raise _reason(error, cert_file, key_file) from None


def _reason(error: Exception, cert_file: str, key_file: str | None) -> UnusableFile:
    """Return which file is at fault that OpenSSL refused with `error`."""
    key_place = KEY_FILE if key_file is not None else CERT_FILE
    place = CERT_FILE
    try:
        certificate = Path(cert_file).read_bytes()
        place = key_place
        key = Path(key_file or cert_file).read_bytes()
    except OSError as unread:
        return UnusableFile(place, f"cannot be read: {unread.strerror}")
    if (wrong := _wrong_certificate(certificate, key)) is not None:
        return UnusableFile(CERT_FILE, wrong)
    if (wrong := _wrong_key(key)) is not None:
        return UnusableFile(key_place, wrong)
    reason = getattr(error, "reason", None) or ""
    if reason in TOO_WEAK:
        return UnusableFile(CERT_FILE, REPLACE_IT)
    if reason.endswith("_MISMATCH"):
        return UnusableFile(key_place, ANOTHER_KEY)
    return UnusableFile(key_place, NO_KEY) if _reads(cert_file) else UnusableFile(CERT_FILE, NO_CERTIFICATE)


def _wrong_certificate(certificate: bytes, key: bytes) -> str | None:
    if _is_certificate(certificate):
        return None
    return SWAPPED if KEY in certificate and _is_certificate(key) else NO_CERTIFICATE


def _wrong_key(key: bytes) -> str | None:
    if any(each in key for each in ENCRYPTED):
        return DECRYPT_IT
    return None if KEY in key else NO_KEY


def _is_certificate(content: bytes) -> bool:
    return any(each in content for each in CERTIFICATE)


def _reads(cert_file: str) -> bool:
    """Tell whether OpenSSL takes what is in there for certificates."""
    try:
        ssl.create_default_context(cafile=cert_file)
    except UNUSABLE:
        return False
    return True
