"""The npm package oidc-provider, and a person who logs in there.

It is installed into pytest's cache when it is not there yet.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl, urljoin, urlsplit

import aiohttp
import pytest
import trustme
from joserfc.jwk import ECKey

from tests.support.installed import need

HERE = Path(__file__).parent
INSTALL_SECONDS = 180
REDIRECT_URI = "http://127.0.0.1/callback"  # of a native client, whose port may be any (RFC 8252 §7.3)

AWKWARD = "s3cr3t:%+/&=#? '\"~" + "x" * 16  # long enough for HS256 too
KEY = ECKey.generate_key("P-256", {"kid": "k1", "alg": "ES256", "use": "sig"})
CERTIFICATE_NAME = "client.example"


def machine(client_id: str, method: str, **more: object) -> dict[str, object]:
    """Return a client that authenticates by `method` and earns tokens for itself."""
    return {
        "client_id": client_id,
        "token_endpoint_auth_method": method,
        "grant_types": ["client_credentials"],
        "redirect_uris": [],
        "response_types": [],
    } | more


def person(client_id: str, method: str = "none", **more: object) -> dict[str, object]:
    """Return a client that people log in with."""
    return {
        "client_id": client_id,
        "token_endpoint_auth_method": method,
        "application_type": "native",
        "grant_types": [
            "authorization_code",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:device_code",
        ],
        "redirect_uris": [REDIRECT_URI],
        "response_types": ["code"],
    } | more


CLIENTS = [
    machine("basic", "client_secret_basic", client_secret=AWKWARD),
    machine("post", "client_secret_post", client_secret=AWKWARD),
    machine("secret-jwt", "client_secret_jwt", client_secret=AWKWARD),
    machine("key-jwt", "private_key_jwt", jwks={"keys": [KEY.as_dict(private=False)]}),
    machine("certificate", "tls_client_auth", tls_client_auth_san_dns=CERTIFICATE_NAME),
    person("public"),
    person("confidential", "client_secret_basic", client_secret=AWKWARD),
]


# ── the server ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class OIDCProvider:
    """The provider at work: its issuer, and the files of a client's certificate."""

    issuer: str
    secure_url: str
    certificate: Path
    authority: Path


def install(place: Path) -> None:
    """Put the provider and its packages into `place`."""
    for name in ("package.json", "provider.mjs"):
        shutil.copy(HERE / name, place)
    if (place / "node_modules/oidc-provider").is_dir():
        return
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        unavailable(f"npm took more than {INSTALL_SECONDS} s")
    if done.returncode != 0:
        unavailable(f"npm cannot install oidc-provider: {done.stderr.strip()[-300:]}")


def unavailable(reason: str) -> None:
    if os.environ.get("AUTHPROXY_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (AUTHPROXY_REQUIRE_ALL is set)", pytrace=False)
    pytest.skip(reason)


def certificates(directory: Path) -> dict[str, str]:
    """Make an authority, and a client's certificate; return those of the server, PEM."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    authority.issue_cert(CERTIFICATE_NAME).private_key_and_cert_chain_pem.write_to_path(
        directory / "client.pem"
    )
    server = authority.issue_cert("127.0.0.1")
    return {
        "key": server.private_key_pem.bytes().decode(),
        "cert": "".join(blob.bytes().decode() for blob in server.cert_chain_pems),
        "ca": authority.cert_pem.bytes().decode(),
    }


@pytest.fixture(scope="session")
def oidc_provider(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OIDCProvider]:
    need("node", "npm")
    place = pytestconfig.cache.mkdir("oidc-provider")
    install(place)
    directory = tmp_path_factory.mktemp("oidc")
    settings = {"clients": CLIENTS, "accessTokenSeconds": 2, "tls": certificates(directory)}
    log_file = directory / "log"
    with (
        log_file.open("wb") as log,
        subprocess.Popen(
            ["node", "provider.mjs"],
            cwd=place,
            env=os.environ | {"OIDC_SETTINGS": json.dumps(settings)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            lines = iter(process.stdout.readline, "")
            line = next((line for line in lines if line.startswith("listening on ")), None)
            if line is None:
                pytest.fail(f"oidc-provider did not start:\n{log_file.read_text()}", pytrace=False)
            issuer, secure_url = line.removeprefix("listening on ").split()
            yield OIDCProvider(issuer, secure_url, directory / "client.pem", directory / "ca.pem")
        finally:
            process.terminate()


# ── a person ─────────────────────────────────────────────────────────────────────────────────────


class _Form(HTMLParser):
    """The first form of a page: where it goes, and what it sends when nobody fills it in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form" and self.action is None:
            self.action, self._inside = given.get("action") or "", True
        elif tag == "input" and self._inside and (name := given.get("name")):
            self.fields[name] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


class Person:
    """Opens what a login shows, and fills in every form until the browser leaves or there is none left."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.came_back: str | None = None

    async def show(self, show) -> None:
        self.shown.append(show.url)
        await self.visit(show.complete_url or show.url)

    async def callback(self, state: str) -> dict[str, str]:
        assert self.came_back is not None
        return dict(parse_qsl(urlsplit(self.came_back).query))

    async def visit(self, url: str) -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # for an IP address
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            form: _Form | None = None
            for _ in range(20):
                data = form.fields | {"login": "joe", "password": "x"} if form else None
                method = "POST" if form else "GET"
                async with session.request(method, url, data=data, allow_redirects=False) as reply:
                    page = await reply.text()
                    if 300 <= reply.status < 400:
                        url, form = urljoin(url, reply.headers["Location"]), None
                        if urlsplit(url).path == urlsplit(REDIRECT_URI).path:
                            self.came_back = url
                            return
                        continue
                assert reply.status < 400, page
                form = _Form(page)
                if form.action is None:
                    return  # "done", it says
                url = urljoin(url, form.action)
        raise AssertionError("the pages do not end")


@pytest.fixture
def joe() -> Person:
    return Person()
