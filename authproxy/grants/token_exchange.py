"""`token_exchange`: one token traded in for another, for this proxy or on somebody's behalf (RFC 8693)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from authproxy.errors import BadTokenReply
from authproxy.grants.oauth import OAuthGrant
from authproxy.grants.reply import find, read_json
from authproxy.grants.steps import Answer, Flow
from authproxy.values import GivenToken

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"  # noqa: S105 - the start of a name
TOKEN_TYPES = frozenset({"access_token", "refresh_token", "id_token", "jwt", "saml1", "saml2"})  # RFC 8693 §3


def _token_type(value: str) -> str:
    if value in TOKEN_TYPES:
        return TOKEN_TYPE + value
    if ":" not in value:
        raise ValueError(f"should be {', '.join(sorted(TOKEN_TYPES))}, or a URI")
    return value


TokenType = Annotated[str, AfterValidator(_token_type)]
"""A token type identifier, or the last word of one of RFC 8693's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExchange(OAuthGrant):
    """One token is traded for another (RFC 8693). With an actor's token the new one says who acts (§1.1)."""

    credential_check: ClassVar[str] = "check `subject_token` and `actor_token`: are they still valid?"

    subject_token: GivenToken
    """The token to exchange; with `${file:…}` it is read again when it is refused.
    Example: ${SUBJECT_TOKEN}"""
    subject_token_type: TokenType = TOKEN_TYPE + "access_token"
    """Its type: `access_token`, `id_token`, `jwt`, `refresh_token`, `saml1`, `saml2`, or another URI of RFC
    8693. Example: id_token"""
    actor_token: GivenToken | None = None
    """The token of the party that acts for the subject. Example: ${ACTOR_TOKEN}"""
    actor_token_type: TokenType | None = None
    """Its type; `access_token` by default. Example: jwt"""
    requested_token_type: TokenType | None = None
    """The type of token to ask for; the server's choice by default. Example: access_token"""

    def __post_init__(self) -> None:
        if self.actor_token is None and self.actor_token_type is not None:
            raise ValueError("actor_token_type needs actor_token")
        OAuthGrant.__post_init__(self)

    def obtain(self) -> Flow:
        parameters = {
            "grant_type": GRANT_TYPE,
            "subject_token": self.subject_token.get_secret_value(),
            "subject_token_type": self.subject_token_type,
        }
        if self.actor_token is not None:
            parameters["actor_token"] = self.actor_token.get_secret_value()
            parameters["actor_token_type"] = self.actor_token_type or TOKEN_TYPE + "access_token"
        if self.requested_token_type is not None:
            parameters["requested_token_type"] = self.requested_token_type
        answer = yield from self.ask(**parameters)
        token = self.read_token(answer, self.response)
        self._refuse_other_kinds(answer)
        return token

    def _refuse_other_kinds(self, answer: Answer) -> None:
        """Raise `BadTokenReply` when what was issued is not for calling an API (§2.2.1)."""
        document = read_json(answer)
        token_type = find(document, self.response.token_type)
        issued = find(document, "/issued_token_type")
        if str(token_type).lower() == "n_a" or issued == TOKEN_TYPE + "refresh_token":
            kind = str(issued).removeprefix(TOKEN_TYPE) if isinstance(issued, str) else "token"
            raise BadTokenReply(
                f"{answer.place} issued a {kind} that no API takes (token_type {token_type})",
                hint="set requested_token_type to access_token",
            )
