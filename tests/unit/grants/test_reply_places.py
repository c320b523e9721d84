"""A token in a header or a cookie of a login's answer."""

import pytest
from multidict import CIMultiDict
from pydantic import TypeAdapter, ValidationError

from authproxy.grants.reply_places import TokenPlace, token_at
from authproxy.grants.steps import Answer

NOW = 1_700_000_000.0
SID = TokenPlace(cookie="SID")


def answer(*pairs, body=b"{}"):
    return Answer(body, NOW, "https://a.example", headers=CIMultiDict(pairs))


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        (["SID=a"], ("a", None)),
        (["other=1", " SID = a ; Path=/; HttpOnly"], ("a", None)),
        (["SID=a; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], ("a", 60.0)),
        (["SID=a; expires=Tue, 14 Nov 2023 22:14:20 GMT"], ("a", 60.0)),
        (["SID=a; Expires=soon"], ("a", None)),
        (["SID=a", "SID=b"], ("b", None)),
        (["SID=a=b=="], ("a=b==", None)),
        (["SID="], (None, None)),
        (["SID=a; Max-Age=0"], (None, None)),
        (["SID=a; Max-Age=-1"], (None, None)),
        (["SID=a; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], (None, None)),
        (["sid=a"], (None, None)),
        ([], (None, None)),
    ],
)
def test_the_last_cookie_of_that_name_is_the_token_and_its_life(cookies, found):
    assert token_at(answer(*(("Set-Cookie", each) for each in cookies)), None, SID) == found


def test_a_header_is_the_token():
    at = TokenPlace(header="X-Subject-Token")
    assert token_at(answer(("x-subject-token", " t ")), None, at) == ("t", None)
    assert token_at(answer(("x-subject-token", "")), None, at) == (None, None)
    assert token_at(answer(), {"access_token": "x"}, at) == (None, None)
    assert token_at(answer(), {"access_token": "x"}, "/access_token") == ("x", None)


def test_what_is_there_instead_is_named_without_its_value():
    given = answer(("Set-Cookie", "visitor=s3cr3t"), ("Set-Cookie", "gone="), ("X-B", "s3cr3t"))
    assert SID.there(given) == ["visitor"]
    assert TokenPlace(header="X-A").there(given) == ["x-b"]


def test_plain_mappings_have_one_header_of_a_name():
    assert SID.find(Answer(b"", NOW, "a", headers={"Set-Cookie": "SID=a"})) == ("a", None)


@pytest.mark.parametrize("keys", [{}, {"header": "A", "cookie": "b"}])
def test_it_is_one_or_the_other(keys):
    with pytest.raises(ValidationError, match="a header or a cookie"):
        TypeAdapter(TokenPlace).validate_python(keys)
