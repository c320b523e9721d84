"""Placeholders: the same in every process, one a credential, worth nothing."""

import json
from base64 import b64encode, urlsafe_b64decode
from types import SimpleNamespace

import pytest

from authproxy.errors import Forbidden
from authproxy.proxy.placeholders import (
    PLACEHOLDER,
    Placeholders,
    as_jwt,
    bare_jwt,
    is_noticed,
    placeholder,
    placeholders,
    placeholders_in,
)

API, OTHER = placeholder("api"), placeholder("other")


def route(name, key):
    return SimpleNamespace(name=name, key=key)


def test_a_placeholder_is_made_of_the_routes_name_alone():
    # base64url of the SHA-256 of "api", worked out with openssl
    assert placeholder("api") == "authproxy-p-FMJSnrRJjF0f_WkV0Fv1ipG92nlq9Z9B1IDRHAmdBHk"
    assert PLACEHOLDER.fullmatch(placeholder("api"))
    assert placeholder("api") != placeholder("api2")


def test_routes_of_one_credential_share_the_first_ones_placeholder():
    found = placeholders([route("b", "1"), route("a", "2"), route("c", "1")])
    assert found == {"b": placeholder("b"), "a": placeholder("a"), "c": placeholder("b")}


# ── one that looks like a token ──────────────────────────────────────────────────────────────────


def claims(jwt):
    part = jwt.split(".")[1]
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_a_jwt_keeps_its_claims_and_gets_moments_and_a_signature_of_its_own():
    made = as_jwt(API, "eyJhIjoxfQ.eyJzdWIiOiJtZSIsImV4cCI6Mn0.sig", issued_at=10, expires_at=20)
    assert made.startswith("eyJhIjoxfQ.")
    assert made.endswith(f".{API}")
    assert claims(made) == {"sub": "me", "iat": 10, "exp": 20}
    assert claims(bare_jwt(API, issued_at=10, expires_at=20)) == {"iat": 10, "exp": 20}


@pytest.mark.parametrize(
    "token",
    ["opaque", "a.b.c", "eyJhIjoxfQ.W10.c", "W10.eyJhIjoxfQ.c", "eyJhIjoxfQ.eyJhIjoxfQ", "é.ü.ö", "..", ""],
)
def test_what_is_no_jwt_makes_none(token):
    assert as_jwt(API, token, issued_at=1, expires_at=2) is None


# ── found ────────────────────────────────────────────────────────────────────────────────────────


def escaped(text):
    return "".join(f"%{ord(letter):02X}" for letter in text)


@pytest.mark.parametrize("before", ["", "u:", "us:", "use:", "user:"])
@pytest.mark.parametrize("behind", ["", ":", ":x", ":xy"])
def test_it_is_found_wherever_it_stands_in_base64(before, behind):
    text = b64encode(f"{before}{API}{behind}".encode())
    for each in (
        text,
        text.rstrip(b"="),
        text.replace(b"+", b"-").replace(b"/", b"_"),
        b"k8s.io." + text,
        b"token_" + text,
    ):
        assert is_noticed(each)
        assert placeholders_in(each) == {API}


@pytest.mark.parametrize(
    "text",
    [
        API,
        f"a.b.{API}",
        f'"{API}"',
        escaped(API),
        escaped(escaped(API)),
        API.replace("-", "\\-"),
        f"{API}{OTHER}",
    ],
)
def test_it_is_found_however_it_is_written(text):
    assert is_noticed(text.encode())
    assert API in placeholders_in(text.encode())


def test_encoded_in_basic_it_is_found_too():
    text = b"BaSiC " + b64encode(escaped(API).encode())
    assert is_noticed(text)
    assert placeholders_in(text) == {API}


@pytest.mark.parametrize("text", ["", "Bearer x", "100%", "Basic !", "Basic A", API[:-1], "a\\b", "%zz"])
def test_what_is_none_is_not_found(text):
    assert placeholders_in(text.encode()) == set()


def test_what_is_written_over_again_and_again_ends():
    deep = "%" + "25" * 20_000 + "61"
    assert placeholders_in(deep.encode()) == set()
    assert not is_noticed(deep.encode())


# ── taken out ────────────────────────────────────────────────────────────────────────────────────


class Request:
    def __init__(self, target, *headers):
        self.target = target
        self.raw_headers = headers
        self.notes = SimpleNamespace(steps=[])

    def replace(self, target, headers):
        self.target, self.raw_headers = target, headers


def take_out(target, *headers, own=API):
    request = Request(target, *headers)
    context = SimpleNamespace(request=request, notes=lambda: request.notes)
    left = Placeholders(own, {API: "api", OTHER: "other"}).taken_out(context, target)
    assert request.target == left
    return left, list(request.raw_headers), [step[:2] for step in request.notes.steps]


def test_a_request_without_one_is_what_it_was():
    headers = [(b"Host", b"a"), (b"Authorization", b"Basic eDp5"), (b"X", b"100%")]
    assert take_out("/a?b=%41", *headers) == ("/a?b=%41", headers, [])


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?a={}", ""), ("?a={}&b", "?b"), ("?b&a={}", "?b"), ("?b;a={};c=%20", "?b;c=%20"), ("?&a={}&", "?&"),
        ("?a=1&b={}&a={}&c?d", "?a=1&c?d"),
    ],
)  # fmt: skip
def test_of_a_query_only_that_parameter_goes(query, left):
    assert take_out("/x" + query.replace("{}", API))[0] == f"/x{left}"


def test_of_a_header_only_that_cookie_or_protocol_goes():
    found = take_out(
        "/x",
        (b"Cookie", f"a={API}; b=1;  c".encode()),
        (b"COOKIE", f"a={API}".encode()),
        (b"Sec_WebSocket-Protocol", f"a, {API},b".encode()),
        (b"X", b"stays"),
    )
    assert found[1] == [(b"Cookie", b"b=1;  c"), (b"Sec_WebSocket-Protocol", b"a,b"), (b"X", b"stays")]
    assert found[2] == [("placeholder", "taken out of Cookie, COOKIE, Sec_WebSocket-Protocol")]


@pytest.mark.parametrize("own", [API, None])
@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/x", [(b"X", OTHER.encode())]),
        ("/x", [(b"Cookie", f"a={API}; b={OTHER}".encode())]),
        (f"/x?a={OTHER}", []),
        (f"/{API}", []),
        ("/x", [(b"Host", API.encode())]),
        ("/x", [(b"X", placeholder("unheard of").encode())]),
        ("/x", [(OTHER.encode(), b"1")]),
    ],
)
def test_another_or_one_that_cannot_be_taken_out_is_refused(own, target, headers):
    with pytest.raises(Forbidden) as caught:
        take_out(target, *headers, own=own)
    assert caught.value.hint
    assert not PLACEHOLDER.search(caught.value.detail)
