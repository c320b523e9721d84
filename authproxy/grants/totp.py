"""One-time codes (RFC 6238)."""

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP

from authproxy.grants.requests import base32

CODE_PERIOD = 30  # seconds a one-time code is good for (RFC 6238 §4.1)
CODE_DIGITS = 6
TAKEN_PERIODS = 240  # remembered for each secret: two hours of codes


def code_of(period: int, secret: str) -> str:
    """Return the code of a period (RFC 6238 §4.2)."""
    key = base32(secret)
    # Vendors hand out secrets of 80 bits, which RFC 4226 §4 would not.
    return HOTP(key, CODE_DIGITS, SHA1(), enforce_key_length=False).generate(period).decode()  # noqa: S303
