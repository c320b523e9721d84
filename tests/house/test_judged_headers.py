"""The list of headers that are judged by value comes from the rules themselves.

A plain head is read without them (see `authproxy.proxy.plain`): a rule that looks at a header which is not
listed would not be kept for plain requests. So every look at a header is noted here.
"""

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.observe.counters import Counters
from authproxy.proxy.allow import Allow
from authproxy.proxy.guard import Guard
from authproxy.proxy.handler import ProxyHandler
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.judge import JUDGED, PARSERS_OWN, READ_PLAINLY
from authproxy.proxy.renewal import Credential
from authproxy.proxy.request import Request
from authproxy.proxy.route import Route
from authproxy.proxy.router import RouteTable
from authproxy.proxy.send import Sender
from tests.support.client_side import Transport
from tests.support.injection import header_injection
from tests.support.token_sources import CachedTokens
from tests.support.upstream_pool import Pool

PAGE, KEY, CREDENTIAL = "https://page.example", "X-Authproxy-Key", "X-Upstream-Key"
LISTED = {name.lower() for name in JUDGED}
PREFLIGHTS = {"access-control-request-headers"}  # of what JUDGED makes known: a preflight is no plain request

# What the parser would let through, one by one and together.
MORE: list[list[tuple[str, str]]] = [
    [],
    [("Origin", PAGE)],
    [("Origin", "https://evil.example")],
    [("Sec-Fetch-Site", "cross-site")],
    [("Origin", PAGE), ("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "X")],
    [("Authorization", "a")],
    [("Authorization", "a"), ("Authorization", "b")],
    [(CREDENTIAL, "theirs")],
    [("Connection", "Upgrade"), ("Upgrade", "websocket")],
    [("Connection", "close, X-Hop"), ("X-Hop", "1")],
    [("Content-Length", "5")],
    [("Content-Length", "5"), ("Expect", "100-continue")],
    [("Expect", "a miracle")],
    [("Transfer-Encoding", "chunked")],
    [("Transfer-Encoding", "gzip")],
    [("Accept", "*/*"), ("Cookie", "a=b"), ("Content-Type", "text/plain"), ("Range", "bytes=0-1")],
]


class Noting:
    """A request's headers, which note every name that is asked for, and can be asked in no other way."""

    def __init__(self, pairs: list[tuple[str, str]], asked_for: set[str]) -> None:
        self._headers = CIMultiDictProxy(CIMultiDict(pairs))
        self._asked_for = asked_for

    def __getattr__(self, name: str) -> Any:
        if name not in {"get", "getall", "getone"}:
            raise AssertionError(f"{name} of all headers: which of them are judged cannot be told")
        method = getattr(self._headers, name)

        def noting(key: str, *default: object) -> object:
            self._asked_for.add(key.lower())
            return method(key, *default)

        return noting

    def __getitem__(self, key: str) -> str:
        self._asked_for.add(key.lower())
        return self._headers[key]

    def __contains__(self, key: str) -> bool:
        self._asked_for.add(key.lower())
        return key in self._headers

    def __iter__(self) -> Any:
        raise AssertionError("all headers are looked at: which of them are judged cannot be told")


def site(*, keys: list[str], incoming: str, allow: Allow | None) -> Any:
    route = Route(
        name="api",
        host=None,
        path="/api",
        strip="/api",
        base="",
        sender=Sender(Pool(), response_seconds=60, idle_seconds=60),
        request_headers=RequestHeaders(credentials=[CREDENTIAL], host="up.example"),
        response_headers=ResponseHeaders(),
        credential=Credential(
            CachedTokens(),
            injection=header_injection(CREDENTIAL),
            statuses=frozenset({401}),
            idempotent_only=False,
            cooldown=30,
        ),
        incoming=incoming,
        allow=allow,
    )
    guard = Guard(origins=[PAGE], access_header=KEY, access_keys=keys)
    return SimpleNamespace(guard=guard, routes=RouteTable([route]), header_bytes=1000, body_bytes=9)


def names_asked_for(
    site: Any, method: str, target: str, version: HttpVersion, more: list[tuple[str, str]]
) -> set[str]:
    """Return the headers that somebody looks at before such a request is sent or refused."""
    asked_for: set[str] = set()
    pairs = [("Host", "localhost"), (KEY, "k"), *more]
    headers = Noting(pairs, asked_for)
    raw = tuple((name.encode(), value.encode()) for name, value in pairs)
    message: Any = SimpleNamespace(
        method=method, path=target, version=version, headers=headers, raw_headers=raw, should_close=False
    )
    connection: Any = SimpleNamespace(transport=Transport(), draining=False, stall_seconds=0)
    ProxyHandler(site, Counters()).start(Request.parsed(message, EMPTY_PAYLOAD, connection))
    return asked_for


@pytest.fixture(scope="module")
def asked_for() -> dict[str, str]:
    """Return an example of a request for each header that somebody looks at."""
    found: dict[str, str] = {}
    for keys, incoming, allow in product(
        [[], ["k"]], ["keep", "replace", "reject"], [None, Allow(methods=["GET"])]
    ):
        here = site(keys=keys, incoming=incoming, allow=allow)
        for method, target, version, more in product(
            ["GET", "PUT", "OPTIONS", "CONNECT"],
            ["/api/x", "/api/%2e/x", "/elsewhere", "http://localhost/api"],
            [HttpVersion11, HttpVersion10],
            MORE,
        ):
            for name in names_asked_for(here, method, target, version, more):
                found.setdefault(name, f"{method} {target} {more} with {incoming}")
    return found


def test_no_header_is_judged_that_is_not_listed(asked_for: dict[str, str]) -> None:
    own = {KEY.lower(), CREDENTIAL.lower()}  # which the reader and each route's plan know of
    unlisted = {name: example for name, example in asked_for.items() if name not in LISTED | PREFLIGHTS | own}
    assert unlisted == {}, "list them in JUDGED"


def test_every_header_that_is_listed_is_judged(asked_for: dict[str, str]) -> None:
    assert LISTED - {name.lower() for name in PARSERS_OWN} <= asked_for.keys()


def test_what_is_read_plainly_is_listed() -> None:
    assert READ_PLAINLY <= LISTED
