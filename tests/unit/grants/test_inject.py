"""`inject`: the places of a token, as the configuration names them."""

import base64

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from authproxy.errors import BadTokenReply
from authproxy.grants.grant import Grant
from authproxy.grants.inject import Place
from authproxy.tokens.token import Token

from .talk import make

TOKEN = Token("t0k3n")
PLACE = TypeAdapter(Place)


def place(**keys):
    return PLACE.validate_python(keys)


@pytest.mark.parametrize(
    ("keys", "sent", "said", "scheme"),
    [
        ({"header": "X-Key"}, "t0k3n", "X-Key", None),
        ({"header": "authorization", "value": "Token {token}"}, "Token t0k3n", "authorization", "Token"),
        ({"header": "Authorization"}, "t0k3n", "Authorization", ""),
        ({"header": "Authorization", "value": "a:{token}"}, "a:t0k3n", "Authorization", ""),
        ({"query": "key", "value": "k={token}"}, "k=t0k3n", "the query parameter key", None),
        ({"cookie": "SID"}, "t0k3n", "the cookie SID", None),
    ],
)
def test_each_place_says_what_stands_there(keys, sent, said, scheme):
    made = place(**keys)
    assert (made.fill(TOKEN), made.said, made.scheme) == (sent, said, scheme)


@pytest.mark.parametrize(
    ("basic", "pair"),
    [
        ({"username": "oauth2"}, "oauth2:t0k3n"),
        ({"username": "{token}", "password": "x-oauth-basic"}, "t0k3n:x-oauth-basic"),
        ({"username": "grün", "password": "{token}"}, "grün:t0k3n"),
    ],
)
def test_basic_takes_it_in_either_half(basic, pair):
    made = place(basic=basic)
    assert made.fill(TOKEN) == f"Basic {base64.b64encode(pair.encode()).decode()}"
    assert (made.header_name, made.scheme, made.key) == (
        "Authorization",
        "Basic",
        ("header", "authorization"),
    )


def test_a_name_with_a_colon_and_a_cookie_with_a_semicolon_are_refused():
    with pytest.raises(BadTokenReply, match="the token contains a colon") as caught:
        place(basic={"username": "{token}", "password": "x"}).fill(Token("a:b"))
    assert (caught.value.title, "`password`" in caught.value.hint) == ("Unusable token", True)
    with pytest.raises(BadTokenReply, match="the token contains a semicolon") as caught:
        place(cookie="SID").fill(Token("a;b"))
    assert (caught.value.title, "`inject`" in caught.value.hint) == ("Unusable token", True)


def test_what_of_a_place_cannot_stand_there_is_named():
    token = Token("t", fields=(("/s", "a;b"), ("/n", "a:b")))
    with pytest.raises(BadTokenReply, match="the field /s contains a semicolon"):
        place(cookie="SID", value="{token}{response:/s}").fill(token)
    with pytest.raises(BadTokenReply, match="the field /n contains a colon"):
        place(basic={"username": "{response:/n}"}).fill(token)
    with pytest.raises(BadTokenReply, match="the configured text contains a semicolon"):
        place(cookie="SID", value="a;{token}").fill(token)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "should name one place"),
        ({"header": "A", "cookie": "b"}, "should name one place"),
        ({"basic": {"username": "a"}, "value": "{token}"}, "value does not go with basic"),
        ({"header": "A", "value": "s3cr3t"}, "headers.set"),
        ({"query": ""}, "query parameter"),
        ({"query": "a\n"}, "query parameter"),
        ({"cookie": "a=b"}, "name of a cookie"),
        ({"header": "A B"}, "header name"),
        ({"header": "A", "value": "a\n{token}"}, "line breaks"),
    ],
)
def test_what_is_no_place_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message) as caught:
        place(**keys)
    assert "s3cr3t" not in str(caught.value.errors()[0]["msg"])


def test_without_inject_there_is_one_header():
    [made] = make(Grant, scheme="Token", header="X-T").places
    assert (made.header_name, made.fill(TOKEN)) == ("X-T", "Token t0k3n")
    [bare] = make(Grant, scheme="").places
    assert bare.fill(TOKEN) == "t0k3n"


def test_what_a_reply_must_have_is_known():
    grant = make(
        Grant,
        inject=[
            {"header": "A", "value": "{response:/a}"},
            {"basic": {"username": "{response:/b}", "password": "{response:/a}"}},
        ],
    )
    assert grant.wanted_fields == ("/a", "/b")
    assert make(Grant).wanted_fields == ()


def test_for_people_secrets_are_masked():
    assert place(header="A", value="s3cr3t-{token}").shown() == {"header": "A", "value": "••••{token}"}
    assert place(basic={"username": "me"}).shown() == {"basic": {"username": "••••", "password": "{token}"}}
    assert "s3cr3t" not in repr(place(query="a", value="s3cr3t-{token}"))
    a_word = place(header="Authorization", value="s3cr3t {token}")
    assert (a_word.scheme, a_word.shown()["value"]) == ("", "••••{token}")
    [usual] = make(Grant, scheme="GenieKey").places
    assert (usual.scheme, usual.shown()["value"]) == ("GenieKey", "GenieKey {token}")
    assert isinstance(place(query="a", value="{token}").value, SecretStr)
