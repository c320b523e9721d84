"""`command`: a program prints the token.

It may print a bare token, an OAuth token response (RFC 6749 §5.1), a Kubernetes ExecCredential
(client.authentication.k8s.io) or an AWS credential_process document.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

from authproxy.errors import BadTokenReply
from authproxy.grants.base import Answer, Flow, Grant, ReplyPointers, Run, find
from authproxy.tokens.token import Token

DOCUMENTS = (  # where each kind of document holds the token, and when it ends (RFC 3339)
    ("/status/token", "/status/expirationTimestamp"),
    ("/SessionToken", "/Expiration"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Grant):
    """`command` is the program and its arguments; no shell is involved."""

    command: tuple[str, ...] = field(repr=False)  # an argument may be a secret

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise ValueError("command should name a program")

    def flow(self, spent: Token | None) -> Flow:  # noqa: ARG002 - the program keeps its own state
        answer: Answer = yield Run(self.command)
        text = answer.body.decode("utf-8", "replace").strip()
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            return self._bare(text, answer)
        for token_at, ends_at in DOCUMENTS:
            if isinstance(value := find(document, token_at), str):
                lifetime = _seconds_until(find(document, ends_at), answer.asked_at)
                return self.make_token(value, asked_at=answer.asked_at, lifetime=lifetime, place=answer.place)
        return self.read_token(answer, ReplyPointers())

    def _bare(self, text: str, answer: Answer) -> Token:
        if not text or "\n" in text:
            raise BadTokenReply(
                f"{answer.place} should print one token, and printed {'several lines' if text else 'nothing'}"
            )
        return self.make_token(text, asked_at=answer.asked_at, place=answer.place)


def _seconds_until(moment: object, now: float) -> float | None:
    try:
        ends = datetime.fromisoformat(str(moment))
    except ValueError:
        return None
    seconds = (ends if ends.tzinfo else ends.replace(tzinfo=UTC)).timestamp() - now
    return seconds if seconds > 0 else None
