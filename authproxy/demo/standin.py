"""What every stand-in has in common: it judges a request, and never does I/O.

    a POST to a path of `controls`     ──► what was handed out is refused from now on
    a request to a path of `endpoints` ──► that endpoint answers, mostly with a token
    a request to a path of `pages`     ──► that page, for a user who logs in
    any other request                  ──► `refusal` looks at its Authorization; None lets it through

A vendor is a subclass in a file of `authproxy.demo.systems`; `authproxy.demo.serve` puts it on a socket.
"""

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDictProxy

from authproxy.tokens.source import Clock

NO_STORE = {"Cache-Control": "no-store"}  # RFC 6749 §5.1
REVOKE, EXPIRE = "/demo/revoke", "/demo/expire"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived; `path_qs` is the target as it stood on the wire."""

    method: str
    path_qs: str
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        return self.path_qs.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.path_qs.partition("?")[2], keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @property
    def media_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def credential(self) -> tuple[str, str] | None:
        """The scheme, in lower case, and what follows it; None without an Authorization header."""
        value = self.headers.get("Authorization")
        if value is None:
            return None
        scheme, _, rest = value.partition(" ")
        return scheme.lower(), rest.strip()

    @property
    def basic(self) -> tuple[str, str] | None:
        """The name and the password of a Basic credential (RFC 7617), exactly as sent."""
        scheme, encoded = self.credential or ("", "")
        if scheme != "basic":
            return None
        try:
            name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return (name, password) if colon else None


@dataclass(frozen=True, slots=True)
class DemoRoute:
    """One route of the demo's configuration: the preset it shows, and a path worth asking for."""

    name: str
    auth: Mapping[str, Any] = field(repr=False)
    example: str
    needs_login: bool = False  # a person's, before the example can be asked for


