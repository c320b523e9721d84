"""What the head of an answer says of whether its body may be changed, and what is left of it then."""

from types import SimpleNamespace

import pytest

from authproxy.proxy.body_rewriting import MAX_HOSTS, BodyRewriting, Target
from authproxy.proxy.url_prefixes import Prefix

from .answering import context, odd, plain

JSON = (b"Content-Type", b"application/json")
HERE = SimpleNamespace(authority=lambda asked: asked)
ELSEWHERE = SimpleNamespace(authority=lambda _asked: "127.0.0.1:8091")
TARGETS = [
    Target(Prefix.of("https", "api.example.com", 443, "/v2"), HERE, "/up42"),
    Target(Prefix.of("https", "sts.example.com", 443, ""), ELSEWHERE, ""),
]
BODY = b'["https://api.example.com/v2/x", "https://sts.example.com"]'
CHANGED = b'["http://localhost:8080/up42/x", "http://127.0.0.1:8091"]'


def rewriting(**settings):
    settings = {"limit": 100, "targets": TARGETS, **settings}
    return BodyRewriting(["application/json", "application/*+json"], **settings)


def body_of(rewriting, *headers, status=200, body=BODY, asked=None, length=None):
    """Return the body as the client gets it, None where it is left alone."""
    scanner = rewriting.begin(asked or context(), odd(status, *headers, length=length))
    return scanner.feed(body) + scanner.end() if scanner is not None else None


def test_its_head_has_no_length_any_more_and_is_not_plain():
    reply = plain(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\nX: 1")
    assert rewriting().begin(context(), reply) is not None
    assert (reply.plain, reply.length, reply.status, reply.reason) == (None, None, 200, b"OK")
    assert reply.headers == [JSON, (b"X", b"1"), (b"Accept-Ranges", b"none")]


def test_what_is_left_alone_stays_as_it_is():
    reply = plain(b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\nETag: "a"')
    before = (reply.plain, reply.length, list(reply.headers))
    assert rewriting().begin(context(), reply) is None
    assert (reply.plain, reply.length, reply.headers) == before


def test_each_target_is_written_as_its_place_is_called():
    assert body_of(rewriting(), JSON) == CHANGED
    assert body_of(rewriting(secure=True), JSON) == CHANGED.replace(b"http:", b"https:")


def test_what_is_written_is_good_in_a_string_whatever_the_caller_calls_us():
    asked = context()
    asked.request.authority = 'a"\\\x01\xe9'
    assert body_of(rewriting(), JSON, asked=asked) == (
        b'["http://a\\"\\\\\\u0001\\u00e9/up42/x", "http://127.0.0.1:8091"]'
    )


def test_the_authority_of_a_target_counts_for_more_than_host():
    asked = context()
    asked.request.target = "http://proxy.example:1/up42/y"
    assert b'"http://proxy.example:1/up42/x"' in body_of(rewriting(), JSON, asked=asked)


@pytest.mark.parametrize(
    "said",
    [b"application/json", b"APPLICATION/JSON;charset=utf8", b"application/geo+json ; charset='UTF-8'",
     b"application/+json", b"application/json;charset=us-ascii"],
)  # fmt: skip
def test_types_are_known_in_any_spelling(said):
    assert body_of(rewriting(), (b"content-TYPE", said)) == CHANGED


@pytest.mark.parametrize(
    "said",
    [b"text/json", b"application/jsonp", b"xapplication/json", b"application/x/y+json", b"",
     b"application/json, a/b", b"application/geo+jsonx", b"application/a;b+json"],
)  # fmt: skip
def test_others_are_left_alone_and_not_told_of(said):
    told = []
    assert body_of(rewriting(untouched=told.append), (b"Content-Type", said)) is None
    assert told == []


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ([JSON], 206, "partial"),
        ([(b"Content-Type", b"Multipart/Mixed; boundary=x")], 200, "multipart"),
        ([JSON, (b"Content-Encoding", b"gzip")], 200, "encoded"),
        ([JSON, (b"Content-Encoding", b"identity"), (b"Content-Encoding", b"br")], 200, "encoded"),
        ([(b"Content-Type", b'application/json; CHARSET = "latin1"')], 200, "charset"),
        ([JSON, (b"Cache-Control", b"no-cache,no-transform")], 200, "no_transform"),
        ([JSON, (b"Cache-Control", b"a"), (b"cache-control", b"NO-TRANSFORM ")], 200, "no_transform"),
        ([JSON, (b"Content-Length", b"101")], 200, "too_large"),
    ],
)
def test_what_cannot_be_changed_is_told_of_once_with_the_reason(headers, status, reason):
    told, asked = [], context()
    assert body_of(rewriting(untouched=told.append), *headers, status=status, asked=asked) is None
    assert told == [reason]
    assert [step[:2] for step in asked.notes().steps] == [("rewrite", f"the body passes untouched: {reason}")]


