"""Vendors that their own SDKs can talk to: the demo's stand-ins on sockets, with data behind the door.

    console    Code42's: logins, users, devices, and where its other services are
    directory  which of those has alerts; it wants no token
    alerts     that service; it wants the console's
    gateway    Incydr's: logins, users, devices, alerts
    auth, api  UP42's: logins and who one is; collections, orders, a catalogue

They refuse what the vendors refuse, and remember every byte that came.
"""

import base64
import binascii
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_urlsafe

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.demo.standin import Issued, Received, StandIn
from authproxy.demo.systems.code42 import Code42
from authproxy.demo.systems.incydr import Incydr
from authproxy.demo.systems.up42 import Up42
from tests.support.wire import Message, Upstream, Wire, json_reply, reply

TENANT = "1d71796f-af5b-4231-9d8e-df6434da4663"
USERS = ["ada@example.com", "grace@example.com"]
DEVICE = "945072377266147331"
ALERT = "a4f0b4b5-9c33-4a72-8f7c-0c5f1f2c3d4e"

ALERTS_KEY = "/v1/AlertService-API_URL"

Document = Callable[[Message], object]
TLS = Callable[[str], ssl.SSLContext | None]
"""What the servers are to show, each by its name."""


class Issuer(Issued):
    """Hands out JWTs, as these vendors do, and remembers them."""

    def __init__(self, system: StandIn) -> None:
        super().__init__(system.clock)
        self.every: list[str] = []

    def hand_out(self, lifetime: float, token: str | None = None) -> str:
        claims = {"tenantUid": TENANT, "iss": "the vendor", "jti": token_urlsafe(6)}
        token = super().hand_out(lifetime, token or jwt(claims))
        self.every.append(token)
        return token


def jwt(claims: Mapping[str, object]) -> str:
    """Return a token with `claims` that nobody has signed."""
    parts = json.dumps({"alg": "RS256"}).encode(), json.dumps(claims).encode(), token_urlsafe(32).encode()
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


class Vendor(Upstream):
    """One of a vendor's hosts: who has a good token gets what is at one of `documents`."""

    def __init__(
        self,
        system: StandIn,
        issuer: Issuer,
        documents: Mapping[str, Document],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(self.serve, tls=tls)
        self.system = system
        self.issuer = issuer
        self.documents = documents
        self.revokes_before: set[str] = set()
        """Paths: at the first request for each, whatever was handed out so far is refused."""
        self.logins: list[Message] = []
        self.calls: list[Message] = []
        self.refused: list[Message] = []

    def serve(self, came: Message, _wire: Wire) -> bytes:
        received = Received(came.method, came.target, _headers(came), came.body)
        if (asked := self.system.endpoint(came.path)) is not None:
            self.logins.append(came)
            return _bytes(self.system.converse(received, asked))
        if came.path in self.revokes_before:
            self.revokes_before.remove(came.path)
            self.system.revoke()
        if (refusal := self.system.judge(received)) is not None:
            self.refused.append(came)
            return _bytes(refusal)
        self.calls.append(came)
        if (document := self.documents.get(came.path)) is None:
            return json_reply({"error": "not found"}, 404)
        found = document(came)
        return found if isinstance(found, bytes) else json_reply(found)

    @property
    def paths(self) -> list[str]:
        """What was asked for, and answered."""
        return [each.path for each in self.calls]

    def tokens_seen(self) -> list[str]:
        """Return what came as a bearer token, refused or not."""
        return [
            (each.one("Authorization") or "").removeprefix("Bearer ") for each in self.calls + self.refused
        ]


def saw(*servers: Upstream) -> str:
    """Return all that came, as text, what was encoded for Basic included."""
    came = [part for server in servers for each in list(server.requests) for part in (each.head, each.body)]
    text = b"\n".join(came).decode("utf-8", "replace")
    return "\n".join([text, *_decoded(text)])


def _decoded(text: str) -> Iterator[str]:
    for encoded in re.findall(r"Basic ([A-Za-z0-9+/=]+)", text):
        try:
            yield base64.b64decode(encoded, validate=True).decode("utf-8", "replace")
        except binascii.Error:
            yield encoded


def _headers(came: Message) -> CIMultiDictProxy[str]:
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in came.headers]
    return CIMultiDictProxy(CIMultiDict(pairs))


def _bytes(response: web.Response) -> bytes:
    lines = [f"{name}: {value}" for name, value in response.headers.items() if name != "Content-Length"]
    lines += [morsel.output() for morsel in response.cookies.values()]
    return reply(response.status, *lines, body=response.body or b"")


# ── Code42 ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Console:
    """Code42's hosts."""

    console: Vendor
    directory: Upstream
    alerts: Vendor

    @property
    def tokens(self) -> list[str]:
        """Every token that was handed out."""
        return self.console.issuer.every

    def saw(self) -> str:
        return saw(self.console, self.directory, self.alerts)


@dataclass(frozen=True, slots=True)
class Places:
    """Where Code42's hosts say that others are; `{directory}` and `{alerts}` are where these listen.

    The host in `sts` is nobody's: py42 puts another word for its first "sts", and asks the host it gets.
    """

    sts: str = "{directory}/sts"
    alerts: str = "{alerts}"


