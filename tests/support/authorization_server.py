"""A small authorization server with an API behind it, for tests of logins; and a user without a browser.

    async with provider() as server, user() as ann:
        back = await ann.log_in(server.authorization_url(…))   where the server sends her browser back to
        await ann.open(back)                                   …and she goes there

Every user consents. The server is strict: a code is good once, for its client, redirect URI and verifier.
"""

import secrets
from base64 import b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import unquote_plus, urlencode

import aiohttp
from aiohttp import web

from tests.support.aiohttp_server import served

CLIENT_ID = "a client"
CLIENT_SECRET = "s:%+/& of the client"
SCOPES = "calendar offline_access"


class Provider:
    """What it was asked is in `asked` (the authorization endpoint) and `redeemed` (the token endpoint)."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, str]] = []
        self.redeemed: list[dict[str, str]] = []
        self.called: list[str] = []
        self.handed_out: list[str] = []
        """Every code, token and verifier so far: none of them may ever be printed."""
        self.says_iss: str | None = None
        self.refuses: str | None = None
        self.gives_refresh_tokens = True
        self.refuses_refresh: web.Response | None = None
        """What a refresh token is answered with instead of tokens."""
        self.lifetime = 600.0
        self.device_answers: list[str] = []
        """What the device's next polls are answered with; a token once there is nothing left."""
        self._codes: dict[str, dict[str, str]] = {}
        self._device_codes: set[str] = set()
        self._access_tokens: set[str] = set()
        self._refresh_tokens: set[str] = set()

    def auth(self, grant: str = "authorization_code", **more: Any) -> dict[str, Any]:
        """Return the `auth` of a route that logs in here; None takes a key away."""
        keys = {
            "grant": grant,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "token_url": f"{self.url}/token",
            "authorization_url": f"{self.url}/authorize" if grant == "authorization_code" else None,
            "device_authorization_url": f"{self.url}/device" if grant == "device_code" else None,
            "scope": SCOPES,
            **more,
        }
        return {key: value for key, value in keys.items() if value is not None}

    def discovered(self, grant: str = "authorization_code", **more: Any) -> dict[str, Any]:
        """Return an `auth` that finds the endpoints by `issuer`."""
        endpoints = dict.fromkeys(("token_url", "authorization_url", "device_authorization_url"))
        return self.auth(grant, **(endpoints | {"issuer": self.url} | more))

    def revoke(self) -> None:
        """Take back every access token; refresh tokens stay good."""
        self._access_tokens.clear()

    def forget_codes(self) -> None:
        """Have every code that is under way count as redeemed."""
        self._codes.clear()

    # ── what it answers ──────────────────────────────────────────────────────────────────────────

    async def describe(self, _request: web.Request) -> web.Response:
        document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
            "authorization_response_iss_parameter_supported": True,
        }
        return web.json_response(document)

    async def authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        self.asked.append(asked)
        back = {"state": asked["state"], "iss": self.says_iss or self.url}
        if self.refuses is not None:
            return _redirect(asked["redirect_uri"], {"error": self.refuses, **back})
        code = self._secret()
        self._codes[code] = asked
        return _redirect(asked["redirect_uri"], {"code": code, **back})

    async def device(self, request: web.Request) -> web.Response:
        if not _is_the_client(request, dict(await request.post())):
            return _refused("invalid_client", 401)
        code = self._secret()
        self._device_codes.add(code)
        url = f"{self.url}/enter"
        document = {
            "device_code": code,
            "user_code": "WDJB-MJHT",
            "verification_uri": url,
            "verification_uri_complete": f"{url}?user_code=WDJB-MJHT",
            "expires_in": 600,
            "interval": 0.01,
        }
        return web.json_response(document)

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.redeemed.append(form)
        self.handed_out += [form[name] for name in ("code_verifier",) if name in form]
        if not _is_the_client(request, form):
            return _refused("invalid_client", 401)
        if form["grant_type"] == "authorization_code" and not self._redeems_code(form):
            return _refused("invalid_grant")
        if form["grant_type"] == "refresh_token":
            if self.refuses_refresh is not None:
                return self.refuses_refresh
            if form["refresh_token"] not in self._refresh_tokens:
                return _refused("invalid_grant")
            self._refresh_tokens.remove(form["refresh_token"])
        if form["grant_type"].endswith("device_code"):
            if form["device_code"] not in self._device_codes:
                return _refused("invalid_grant")
            if self.device_answers:
                return _refused(self.device_answers.pop(0))
            self._device_codes.remove(form["device_code"])
        return web.json_response(self._tokens())

    async def api(self, request: web.Request) -> web.Response:
        self.called.append(request.path_qs)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self._access_tokens:
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        return web.Response(text="fine")

    def _redeems_code(self, form: dict[str, str]) -> bool:
        asked = self._codes.pop(form["code"], None)
        return (
            asked is not None
            and asked["redirect_uri"] == form["redirect_uri"]
            and asked["code_challenge"] == challenge(form["code_verifier"])
        )

    def _tokens(self) -> dict[str, Any]:
        token = self._secret()
        self._access_tokens.add(token)
        document = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        if not self.gives_refresh_tokens:
            return document
        refresh_token = self._secret()
        self._refresh_tokens.add(refresh_token)
        return document | {"refresh_token": refresh_token}

    def _secret(self) -> str:
        made = secrets.token_urlsafe(24)
        self.handed_out.append(made)
        return made


def challenge(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 §4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """Serve one on a free port."""
    server = Provider()
    async with served(
        web.get("/.well-known/openid-configuration", server.describe),
        web.get("/authorize", server.authorize),
        web.post("/device", server.device),
        web.post("/token", server.token),
        web.route("*", "/api/{path:.*}", server.api),
    ) as server.url:
        yield server


@dataclass(frozen=True, slots=True)
class Page:
    """A whole response."""

    status: int
    text: str
    location: str
    headers: Any


class User:
    """Somebody with a client that follows nothing by itself."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def open(self, url: str, **options: Any) -> Page:
        async with self._session.get(url, allow_redirects=False, **options) as reply:
            return Page(reply.status, await reply.text(), reply.headers.get("Location", ""), reply.headers)

    async def post(self, url: str, **options: Any) -> Page:
        async with self._session.post(url, allow_redirects=False, **options) as reply:
            return Page(reply.status, await reply.text(), reply.headers.get("Location", ""), reply.headers)

    async def log_in(self, authorization_url: str) -> str:
        """Log in, and return where the server sends the browser back to."""
        page = await self.open(authorization_url)
        assert page.status == 302, page.text
        return page.location


@asynccontextmanager
async def user() -> AsyncIterator[User]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield User(session)


def _redirect(url: str, query: dict[str, str]) -> web.Response:
    return web.Response(status=302, headers={"Location": f"{url}?{urlencode(query)}"})


def _refused(error: str, status: int = 400) -> web.Response:
    return web.json_response({"error": error}, status=status)


def _is_the_client(request: web.Request, form: dict[str, Any]) -> bool:
    """Tell whether it is our client, by Basic as RFC 6749 §2.3.1 has it, or in the form."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        name, _, secret = b64decode(value).decode().partition(":")
        return (unquote_plus(name), unquote_plus(secret)) == (CLIENT_ID, CLIENT_SECRET)
    return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
