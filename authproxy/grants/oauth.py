"""What the grants that talk to an OAuth 2.0 token endpoint have in common (RFC 6749).

A refresh token, when the spent token brought one, goes first; when the server says `invalid_grant` to
it, the grant's own way follows at once (§6, §5.2).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote_plus, urlencode

from pydantic import SecretStr

from authproxy.errors import CredentialRejected
from authproxy.grants.base import (
    FORM,
    Answer,
    Ask,
    Flow,
    Grant,
    HeaderMap,
    ReplyPointers,
    SecretMap,
    basic_value,
    with_defaults,
    with_query,
)
from authproxy.grants.client_auth import CLIENT_AUTH, ClientAuthName
from authproxy.tokens.token import Token
from authproxy.values import URL

# What says that this refresh token, or refreshing at all, will never do: the grant's own way must. Anything
# else (`invalid_client`) would be said to that as well, and count as a second failure.
REFRESH_IS_OVER = frozenset({"invalid_grant", "unauthorized_client", "unsupported_grant_type"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthGrant(Grant):
    """The keys of every OAuth grant, and the request they make."""

    token_url: URL
    client_id: str | None = None
    client_secret: SecretStr | None = None
    client_auth: ClientAuthName | None = None
    scope: str | tuple[str, ...] | None = None
    audience: str | None = None
    resource: str | tuple[str, ...] = ()
    params: SecretMap = field(default_factory=dict)
    params_in: Literal["body", "query"] = "body"
    headers: HeaderMap = field(default_factory=dict)
    response: ReplyPointers = field(default_factory=ReplyPointers)

    def __post_init__(self) -> None:
        style = self.client_auth or self.default_client_auth
        if style != "none" and (self.client_id is None or self.client_secret is None):
            raise ValueError(f"client_auth {style} needs client_id and client_secret")

    @property
    def default_client_auth(self) -> ClientAuthName:
        """Basic when there is a secret, as every server must support it (RFC 6749 §2.3.1)."""
        return "none" if self.client_secret is None else "client_secret_basic"

    def flow(self, spent: Token | None) -> Flow:
        if spent is not None and spent.refresh_token is not None:
            try:
                return (yield from self.refresh(spent.refresh_token))
            except CredentialRejected as rejection:
                if rejection.error not in REFRESH_IS_OVER:
                    raise
        return (yield from self.earn())

    def earn(self) -> Flow:
        """Hold the grant's own conversation, without a refresh token."""
        raise NotImplementedError

    def refresh(self, refresh_token: str) -> Flow:
        """Trade `refresh_token` in; it stays good unless another one comes back (RFC 6749 §6)."""
        answer: Answer = yield self.ask(grant_type="refresh_token", refresh_token=refresh_token)
        return self.read_token(answer, self.response, keep=refresh_token)

    def ask(self, **parameters: str) -> Ask:
        """Return the token request with `parameters`, the client's authentication and the extra keys."""
        scope = self.scope if isinstance(self.scope, str | None) else " ".join(self.scope)
        if scope:
            parameters["scope"] = scope
        if self.audience:
            parameters["audience"] = self.audience
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        CLIENT_AUTH[self.client_auth or self.default_client_auth](
            self.client_id or "",
            self.client_secret.get_secret_value() if self.client_secret else "",
            headers,
            parameters,
        )
        parameters |= {name: value.get_secret_value() for name, value in self.params.items()}
        pairs = list(parameters.items())
        pairs += [
            ("resource", each)
            for each in ([self.resource] if isinstance(self.resource, str) else self.resource)
        ]
        headers = with_defaults(headers, {"Accept": "application/json"})
        if self.params_in == "query":
            return Ask("POST", with_query(self.token_url, pairs), headers)
        headers = with_defaults(headers, {"Content-Type": FORM})
        return Ask("POST", self.token_url, headers, urlencode(pairs).encode())

    def secrets(self) -> list[str]:
        found = Grant.secrets(self)
        if self.client_id is not None and self.client_secret is not None:
            client_id, secret = self.client_id, self.client_secret.get_secret_value()
            found += [basic_value(client_id, secret), basic_value(quote_plus(client_id), quote_plus(secret))]
        return found

    def urls(self) -> Iterator[tuple[str, str]]:
        yield "token_url", self.token_url
