"""`authorization_code`: the user logs in with a browser, which brings a code back (RFC 6749 §4.1).

    Show the authorization URL ──▶ the user logs in there ──▶ the browser comes back with ?code=…&state=…
                                                                                │ Callback
                                     Token ◀── the code, redeemed with the verifier (PKCE, RFC 7636)

PKCE always, and only as S256. What comes back is believed when its `state` is ours and its `iss`, if there
is one or has to be, is the issuer's (RFC 9207). Where the browser comes back to is up to who runs the login:
a listener on loopback (RFC 8252 §7.3), the admin listener, or a person who pastes what the browser shows.

With `silent` nobody is shown anything: some servers redirect back at once when they know what they need.
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urljoin, urlsplit

from authproxy.errors import BadTokenReply, CredentialRejected, LoginRequired, TokenUnavailable
from authproxy.grants.discovery import Server
from authproxy.grants.grant import SecretMap
from authproxy.grants.interactive import InteractiveGrant
from authproxy.grants.oauth import OAuthGrant
from authproxy.grants.reply import read_json
from authproxy.grants.requests import in_pairs, with_query
from authproxy.grants.steps import Answer, Ask, Callback, Flow, Show, Step
from authproxy.masking import scrub, without_query
from authproxy.values import URL

OURS = ("response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method")
AGAIN = "start the login again"
PASSING = frozenset({"temporarily_unavailable", "server_error"})
NEEDS_A_PERSON = frozenset({  # OpenID Connect Core §3.1.2.6
    "login_required", "consent_required", "interaction_required", "account_selection_required",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationCode(InteractiveGrant):
    """A person logs in with a browser (RFC 6749 §4.1), with PKCE (RFC 7636, S256)."""

    authorization_url: URL | None = None
    """The authorization endpoint, where the user logs in; published by `issuer`.
    Example: https://login.example.com/authorize"""
    redirect_uri: URL | None = None
    """Where the browser is redirected to; by default a listener on this machine.
    Example: http://127.0.0.1:8081/callback"""
    authorization_params: SecretMap = field(default_factory=dict)
    """Further parameters of the authorization URL. Example: {prompt: consent}"""
    silent: bool = False
    """Ask for the code without a browser, from a server that redirects back at once. Example: true"""

    def __post_init__(self) -> None:
        if self.issuer is None and self.authorization_url is None:
            raise ValueError("needs authorization_url, or issuer to discover it from")
        if self.client_id is None:
            raise ValueError("needs client_id")
        if self.silent and self.redirect_uri is None:
            raise ValueError("silent needs redirect_uri, the one that the client is registered with")
        if taken := sorted(set(OURS) & self.authorization_params.keys()):
            raise ValueError(f"authorization_params should not name {', '.join(taken)}: the login does")
        InteractiveGrant.__post_init__(self)

    @property
    def needs_person(self) -> bool:
        return not self.silent

    @property
    def comes_back_to(self) -> str | None:
        return self.redirect_uri

    def obtain(self) -> Flow:
        if not self.silent:
            return (yield from InteractiveGrant.obtain(self))
        attempt = yield from self._begin(self.redirect_uri)
        query = yield from self._asked_silently(attempt)
        return (yield from self._redeem(attempt, query))

    def login(self, redirect_uri: str | None = None) -> Flow:
        attempt = yield from self._begin(redirect_uri or self.redirect_uri)
        yield Show(attempt.url, back_to=attempt.redirect_uri)
        query: Mapping[str, str] = yield Callback(attempt.state)
        return (yield from self._redeem(attempt, query))

    def urls(self) -> Iterator[tuple[str, str]]:
        yield from OAuthGrant.urls(self)
        if self.authorization_url is not None:
            yield "authorization_url", self.authorization_url

    # ── the steps of a login ─────────────────────────────────────────────────────────────────────

    def _begin(self, redirect_uri: str | None) -> Generator[Step, Any, "_Attempt"]:
        if redirect_uri is None:
            raise ValueError("a login needs a redirect URI")
        server = yield from self.server()
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        parameters: dict[str, str | tuple[str, ...]] = {
            "response_type": "code",
            "client_id": self.client_id or "",
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        parameters |= self.wanted()
        parameters |= {name: value.get_secret_value() for name, value in self.authorization_params.items()}
        pairs = in_pairs(parameters) + [("resource", each) for each in self.resources]
        url = with_query(self.endpoint(server, "authorization_url"), pairs)
        return _Attempt(url, redirect_uri, state, verifier, server)

    def _asked_silently(self, attempt: "_Attempt") -> Generator[Step, Any, Mapping[str, str]]:
        """Ask for the authorization URL as a browser would; return the query of the redirect back to us."""
        setting = "authorization_url" if self.authorization_url is not None else "issuer"
        answer: Answer = yield Ask("GET", attempt.url, {"Accept": "*/*"}, setting=setting)
        if answer.status >= 400:
            self.refuse_failures(answer, read_json(answer), (attempt.state,))
        target = _redirected_to(answer, attempt)
        query = self._query_of(answer, target, attempt) if target is not None else None
        if query is None:
            raise LoginRequired(
                f"{answer.place} requires a user to log in: it answered {answer.status} "
                "instead of redirecting back with a code",
                hint="log in",
            )
        if query.get("error") in NEEDS_A_PERSON:
            raise LoginRequired(
                f"{answer.place} requires a user to log in", hint="log in", error=query["error"]
            )
        return query

    def _query_of(self, answer: Answer, target: SplitResult, attempt: "_Attempt") -> Mapping[str, str] | None:
        """Return the query of a redirect back to us, which belongs to `attempt`; None for any other redirect.

        Raises `BadTokenReply` for a response that cannot be used: no login mends that.
        """
        pairs = parse_qsl(target.query, keep_blank_values=True)
        query = dict(pairs)
        ours = _same(query.get("state"), attempt.state)
        if not _is_back(target, attempt):
            if not ours or "code" not in query:
                return None
            there = scrub(without_query(target.geturl()), self.secrets())
            cause = f"with a code to {there}, not to redirect_uri ({attempt.redirect_uri})"
            hint = "set `redirect_uri` to the one that the client is registered with"
        elif not ours or len(query) < len(pairs):
            fault = "another `state` than was sent" if "state" in query else "no `state`"
            cause = f"back with {'a parameter that occurs twice' if ours else fault}"
            hint = "check `authorization_url`: a server sends back the `state` that it was sent"
        else:
            return query
        raise BadTokenReply(f"{answer.place} redirected {cause}", title="Login failed", hint=hint)

    def _redeem(self, attempt: "_Attempt", query: Mapping[str, str]) -> Flow:
        code = self._code(attempt, query)
        answer = yield from self.ask_plainly(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": attempt.redirect_uri,
                "code_verifier": attempt.verifier,
            }
        )
        return self.read_token(answer, self.response, more_secrets=(code, attempt.verifier))

    def _code(self, attempt: "_Attempt", query: Mapping[str, str]) -> str:
        """Return the code that came back, once it is sure that it is the answer to this attempt."""
        if not _same(query.get("state"), attempt.state):
            raise BadTokenReply("the callback carries another state: it belongs to another login", hint=AGAIN)
        self._check_issuer(attempt.server, query.get("iss"))
        if error := query.get("error"):
            raise self._refusal(error, query.get("error_description"))
        if not query.get("code"):
            raise BadTokenReply("the callback carries no code", hint=AGAIN)
        return query["code"]

    def _check_issuer(self, server: Server, iss: str | None) -> None:
        """Refuse the answer of another server than the one that was asked (RFC 9207 §2.4)."""
        if server.issuer is None or (iss is None and not server.always_says_iss):
            return
        if iss != server.issuer:
            said = f"names {scrub(iss, self.secrets())}" if iss else "names no issuer"
            raise BadTokenReply(f"the callback {said} (iss); expected {server.issuer}", hint=AGAIN)

    def _refusal(self, error: str, description: str | None) -> CredentialRejected | TokenUnavailable:
        shown = scrub(error, self.secrets())
        words = f"{shown}: {scrub(description, self.secrets())}" if description else shown
        if error in PASSING:
            return TokenUnavailable(f"the login failed: {words}", hint=AGAIN, error=shown)
        by_the_user = error == "access_denied" or error in NEEDS_A_PERSON
        hint = AGAIN if by_the_user else "check `client_id`, `scope` and `redirect_uri`"
        return CredentialRejected(f"the login failed: {words}", hint=hint, error=shown)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try to log in: what went out, and what must come back."""

    url: str = field(repr=False)
    redirect_uri: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)
    server: Server


def challenge(verifier: str) -> str:
    """Return the code challenge of a verifier (RFC 7636 §4.2, S256)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _redirected_to(answer: Answer, attempt: _Attempt) -> SplitResult | None:
    """Return where an answer redirects to; None where it does not."""
    location = answer.headers.get("Location")
    if not 300 <= answer.status < 400 or not location:
        return None
    try:
        return urlsplit(urljoin(attempt.url, location))
    except ValueError:
        return None


def _is_back(target: SplitResult, attempt: _Attempt) -> bool:
    own = urlsplit(attempt.redirect_uri)
    return (target.scheme, target.netloc, target.path) == (own.scheme, own.netloc, own.path)


def _same(one: str | None, other: str) -> bool:
    return one is not None and hmac.compare_digest(one.encode(), other.encode())
