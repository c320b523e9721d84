"""Where a token goes in a request, byte by byte."""

import pytest
from multidict import CIMultiDict

from authproxy.proxy.injection import Injection
from authproxy.tokens.token import Token
from tests.support.injection import header_injection

A, B = Token("a"), Token("b&/u")
HEAD = b"GET /x?y=1 HTTP/1.1\r\nHost: h\r\n"


def value(token):
    return token.value


def injection(*, headers=(), query=(), cookies=()):
    return Injection(
        dict.fromkeys(headers, value), dict.fromkeys(query, value), dict.fromkeys(cookies, value)
    )


def test_headers_are_lines_of_their_own():
    assert injection(headers=["X-A", "X-B"]).lines(A) == b"X-A: a\r\nX-B: a\r\n"
    assert header_injection("Authorization", "Bearer").lines(A) == b"Authorization: Bearer a\r\n"
    assert header_injection("X-Key").lines(A) == b"X-Key: a\r\n"
    assert header_injection("X-Key").scheme is None
    assert header_injection("authorization").scheme == ""
    assert not header_injection("X-Key").edits


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"/", b"/?k=a"),
        (b"/?", b"/?k=a"),
        (b"/?x", b"/?x&k=a"),
        (b"/?x&", b"/?x&k=a"),
        (b"/?k=1&x&k", b"/?x&k=a"),
        (b"/?%6b=1", b"/?k=a"),
        (b"/?k+=1", b"/?k+=1&k=a"),
        (b"/?x;k=1;y&z", b"/?x;y&z&k=a"),
        (b"/?\xff=1&x=%ff", b"/?\xff=1&x=%ff&k=a"),
        (b"*", b"*"),
    ],
)
def test_the_query_gets_one_parameter_more(target, sent):
    head = b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n"
    assert injection(query=["k"]).edited(head, A) == b"GET " + sent + b" HTTP/1.1\r\nHost: h\r\n"


def test_what_a_query_cannot_hold_is_escaped():
    assert injection(query=["k"]).edited(HEAD, B).startswith(b"GET /x?y=1&k=b%26%2Fu HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        (b"", b"Cookie: S=a\r\n"),
        (b"cOOkie: x=1\r\nX-A: b\r\n", b"cOOkie: x=1; S=a\r\nX-A: b\r\n"),
        (b"Cookie: S=1\r\n", b"Cookie: S=a\r\n"),
        (b"Cookie: x=1; \r\n", b"Cookie: x=1; S=a\r\n"),
        (b"Cookie: x=1; S=1;y=2\r\nX: 1\r\nCookie: z\r\n", b"Cookie: x=1;y=2; z; S=a\r\nX: 1\r\n"),
        (b"X-Cookie: S=1\r\n", b"X-Cookie: S=1\r\nCookie: S=a\r\n"),
    ],
)
def test_cookies_stand_in_one_header(lines, sent):
    assert injection(cookies=["S"]).edited(HEAD + lines, A) == HEAD + sent


def test_a_head_takes_another_token_as_well_as_the_first():
    made = injection(query=["k"], cookies=["S"])
    assert made.edited(HEAD, A) != made.edited(HEAD, B)
    assert HEAD == b"GET /x?y=1 HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    ("headers", "target", "brought"),
    [
        ({}, "/", None),
        ({"x-a": "1"}, "/", "X-A"),
        ({"X-Other": "1"}, "/?kk=1", None),
        ({}, "/?x&%6B=1", "the query parameter k"),
        ({}, "/?x;k=1", "the query parameter k"),
        ({"Cookie": "x=1; S=2"}, "/", "the cookie S"),
        ({"Cookie": "s=2"}, "/?K=1", None),
        ({"X-A": "1", "Cookie": "S"}, "/?k", "X-A and the query parameter k and the cookie S"),
    ],
)
def test_what_the_caller_brings_is_seen(headers, target, brought):
    made = injection(headers=["X-A"], query=["k"], cookies=["S"])
    assert made.brought(CIMultiDict(headers), target) == brought
    assert made.brought(CIMultiDict(headers), "/", goes=lambda _name: False) is None


def test_a_plain_request_is_looked_at_closer_only_where_it_may_bring_some():
    made = injection(query=["k"])
    assert made.may_be_brought("/?x", [])
    assert not made.may_be_brought("/", [b"Cookie"])
    assert injection(cookies=["S"]).may_be_brought("/", [b"Host", b"Cookie"])
    assert not injection(cookies=["S"]).may_be_brought("/?x", [b"Host"])


def test_it_says_where():
    assert injection(headers=["A"], query=["k"]).said == "A and the query parameter k"


def test_what_is_sent_of_a_token_is_known():
    made = injection(query=["k"])
    made.edited(HEAD, A)
    made.edited(HEAD, A)
    assert list(made.recent) == ["a"]
    assert list(header_injection("X", "Basic").values(A)) == ["a"]
    assert list(header_injection("X", "Odd").values(A)) == ["Odd a"]
