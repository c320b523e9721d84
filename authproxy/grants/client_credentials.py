"""`client_credentials`: the proxy authenticates as itself (RFC 6749 §4.4)."""

from dataclasses import dataclass

from authproxy.grants.oauth import OAuthGrant
from authproxy.grants.steps import Flow


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials(OAuthGrant):
    """The proxy authenticates as itself (RFC 6749 §4.4)."""

    def obtain(self) -> Flow:
        answer = yield from self.ask(grant_type="client_credentials")
        return self.read_token(answer, self.response)
