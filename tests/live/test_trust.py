"""What a caller may try against the upstream: make the credential, `Host` or the framing vanish or double,
get lines of its own into a head, take the access key along, or step out of a route by another spelling.
"""

from typing import Any

import pytest

from tests.support.wire import Message, chunked, reply

from .conftest import Place

APP = "https://app.example.com"
KEY = "the-access-key"
SETTINGS: dict[str, Any] = {
    "access": {"tokens": [KEY]},
    "allowed_origins": [APP],
    "log": {"level": "debug"},
}

BEARER = {"grant": "static", "token": "ours"}
IN_ITS_OWN_HEADER = {**BEARER, "header": "X-Api-Key", "scheme": ""}
plain_route = pytest.mark.route(auth=BEARER)


def ask(place: Place, method: str, target: str, *lines: str, body: bytes | None = None) -> Message:
    return place.ask(place.request(method, target, f"X-Authproxy-Key: {KEY}", *lines, body=body))


# ── `Connection` ─────────────────────────────────────────────────────────────────────────────────

LISTINGS = [  # {} is the name that is to vanish
    "{}", "close, {}", "{}, close", "keep-alive,{}", ",,{},", " {} ", "\t{}\t", "x,\t{} ,y", "{},{}",
    "{}\r\nConnection: {}",
    "X-Mine\r\nconnection: {}", "\r\nCONNECTION: {}", "upgrade, {}",
]  # fmt: skip
NEEDED = {
    "Authorization": "Bearer ours",
    "Host": "127.0.0.1:{port}",
    "Content-Length": "5",
    "Content-Type": "a/b",
    "Cookie": "a=1",
    "X-Team": "geo",  # set by the configuration
}


@pytest.mark.route(auth=BEARER, headers={"set": {"X-Team": "geo"}})
@pytest.mark.parametrize("spelled", [str, str.lower], ids=["as-sent", "in-lower-case"])
@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("listing", LISTINGS)
def test_what_the_upstream_needs_is_there_once_whatever_connection_lists(
    place: Place, listing: str, name: str, spelled: Any
) -> None:
    listed = f"Connection: {listing.replace('{}', spelled(name))}"
    assert ask(place, "POST", "/", listed, "Cookie: a=1", "Content-Type: a/b", body=b"hello").status == 200
    sent = place.api.last
    assert sent.body == b"hello"
    for needed, value in NEEDED.items():
        assert sent.all(needed) == [value.replace("{port}", str(place.api.port))]


@plain_route
@pytest.mark.parametrize("listing", LISTINGS)
def test_a_chunked_body_stays_chunked_whatever_connection_lists(place: Place, listing: str) -> None:
    listed = f"Connection: {listing.replace('{}', 'Transfer-Encoding')}"
    sent = place.request("POST", "/", f"X-Authproxy-Key: {KEY}", "Transfer-Encoding: chunked", listed)
    assert place.ask(sent + chunked(b"hello")).status == 200
    assert place.api.last.all("Transfer-Encoding") == ["chunked"]
    assert place.api.last.body == b"hello"
    assert "connection" not in place.api.last.names or "upgrade" in listing


@pytest.mark.route(auth=IN_ITS_OWN_HEADER)
@pytest.mark.parametrize("name", ["X-Api-Key", "x-api-key", "X_Api_Key", "X-API_KEY"])
@pytest.mark.parametrize("listing", LISTINGS)
def test_a_credential_in_another_header_cannot_be_listed_away_either(
    place: Place, listing: str, name: str
) -> None:
    assert ask(place, "GET", "/", f"Connection: {listing.replace('{}', name)}").status == 200
    assert place.api.last.all("X-Api-Key") == ["ours"]


@pytest.mark.route(auth=IN_ITS_OWN_HEADER)
@pytest.mark.parametrize("listing", LISTINGS)
def test_nor_can_the_callers_own_that_goes_in_its_place(place: Place, listing: str) -> None:
    listed = f"Connection: {listing.replace('{}', 'x-api-key')}"
    assert ask(place, "GET", "/", "X-Api-Key: mine", listed).status == 200
    assert place.api.last.all("X-Api-Key") == ["mine"]


@plain_route
@pytest.mark.parametrize("listing", LISTINGS)
def test_what_is_really_between_the_caller_and_us_goes_no_further(place: Place, listing: str) -> None:
    listed = f"Connection: {listing.replace('{}', 'X-Hop')}"
    assert ask(place, "GET", "/", "x-hop: 1", listed, "X-HOP: 2", "X-Hopper: 3").status == 200
    assert "x-hop" not in place.api.last.names
    assert place.api.last.one("X-Hopper") == "3"


@plain_route
@pytest.mark.parametrize(
    "line", ["Connection:", "Connection: ,", "Connection: \t", "Connection: ;", "Connection: =,()"]
)
def test_a_connection_header_that_lists_nothing_does_nothing(place: Place, line: str) -> None:
    with place.connect() as wire:
        for _ in range(2):
            wire.send(place.request("GET", "/", f"X-Authproxy-Key: {KEY}", line, "X-Kept: 1"))
            assert wire.answer().status == 200
    assert place.api.last.one("X-Kept") == "1"


