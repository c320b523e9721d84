"""What token requests are made of."""

import base64

import pytest

from authproxy.grants.requests import (
    base32,
    basic_value,
    callback_query,
    in_pairs,
    with_defaults,
    with_query,
)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("https://a.example/t", "https://a.example/t?a=1+2&a=%26"),
        ("https://a.example/t?x=y", "https://a.example/t?x=y&a=1+2&a=%26"),
    ],
)
def test_a_query_is_added(url, whole):
    assert with_query(url, [("a", "1 2"), ("a", "&")]) == whole
    assert with_query(url, []) == url


def test_a_default_header_gives_way_to_a_given_one_in_any_case():
    assert with_defaults({"accept": "text/plain"}, {"Accept": "a", "X-B": "b"}) == {
        "X-B": "b",
        "accept": "text/plain",
    }


def test_basic_is_utf_8():
    assert base64.b64decode(basic_value("Jürgen", "p:ß")).decode() == "Jürgen:p:ß"


@pytest.mark.parametrize("text", ["MZXW6YTB", "MZXW6YQ=", "MZXW6YQ", "MZXW6===", "MZXW6", "MY"])
def test_base32_is_read_padded_or_not(text):
    assert b"fooba".startswith(base32(text))
    assert base32(text)


@pytest.mark.parametrize("text", ["mzxw6", "MZXW61", "M", "MZ XW", "=MY"])
def test_what_is_no_base32_is_an_error(text):
    with pytest.raises(ValueError, match=r"base32|padding"):
        base32(text)


def test_a_parameter_with_several_values_is_sent_several_times_and_in_order():
    parameters = {"resource": ("https://a.example", "https://b.example"), "scope": "a b", "none": ()}
    assert in_pairs(parameters) == [
        ("resource", "https://a.example"),
        ("resource", "https://b.example"),
        ("scope", "a b"),
    ]


# ── what a person pastes ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:1/callback?code=a&state=b",
        "  http://127.0.0.1:1/callback?code=a&state=b#_=_\n",
        "?code=a&state=b",
        "code=a&state=b",
    ],
)
def test_the_query_of_a_pasted_url_is_read(text):
    assert callback_query(text) == {"code": "a", "state": "b"}


@pytest.mark.parametrize("text", ["", "a", "https://a.example/", "?code=a", "?code=a&code=b&state=c"])
def test_what_is_no_redirect_is_refused(text):
    with pytest.raises(ValueError, match="the whole URL"):
        callback_query(text)
