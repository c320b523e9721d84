"""Everything that can go wrong, as one tree.

    AuthproxyError
    ├── ConfigError                   the file is wrong: exit code 2, nothing is started
    ├── RequestRefused                we will not forward it
    │   ├── BadRequest                400  malformed
    │   ├── Forbidden                 403  the guard or `allow`
    │   ├── NoRoute                   404
    │   ├── RequestTimeout            408
    │   ├── BodyTooLarge              413
    │   ├── HeadersTooLarge           431
    │   ├── NoSuchRequest             404  the inspector does not remember it
    │   ├── NotReplayable             409  it does, but not all of it
    │   ├── TooManyTries              429  a person asks for a rejected credential once more, and again
    │   ├── TooManyStreams            503
    │   ├── KeyRequired               401  a missing `access` token, the only 401 of our own
    │   ├── ProxyKeyRequired          407  the same, at the forward proxy
    │   └── Misdirected               421  a request for another host than its connection is to
    ├── TokenError                    no token could be had
    │   ├── CredentialRejected        502  wrong password: trying again would lock the account
    │   ├── TokenLoop                 502  the token endpoint is authproxy itself
    │   ├── BadTokenReply             502  an answer without a token in it
    │   ├── TokenUnavailable          503  down, or held back for a while
    │   ├── LoginRequired             503  a person must log in first
    │   └── TokenTimeout              504
    ├── StoreError                    503  the token store cannot be used; the proxy goes on without it
    │   └── StoreBusy                 503  it can, but another process does not let go of a credential
    ├── NoCertificate                 502  none can be shown for a host of the forward proxy
    └── UpstreamError                 the upstream could not be asked
        ├── DNSFailure, ConnectFailure, TLSFailure, BadReply     502
        ├── Loop                                                 502  the upstream is authproxy itself
        ├── ConnectionLimit                                      503
        └── ConnectTimeout, ResponseTimeout                      504

Each branch knows the status it becomes and its `Proxy-Status` error (RFC 9209 §2.3); one place
(`authproxy.proxy.problem`) makes the response. No text in here ever holds a secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self


class AuthproxyError(Exception):
    """What authproxy answers for itself.

    `title` names the kind of failure where the class says too little, `detail` says what happened, `hint`
    what to do; `error` is an OAuth error code (RFC 6749 §5.2), `retry_after` is in seconds.
    """

    status: ClassVar[int] = 500
    title: str = "Internal error"
    proxy_error: ClassVar[str] = "proxy_internal_error"

    def __init__(
        self,
        detail: str,
        *,
        title: str | None = None,
        hint: str | None = None,
        error: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        if title is not None:
            self.title = title
        self.detail = detail
        self.hint = hint
        self.error = error
        self.retry_after = retry_after

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.detail}>"


def problem_document(
    error: AuthproxyError, *, route: str | None = None, request_id: str | None = None
) -> dict[str, object]:
    """Return `error` as a problem document (RFC 9457 §3.1), what is not known left out."""
    document = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "id": request_id,
        "route": route,
        "hint": error.hint,
        "error": error.error,
    }
    return {key: value for key, value in document.items() if value is not None}


# ── the configuration ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault of a configuration, at its place. Lines and columns count from 1; line 0 is the whole."""

    file: str
    line: int
    column: int
    key: str
    message: str

    @property
    def place(self) -> str:
        """Return FILE:LINE:COLUMN; of a whole file the program tells, as of its arguments."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else f"authproxy: {self.file}"

    def __str__(self) -> str:
        return ": ".join(filter(None, [self.place, self.key, self.message]))


class ConfigError(AuthproxyError):
    """The configuration cannot be used; `faults` lists every reason at once, `hint` what to do at all."""

    title = "Bad configuration"

    def __init__(self, faults: list[Fault], *, hint: str | None = None) -> None:
        self.faults = sorted(faults)
        self.files: Mapping[Path, tuple[int, int, int] | None] = {}  # what was read, each as it was then
        super().__init__("\n".join(map(str, self.faults)), hint=hint)


# ── the request ──────────────────────────────────────────────────────────────────────────────────


class RequestRefused(AuthproxyError):
    """A request that is not forwarded."""

    title = "Request refused"
    proxy_error = "http_request_denied"


class BadRequest(RequestRefused):
    """The request is malformed; its connection is closed."""

    status = 400
    title = "Malformed request"
    proxy_error = "http_request_error"


class KeyRequired(RequestRefused):
    """The caller did not send one of the `access` tokens."""

    status = 401
    title = "Access key required"


class ProxyKeyRequired(RequestRefused):
    """The caller of the forward proxy did not send one of the keys."""

    status = 407
    title = "Proxy key required"


class Misdirected(RequestRefused):
    """CONNECT, the TLS handshake and the request do not name the same host (RFC 9110 §15.5.20)."""

    status = 421
    title = "Misdirected request"
    proxy_error = "http_request_error"


class Forbidden(RequestRefused):
    """The guard, or a route's `allow`, says no."""

    status = 403
    title = "Forbidden"


class NoRoute(RequestRefused):
    """No route is mounted there."""

    status = 404
    title = "No such route"
    proxy_error = "destination_not_found"


class MethodNotAllowed(RequestRefused):
    """A page of our own that does not take the method."""

    status = 405
    title = "Method not allowed"
    proxy_error = "http_request_error"


