"""The steps of a grant's conversation, and the answers to them.

    step = next(flow)         Ask an HTTP server, Run a command, Read a file, make a Code …
    step = flow.send(answer)  … and so on, until the flow returns a Token

A step is plain data; `runner.py` carries it out.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from authproxy.masking import without_query
from authproxy.tokens.token import Token

# ── steps of a conversation, and their answers ───────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this HTTP request."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    client_certificate: "ClientCertificate | None" = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What was made for this request alone, such as a signed assertion; masked in the server's words."""
    setting: str = field(default="token_url", compare=False)
    """The key of the configuration that the URL comes from, for advice."""

    @property
    def place(self) -> str:
        """Return the URL, fit to print."""
        return without_query(self.url)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The certificate to show when the connection is made, PEM; the key may stand in the same file."""

    cert_file: str
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class Discover:
    """Find out where this issuer's endpoints are; answered with a `Server`, and remembered for a while."""

    issuer: str


@dataclass(frozen=True, slots=True)
class Now:
    """Tell the time, in epoch seconds."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run this program, without a shell."""

    argv: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Read:
    """Read this file."""

    path: str


@dataclass(frozen=True, slots=True)
class Code:
    """Make a one-time code from this secret (RFC 6238), one that was not used before."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UseUp:
    """Note that this one-time code is used at `place` now; it fails when it was used there before."""

    code: str = field(repr=False)
    place: str


@dataclass(frozen=True, slots=True)
class Show:
    """Have the user open `url`, and enter `code` there if there is one; `complete_url` has it in it.

    `back_to` is where the browser is redirected to afterwards, if it is.
    """

    url: str = field(repr=False)
    code: str | None = field(default=None, repr=False)
    complete_url: str | None = field(default=None, repr=False)
    expires_in: float | None = None
    back_to: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Let some time go by."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Callback:
    """Wait until the user's browser comes back with `state`; answered with that request's query."""

    state: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `asked_at` (epoch seconds) is taken before the question left.

    `age` is for how many seconds a file had not been written to; `secrets` are the question's own. `setting`
    is the key that says who was asked; "" for what is not asked over HTTP.
    """

    body: bytes = field(repr=False)
    asked_at: float
    place: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    age: float = inf
    secrets: tuple[str, ...] = field(default=(), repr=False)
    setting: str = field(default="token_url", compare=False)

    @property
    def said(self) -> str:
        """Return who said something, and how."""
        return f"{self.place} answered {self.status}" if self.setting else f"{self.place} answered"


Step = Ask | Discover | Now | Run | Read | Code | UseUp | Show | Wait | Callback
Flow = Generator[Step, Any, Token]