class Issued:
    """Tokens that were handed out, and until when each is good. Forgotten with the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._good_until: dict[str, float] = {}

    def hand_out(self, lifetime: float, token: str | None = None) -> str:
        """Make `token`, by default one that nobody can guess, good for `lifetime` seconds; return it."""
        now = self._clock()
        self._good_until = {token: until for token, until in self._good_until.items() if until > now}
        token = secrets.token_urlsafe(32) if token is None else token
        self._good_until[token] = now + lifetime
        return token

    def knows(self, token: str) -> bool:
        return self._good_until.get(token, 0.0) > self._clock()

    def redeem(self, token: str) -> bool:
        """Take `token` back, for good; tell whether it was still good."""
        known = self.knows(token)
        self._good_until.pop(token, None)
        return known

    def expire(self) -> None:
        """Let everything that has an end have reached it."""
        self._good_until = {token: until for token, until in self._good_until.items() if until == inf}

    def forget(self) -> None:
        self._good_until.clear()


Endpoint = Callable[[Received], web.Response]


class StandIn:
    """One vendor's system: where its tokens come from, and who may call its API."""

    name: ClassVar[str]
    token_lifetime: ClassVar[float]
    """Seconds, as the vendor has it."""

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:
        self.lifetime = self.token_lifetime if lifetime is None else lifetime
        self.clock = clock
        self.tokens = Issued(clock)
        self.token_requests = 0
        self.api_requests = 0
        self.last_token_request: Received | None = None
        self._refused: tuple[str, str, int] | None = None

    # ── what a vendor says ───────────────────────────────────────────────────────────────────────

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        """Each path that hands out tokens, with its method; `*` stands for any one segment."""
        return {}

    @property
    def pages(self) -> dict[str, Endpoint]:
        """Each path that is for a user's browser."""
        return {}

    def routes(self, base_url: str) -> list[DemoRoute]:
        """Return the routes that lead here, one a preset, when this stands at `base_url`."""
        raise NotImplementedError

    @property
    def controls(self) -> dict[str, Endpoint]:
        """Each path that a POST makes tokens useless by: what a vendor does behind everybody's back."""
        return {REVOKE: self._revoked, EXPIRE: self._expired}

    def refusal(self, received: Received) -> web.Response | None:
        """Return the API's answer to a caller who may not, or None."""
        if received.credential is None:
            return self.challenge()
        scheme, token = received.credential
        if scheme != "bearer" or not self.tokens.knows(token):
            return self.challenge("invalid_token", "The access token is unknown, revoked or expired")
        return None

    def revoke(self) -> None:
        """Forget every token, so that each is refused from now on."""
        self.tokens.forget()

    def expire(self) -> None:
        """Let every access token reach its end, if it has one; refresh tokens stay good."""
        self.tokens.expire()

    # ── what all of them do ──────────────────────────────────────────────────────────────────────

    def endpoint(self, path: str) -> tuple[str, Endpoint] | None:
        """Return what hands out tokens at `path`, and its method, or None."""
        return next((each for pattern, each in self.endpoints.items() if _fits(path, pattern)), None)

    def converse(self, received: Received, asked: tuple[str, Endpoint]) -> web.Response:
        """Answer a request to one of `endpoints`."""
        self.token_requests += 1
        self.last_token_request = received
        method, endpoint = asked
        if received.method != method:
            return web.json_response({"error": "method_not_allowed"}, status=405, headers={"Allow": method})
        if not _takes_json(received.headers.get("Accept", "*/*")):
            return web.json_response({"error": "not_acceptable"}, status=406)
        return endpoint(received)

    def judge(self, received: Received) -> web.Response | None:
        """Return the answer to a request to the API that gets no further, or None."""
        self.api_requests += 1
        if len(received.headers.getall("Authorization", ())) > 1:
            return web.json_response({"error": "more than one Authorization header"}, status=400)
        refused = self.refusal(received)
        if refused is not None and received.credential is not None:
            self._refused = received.method, received.path_qs, refused.status
        return refused

    def repeats(self, received: Received) -> str | None:
        """Say so if the last request that was refused is asked again by `received`, which was let through."""
        refused, self._refused = self._refused, None
        if refused is None or refused[:2] != (received.method, received.path_qs):
            return None
        return f"its first try was answered {refused[2]}; with another token it came again"

    def challenge(self, error: str = "", description: str = "") -> web.Response:
        """Return a 401 as RFC 6750 §3 wants it: no error code for a caller who sent no token at all."""
        document = {"error": error or "unauthorized", "error_description": description or "No access token"}
        return web.json_response(document, status=401, headers=self.bearer(error, description))

    def bearer(self, error: str = "", description: str = "") -> dict[str, str]:
        """Return the header that goes with it."""
        header = f'Bearer realm="{self.name}"'
        if error:
            header += f', error="{error}", error_description="{description}"'
        return {"WWW-Authenticate": header}

    def _revoked(self, _received: Received) -> web.Response:
        self.revoke()
        return web.Response(text=f"{self.name} refuses every token that it has handed out so far\n")

    def _expired(self, _received: Received) -> web.Response:
        self.expire()
        return web.Response(text=f"every access token of {self.name} has expired\n")

    def access_token(self, **more: object) -> web.Response:
        """Return a token reply (RFC 6749 §5.1) with a fresh token in it, without what is None in `more`."""
        token = self.tokens.hand_out(self.lifetime)
        document = {"access_token": token, "token_type": "bearer", "expires_in": self.lifetime} | more
        document = {name: value for name, value in document.items() if value is not None}
        return web.json_response(document, headers=NO_STORE)


def same(one: str, other: str) -> bool:
    """Compare in constant time, as who checks a credential does."""
    return hmac.compare_digest(one.encode(), other.encode())


def _fits(path: str, pattern: str) -> bool:
    there, wanted = path.split("/"), pattern.split("/")
    return len(there) == len(wanted) and all(w in {"*", t} for t, w in zip(there, wanted, strict=True))


def oauth_error(status: int, error: str, description: str) -> web.Response:
    """Return an error reply of a token endpoint (RFC 6749 §5.2)."""
    return web.json_response({"error": error, "error_description": description}, status=status)


def _takes_json(accept: str) -> bool:
    ranges = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    return bool(ranges & {"application/json", "application/*", "*/*"}) or any(
        each.endswith("+json") for each in ranges
    )
