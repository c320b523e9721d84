"""The vendors, one small class each, and the table of them.

Each checks what the vendor documents, no more and no less strictly: method, path, query, media type,
credential, and the token on the API. Every credential below is made up.
"""

import re
import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from math import inf
from typing import ClassVar
from urllib.parse import urlencode, urlsplit

import pyotp
from aiohttp import web

from authproxy.demo.standin import (
    FORM,
    NO_STORE,
    Clock,
    DemoRoute,
    Endpoint,
    Issued,
    Received,
    StandIn,
    same,
)
from authproxy.values import is_loopback

USERNAME = "demo@example.com"
PASSWORD = "demo password: 100% sure"  # noqa: S105 - made up, and awkward on purpose
CLIENT_ID = "key-demo"
CLIENT_SECRET = "demo+secret/100%"  # noqa: S105 - form-encoded it would be another one


class ApiClient(StandIn):
    """A token for an API client: Basic without form-encoding, `grant_type` in the query, no body."""

    token_lifetime = 900
    token_path: ClassVar[str]

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {self.token_path: ("POST", self.client_token)}

    def client_token(self, received: Received) -> web.Response:
        if received.body:
            return _oauth_error(400, "invalid_request", "The request must not have a body")
        if "grant_type" not in received.query:
            return _oauth_error(400, "invalid_request", "Missing query parameter: grant_type")
        if received.query["grant_type"] != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "Only client_credentials is supported")
        if not _is(received.basic, CLIENT_ID, CLIENT_SECRET):
            return _oauth_error(401, "invalid_client", "Unknown client, or a wrong secret")
        return self.access_token()


