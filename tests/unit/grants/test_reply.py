"""Reading an answer: pointers, lifetimes, moments, charsets, and pages that are for people."""

import base64
import json
import time

import pytest

from authproxy.grants.reply import (
    MAX_LIFETIME,
    find,
    is_page,
    jwt_expiry,
    read_json,
    read_lifetime,
    read_moment,
    read_text,
    retry_after,
)

from .talk import NOW, answer


def jwt(claims):
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


# ── pointers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", {"a": {"b": [10, 20]}, "a/b": 1, "m~n": 2, "": 3}),
        ("/a/b/1", 20),
        ("/a/b/2", None),
        ("/a/b/-", None),
        ("/a/b/x", None),
        ("/a/x/y", None),
        ("/a~1b", 1),
        ("/m~0n", 2),
        ("/", 3),
        (("/x", "/a~1b"), 1),
        ((), None),
    ],
)
def test_a_pointer_leads_into_a_document(pointer, found):
    assert find({"a": {"b": [10, 20]}, "a/b": 1, "m~n": 2, "": 3}, pointer) == found


def test_a_pointer_does_not_stop_at_what_is_there_but_empty():
    document = {"token": None, "a": [None, {"token": ""}]}
    assert find(document, ("/token", "/a/0", "/a/1/token")) == ""


# ── lifetimes and moments ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (300, 300),
        ("300", 300),
        (299.5, 299.5),
        ("299.5", 299.5),
        (None, None),
        (0, None),
        (-1, None),
        ("-1", None),
        (True, None),
        (False, None),
        ("soon", None),
        ("", None),
        ([300], None),
        ({}, None),
        (float("nan"), None),
        (float("inf"), None),
        (10**12, MAX_LIFETIME),
        (10**400, MAX_LIFETIME),
        (-(10**400), None),
        ("1e12", MAX_LIFETIME),
    ],
)
def test_a_lifetime_is_read_from_whatever_servers_send(expires_in, seconds):
    assert read_lifetime(expires_in) == seconds


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (NOW, NOW),
        (str(NOW), NOW),
        (NOW * 1000, NOW),
        ("2023-11-14T22:13:20Z", NOW),
        (" 2023-11-14T22:13:20Z\n", NOW),
        ("2023-11-15T00:13:20+02:00", NOW),
        ("2023-11-14T22:13:20", NOW),
        (3600, None),  # a lifetime in the place of a moment
        (True, None),
        (None, None),
        ("soon", None),
    ],
)
def test_a_moment_is_in_seconds_in_milliseconds_or_in_iso_8601(value, moment):
    assert read_moment(value) == moment


@pytest.fixture
def _two_hours_east(monkeypatch):
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_two_hours_east")
def test_a_moment_without_a_zone_is_local_only_where_that_is_said():
    assert read_moment("2023-11-14T22:13:20") == NOW
    assert read_moment("2023-11-14T22:13:20", local_time=True) == NOW - 7200
    assert read_moment("2023-11-14T22:13:20Z", local_time=True) == NOW


@pytest.mark.parametrize("length", range(1, 5))
def test_the_expiry_of_a_jwt_is_read_whatever_padding_it_left_out(length):
    assert jwt_expiry(jwt({"exp": NOW, "x": "y" * length})) == NOW


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "..",
        f"a.{base64.urlsafe_b64encode(b'[1]').decode()}.c",
        "a.ü.c",
        "a.e.c",
    ],
)
def test_what_is_no_jwt_has_no_expiry(token):
    assert jwt_expiry(token) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("Tue, 14 Nov 2023 22:15:20 GMT", 120),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0),  # gone by
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("9" * 30, None),
        ("Tue, 99 Nov 2023 22:15:20 GMT", None),
    ],
)
def test_retry_after_is_read(value, seconds):
    assert retry_after({"Retry-After": value}, NOW) == seconds
    assert retry_after({}, NOW) is None


# ── texts ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("ü".encode(), None, "ü"),
        ("ü".encode(), "text/plain", "ü"),
        ("ü".encode("latin-1"), "text/plain; charset=ISO-8859-1", "ü"),
        ("ü".encode("latin-1"), "text/plain; Charset = 'latin-1'", "ü"),
        ("ü".encode("utf-16"), "text/plain; charset=latin-1", "ü"),  # the mark knows better
        (b"\xef\xbb\xbf\xc3\xbc", None, "ü"),
        (b"\xff", None, "\ufffd"),
        ("ü".encode(), "text/plain; charset=nonsense", "ü"),
        ("ü".encode(), "text/plain; charset=base64", "ü"),
        (b"xn--tda", "text/plain; charset=idna", "xn--tda"),  # no charsets, whatever Python calls them
        (b"a-tda", "text/plain; charset=punycode", "a-tda"),
    ],
)
def test_a_text_is_read_by_its_mark_its_charset_or_as_utf_8(body, content_type, text):
    headers = {"Content-Type": content_type} if content_type else {}
    assert read_text(answer(body=body, headers=headers)) == text


def test_no_text_in_a_document_holds_half_a_character():
    document = read_json(answer(body=b'{"a": "\\ud800", "\\udfff": "\\ud83d\\ude00"}'))
    json.dumps(document, ensure_ascii=False).encode()
    assert "😀" in document.values()


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"9" * 5000, b"\x00"])
def test_what_is_no_json_is_no_document(body):
    assert read_json(answer(body=body)) is None


@pytest.mark.parametrize(
    ("body", "content_type", "is_one"),
    [
        (b"<!DOCTYPE html><title>Log in</title>", "", True),
        (b"\xef\xbb\xbf \r\n<HTML>", "text/plain", True),
        (b"<p>Log in</p>", "text/html; charset=utf-8", True),
        (b"<p>Log in</p>", "Application/XHTML+xml", True),
        (b"<p>Log in</p>", "text/plain", False),
        (b'{"access_token": "<a>"}', "text/html", False),
        (b"a-bare-token", "text/html", False),
        (b"<token/>", "application/xml", False),
    ],
)
def test_a_page_for_people_is_told_from_data_that_is_called_one(body, content_type, is_one):
    assert is_page(answer(body=body, headers={"Content-Type": content_type})) is is_one