@pytest.mark.parametrize(
    "header",
    [(b"Content-Encoding", b" Identity "), (b"Content-Length", b"100"), (b"Content-Length", b"1x1"),
     (b"Cache-Control", b"no-transformation, x=no-transform"), (b"Content-Range", b"bytes 0-1/9")],
)  # fmt: skip
def test_what_only_looks_like_an_obstacle_is_none(header):
    assert body_of(rewriting(), JSON, header) == CHANGED


def test_utf_16_is_told_of_when_its_first_bytes_come():
    told, body = [], BODY.decode().encode("utf-16-le")
    assert body_of(rewriting(untouched=told.append), JSON, body=body) == body
    assert told == ["charset"]


NOT_MODIFIED = [(b"ETag", b'"abc"'), (b"Content-Digest", b"x"), (b"X", b"1")]


@pytest.mark.parametrize("has", [None, 'W/"abc"', '"abcd", W/"abc"', "*", '"abc"', 'W/"abc","abc"'])
def test_what_says_that_nothing_has_changed_is_made_like_what_the_client_has(has):
    asked = context(**({"If_None_Match": has} if has else {}))
    reply = odd(304, *NOT_MODIFIED, body=b"", length=None)
    rewriting().begin(asked, reply)
    assert reply.headers == [(b"ETag", b'W/"abc"'), (b"X", b"1"), (b"Accept-Ranges", b"none")]


def test_one_that_says_of_what_is_judged_by_that():
    reply = odd(304, *NOT_MODIFIED, (b"Content-Type", b"image/png"), body=b"", length=None)
    assert rewriting().begin(context(), reply) is None


def test_with_preserve_host_the_callers_name_is_the_upstreams():
    made = rewriting(preserve_host=True)
    body = b'["http://localhost:8080/v2/x", "https://LOCALHOST:8080/v2", "http://localhost/v2"]'
    assert body_of(made, JSON, body=body) == (
        b'["http://localhost:8080/up42/x", "http://localhost:8080/up42", "http://localhost/v2"]'
    )
    assert body_of(made, JSON) == CHANGED
    assert body_of(rewriting(), JSON, body=body) == body


def test_names_that_callers_make_up_fill_no_memory():
    made = rewriting(preserve_host=True)
    for number in range(MAX_HOSTS + 9):
        asked = context()
        asked.request.authority = f"n{number}.localhost"
        body = f'["http://n{number}.localhost/v2"]'.encode()
        assert body_of(made, JSON, body=body, asked=asked) == body.replace(b"/v2", b"/up42")
    assert made._prefixes.cache_info().currsize == MAX_HOSTS


def test_a_plain_text_is_one_url_where_it_is_listed():
    made = BodyRewriting(["text/plain"], limit=100, targets=TARGETS)
    text = (b"Content-Type", b"text/plain")
    assert body_of(made, text, body=b"https://sts.example.com\n") == b"http://127.0.0.1:8091\n"
    assert body_of(made, text, body=BODY) == BODY
