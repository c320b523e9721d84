"""`command`: a program prints the token.

It may print a bare token, an OAuth token response (RFC 6749 §5.1), a Kubernetes ExecCredential
(client.authentication.k8s.io), an AWS credential_process document, or what `az account get-access-token`
and `gcloud config config-helper` print.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from authproxy.errors import BadTokenReply
from authproxy.grants.grant import Grant
from authproxy.grants.reply import ENDS_AT, read_json, read_text
from authproxy.grants.reply_places import ReplyPointers, TokenAt
from authproxy.grants.steps import Answer, Flow, Run
from authproxy.tokens.token import Token
from authproxy.values import Pointer

NO_TOKENS = frozenset({"null", "true", "false"})  # what jq prints where there is no token


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandPointers(ReplyPointers):
    """As for OAuth, and as in the documents of well-known programs; what a program keeps is its own."""

    token: TokenAt = (
        "/access_token", "/accessToken", "/status/token", "/SessionToken",
        "/credential/access_token", "/token",
    )  # fmt: skip
    """The token. Example: /data/token"""
    expires_at: Pointer | tuple[Pointer, ...] = (
        "/status/expirationTimestamp", "/Expiration",
        "/credential/token_expiry", "/expiry/datetime", *ENDS_AT,
    )  # fmt: skip
    """Where there is no lifetime: the moment when the token ends. Example: /data/expires"""
    token_type: Pointer | tuple[Pointer, ...] = ("/token_type", "/tokenType")
    """Its type. Example: /data/type"""
    refresh_token: Pointer | tuple[Pointer, ...] | None = None
    """The refresh token; not looked for when left out. Example: /data/refresh"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Grant):
    """A program prints the token."""

    can_be_rejected: ClassVar[bool] = False

    command: tuple[str, ...] = field(repr=False)  # an argument may be a secret
    """The program that prints the token, and its arguments: a bare token, an OAuth token response, a
    Kubernetes ExecCredential, an AWS credential_process document, or what `az` and `gcloud` print. No
    shell is involved.
    Example: [az, account, get-access-token, --resource, "https://management.azure.com"]"""
    response: CommandPointers = field(default_factory=CommandPointers)
    """Where another JSON document has the token and the rest: JSON Pointers (RFC 6901).
    Example: {token: /data/token}"""

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise ValueError("command should name a program")

    def flow(self, expired: Token | None) -> Flow:  # noqa: ARG002 - the program keeps its own state
        answer: Answer = yield Run(self.command)
        document = read_json(answer)
        if isinstance(document, dict | list):
            # az writes `expiresOn` in local time, and older ones have no `expires_on` beside it.
            return self.read_token(answer, self.response, local_time="accessToken" in document)
        return self._bare(document if isinstance(document, str) else read_text(answer).strip(), answer)

    def _bare(self, text: str, answer: Answer) -> Token:
        if text in NO_TOKENS or text.startswith(("{", "[")):
            raise BadTokenReply(f"{answer.place} printed JSON without a token")
        if not text or "\n" in text:
            raise BadTokenReply(
                f"{answer.place} should print one token, but printed {'several lines' if text else 'nothing'}"
            )
        return self.make_token(text, asked_at=answer.asked_at, place=answer.place)
