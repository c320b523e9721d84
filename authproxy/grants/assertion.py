"""A JWT that says who asks, signed for each login request and sent in its header, as GitHub Apps do it.

    Authorization: Bearer <header>.<claims>.<signature>

OAuth's own assertions, which are parameters of a token request, are in `oauth.py` and `jwt_bearer.py`.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict

from authproxy.grants.signing import (
    ASSERTION_LIFETIME,
    CLOCK_SKEW,
    Algorithm,
    SigningKey,
    choose_algorithm,
    read_key,
    sign,
)
from authproxy.grants.steps import Now, Step
from authproxy.values import Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderAssertion:
    """What the JWT says, and what signs it. A claim that nobody gives is left out."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    key: SigningKey
    """The private key: PEM, a JWK, or the JSON file of a Google service account. Example: ${PRIVATE_KEY}"""
    key_id: str | None = None
    """The key's ID (`kid`), as the server knows it. Example: key-1"""
    algorithm: Algorithm | None = None
    """The signature algorithm; by default one that suits the key. Example: RS256"""
    issuer_claim: str
    """The issuer (`iss`). Example: app-1"""
    subject: str | None = None
    """The subject (`sub`). Example: user@example.com"""
    audience_claim: str | None = None
    """The audience (`aud`). Example: https://api.example.com"""
    claims: dict[str, Any] = field(default_factory=dict, repr=False)
    """Further claims; one that is `null` is left out. Example: {team: geo}"""
    assertion_lifetime: Duration = ASSERTION_LIFETIME
    """How long it lasts, from its `iat`. Example: 9m"""
    clock_skew: Duration = CLOCK_SKEW
    """How far it is backdated, for servers whose clock is behind. Example: 60s"""

    def __post_init__(self) -> None:
        choose_algorithm(read_key(self.key.get_secret_value()), self.algorithm)
        if self.assertion_lifetime - self.clock_skew < 1:
            raise ValueError("assertion_lifetime should be longer than clock_skew, by at least a second")

    def signed(self) -> Generator[Step, Any, str]:
        """Return the JWT, made for now."""
        now: float = yield Now()
        own = {"iss": self.issuer_claim, "sub": self.subject, "aud": self.audience_claim}
        return sign(
            own | self.claims,
            read_key(self.key.get_secret_value()),
            now=now,
            key_id=self.key_id,
            algorithm=self.algorithm,
            lifetime=self.assertion_lifetime,
            skew=self.clock_skew,
        )
