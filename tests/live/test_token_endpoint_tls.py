"""TLS to the token endpoint: as `auth.tls` says, or as the route's where it is on the upstream's host."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.command import authproxy, running_proxy
from tests.support.doctor import LISTENERS
from tests.support.wire import Message, Upstream, Wire, get, json_reply, reply

TOKEN = "issued-over-tls"
OAUTH = {"grant": "client_credentials", "client_id": "a", "client_secret": "s3cr3t-of-a"}


@dataclass
class Place:
    """An https server that is an upstream and a token endpoint, and files with what it takes to trust it."""

    server: Upstream
    ca_file: str
    own: dict[str, str]
    names: list[str | None] = field(default_factory=list)

    def url(self, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.server.port}"

    def config(
        self, tls: object = None, auth_tls: object = None, host: str = "127.0.0.1", **auth: object
    ) -> Any:
        """Return a configuration whose token endpoint has the name `host`."""
        keys = OAUTH | {"token_url": f"{self.url(host)}/token"} | auth
        route: dict[str, Any] = {"name": "api", "upstream": self.url(), "tls": {"ca_file": self.ca_file}}
        route |= {"tls": tls} if tls is not None else {}
        return {"routes": [route | {"auth": keys | ({"tls": auth_tls} if auth_tls is not None else {})}]}


def answer(request: Message, wire: Wire) -> bytes:
    sock = wire.sock
    assert isinstance(sock, ssl.SSLSocket)
    if request.path == "/token":
        return json_reply({"access_token": TOKEN, "token_type": "bearer", "expires_in": 3600})
    if request.path == "/.well-known/oauth-authorization-server":
        at = f"https://{request.one('Host')}"
        return json_reply({"issuer": at, "token_endpoint": f"{at}/token"})
    shown = sock.getpeercert()
    if request.one("Authorization") == f"Bearer {TOKEN}":
        return reply(body=str(shown).encode())
    return reply(401)


@pytest.fixture(params=["asks nobody", "asks for a certificate"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    ca, theirs = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost", "id.internal").configure_cert(context)
    if request.param != "asks nobody":
        context.verify_mode = ssl.CERT_REQUIRED
        theirs.configure_trust(context)
    ca_file, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    ca.cert_pem.write_to_path(ca_file)
    theirs.issue_cert("me@example.com").private_key_and_cert_chain_pem.write_to_path(own)
    with Upstream(answer, tls=context) as server:
        made = Place(server, str(ca_file), {"cert_file": str(own)} if context.verify_mode else {})
        context.sni_callback = lambda _sock, name, _context: made.names.append(name)
        yield made


def test_the_routes_tls_holds_for_a_token_endpoint_on_the_same_host(place: Place) -> None:
    with running_proxy(place.config({"ca_file": place.ca_file, **place.own}), "--no-admin") as proxy:
        assert get(proxy.url).status == 200


def test_it_holds_for_no_other_host(place: Place) -> None:
    """Whom the route trusts says nothing of others; and `localhost` is another name."""
    config = place.config({"verify": False, **place.own}, host="localhost")
    with running_proxy(config, "--no-admin") as proxy:
        problem = get(proxy.url).json
        assert (problem["status"], problem["title"]) == (503, "Token endpoint not trusted")
        assert "`auth.tls.ca_file`" in problem["hint"]


@pytest.mark.parametrize("tls", ["ca_file", "verify", "server_name"])
@pytest.mark.parametrize("asked", ["token_url", "issuer"])
def test_the_grant_has_tls_of_its_own(place: Place, tls: str, asked: str) -> None:
    ca = {"ca_file": place.ca_file}
    auth_tls = {
        "ca_file": ca,
        "verify": {"verify": False},
        "server_name": ca | {"server_name": "id.internal"},
    }
    where = {"token_url": None, "issuer": place.url("localhost")} if asked == "issuer" else {}
    config = place.config(ca | place.own, auth_tls[tls] | place.own, "localhost", **where)
    with running_proxy(config, "--no-admin") as proxy:
        assert get(proxy.url).status == 200
        assert ("id.internal" in place.names) is (tls == "server_name")
        assert proxy.stop() == 0
        warned = "the token endpoint's certificate is not verified" in proxy.log()
        assert warned is (tls == "verify")


def test_what_an_issuer_published_unverified_is_not_believed_by_who_verifies(place: Place) -> None:
    """Else whoever is on the way to a careless route's issuer would get the credential of another route."""

    def published(request: Message, wire: Wire) -> bytes:
        if request.path != "/.well-known/oauth-authorization-server":
            return answer(request, wire)
        return json_reply({"issuer": place.url("localhost"), "token_endpoint": f"{elsewhere.url}/token"})

    place.server.answer = published
    issuer = {"token_url": None, "issuer": place.url("localhost")}
    careless = place.config({}, {"verify": False, **place.own}, **issuer)["routes"][0]
    strict = place.config({}, place.own, **issuer)["routes"][0]
    mounts = [{"name": "careless", "path": "/careless"}, {"name": "strict", "path": "/strict"}]
    routes = [careless | mounts[0], strict | mounts[1]]
    with (
        Upstream(lambda _request, _wire: json_reply({"access_token": TOKEN})) as elsewhere,
        running_proxy({"routes": routes}, "--no-admin") as proxy,
    ):
        get(proxy.url, "/careless/x")
        assert len(elsewhere.requests) == 1
        assert get(proxy.url, "/strict/x").json["title"] == "Token endpoint not trusted"
        assert len(elsewhere.requests) == 1


def test_a_preset_takes_it_too(place: Place) -> None:
    config = place.config(place.own | {"ca_file": place.ca_file})
    config["routes"][0]["auth"] = {
        "preset": "password-login", "url": f"{place.url('localhost')}/token",
        "username": "a", "password": "b-secret", "tls": {"ca_file": place.ca_file, **place.own},
    }  # fmt: skip
    with running_proxy(config, "--no-admin") as proxy:
        assert get(proxy.url).status == 200


def test_doctor_goes_the_same_way(place: Place) -> None:
    keys = {"ca_file": place.ca_file, **place.own}
    config = place.config(keys, keys | {"server_name": "id.internal"}, "localhost")
    told = authproxy("doctor", config={**LISTENERS, **config})
    assert "token tls" in told.stdout
    assert told.returncode == 0, told.stdout + told.stderr


def test_files_that_cannot_be_used_are_faults_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "garbage.pem").write_text("garbage")
    text = f"""\
routes:
  - name: api
    upstream: https://api.example.com
    auth:
      grant: client_credentials
      token_url: https://id.example.com/token
      client_id: a
      client_secret: b
      tls: {{ca_file: {tmp_path}/garbage.pem}}
"""
    told = authproxy("check", config=text)
    assert told.returncode == 2
    assert ":9:22: routes[0].auth.tls.ca_file: " in told.stdout
