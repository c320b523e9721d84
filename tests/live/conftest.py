"""One proxy a module; in it, for every test, a route of its own.

A test that takes `place` gets a route with a host name, an API and a token endpoint that no other test
uses. The API lets the token endpoint's tokens in, or everybody when the route has an `auth` of its own.
`@pytest.mark.route(retry={…}, auth={…})` adds keys to that route, where `{api}` and `{tokens}` stand for
the servers' URLs; `SETTINGS`, in the module, adds keys to the top level of the configuration.

At the end nothing secret may stand in the proxy's log, which is kept at debug level, nor any internal error.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.command import RunningProxy, running_proxy
from tests.support.wire import API, Message, Tokens, Wire, ask, connect, reply, request


@dataclass
class Place:
    """A route, with the API behind it and the token endpoint beside it."""

    name: str
    tokens: Tokens
    api: API
    route: dict[str, Any] = field(default_factory=dict)
    proxy: RunningProxy | None = None

    @property
    def url(self) -> str:
        assert self.proxy is not None
        return self.proxy.url

    @property
    def host(self) -> str:
        return f"{self.name}.localhost"

    def request(self, method: str, target: str = "/", *lines: str, body: bytes | None = None) -> bytes:
        return request(method, target, *lines, host=self.host, body=body)

    def ask(self, sent: bytes) -> Message:
        """Send a whole request on a connection of its own; return the answer."""
        return ask(self.url, sent)

    def get(self, target: str = "/", *lines: str) -> Message:
        return self.ask(self.request("GET", target, *lines))

    def post(self, target: str = "/", *lines: str, body: bytes = b"") -> Message:
        return self.ask(self.request("POST", target, *lines, body=body))

    def connect(self) -> Wire:
        return connect(self.url)

    @property
    def secret(self) -> str:
        return f"secret-of-{self.name}"

    @property
    def token(self) -> str:
        """The token that was handed out last."""
        return self.tokens.issued.every[-1]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "route(**keys): keys of the route that the test's `place` has")


def _key(item: pytest.Function) -> str:
    marker = item.get_closest_marker("route")
    keys = marker.kwargs if marker else {}
    # A route that says itself where it is mounted can be there but once.
    return ("" if "host" in keys else item.originalname) + json.dumps(keys, sort_keys=True)


def _put(value: Any, urls: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _put(each, urls) for key, each in value.items()}
    if isinstance(value, str):
        return re.sub(r"\{(api|tokens)\}", lambda match: urls[match[1]], value)
    return value


def _make_place(stack: ExitStack, number: int, item: pytest.Function) -> Place:
    tokens = stack.enter_context(Tokens())
    api = stack.enter_context(API(tokens.issued))
    name = f"{item.originalname.removeprefix('test_').replace('_', '-').lower()[:50].strip('-')}-{number}"
    place = Place(name, tokens, api)
    auth = {
        "grant": "client_credentials",
        "token_url": "{tokens}/token",
        "client_id": name,
        "client_secret": place.secret,
    }
    marker = item.get_closest_marker("route")
    own = marker.kwargs if marker else {}
    if "auth" in own:  # its tokens do not come from here: let everybody in
        api.first_answer = api.answer = lambda _request, _wire: reply(body=b"fine")
    keys = {"host": place.host, "upstream": "{api}", "auth": auth, **own}
    place.route = {"name": name, **_put(keys, {"api": api.url, "tokens": tokens.url})}
    return place


@pytest.fixture(scope="module")
def places(request: pytest.FixtureRequest) -> Iterator[dict[str, Place]]:
    """Every place of the module, by its test, and one proxy before them."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    items = [item for item in items if item.module is request.module and "place" in item.fixturenames]
    with ExitStack() as stack:
        made: dict[str, Place] = {}
        for number, item in enumerate(items):
            if _key(item) not in made:
                made[_key(item)] = _make_place(stack, number, item)
        settings = {"log": {"level": "debug"}, "limits": {"drain": "1s"}}
        settings |= getattr(request.module, "SETTINGS", {})
        routes = [place.route for place in made.values()]
        proxy = stack.enter_context(running_proxy({**settings, "routes": routes}))
        for place in made.values():
            place.proxy = proxy
        yield made
        assert proxy.stop() == 0
        log = proxy.log() + proxy.output()
        assert "internal error" not in log
        assert "Traceback" not in log
        for place in made.values():
            for secret in (place.secret, *place.tokens.issued.every):
                assert secret not in log


@pytest.fixture
def place(request: pytest.FixtureRequest, places: dict[str, Place]) -> Place:
    """The test's own route."""
    found = places[_key(request.node)]
    found.api.reset()
    found.tokens.reset()
    return found


@pytest.fixture
def proxy(place: Place) -> RunningProxy:
    """The module's proxy."""
    assert place.proxy is not None
    return place.proxy
