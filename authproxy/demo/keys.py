"""The key pair of the demo, for vendors that want a signed JWT.

Like the accounts it is nobody's, and always the same: a configuration fits the stand-ins of every process.
"""

from functools import cache
from typing import Any

from authproxy.grants.signing import read_key

ALGORITHM = "RS256"
EXPONENT = 65537
PRIMES = (
    int(
        "c79af97430418fc1e01491ea1fbabe9cf923270f7dcade2fe51e545dc0e390a957d06ae171b467ab68f4323788de2983"
        "28c014ee7e7f7498a437f8e43b13e6df27e2e06d8b7e23fdfa71501bbf861cd4164ec4e8a02565da0832c71aef639cd3"
        "d2a224b8c1d3f066e840ed5732860a8f4e8d3b9d2b21b37872ab7e1c4ebd42d3",
        16,
    ),
    int(
        "c467b4c267275191efb59598ab43e9a4988d44948122d1f7b1062e26e2f8c58354cf3098292004cef90e6ff49f51d228"
        "8a8bc2476e074397bfbf865c54b26dfde60d287d518a7316f6aa12f43471bca1ea3b2dacdb4c829367863de276bebda8"
        "32ca3e84cb6667b6f0de8d1936923fcbba6f59ae95ee98a0a366cc256a75a9e9",
        16,
    ),
)


@cache
def private_key() -> str:
    """Return the private key that every stand-in knows the public half of, as PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    p, q = PRIMES
    d = pow(EXPONENT, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p=p, q=q, d=d, dmp1=rsa.rsa_crt_dmp1(d, p), dmq1=rsa.rsa_crt_dmq1(d, q), iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(EXPONENT, p * q),
    )  # fmt: skip
    whole = numbers.private_key(
        unsafe_skip_rsa_key_validation=True
    )  # the check takes as long as all the rest
    return whole.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()  # fmt: skip


def verified(token: str) -> dict[str, Any] | None:
    """Return the claims of `token`, or None if it is no JWT, or not signed (RS256) with the demo's key."""
    from joserfc import jwt
    from joserfc.errors import JoseError

    try:
        return dict(jwt.decode(token, read_key(private_key()), algorithms=[ALGORITHM]).claims)
    except (JoseError, ValueError):
        return None


def is_timely(claims: dict[str, Any], now: float, longest: float) -> bool:
    """Tell whether a JWT with `claims` is good `now`, and ends within `longest` seconds."""
    ends = claims.get("exp")
    starts = claims.get("iat", now)
    return isinstance(ends, int) and isinstance(starts, int | float) and starts <= now < ends <= now + longest
