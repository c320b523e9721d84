"""`device_code`: the user logs in on another device, by a short code (RFC 8628).

ask for a code ──▶ Show it ──▶ Wait ──▶ ask for the token ─┬─ authorization_pending: again
                                 ▲                         ├─ slow_down: again, 5 s slower from now on
                                 └─────────────────────────┴─ no answer: again, twice as slow
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from authproxy.errors import (
    BadTokenReply,
    CredentialRejected,
    LoginRequired,
    TokenError,
    TokenTimeout,
    TokenUnavailable,
)
from authproxy.grants.interactive import InteractiveGrant
from authproxy.grants.oauth import OAuthGrant
from authproxy.grants.reply import find, read_json, read_lifetime
from authproxy.grants.steps import Flow, Now, Show, Step, Wait
from authproxy.masking import scrub
from authproxy.values import URL, is_url

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL = 5.0  # seconds between two questions, when the server does not say (§3.2)
SLOWER = 5.0  # seconds that `slow_down` adds (§3.5)
MAX_PAUSE = 60.0  # seconds, while nothing comes
CODE_LIFETIME = 600.0  # seconds, of a server that leaves out the required `expires_in`
GONE = frozenset({"expired_token", "invalid_grant"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode(InteractiveGrant):
    """A person logs in on another device, with a code (RFC 8628)."""

    device_authorization_url: URL | None = None
    """The device authorization endpoint, for a login on another device; published by `issuer`.
    Example: https://login.example.com/device"""

    def __post_init__(self) -> None:
        if self.issuer is None and self.device_authorization_url is None:
            raise ValueError("needs device_authorization_url, or issuer to discover it from")
        InteractiveGrant.__post_init__(self)

    def login(self, redirect_uri: str | None = None) -> Flow:  # noqa: ARG002 - no browser comes back
        return (yield from device_login(self))

    def urls(self) -> Iterator[tuple[str, str]]:
        yield from OAuthGrant.urls(self)
        if self.device_authorization_url is not None:
            yield "device_authorization_url", self.device_authorization_url


@dataclass(frozen=True, slots=True)
class _Device:
    code: str
    asked_at: float
    expires_at: float
    interval: float
    show: Show


def device_login(grant: OAuthGrant) -> Flow:
    """Log a user in by a code; any grant can whose server has a device endpoint. Raises `TokenError`."""
    device = yield from _begin(grant)
    yield device.show
    return (yield from _poll(grant, device))


def _begin(grant: OAuthGrant) -> Generator[Step, Any, _Device]:
    answer = yield from grant.ask_plainly(grant.wanted(), "device_authorization_url")
    document = read_json(answer)
    grant.refuse_failures(answer, document)
    code, user_code = find(document, "/device_code"), find(document, "/user_code")
    url = find(document, ("/verification_uri", "/verification_url"))  # the second is of an old draft
    if not (isinstance(code, str) and code and isinstance(user_code, str) and user_code and is_url(url)):
        raise BadTokenReply(
            f"{answer.place} answered {answer.status} without a device_code, user_code or verification_uri",
            hint="check `device_authorization_url`",
        )
    complete = find(document, ("/verification_uri_complete", "/verification_url_complete"))
    lifetime = read_lifetime(find(document, "/expires_in")) or CODE_LIFETIME
    return _Device(
        code,
        asked_at=answer.asked_at,
        expires_at=answer.asked_at + lifetime,
        interval=read_lifetime(find(document, "/interval")) or INTERVAL,
        show=Show(str(url), scrub(user_code, ()), str(complete) if is_url(complete) else None, lifetime),
    )


def _poll(grant: OAuthGrant, device: _Device) -> Flow:
    now, interval = device.asked_at, device.interval
    pause = interval
    while True:
        yield Wait(min(pause, device.expires_at - now))
        now = yield Now()
        if now >= device.expires_at:
            raise _too_late()
        try:
            return (yield from _redeem(grant, device))
        except (CredentialRejected, TokenTimeout, TokenUnavailable) as failure:
            if failure.error == "slow_down":
                interval = pause = interval + SLOWER
            elif failure.error == "authorization_pending":
                pause = interval
            elif isinstance(failure, CredentialRejected):
                raise _final(failure) from failure
            else:
                pause = max(min(pause * 2, MAX_PAUSE), interval, failure.retry_after or 0)


def _redeem(grant: OAuthGrant, device: _Device) -> Flow:
    answer = yield from grant.ask_plainly({"grant_type": GRANT_TYPE, "device_code": device.code})
    return grant.read_token(answer, grant.response, more_secrets=(device.code,))


def _too_late() -> LoginRequired:
    return LoginRequired("the code expired before it was entered", hint="log in again", error="expired_token")


def _final(failure: CredentialRejected) -> TokenError:
    if failure.error in GONE:
        return _too_late()
    if failure.error == "access_denied":
        return CredentialRejected("the user denied the login", hint="log in again", error=failure.error)
    return failure
