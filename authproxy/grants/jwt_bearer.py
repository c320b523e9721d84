"""`jwt_bearer`: a signed assertion, traded in at the token endpoint (RFC 7523 §2.1).

The assertion is made here, with `key`; or it was made elsewhere, and is given as `assertion`.
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

from authproxy.grants.oauth import SIGNING_KEYS, OAuthGrant
from authproxy.grants.refusal import Checks
from authproxy.grants.steps import Flow, Step
from authproxy.values import GivenToken

GIVEN_CHECK = "check `assertion`: is it still valid, and meant for this server?"
SIGNED_CHECK = (
    "check `issuer_claim`, `subject` and `audience_claim`, and that the server has the public half of `key`"
)
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTBearer(OAuthGrant):
    """A signed assertion is traded for a token, as service accounts do (RFC 7523 §2.1).

    It is made for each token request, from `key`. With `client_auth: private_key_jwt` the same key proves
    who the client is.
    """

    issuer_claim: str | None = None
    """The issuer (`iss`) of the assertion; the client's ID by default. Example: robot@example.com"""
    subject: str | None = None
    """The subject (`sub`) of the assertion; its issuer by default, and an empty one for none.
    Example: user@example.com"""
    claims: dict[str, Any] = field(default_factory=dict, repr=False)
    """Further claims of the assertion. One that is `null` is left out, also of `iat`, `sub` and the like.
    Example: {scope: https://api.example.com/read}"""
    assertion: GivenToken | None = None
    """An assertion that was signed elsewhere, instead of `key`. Example: ${ASSERTION}"""

    def __post_init__(self) -> None:
        if (self.key is None) == (self.assertion is None):
            raise ValueError("needs either key, to sign the assertion with, or assertion")
        if self.assertion is not None and (self.issuer_claim or self.subject or self.claims):
            raise ValueError("issuer_claim, subject and claims are for an assertion made here, with key")
        if self.assertion is None and self.issuer_claim is None and self.client_id is None:
            raise ValueError("needs issuer_claim, or client_id in its place")
        OAuthGrant.__post_init__(self)

    def signing_keys(self) -> frozenset[str]:
        return OAuthGrant.signing_keys(self) | (SIGNING_KEYS if self.assertion is None else set())

    @property
    def checks(self) -> Checks:
        checks = self.oauth_checks()
        if self.assertion is not None:
            return replace(checks, credential=GIVEN_CHECK)
        return replace(checks, credential=SIGNED_CHECK, clock=True)

    def obtain(self) -> Flow:
        answer = yield from self.ask(grant_type=GRANT_TYPE, assertion=(yield from self._assertion()))
        return self.read_token(answer, self.response)

    def _assertion(self) -> Generator[Step, Any, str]:
        if self.assertion is not None:
            return self.assertion.get_secret_value()
        issuer = self.issuer_claim or self.client_id
        subject = issuer if self.subject is None else self.subject or None
        claims = dict(self.claims) | {"iss": issuer, "sub": subject}
        claims |= {name: None for name, value in self.claims.items() if value is None}
        return (yield from self.signed(claims, (yield from self.server()), self.private_key()))