@contextmanager
def code42(places: Places = Places(), tls: TLS = lambda _name: None) -> Iterator[Console]:
    """Serve Code42 until the end of the block."""
    system = Code42()
    system.tokens = issuer = Issuer(system)

    def found(came: Message) -> object:
        assert came.json["tenantId"] == TENANT
        return {"alerts": [{"id": ALERT, "state": "OPEN"}], "totalCount": 1}

    with (
        Vendor(system, issuer, {"/svc/api/v1/query-alerts": found}, tls("alerts")) as alerts,
        Upstream(
            lambda came, _wire: _key(came, places.alerts.format(alerts=alerts.url)), tls=tls("directory")
        ) as directory,
        Vendor(
            system,
            issuer,
            {
                "/api/v1/User": lambda _: {"data": {"users": [{"username": user} for user in USERS]}},
                "/api/v1/User/my": lambda _: {"data": {"username": USERS[0]}},
                f"/api/v1/Computer/{DEVICE}": lambda _: {"data": {"guid": DEVICE, "name": "laptop"}},
                "/api/v3/customer/my": lambda _: {"data": {"tenantUid": TENANT}},
                "/api/v1/ServerEnv": lambda _: {"stsBaseUrl": places.sts.format(directory=directory.url)},
            },
            tls("console"),
        ) as console,
    ):
        yield Console(console, directory, alerts)


def _key(came: Message, url: str) -> bytes:
    if came.path != ALERTS_KEY:
        return reply(404)
    return reply(200, "Content-Type: text/plain", body=url.encode())


# ── Incydr ───────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def incydr() -> Iterator[Vendor]:
    """Serve Incydr until the end of the block."""
    system = Incydr()
    system.tokens = issuer = Issuer(system)

    def found(came: Message) -> object:
        assert came.json["tenantId"] == TENANT
        alert = {"id": ALERT, "type": "RULE", "state": "OPEN", "tenantId": TENANT, "name": "a rule"}
        return {"type$": "ALERT_QUERY_RESPONSE", "alerts": [alert], "totalCount": 1, "problems": []}

    documents = {
            "/v1/users": lambda _: {"users": [{"username": user} for user in USERS], "totalCount": 2},
            f"/v1/devices/{DEVICE}": lambda _: {
                "deviceId": DEVICE, "name": "laptop", "osHostname": "laptop.local",
                "lastConnected": "2026-11-01T00:00:00Z", "build": "1",
            },
            "/v1/alerts/query-alerts": found,
        }  # fmt: skip
    with Vendor(system, issuer, documents) as gateway:
        yield gateway


# ── UP42 ─────────────────────────────────────────────────────────────────────────────────────────

UP42_USER = "bd5d2c8a-0c0c-4a0e-9c0b-0a6b7e1f2d11"
SCENES = ["scene-1", "scene-2", "scene-3"]
API, AUTH = "api.sa.up42.com", "auth.sa.up42.com"
CATALOG = f"https://{API}/v2/catalog"


@dataclass(frozen=True, slots=True)
class UP42:
    """UP42's hosts."""

    auth: Vendor
    api: Vendor

    def saw(self) -> str:
        return saw(self.auth, self.api)


@contextmanager
def up42(tls: TLS, client_id: str = Up42.client_id) -> Iterator[UP42]:
    """Serve UP42 until the end of the block, with the certificates that `tls` has for its names."""
    system = Up42()
    system.client_id = client_id
    system.tokens = issuer = Issuer(system)

    def user(_: Message) -> object:
        """Return who has the token, as Keycloak does: for tokens of the scope `openid` and no others."""
        if not any("openid" in login.form.get("scope", "").split() for login in auth.logins):
            return json_reply(
                {"error": "insufficient_scope", "error_description": "Missing openid scope"}, 403
            )
        return {"sub": UP42_USER}

    realm = system.token_path.removesuffix("/token")
    documents = {
        "/v2/collections": lambda _: {"content": [COLLECTION], "totalPages": 1},
        "/v2/orders": lambda _: {"content": [], "totalPages": 1},
        "/v2/catalog/": lambda _: CATALOG_ITSELF,
        "/v2/catalog/search": scenes,
    }
    with (
        Vendor(system, issuer, {f"{realm}/userinfo": user}, tls(AUTH)) as auth,
        Vendor(system, issuer, documents, tls(API)) as api,
    ):
        yield UP42(auth, api)


def scenes(came: Message) -> object:
    """Return one page of a search, and the whole URL of the next (STAC API, item search)."""
    number = int(came.json.get("token", "0"))
    links = []
    if number + 1 < len(SCENES):
        body = {**came.json, "token": str(number + 1)}
        links = [{"rel": "next", "href": f"{CATALOG}/search", "method": "POST", "body": body}]
    scene = {
        "type": "Feature", "stac_version": "1.0.0", "id": SCENES[number], "collection": COLLECTION["name"],
        "geometry": None, "properties": {"datetime": "2026-11-01T00:00:00Z"}, "assets": {}, "links": [],
    }  # fmt: skip
    return {"type": "FeatureCollection", "features": [scene], "links": links}


COLLECTION = {
    "name": "sentinel-2", "title": "Sentinel-2", "description": "", "type": "ARCHIVE", "integrations": [],
    "providers": [], "dataProducts": [],
}  # fmt: skip
CATALOG_ITSELF = {
    "type": "Catalog", "stac_version": "1.0.0", "id": "up42", "description": "The catalogue",
    "conformsTo": [f"https://api.stacspec.org/v1.0.0/{each}" for each in ("core", "item-search")],
    "links": [
        {"rel": "self", "href": f"{CATALOG}/"},
        {"rel": "search", "href": f"{CATALOG}/search", "method": "POST", "type": "application/geo+json"},
    ],
}  # fmt: skip