# ── the same name in another spelling ────────────────────────────────────────────────────────────


@plain_route
@pytest.mark.parametrize(
    "lines",
    [
        ["Content_Length: 3"],
        ["content-length_: 3", "Content_length: 3"],
        ["Transfer_Encoding: chunked"],
        ["Transfer_encoding: chunked", "transfer-Encoding_: chunked"],
    ],
)
def test_framing_in_another_spelling_goes_no_further(place: Place, lines: list[str]) -> None:
    assert ask(place, "POST", "/", *lines, body=b"hello").status == 200
    sent = place.api.last
    assert (sent.body, sent.all("Content-Length")) == (b"hello", ["5"])
    assert not {"content_length", "transfer_encoding", "transfer-encoding"} & set(sent.names)


@plain_route
@pytest.mark.parametrize(
    "name", ["X-Authproxy-Key", "x-authproxy-key", "X_AUTHPROXY_KEY", "X-Authproxy_Key", "x_authproxy-key"]
)
def test_the_access_key_goes_no_further_in_any_spelling(place: Place, name: str) -> None:
    assert ask(place, "GET", "/", f"{name.replace('-', '_', 1)}: {KEY}", "X-Kept: 1").status == 200
    assert sorted(place.api.last.names) == ["authorization", "host", "x-kept"]
    assert KEY.encode() not in place.api.last.head


# ── lines of one's own ───────────────────────────────────────────────────────────────────────────


@plain_route
@pytest.mark.parametrize(
    "target",
    ["/%0d%0aX-Evil:%201", "/?a=%0d%0a%0d%0aGET%20/evil", "/%0a", "/%E5%98%8A%E5%98%8DX-Evil:1",
     "/\xe5\x98\x8a\xe5\x98\x8dX-Evil:1",
     "/\xc4\x8d\xc4\x8aX-Evil:1", "/\x85X-Evil:1", "/\xe2\x80\xa8X-Evil:1"],
)  # fmt: skip
def test_no_target_makes_a_line_of_its_own(place: Place, target: str) -> None:
    assert ask(place, "GET", target).status == 200
    assert sorted(place.api.last.names) == ["authorization", "host"]
    assert len(place.api.requests) == 1
    assert place.api.last.start.isascii()


@plain_route
@pytest.mark.parametrize(
    "value", ["\xc4\x8d\xc4\x8aX-Evil:1", "\x85X-Evil: 1", "\xe2\x80\xa8X-Evil: 1", "a\tX-Evil: 1"]
)
def test_no_value_makes_a_line_of_its_own(place: Place, value: str) -> None:
    assert ask(place, "GET", "/", f"X-Kept: {value}").status == 200
    assert sorted(place.api.last.names) == ["authorization", "host", "x-kept"]
    assert place.api.last.one("X-Kept") == value


@plain_route
@pytest.mark.parametrize(
    "wanted", ["x-a", "\xc4\x8d\xc4\x8aX-Evil:1", "\x85X-Evil: 1", "\xff\xfe", 'a", b\\']
)
def test_a_preflight_that_asks_for_oddities_gets_no_line_of_its_own(place: Place, wanted: str) -> None:
    lines = [
        f"Origin: {APP}",
        f"Access-Control-Request-Method: {wanted}",
        f"Access-Control-Request-Headers: {wanted}",
    ]
    answer = place.ask(place.request("OPTIONS", "/", *lines))
    assert answer.status == 204
    assert all(name.startswith("access-control-") or name == "vary" for name in answer.names)
    assert place.api.requests == []


