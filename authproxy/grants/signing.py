"""Signed assertions: short-lived JWTs that say who asks (RFC 7523 §3), and the keys that sign them.

A key is PEM text, a JWK (RFC 7517) or the JSON file of a Google service account. joserfc is imported where it
is used: few need it, and everybody's start would wait for it.
"""

import contextlib
import json
import secrets
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, SecretStr

from authproxy.values import OTHERWISE_READ

if TYPE_CHECKING:
    from joserfc.jwk import Key, KeyParameters

ASSERTION_LIFETIME = 240.0  # seconds: strict servers allow five minutes, and their clock may be ahead of ours
KEYS = 16  # so many are kept as they were read: to check one of RSA takes longer than to sign with it
CLOCK_SKEW = 10.0  # seconds by which a server's clock may be behind ours: `iat` must not lie ahead of it

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
    "HS256", "HS384", "HS512",
]  # fmt: skip

ALGORITHMS: dict[str, tuple[Algorithm, ...]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA", "Ed25519"),
    "Ed448": ("EdDSA",),
    "oct": ("HS256", "HS384", "HS512"),
}
"""What each kind of key can sign with; the first is the default."""

SYMMETRIC = "oct"


def kind_of(key: "Key") -> str:
    """Return the kind of key, one of `ALGORITHMS` unless it cannot sign: its curve, or else its type."""
    return getattr(key, "curve_name", None) or key.key_type


@lru_cache(maxsize=KEYS)
def read_key(text: str) -> "Key":
    """Return the private key that `text` holds; raise ValueError, which never quotes it."""
    is_pem = "-----BEGIN " in text and not text.lstrip().startswith("{")
    key = _from_pem(text) if is_pem else _from_json(text)
    if not key.is_private:
        raise ValueError("should be the private key, not the public one")
    if kind_of(key) not in ALGORITHMS:
        raise ValueError("is of a kind that cannot sign; RSA, EC (P-256, P-384, P-521) and Ed25519 keys can")
    return key


def _from_pem(text: str, key_id: str | None = None) -> "Key":
    from joserfc.errors import InvalidKeyTypeError, JoseError
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    # In a variable of the environment its lines often end with a backslash and an n, of which PEM has none.
    content = text.replace("\\n", "\n").strip().encode()
    more: KeyParameters | None = {"kid": key_id} if key_id else None
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            return kind.import_key(content, more)
        except InvalidKeyTypeError:
            continue
        except TypeError:  # that is how cryptography asks for a passphrase
            raise ValueError("should not be encrypted: take the passphrase off the key") from None
        except (ValueError, JoseError):
            break
    raise ValueError("should be a private key in PEM, from -----BEGIN to the end of the last line")


def _from_json(text: str) -> "Key":
    """Read a JWK; or what Google hands out, a PEM and its ID."""
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry

    document: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(text)
    if isinstance(document, dict) and isinstance(document.get("private_key"), str):
        return _from_pem(document["private_key"], document.get("private_key_id"))
    if isinstance(document, dict):
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError, JoseError):
            return JWKRegistry.import_key(document)
    raise ValueError("should be a private key in PEM, or a JWK (RFC 7517)")


def choose_algorithm(key: "Key", wanted: str | None) -> str:
    """Return what to sign with; raise ValueError when `key` cannot sign with `wanted`."""
    possible = ALGORITHMS[kind_of(key)]
    algorithm = wanted or key.get("alg") or possible[0]
    if algorithm not in possible:
        raise ValueError(f"this key signs with {' or '.join(possible)}")
    return str(algorithm)


def secret_key(secret: str) -> "Key":
    """Return a client's secret as a key (`client_secret_jwt`)."""
    from joserfc.jwk import OctKey

    with _without_advice():
        try:
            return OctKey.import_key(secret.encode())
        except ValueError:
            raise ValueError("client_secret_jwt needs a client_secret that can be a key") from None


def sign(
    claims: Mapping[str, Any],
    key: "Key",
    *,
    now: float,
    key_id: str | None,
    algorithm: str | None,
    lifetime: float = ASSERTION_LIFETIME,
    skew: float = CLOCK_SKEW,
) -> str:
    """Return a signed JWT with `claims`, a new `jti`, issued `skew` seconds ago for `lifetime` seconds.

    A claim that is None is left out, ours (`iat`, `exp`, `jti`) too.
    """
    from joserfc import jwt

    header = {"alg": choose_algorithm(key, algorithm)}
    if kid := key_id or key.kid:
        header["kid"] = kid
    issued = int(now - skew)
    whole = {"iat": issued, "exp": issued + int(lifetime), "jti": secrets.token_urlsafe(16)} | dict(claims)
    whole = {name: value for name, value in whole.items() if value is not None}
    with _without_advice():
        return jwt.encode(header, whole, key, algorithms=[header["alg"]])


def _without_advice() -> "warnings.catch_warnings[None]":
    """Keep joserfc from advising on what the server has decided: a short secret, EdDSA's old name."""
    from joserfc.errors import SecurityWarning

    return warnings.catch_warnings(action="ignore", category=SecurityWarning)


def _readable(value: SecretStr) -> SecretStr:
    read_key(value.get_secret_value())
    return value


SigningKey = Annotated[SecretStr, AfterValidator(_readable), OTHERWISE_READ]
"""A private key that can sign, as PEM or JWK."""
