"""The key pair of the demo, for vendors that want a signed JWT: made once a process, when it is needed."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joserfc.jwk import RSAKey

BITS = 2048
ALGORITHM = "RS256"


def private_key() -> str:
    """Return the private key that every stand-in knows the public half of, as PEM."""
    return _key().as_pem(private=True).decode()


def verified(token: str) -> dict[str, Any] | None:
    """Return the claims of `token`, or None if it is no JWT, or not signed (RS256) with the demo's key."""
    from joserfc import jwt
    from joserfc.errors import JoseError

    try:
        return dict(jwt.decode(token, _key(), algorithms=[ALGORITHM]).claims)
    except (JoseError, ValueError):
        return None


def is_timely(claims: dict[str, Any], now: float, longest: float) -> bool:
    """Tell whether a JWT with `claims` is good `now`, and ends within `longest` seconds."""
    ends = claims.get("exp")
    starts = claims.get("iat", now)
    return isinstance(ends, int) and isinstance(starts, int | float) and starts <= now < ends <= now + longest


@cache
def _key() -> "RSAKey":
    from joserfc.jwk import RSAKey

    return RSAKey.generate_key(BITS)
