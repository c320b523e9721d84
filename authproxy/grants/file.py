"""`file`: a token that somebody else keeps fresh in a file, such as a projected Kubernetes token."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import ClassVar

from authproxy.errors import BadTokenReply
from authproxy.grants.grant import Grant
from authproxy.grants.reply import read_text
from authproxy.grants.steps import Answer, Flow, Read
from authproxy.tokens.token import Token
from authproxy.values import LocalPath

SETTLING_SECONDS = 2.0  # for so long what is in a file may be the first part of what is being written


@dataclass(frozen=True, slots=True, kw_only=True)
class File(Grant):
    """The content of `path`, white space around it stripped; read again when the file changes."""

    can_be_rejected: ClassVar[bool] = False
    is_stored: ClassVar[bool] = False

    path: LocalPath
    """A file that contains the token. It is read again when it changes, and need not be there at the start.
    Example: /var/run/secrets/tokens/api-token"""

    @property
    def watched_file(self) -> str | None:
        return self.path

    def flow(self, expired: Token | None) -> Flow:
        answer: Answer = yield Read(self.path)
        value = read_text(answer).strip()
        if not value:
            raise BadTokenReply(f"{self.path} is empty")
        was_jwt = expired is not None and is_jwt(expired.value)
        if was_jwt and answer.age < SETTLING_SECONDS and not is_jwt(value):
            raise BadTokenReply(f"{self.path} is half written: it contained a JWT, and does not now")
        return self.make_token(value, asked_at=answer.asked_at, place=self.path)


def is_jwt(value: str) -> bool:
    """Tell whether `value` has the form of a JWT (RFC 7519 §3), signed or not; nothing is verified."""
    header, *rest = value.split(".")
    if len(rest) != 2:
        return False
    try:
        return all(isinstance(json.loads(_decoded(part)), dict) for part in (header, rest[0]))
    except (ValueError, RecursionError, binascii.Error):
        return False


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
