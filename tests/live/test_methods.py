"""A method is any token (RFC 9110 §9.1): Vault's LIST, a cache's BAN, what an API has made up for itself."""

import pytest

from tests.support.command import RunningProxy
from tests.support.wire import chunked, get

from .conftest import Place

PLAIN = {"grant": "static", "token": "never-changes"}
plain_route = pytest.mark.route(auth=PLAIN)

TOKENS = {
    "LIST", "BAN", "REFRESH", "VERSION-CONTROL", "QUERY", "PRI", "SOURCE", "DESCRIBE", "PROPFIND", "M-SEARCH",
    "get", "Post", "GETGET", "G", "GET-", "!#$%&'*+-.^_`|~09az",
}  # fmt: skip
every_token = pytest.mark.parametrize("method", sorted(TOKENS))


@plain_route
@every_token
@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_any_token_is_forwarded_as_it_is(place: Place, method: str, size: int) -> None:
    sent = place.request(method, "/x?y", "X-A: 1") + place.request(method, "/b", body=b"hello")
    with place.connect() as wire:
        for start in range(0, len(sent), size):
            wire.send(sent[start : start + size])
        assert [wire.answer().status for _ in range(2)] == [200, 200]
    came = [(each.method, each.target, each.body) for each in place.api.requests]
    assert came == [(method, "/x?y", b""), (method, "/b", b"hello")]
    assert place.api.requests[0].one("X-A") == "1"
    assert place.api.requests[0].one("Authorization") == "Bearer never-changes"


@plain_route
def test_pipelined_requests_keep_their_own_methods(place: Place) -> None:
    chunks = "Transfer-Encoding: chunked"
    sent = (
        place.request("LIST", "/1") + b"\r\n"
        + place.request("GET", "/2")
        + place.request("POST", "/3", body=b"BAN /no HTTP/1.1\r\n\r\n")
        + place.request("BAN", "/4", body=b"LIST /no HTTP/1.1\r\n\r\n")
        + place.request("REFRESH", "/5", chunks) + chunked(b"LIST /no HTTP/1.1\r\n\r\n", b"\r\n\r\n")
        + place.request("list", "/6", chunks) + chunked(b"x", end=b"0\r\nX-Trailer: 1\r\n\r\n")
        + b"\r\n\r\n" + place.request("GET", "/7")
        + place.request("LIST", "/8")
    )  # fmt: skip
    for size in (1, 7, 1 << 16):
        place.api.reset()
        with place.connect() as wire:
            for start in range(0, len(sent), size):
                wire.send(sent[start : start + size])
            assert [wire.answer().status for _ in range(8)] == [200] * 8
        methods = ["LIST", "GET", "POST", "BAN", "REFRESH", "list", "GET", "LIST"]
        came = [(each.method, each.target) for each in place.api.requests]
        assert came == [(method, f"/{number}") for number, method in enumerate(methods, 1)]


@plain_route
def test_what_follows_an_upgrade_that_was_declined_keeps_its_method(place: Place) -> None:
    upgrade = place.request("GET", "/1", "Connection: Upgrade", "Upgrade: websocket")
    with place.connect() as wire:
        wire.send(upgrade + place.request("LIST", "/2") + place.request("GET", "/3"))
        assert [wire.answer().status for _ in range(3)] == [200] * 3
        wire.send(upgrade + place.request("GET", "/2") + b"GARBAGE\r\n\r\n")
        assert [wire.answer().status for _ in range(3)] == [200, 200, 400]
    assert [each.method for each in place.api.requests] == ["GET", "LIST", "GET", "GET", "GET"]


@plain_route
def test_a_raw_8_bit_target_goes_with_any_method(place: Place) -> None:
    sent = place.request("LIST", "/é")  # latin-1
    assert place.ask(sent).status == 200
    assert (place.api.last.method, place.api.last.target) == ("LIST", "/%E9")


@pytest.mark.route(auth=PLAIN, allow={"methods": ["LIST", "version-control"]})
def test_allow_takes_methods_letter_by_letter(place: Place) -> None:
    statuses = {method: place.ask(place.request(method)).status for method in ["LIST", "version-control"]}
    assert statuses == {"LIST": 200, "version-control": 200}
    for method in ("GET", "list", "VERSION-CONTROL", "LISTS"):
        assert place.ask(place.request(method)).status == 403
    assert len(place.api.requests) == 2


@pytest.mark.parametrize("method", ["TRACE", "Trace", "CONNECT", "connect"])
@plain_route
def test_trace_and_connect_are_refused_however_they_are_spelled(place: Place, method: str) -> None:
    assert place.ask(place.request(method)).status == 403
    assert place.api.requests == []


def test_a_method_of_any_name_is_repeated_with_another_token(place: Place) -> None:
    assert place.ask(place.request("LIST")).status == 200
    place.tokens.revoke()
    assert place.ask(place.request("LIST", body=b"hello")).status == 200
    assert [(came.method, came.body) for came in place.api.requests[1:]] == [("LIST", b"hello")] * 2


@pytest.mark.route(retry={"methods": "idempotent"})
def test_a_method_that_nobody_knows_is_not_taken_for_idempotent(place: Place) -> None:
    assert place.ask(place.request("LIST")).status == 200
    place.tokens.revoke()
    assert place.ask(place.request("LIST")).status == 401
    assert len(place.api.requests) == 2


@plain_route
def test_made_up_methods_are_one_in_the_metrics_and_themselves_in_the_log(
    place: Place, proxy: RunningProxy
) -> None:
    for number in range(5):
        assert place.ask(place.request(f"MADE-UP-{number}")).status == 200
    text = get(proxy.admin_url, "/metrics").body.decode()
    lines = [line for line in text.splitlines() if f'route="{place.name}"' in line]
    assert any('method="other"' in line for line in lines)
    assert "MADE-UP" not in text
    proxy.wait_for_log("method=MADE-UP-4")
