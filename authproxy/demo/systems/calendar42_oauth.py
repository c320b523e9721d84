"""Calendar42's OAuth server: authorization code with PKCE, for a person or silently."""

import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from math import inf
from typing import ClassVar
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME, is_login
from authproxy.demo.standin import NO_STORE, DemoRoute, Endpoint, Issued, Received, StandIn, oauth_error, same
from authproxy.grants.requests import FORM
from authproxy.tokens.source import Clock
from authproxy.values import is_loopback


@dataclass(frozen=True, slots=True)
class _Login:
    """What a browser was sent to the login with, and must be sent back with."""

    redirect_uri: str
    state: str = field(repr=False)
    challenge: str = field(repr=False)


class Calendar42OAuth(StandIn):
    """Calendar42's OAuth: with the user's consent, or silently for whoever is no user yet."""

    name = "calendar42-oauth"
    token_lifetime = 36000
    authorize_path = "/oauth2/authorize/"
    token_path = "/oauth2/token/"  # noqa: S105 - a place
    service = "demo-service"
    scopes: ClassVar = frozenset({"service.read", "service.write"})

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:
        super().__init__(lifetime=lifetime, clock=clock)
        self._refresh_tokens = Issued(clock)
        self._pending: dict[str, _Login] = {}  # by the number of the page that asks the user
        self._codes: dict[str, _Login] = {}

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {self.token_path: ("POST", self.oauth_token)}

    @property
    def pages(self) -> dict[str, Endpoint]:
        return {self.authorize_path: self.authorize}

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "service": self.service}
        consent = {"preset": "calendar42-oauth"} | client
        silent = {"preset": "calendar42-silent-oauth", "email_address": "nobody@example.com"} | client
        silent["redirect_uri"] = "http://127.0.0.1:8081/callback"
        return [
            DemoRoute("calendar42-oauth", consent, "/app/django/api/v2/calendars/", needs_login=True),
            DemoRoute("calendar42-silent", silent, "/app/django/api/v2/calendars/"),
        ]

    # ── the pages ────────────────────────────────────────────────────────────────────────────────

    def authorize(self, received: Received) -> web.Response:
        if received.method == "POST":
            return self._decide(received.form)
        asked = received.query
        if not same(asked.get("client_id", ""), CLIENT_ID) or not _is_local(asked.get("redirect_uri", "")):
            return _page(403, "<p>No client is registered with that ID and redirect URI.</p>")
        login = _Login(asked["redirect_uri"], asked.get("state", ""), asked.get("code_challenge", ""))
        if asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256":
            return _sent_back(login, error="invalid_request")
        if "email_address" in asked:
            return self._silently(login, asked)
        return self._ask_the_user(login, "<p>May authproxy see your calendars?</p>")

    def _silently(self, login: _Login, asked: dict[str, str]) -> web.Response:
        if asked.get("scope") not in self.scopes:
            return _sent_back(login, error="invalid_scope")
        if asked["email_address"] == USERNAME:  # somebody who has an account must say so themselves
            field = '<p><input type="password" name="password" aria-label="Password"></p>'
            return self._ask_the_user(login, f"<p>Log in as {escape(USERNAME)}</p>{field}")
        return self._with_a_code(login)

    def _ask_the_user(self, login: _Login, question: str) -> web.Response:
        number = secrets.token_urlsafe(16)
        self._pending[number] = login
        buttons = (
            '<button name="allow" value="yes">Allow</button> <button name="allow" value="no">Deny</button>'
        )
        hidden = f'<input type="hidden" name="login" value="{number}">'
        return _page(200, f'<form method="post">{question}{hidden}<p>{buttons}</p></form>')

    def _decide(self, form: dict[str, str]) -> web.Response:
        login = self._pending.pop(form.get("login", ""), None)
        if login is None:
            return _page(400, "<p>This page is too old. Start again.</p>")
        if form.get("allow") != "yes" or not same(form.get("password", PASSWORD), PASSWORD):
            return _sent_back(login, error="access_denied")
        return self._with_a_code(login)

    def _with_a_code(self, login: _Login) -> web.Response:
        code = secrets.token_urlsafe(16)
        self._codes[code] = login
        return _sent_back(login, code=code)

    # ── the token endpoint ───────────────────────────────────────────────────────────────────────

    def oauth_token(self, received: Received) -> web.Response:
        form = received.form
        if received.media_type != FORM:
            return oauth_error(400, "invalid_request", f"Send {FORM}")
        if not is_login((form.get("client_id", ""), form.get("client_secret", "")), CLIENT_ID, CLIENT_SECRET):
            return oauth_error(403, "invalid_client", "Unknown client, or a wrong secret")
        if form.get("service") != self.service:
            return oauth_error(400, "invalid_request", "Unknown service")
        good = {"authorization_code": self._redeems_code, "refresh_token": self._redeems_refresh_token}
        if form.get("grant_type") not in good:
            return oauth_error(400, "unsupported_grant_type", "Unsupported grant_type")
        if not good[form["grant_type"]](form):
            return oauth_error(400, "invalid_grant", "Unknown, used or expired")
        return self.access_token(
            token_type="Bearer",  # noqa: S106 - a type
            refresh_token=self._refresh_tokens.hand_out(inf),
        )

    def _redeems_code(self, form: dict[str, str]) -> bool:
        login = self._codes.pop(form.get("code", ""), None)
        if login is None or login.redirect_uri != form.get("redirect_uri"):
            return False
        digest = sha256(form.get("code_verifier", "").encode()).digest()
        return same(login.challenge, urlsafe_b64encode(digest).rstrip(b"=").decode())

    def _redeems_refresh_token(self, form: dict[str, str]) -> bool:
        return self._refresh_tokens.redeem(form.get("refresh_token", ""))

    # ── the API ──────────────────────────────────────────────────────────────────────────────────

    def refusal(self, received: Received) -> web.Response | None:
        scheme, token = received.credential or ("", "")
        if scheme != "bearer":
            document = {"detail": "Authentication credentials were not provided."}
            return web.json_response(document, status=401, headers={"WWW-Authenticate": "Bearer"})
        if not self.tokens.knows(token):
            return web.json_response({"detail": "Invalid token."}, status=403)
        return None

    def revoke(self) -> None:
        super().revoke()
        self._refresh_tokens.forget()


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")


def _sent_back(login: _Login, **answer: str) -> web.Response:
    """Return a redirect that takes the browser back to where it came from."""
    query = urlencode(answer | ({"state": login.state} if login.state else {}))
    location = f"{login.redirect_uri}{'&' if '?' in login.redirect_uri else '?'}{query}"
    return web.Response(status=302, headers={"Location": location} | NO_STORE)


def _page(status: int, body: str) -> web.Response:
    title = "Calendar42 (a stand-in)"
    text = f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1>{body}</html>'
    headers = {"X-Frame-Options": "DENY"} | NO_STORE
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)
