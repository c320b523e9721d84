"""Seals tokens: nobody without the key reads one, changes one, or puts one in another's place.

    secret ── HKDF ──┬─▶ sealing key    AES-256-GCM; the credential's key is authenticated with it
                     └─▶ naming key     HMAC-SHA256 makes an entry's name from the credential's key

A credential's key is a plain hash over its settings, the password included. As a name it would let whoever
sees the store try passwords against it; that is why entries get names that need the secret.
"""

import hmac
import json
import os
from dataclasses import asdict
from functools import lru_cache
from itertools import chain
from math import inf, isfinite
from typing import Self

from authproxy.tokens.rejection import Rejection
from authproxy.tokens.token import Token

SECRET_BYTES = 32
VERSION = b"\x01"  # of the sealed form; it is authenticated too
NONCE_BYTES = 12  # NIST SP 800-38D §8.2.2: random ones are good for 2^32 tokens under one key
NAME_DIGITS = 32

# All replicas must come to the same secret without having met, so the salt is no secret and never changes.
_SALT = b"authproxy token store"
_SCRYPT = {"n": 2**14, "r": 8, "p": 5}  # 16 MiB for some 0.2 s, once


class Unreadable(ValueError):
    """Not something that this cipher sealed for that key."""


class Cipher:
    """Seals and names what is stored, with a secret of `SECRET_BYTES` random bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes")
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        keys = HKDF(SHA256(), length=64, salt=None, info=_SALT).derive(secret)
        self._sealing, self._naming = AESGCM(keys[:32]), keys[32:]
        self.mark = self.name("")[:8]
        """The same for everything sealed with this secret; tells one secret from another."""

    @classmethod
    def from_passphrase(cls, passphrase: str) -> Self:
        """Return the cipher of a text that somebody chose. Takes a while the first time, on purpose."""
        return cls(_stretched(passphrase))

    def name(self, key: str) -> str:
        """Return what the entry of `key` is called."""
        return hmac.digest(self._naming, key.encode(), "sha256").hex()[:NAME_DIGITS]

    def seal(self, key: str, kept: Token | Rejection) -> bytes:
        """Return `kept` as it is stored for `key`."""
        plain = _plain(kept) if isinstance(kept, Token) else json.dumps(asdict(kept)).encode()
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + nonce + self._sealing.encrypt(nonce, plain, VERSION + key.encode())

    def unseal(self, key: str, sealed: bytes) -> Token:
        """Return the token that was sealed for `key`. Raises `Unreadable`."""
        return _token(self._unsealed(key, sealed))

    def unseal_rejection(self, key: str, sealed: bytes) -> Rejection:
        """Return the rejection that was sealed for `key`. Raises `Unreadable`."""
        return _rejection(self._unsealed(key, sealed))

    def _unsealed(self, key: str, sealed: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        version, nonce, text = sealed[:1], sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        if version != VERSION or len(nonce) < NONCE_BYTES:
            raise Unreadable("sealed in an unknown format")
        try:
            return self._sealing.decrypt(nonce, text, version + key.encode())
        except InvalidTag:
            raise Unreadable("damaged, or sealed with another key") from None


@lru_cache(maxsize=4)  # a configuration that is read again need not pay again
def _stretched(passphrase: str) -> bytes:
    """RFC 7914: makes trying passphrases dear."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=_SALT, length=SECRET_BYTES, **_SCRYPT).derive(passphrase.encode())


def _plain(token: Token) -> bytes:
    return json.dumps({
        "value": token.value,
        "expires_at": None if token.expires_at == inf else token.expires_at,
        "issued_at": token.issued_at,
        "refresh_token": token.refresh_token,
        "scope": token.scope,
        "fields": dict(token.fields),
    }).encode()  # fmt: skip


def _token(plain: bytes) -> Token:
    """Read a token back. What is decrypted here was written by some version of ours, maybe a later one."""
    try:
        document = json.loads(plain)
        value, refresh_token = document["value"], document["refresh_token"]
        expires_at, issued_at = document["expires_at"], document["issued_at"]
        expires_at = inf if expires_at is None else float(expires_at)
        issued_at = float(issued_at)
        scope = document.get("scope")  # older versions kept neither
        fields = tuple(dict(document.get("fields") or {}).items())
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unreadable("not a token in a known format") from None
    if not isinstance(value, str) or not isfinite(issued_at):
        raise Unreadable("not a token in a known format")
    if not isinstance(refresh_token, str | None) or not isinstance(scope, str | None):
        raise Unreadable("not a token in a known format")
    if not all(isinstance(text, str) for text in chain.from_iterable(fields)):
        raise Unreadable("not a token in a known format")
    return Token(
        value,
        expires_at=expires_at,
        issued_at=issued_at,
        refresh_token=refresh_token,
        scope=scope,
        fields=fields,
    )


def _rejection(plain: bytes) -> Rejection:
    """Read a rejection back, as `_token` does a token."""
    try:
        document = json.loads(plain)
        found = Rejection(**document)
        right = isinstance(found.detail, str) and isfinite(found.at) and isfinite(found.next_try_at)
        right = right and isinstance(found.failures, int) and isinstance(found.title, str | None)
    except (ValueError, TypeError, RecursionError):
        right = False
    if not right:
        raise Unreadable("not a rejection in a known format")
    return found