class RequestTimeout(RequestRefused):
    """The client did not end its header section in time, or stopped in the middle of its body."""

    status = 408
    title = "Request timed out"
    proxy_error = "http_request_error"


class BodyTooLarge(RequestRefused):
    """The body is over `limits.body_bytes`."""

    status = 413
    title = "Body too large"
    proxy_error = "http_request_error"


class HeadersTooLarge(RequestRefused):
    """The header section is over `limits.header_bytes`."""

    status = 431
    title = "Headers too large"
    proxy_error = "http_request_error"
    LIMIT_HINT = "`limits.header_bytes` sets the limit"

    @classmethod
    def over(cls, limit: int) -> Self:
        """Return the error for one of more than `limit` bytes."""
        return cls(f"the header section is over {limit} bytes", hint=cls.LIMIT_HINT)


class NoSuchRequest(RequestRefused):
    """The inspector remembers no request of that id."""

    status = 404
    title = "No such request"
    proxy_error = "http_request_error"


class NotReplayable(RequestRefused):
    """The inspector does not have all of the request that is to be sent again."""

    status = 409
    title = "Cannot be replayed"
    proxy_error = "http_request_error"


class TooManyTries(RequestRefused):
    """A rejected credential was tried again a moment ago because somebody asked: more may lock it."""

    status = 429
    title = "Too many tries"


class TooManyStreams(RequestRefused):
    """As many readers of the live stream as there may be."""

    status = 503
    title = "Too many streams"
    proxy_error = "connection_limit_reached"


# ── the token ────────────────────────────────────────────────────────────────────────────────────


class TokenError(AuthproxyError):
    """No token could be had.

    `rejects` says that the credential itself was turned down: another try may lock its account.
    `refresh_refused` tells that a refresh token was refused on the way.
    """

    title = "No token"
    rejects: bool = False
    refresh_refused: bool = False


class CredentialRejected(TokenError):
    """The token endpoint refused who we are. Repeating it could lock the account."""

    status = 502
    title = "Credential rejected"
    rejects = True
    proxy_error = "proxy_configuration_error"


class BadTokenReply(TokenError):
    """The token endpoint answered something that holds no usable token."""

    status = 502
    title = "No token in the reply"
    proxy_error = "http_protocol_error"


class TokenLoop(TokenError):
    """The token endpoint turned out to be one of our own listeners."""

    status = 502
    title = "Token request loop"
    proxy_error = "proxy_loop_detected"


class TokenUnavailable(TokenError):
    """The token endpoint cannot be reached, or is left alone for `retry_after` seconds."""

    status = 503
    title = "Token endpoint unavailable"
    proxy_error = "destination_unavailable"


class LoginRequired(TokenError):
    """Only a person can obtain this token. Who knows where to log in adds that to the hint."""

    status = 503
    title = "Login required"
    proxy_error = "destination_unavailable"


class TokenTimeout(TokenError):
    """The token endpoint did not answer in time."""

    status = 504
    title = "Token endpoint timed out"
    proxy_error = "connection_timeout"


# ── the token store ──────────────────────────────────────────────────────────────────────────────


class StoreError(AuthproxyError):
    """The token store cannot be read or written."""

    status = 503
    title = "Token store unavailable"
    proxy_error = "destination_unavailable"


class StoreBusy(StoreError):
    """Another process holds a credential's lock for longer than we wait."""

    title = "Token store busy"


# ── the forward proxy ────────────────────────────────────────────────────────────────────────────


class NoCertificate(AuthproxyError):
    """Nobody can show clients a certificate for a host that is a route's."""

    status = 502
    title = "No certificate"
    proxy_error = "proxy_configuration_error"


# ── the upstream ─────────────────────────────────────────────────────────────────────────────────


class UpstreamError(AuthproxyError):
    """The upstream could not be asked, or did not answer in HTTP."""

    status = 502
    title = "Bad gateway"


class DNSFailure(UpstreamError):
    """The upstream's name does not resolve."""

    title = "Unknown upstream host"
    proxy_error = "dns_error"


class Loop(UpstreamError):
    """The upstream turned out to be one of our own listeners."""

    title = "Request loop"
    proxy_error = "proxy_loop_detected"


class ConnectFailure(UpstreamError):
    """Nobody listens there, or the network is unreachable."""

    title = "Upstream unreachable"
    proxy_error = "connection_refused"


class TLSFailure(UpstreamError):
    """The upstream's certificate or handshake is not acceptable."""

    title = "No TLS with the upstream"
    proxy_error = "tls_certificate_error"


class BadReply(UpstreamError):
    """The upstream closed early, or sent something that is not HTTP/1.1."""

    title = "No usable answer from the upstream"
    proxy_error = "http_protocol_error"


class ConnectionLimit(UpstreamError):
    """All connections to this upstream are in use."""

    status = 503
    title = "Too many connections"
    proxy_error = "connection_limit_reached"


class ConnectTimeout(UpstreamError):
    """`timeouts.connect` went by."""

    status = 504
    title = "Upstream timed out"
    proxy_error = "connection_timeout"


class ResponseTimeout(UpstreamError):
    """`timeouts.response` went by without a status line."""

    status = 504
    title = "Upstream timed out"
    proxy_error = "http_response_timeout"
