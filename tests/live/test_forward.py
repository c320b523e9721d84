"""Forward mode: a client that names us as its proxy gets the routes' hosts with a token, others as they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import running_proxy
from tests.support.forward import (
    TOKEN,
    Named,
    basic,
    connect_request,
    connecting,
    forward_url,
    forwarding,
    inside,
    route,
    told,
    trusting,
    tunnel,
)
from tests.support.wire import Upstream, Wire, ask, chunked, connect, get, reply, request

PROCESSES = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Named]:
    with Named(tmp_path) as made:
        yield made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Named]:
    """A TLS server that is no route's."""
    with Named(tmp_path) as made:
        yield made


@pytest.fixture
def plain() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


# ── a host that is a route's ─────────────────────────────────────────────────────────────────────


@PROCESSES
def test_requests_to_a_routes_host_get_its_token(secure: Named, workers: int) -> None:
    with (
        running_proxy(forwarding(route(secure), workers=workers)) as proxy,
        inside(proxy, "localhost", secure.port) as wire,
    ):
        for target in ("/", "/x?a=1", "/a/../b"):
            answer = wire.send(request("GET", target, host=secure.authority)).answer()
            assert (answer.status, answer.body) == (200, b"fine")
    assert [each.target for each in secure.requests] == ["/", "/x?a=1", "/a/../b"]
    assert {each.one("Authorization") for each in secure.requests} == {f"Bearer {TOKEN}"}
    assert {each.one("Host") for each in secure.requests} == {secure.authority}


def test_any_other_host_is_passed_on_blindly(secure: Named, other: Named) -> None:
    with (
        running_proxy(forwarding(route(secure))) as proxy,
        inside(proxy, "localhost", other.port, tls=other.client()) as wire,
    ):
        answer = wire.send(request("GET", "/x", host=other.authority)).answer()
        assert answer.status == 200
    assert other.last.one("Authorization") is None
    assert secure.requests == []
