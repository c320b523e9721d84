"""`file`: a token that somebody else keeps fresh in a file, such as a projected Kubernetes token."""

from dataclasses import dataclass

from authproxy.errors import BadTokenReply
from authproxy.grants.base import Answer, Flow, Grant, Read, read_text
from authproxy.tokens.token import Token
from authproxy.values import LocalPath


@dataclass(frozen=True, slots=True, kw_only=True)
class File(Grant):
    """The content of `path`, white space around it stripped; read again when the file changes."""

    path: LocalPath

    def flow(self, spent: Token | None) -> Flow:  # noqa: ARG002 - the file is asked, whatever was before
        answer: Answer = yield Read(self.path)
        value = read_text(answer).strip()
        if not value:
            raise BadTokenReply(f"{self.path} is empty")
        return self.make_token(value, asked_at=answer.asked_at, place=self.path)
