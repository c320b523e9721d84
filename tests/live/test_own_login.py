"""Nobody else's login reaches the token endpoint of a route's own credential: 403, and `stand_in` helps."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.wire import Issued, Message, Upstream, Wire, ask, connect, json_reply, reply, request

OURS = "Basic " + b64encode(b"me:the-clients-secret").decode()
DUMMY = "Authorization: Basic " + b64encode(b"any:dummy-of-client").decode()


class System(Upstream):
    """An API whose tokens come from itself, and which lets everybody in."""

    def __init__(self) -> None:
        super().__init__(self._either)
        self.issued = Issued()

    def _either(self, came: Message, _wire: Wire) -> bytes:
        if "openid-configuration" in came.target:
            return json_reply({"issuer": self.url, "token_endpoint": f"{self.url}/found/token"})
        if came.one("Authorization") == OURS:
            return json_reply({"access_token": self.issued.one_more(), "expires_in": 3600})
        return reply(body=b"let through")

    @property
    def asked(self) -> list[str]:
        """What clients asked for."""
        ours = [came for came in self.requests if came.one("Authorization") == OURS]
        return [came.target for came in self.requests if came not in ours and "well-known" not in came.target]


def credential(**keys: Any) -> dict[str, Any]:
    return {"grant": "client_credentials", "client_id": "me", "client_secret": "the-clients-secret", **keys}


@dataclass
class World:
    proxy: RunningProxy
    system: System

    def ask(self, target: str, *lines: str, method: str = "POST") -> Message:
        return ask(self.proxy.url, request(method, target, *lines, body=b"client_secret=dummy-of-client"))

    def is_refused(self, target: str, *lines: str, method: str = "POST") -> bool:
        """Whether that is refused by the rule, and nothing of it leaves."""
        before = len(self.system.asked)
        answer = self.ask(target, *lines, method=method)
        if answer.status != 403 or len(self.system.asked) > before:
            return False
        return "`stand_in`" in answer.json["hint"] and "token endpoint" in answer.json["detail"]


def routes(system: System) -> list[dict[str, Any]]:
    at = f"{system.url}/base/v1/oauth"
    local = at.replace("127.0.0.1", "localhost")
    login = {"grant": "token_request", "basic": {"username": "me", "password": "the-clients-secret"}}
    return [
        {"name": "api", "path": "/api", "upstream": f"{system.url}/base", "auth": credential(token_url=at)},
        {"name": "root", "path": "/root", "auth": credential(token_url=local)},
        {"name": "strict", "path": "/strict", "auth": credential(token_url=at, incoming="reject")},
        {"name": "freely", "path": "/freely", "auth": credential(token_url=at, incoming="replace")},
        {
            "name": "user", "path": "/user",
            "auth": {**login, "method": "GET", "url": f"{system.url}/jwt?useBody=true"},
        },
        {
            "name": "asked", "path": "/asked",
            "auth": credential(
                token_url=f"{system.url}/o/token?grant_type=client_credentials", params_in="query"
            ),
        },
        {"name": "rpc", "path": "/rpc", "auth": {**login, "url": f"{system.url}/w/api.php?action=login&a=1"}},
        {"name": "found", "path": "/found-it", "auth": credential(issuer=system.url)},
        {"name": "none", "path": "/none", "auth": {"grant": "none"}},
        {
            "name": "both", "path": "/both", "auth": credential(token_url=f"{system.url}/in"),
            "stand_in": [{"path": "/in"}],
        },
    ]  # fmt: skip


@pytest.fixture(scope="module")
def started() -> Iterator[World]:
    with System() as system:
        config = {"routes": [{"upstream": system.url, **each} for each in routes(system)]}
        with running_proxy(config) as proxy:
            yield World(proxy, system)
            assert proxy.stop() == 0
            assert "internal error" not in proxy.log()


@pytest.fixture
def world(started: World) -> World:
    started.system.reset()
    return started


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("line", [DUMMY, "Authorization: Bearer mine", "X-Nothing: 1"])
def test_whatever_a_request_to_it_carries_it_goes_nowhere(world: World, method: str, line: str) -> None:
    for _ in range(6):  # such a head is remembered soon
        answer = world.ask("/api/v1/oauth", line, method=method)
        assert answer.status == 403
    assert not world.system.asked


@pytest.mark.parametrize(
    "target",
    ["/v1/oauth", "/v1/oauth?a=1", "/v1/oauth/", "/v1/%6Fauth", "/v1//oauth", "/v1/./oauth", "/v1/a/../oauth",
     "/v1/oauth;a=1", "/v1%2Foauth", "/v1%5coauth", "/V1/OAuth"],
)  # fmt: skip
def test_nor_in_any_spelling(world: World, target: str) -> None:
    assert world.is_refused(f"/api{target}", DUMMY)
    assert world.is_refused(f"/root/base{target}", DUMMY)
    authority = world.proxy.url.removeprefix("http://")
    assert world.is_refused(f"http://{authority}/api{target}", DUMMY)


@pytest.mark.parametrize("target", ["/v1/oauth/x", "/v1", "/v1/oauth2", "/base/v1/oauth", "/"])
def test_what_is_elsewhere_is_forwarded(world: World, target: str) -> None:
    assert world.ask(f"/api{target}", DUMMY).body == b"let through"
    assert world.system.requests[-1].one("Authorization") == DUMMY.removeprefix("Authorization: ")


def test_a_plain_request_is_not_sent_there_either_once_others_like_it_were_forwarded(world: World) -> None:
    with connect(world.proxy.url) as wire:
        for target in [*["/root/x"] * 6, *["/root/base/v1/oauth"] * 6]:
            status = wire.send(request("GET", target)).answer().status
            assert status == (403 if "oauth" in target else 200)


def test_it_holds_for_reject_and_replace_is_the_way_around_it(world: World) -> None:
    assert world.is_refused("/strict/base/v1/oauth")
    assert world.ask("/freely/base/v1/oauth", DUMMY).body == b"let through"
    assert world.system.requests[-1].one("Authorization") in {
        f"Bearer {t}" for t in world.system.issued.every
    }


def test_other_routes_of_the_server_are_none_of_its_business(world: World) -> None:
    assert world.ask("/none/base/v1/oauth", DUMMY).body == b"let through"
    assert world.ask("/user/base/v1/oauth", DUMMY).body == b"let through"


def test_the_query_counts_where_it_says_what_is_asked_for(world: World) -> None:
    for query in ("", "?useBody=true", "?useBody=True", "?useBody=false", "?a=1"):
        assert world.is_refused(f"/user/jwt{query}", DUMMY, method="GET"), query
    for query in (
        "?action=login&a=1",
        "?a=1&action=login",
        "?ACTION=1",
        "",
        "?action=query&action=login",
        "?action=LOGIN",
    ):
        assert world.is_refused(f"/rpc/w/api.php{query}", DUMMY), query
    for query in (
        "?grant_type=password&username=x",
        "?grant_type=client_credentials&client_id=me",
        "?scope=a",
        "",
    ):
        assert world.is_refused(f"/asked/o/token{query}", DUMMY), query
    for query in ("?action=query", "?a=1&action=parse"):
        assert world.ask(f"/rpc/w/api.php{query}", DUMMY).body == b"let through", query


def test_one_that_the_issuer_publishes_is_known_as_soon_as_it_was_asked(world: World) -> None:
    sent = request("POST", "/found-it/found/token", "Authorization: Bearer mine", body=b"")
    with connect(world.proxy.url) as wire:
        for _ in range(6):  # until then nobody knows; and such a head is remembered soon
            assert wire.send(sent).answer().status == 200
        assert wire.send(request("GET", "/found-it/x")).answer().status == 200
        assert world.system.issued.every
        assert wire.send(sent).answer().status == 403


def test_what_was_judged_before_that_is_judged_anew(tmp_path: Path) -> None:
    store = {"type": "file", "path": str(tmp_path / "tokens"), "key": "a passphrase of some length"}
    with System() as system:
        route = {"name": "found", "upstream": system.url, "auth": credential(issuer=system.url)}
        config = {"token_store": store, "routes": [route]}
        with running_proxy(config) as proxy:
            assert ask(proxy.url, request("GET", "/x")).status == 200
        with running_proxy(config) as proxy, connect(proxy.url) as wire:
            sent = request("GET", "/found/token")
            for _ in range(6):  # the token is the stored one: nobody has asked the issuer yet
                assert wire.send(sent).answer().body == b"let through"
            assert len(system.issued.every) == 1
            assert ask(proxy.admin_url, request("POST", "/api/routes/found/refresh")).status == 200
            assert wire.send(sent).answer().status == 403


def test_workers_know_it_too() -> None:
    with System() as system:
        route = {"name": "found", "upstream": system.url, "auth": credential(issuer=system.url)}
        with running_proxy({"workers": 2, "routes": [route]}) as proxy:
            assert ask(proxy.url, request("GET", "/x")).status == 200
            sent = request("POST", "/found/token", DUMMY, body=b"")
            wait_until(lambda: {ask(proxy.url, sent).status for _ in range(20)} == {403})


def test_a_login_that_is_answered_here_is_not_refused(world: World) -> None:
    assert world.ask("/both/in", DUMMY).json["access_token"].startswith("authproxy-p-")
    assert world.is_refused("/both/in", DUMMY, method="GET")  # `stand_in` has POST alone
