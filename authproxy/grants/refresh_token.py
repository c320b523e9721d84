"""`refresh_token`: a refresh token that somebody obtained elsewhere (RFC 6749 §6)."""

from dataclasses import dataclass
from typing import ClassVar

from authproxy.grants.oauth import OAuthGrant
from authproxy.grants.steps import Flow
from authproxy.tokens.token import Token
from authproxy.values import GivenToken


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken(OAuthGrant):
    """A refresh token that was obtained elsewhere is traded for tokens (RFC 6749 §6)."""

    credential_check: ClassVar[str] = (
        "the refresh token has expired, was revoked or was used elsewhere: put a new one into `refresh_token`"
    )

    refresh_token: GivenToken
    """A refresh token that was obtained elsewhere. When the server rotates it, the new one is stored.
    Example: ${REFRESH_TOKEN}"""

    @property
    def must_last(self) -> bool:
        return True

    def flow(self, expired: Token | None) -> Flow:
        configured = self.refresh_token.get_secret_value()
        if expired is not None and expired.refresh_token == configured:
            return self.refresh(
                configured, expired.scope
            )  # never rotated: refused once, it is not sent again
        return OAuthGrant.flow(self, expired)

    def obtain(self) -> Flow:
        return (yield from self.refresh(self.refresh_token.get_secret_value()))