class Code42(ApiClient):
    """CrashPlan / Code42: API clients, users with and without one-time passwords, and Basic."""

    name = "code42"
    token_path = "/api/v3/oauth/token"  # noqa: S105 - a place
    user_token_lifetime = 1800
    user_token_path = "/api/v3/auth/jwt"  # noqa: S105
    totp_secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105
    totp_user = "totp@example.com"

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:
        super().__init__(lifetime=lifetime, clock=clock)
        self.user_lifetime = self.user_token_lifetime if lifetime is None else lifetime
        self._totp = pyotp.TOTP(self.totp_secret)
        self._steps_used: set[int] = set()

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return super().endpoints | {self.user_token_path: ("GET", self.user_token)}

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002 - tokens come from the upstream itself
        user = {"password": PASSWORD}
        client = {"preset": "code42-api-client", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        totp = {"preset": "code42-user", "username": self.totp_user, "totp": self.totp_secret} | user
        basic = {"preset": "code42-basic", "username": USERNAME} | user
        return [
            DemoRoute("code42", client, "/api/v1/Computer?active=true"),
            DemoRoute("code42-user", totp, "/api/v1/User/my"),
            DemoRoute("code42-basic", basic, "/api/v4/user"),
        ]

    def user_token(self, received: Received) -> web.Response:
        if (failure := self._login_failure(received)) is not None:
            return failure
        token = self.tokens.hand_out(self.user_lifetime)
        if received.query.get("useBody") == "true":
            return web.json_response({"data": {"v3_user_token": token}}, headers=NO_STORE)
        reply = web.Response(headers=NO_STORE)
        # The vendor sets a cookie instead, which its API does not take afterwards.
        reply.set_cookie("C42_JWT_API_TOKEN", token, httponly=True)
        return reply

    def refusal(self, received: Received) -> web.Response | None:
        if received.credential is not None and received.credential[0] == "basic":
            if not _takes_basic(received.path):
                return self.challenge("invalid_token", "This API takes no Basic credential")
            return self._login_failure(received)
        return super().refusal(received)

    def _login_failure(self, received: Received) -> web.Response | None:
        if _is(received.basic, USERNAME, PASSWORD):
            return None
        if not _is(received.basic, self.totp_user, PASSWORD):
            return _code42_error("INVALID_CREDENTIALS", "The username or the password is wrong")
        code = received.headers.get("totp-auth")
        if code is None:
            return _code42_error("TIME_BASED_ONE_TIME_PASSWORD_REQUIRED", "Send a code in totp-auth")
        if not self._accepts(code):
            return _code42_error("TIME_BASED_ONE_TIME_PASSWORD_INVALID", "The code is wrong, old or used")
        return None

    def _accepts(self, code: str) -> bool:
        """Tell whether `code` is of now, or of the step before or after, and was not used (RFC 6238 §5.2)."""
        now = int(self.clock()) // self._totp.interval
        for step in (now - 1, now, now + 1):
            if step not in self._steps_used and same(self._totp.generate_otp(step), code):
                self._steps_used.add(step)
                return True
        return False


class Incydr(ApiClient):
    """Incydr / CrashPlan on their `api.*` hosts."""

    name = "incydr"
    token_path = "/v1/oauth"  # noqa: S105 - a place

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        client = {"preset": "incydr-api-client", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        return [DemoRoute("incydr", client, "/v1/devices")]


class Calendar42(StandIn):
    """Calendar42: tokens handed out by hand, for a user or for one action."""

    name = "calendar42"
    token_lifetime = inf

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:  # noqa: ARG002
        super().__init__(clock=clock)  # what is handed out by hand does not expire
        self._actions = Issued(clock)
        self._user_token = self.tokens.hand_out(self.lifetime)
        self._action_token = self._actions.hand_out(self.lifetime)

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        user = {"preset": "calendar42-user-token", "token": self._user_token}
        action = {"preset": "calendar42-action-token", "token": self._action_token}
        return [
            DemoRoute("calendar42", user, "/app/django/api/v2/events/"),
            DemoRoute("calendar42-action", action, "/app/django/api/v2/events/"),
        ]

    def refusal(self, received: Received) -> web.Response | None:
        scheme, token = received.credential or ("", "")
        issued = {"token": self.tokens, "actiontoken": self._actions}.get(scheme)
        if issued is None:  # to Django REST framework another scheme is no credential at all
            document = {"detail": "Authentication credentials were not provided."}
            return web.json_response(document, status=401, headers={"WWW-Authenticate": "Token"})
        if not issued.knows(token):
            return web.json_response({"detail": "Invalid token."}, status=403)
        return None

    def revoke(self) -> None:
        super().revoke()
        self._actions.forget()


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
            return _oauth_error(400, "invalid_request", f"Send {FORM}")
        if not _is((form.get("client_id", ""), form.get("client_secret", "")), CLIENT_ID, CLIENT_SECRET):
            return _oauth_error(403, "invalid_client", "Unknown client, or a wrong secret")
        if form.get("service") != self.service:
            return _oauth_error(400, "invalid_request", "Unknown service")
        good = {"authorization_code": self._redeems_code, "refresh_token": self._redeems_refresh_token}
        if form.get("grant_type") not in good:
            return _oauth_error(400, "unsupported_grant_type", "Unsupported grant_type")
        if not good[form["grant_type"]](form):
            return _oauth_error(400, "invalid_grant", "Unknown, used or expired")
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


class Up42(StandIn):
    """UP42: a Keycloak realm with a public client, passwords, and refresh tokens that rotate."""

    name = "up42"
    token_lifetime = 300
    refresh_lifetime = 1800
    token_path = "/realms/public/protocol/openid-connect/token"  # noqa: S105 - a place
    client_id = "up42-api"

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:
        super().__init__(lifetime=lifetime, clock=clock)
        self._refresh_tokens = Issued(clock)

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {self.token_path: ("POST", self.realm_token)}

    def routes(self, base_url: str) -> list[DemoRoute]:
        token_url = f"{base_url}{self.token_path}"
        user = {"preset": "up42", "username": USERNAME, "password": PASSWORD, "token_url": token_url}
        return [DemoRoute("up42", user, "/v2/assets")]

    def realm_token(self, received: Received) -> web.Response:
        if received.media_type != FORM:
            return web.json_response({"error": "HTTP 415 Unsupported Media Type"}, status=415)
        form = received.form
        for name in ("grant_type", "client_id"):
            if name not in form:
                return _oauth_error(401, "invalid_request", f"Missing form parameter: {name}")
        if form["client_id"] != self.client_id:
            return _oauth_error(401, "invalid_client", "Invalid client or Invalid client credentials")
        if form["grant_type"] == "password":
            return self._for_password(form)
        if form["grant_type"] == "refresh_token":
            return self._for_refresh_token(form)
        return _oauth_error(400, "unsupported_grant_type", "Unsupported grant_type")

    def _for_password(self, form: dict[str, str]) -> web.Response:
        for name in ("username", "password"):
            if name not in form:
                return _oauth_error(401, "invalid_request", f"Missing parameter: {name}")
        if not _is((form["username"], form["password"]), USERNAME, PASSWORD):
            return _oauth_error(401, "invalid_grant", "Invalid user credentials")
        return self._session()

    def _for_refresh_token(self, form: dict[str, str]) -> web.Response:
        if "refresh_token" not in form:
            return _oauth_error(400, "invalid_request", "No refresh token")
        if not self._refresh_tokens.redeem(form["refresh_token"]):
            return _oauth_error(400, "invalid_grant", "Token is not active")
        return self._session()

    def _session(self) -> web.Response:
        return self.access_token(
            token_type="Bearer",  # noqa: S106 - a type
            refresh_token=self._refresh_tokens.hand_out(self.refresh_lifetime),
            refresh_expires_in=self.refresh_lifetime,
            scope="email profile",
        )

    def revoke(self) -> None:
        super().revoke()
        self._refresh_tokens.forget()


class PasswordLogin(StandIn):
    """An API whose `POST /authorization` trades a name and a password for a token."""

    name = "login"
    token_lifetime = 3600

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {"/authorization": ("POST", self.authorization)}

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        user = {"preset": "password-login", "username": USERNAME, "password": PASSWORD}
        return [DemoRoute("login", user, "/items")]

    def authorization(self, received: Received) -> web.Response:
        if received.body and received.media_type != FORM:
            return web.json_response({"detail": f"Send {FORM}"}, status=415)
        sent = received.form if received.body else received.query
        if not {"username", "password"} <= sent.keys():
            return web.json_response({"detail": "username and password are required"}, status=400)
        if not _is((sent["username"], sent["password"]), USERNAME, PASSWORD):
            return web.json_response({"detail": "Wrong username or password"}, status=401)
        return self.access_token()


SYSTEMS: tuple[type[StandIn], ...] = (Code42, Incydr, Calendar42, Calendar42OAuth, Up42, PasswordLogin)


def _is(sent: tuple[str, str] | None, name: str, password: str) -> bool:
    return sent is not None and same(sent[0], name) and same(sent[1], password)


def _takes_basic(path: str) -> bool:
    version = re.match(r"/api/v(\d+)(?:/|\Z)", path)
    return version is not None and (version[1] == "1" or int(version[1]) >= 4)


def _oauth_error(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)


def _code42_error(name: str, description: str) -> web.Response:
    headers = {"WWW-Authenticate": 'Basic realm="code42"'}
    document = {"error": [{"primaryErrorKey": name, "description": description}]}
    return web.json_response(document, status=401, headers=headers)


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