@plain_route
@pytest.mark.parametrize(
    "sent",
    [
        b"GET /nowhere%0d%0aX-Evil:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil\xc4\x8d\xc4\x8aX-Evil\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\xc4\x8d\xc4\x8aX-Evil:1\r\n\r\n",
        b"X-Evil / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_no_refusal_repeats_what_was_sent(place: Place, sent: bytes) -> None:
    answer = place.ask(sent)
    assert answer.proxy_error
    assert b"evil" not in (answer.head + answer.body).lower()


@plain_route
def test_what_an_upstream_says_of_its_connection_takes_neither_length_nor_type_away(place: Place) -> None:
    listed = "Connection: Content-Length, content-type, Set-Cookie, X-Hop"
    place.api.says(reply(200, listed, "Content-Type: a/b", "X-Hop: 1", "X-Kept: 2", body=b"hello"))
    with place.connect() as wire:
        for _ in range(2):
            wire.send(place.request("GET", "/", f"X-Authproxy-Key: {KEY}"))
            answer = wire.answer()
            assert answer.body == b"hello"
            assert answer.names == ["content-type", "x-kept", "content-length"]


# ── paths in another spelling ────────────────────────────────────────────────────────────────────

CLIMBING = [  # out of what is before it
    "..", "../", "../x", "%2e%2e/x", "%2E%2e/x", ".%2e/x", "%2e./x", "..%2fx", "..%2Fx", "%2e%2e%2fx",
    "..\\x", "..%5cx",
    "%2e%2e%5Cx", "..;/x", "..;a=b/x", "%2e%2e;/x", "..%3bx/x", "./../x", "/../x", "//../x", "a/../../x",
    "a/%2e%2e/..%2fx",
    "a//../../x", "a;/../../x", "a%2f..%2f..%2fx", "%c0%ae%c0%ae/x", "..%c0%afx", "%e0%80%ae%e0%80%ae/x",
    "..%f0%80%80%afx",
    "%2e%2e", ";/../x", "a/b/../../../x", "a\\..\\..\\x",
]  # fmt: skip


@pytest.mark.route(path="/up", upstream="{api}/base", auth=BEARER)
@pytest.mark.parametrize("climb", CLIMBING)
def test_no_spelling_climbs_out_of_a_route(place: Place, climb: str) -> None:
    answer = ask(place, "GET", f"/up/{climb}")
    assert (answer.status, answer.proxy_error) == (403, "http_request_denied")
    assert place.api.requests == []


@pytest.mark.route(allow={"paths": ["/v2/**", "!/v2/secret/**"]}, auth=BEARER)
@pytest.mark.parametrize("climb", CLIMBING)
def test_no_spelling_climbs_out_of_what_is_allowed(place: Place, climb: str) -> None:
    answer = ask(place, "GET", f"/v2/{climb}")
    assert (answer.status, answer.proxy_error) == (403, "http_request_denied")
    assert place.api.requests == []


@pytest.mark.route(allow={"paths": ["!/v2/secret/**", "/v2/**"]}, auth=BEARER)
@pytest.mark.parametrize(
    "target",
    ["/v2/secret/x", "/v2/%73ecret/x", "/v2/secre%74%2fx", "/v2/secret%5cx", "/v2/secret\\x", "/v2//secret/x",
     "/v2/./secret/x",
     "/v2/%2e/secret/x", "/v2/a/../secret/x", "/v2/a/%2e%2e/secret/x", "/v2/a%2f..%2fsecret%2fx",
     "/v2/;a/secret/x", "/v2;b/secret;c/x",
     "/v2/secret;/x", "/v2/secret/a/..;/x", "/v2%2fsecret%2Fx", "//v2//secret//x", "/./v2/secret/x",
     "/v2/secret%c0%afx",
     "/v1/../v2/secret/x", "/v2/secret/?x", "/v2/a\\..\\secret\\x"],
)  # fmt: skip
def test_no_spelling_gets_into_what_is_not_allowed(place: Place, target: str) -> None:
    answer = ask(place, "GET", target)
    assert (answer.status, answer.proxy_error) == (403, "http_request_denied")
    assert place.api.requests == []


@pytest.mark.route(allow={"paths": ["!/admin/**", "!/v2/only%2Fhere", "/v2/**"]}, auth=BEARER)
@pytest.mark.parametrize(
    "target",
    ["/admin/../v2/x", "/admin//../v2/x", "/admin/%2e%2e/v2/x", "/admin/..;/v2/x", "/admin/x/../../v2/x",
     "/admin/./../v2/x", "/admin%2f../v2/x", "/admin/..%2fv2/x", "/admin/..\\v2/x", "/admin/..%5cv2/x",
     "/v2/..//admin/../v2/x", "/v2/../admin//../v2/x", "//v2/x", "/./v2/x", "/%2e/v2/x", "/;a/v2/x",
     "/x/../v2/x", "/v2//..//..//admin/x", "/v2/only%2fhere", "/v2/only%2Fhere;a", "/v2/x/%u002e%u002e/y"],
)  # fmt: skip
def test_a_path_passes_only_if_every_server_would_read_one_that_is_allowed(place: Place, target: str) -> None:
    answer = ask(place, "GET", target)
    assert (answer.status, answer.proxy_error) == (403, "http_request_denied")
    assert place.api.requests == []


@pytest.mark.route(path="/in", strip_path=False, allow={"paths": ["!/in/admin/**", "/in/**"]}, auth=BEARER)
@pytest.mark.parametrize("target", ["/in/admin/../x", "/in/admin//../x", "/in/x//../../../in/x", "/in//../x"])
def test_that_holds_where_the_prefix_stays_too(place: Place, target: str) -> None:
    assert ask(place, "GET", target).status == 403
    assert place.api.requests == []


@pytest.mark.route(allow={"paths": ["!/v2/secret/**", "/v2/**"]}, auth=BEARER)
@pytest.mark.parametrize(
    "target",
    ["/v2/x", "/v2/%78", "/v2/a/../x", "/v2/a%2fb", "/v2/%252e%252e/x", "/v2/...", "/v2/a..b", "/v2/..a/x",
     "/v2/x?/../../v1",
     "/v2/caf%c3%a9", "/v2/x;v=1", "/v2/secret", "/v2/secrets/x", "/v2//x", "/v2/%00"],
)  # fmt: skip
def test_what_is_allowed_passes_byte_for_byte_in_any_spelling(place: Place, target: str) -> None:
    assert ask(place, "GET", target).status == 200
    assert place.api.last.target == target
