"""What an answer looks like is told by names, codes and sentences; its values are nobody's business."""

import pytest

from authproxy.grants.shape import clock_skew, fields_in, likely_token, wants_tls, what_it_is, words_in

from .talk import NOW, answer


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (answer({"a": 1}), ""),
        (answer(body=b""), "an empty body"),
        (answer(body=b" \r\n"), "an empty body"),
        (answer(body=b"<html>"), "an HTML page"),
        (answer(body=b"hello"), "text that is not JSON"),
    ],
)
def test_what_came(given, what):
    assert what_it_is(given) == what


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"error": "invalid_grant", "error_description": "no"}, ["invalid_grant", "no"]),
        ({"error": {"primaryErrorKey": "A_B"}}, ["A_B"]),
        ({"error": [{"primaryErrorKey": "A_B", "description": "no"}]}, ["A_B", "no"]),
        ([{"name": "A_B", "description": "no"}], ["A_B", "no"]),
        ({"data": {"name": "Joe"}}, []),
        ({"message": "no", "errors": [{"message": "no"}, {"message": "why"}]}, ["no", "why"]),
        ({"error": 7, "message": None, "detail": ""}, []),
        ("no", []),
        (None, []),
    ],
)
def test_what_a_server_says_went_wrong_is_found_at_any_depth(document, words):
    assert words_in(document) == words


def test_there_is_an_end_to_what_a_server_says():
    endless = [{"message": str(number)} for number in range(1000)]
    assert words_in(endless) == ["0", "1", "2"]
    assert words_in([[[]] * 1000] * 1000) == []


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({"a": "s3cr3t", "b": {"c": 1, "d": []}}, ["/a", "/b/c", "/b/d (a list)"]),
        ([{"jwt": "s3cr3t"}], ["/0/jwt"]),
        (
            {"a": None, "b": "", "c": True, "d": {}, "e": 1.5, "f": [], "g": 0},
            [
                "/a (null)",
                "/b (empty)",
                "/c (a boolean)",
                "/d (an object)",
                "/e (a fraction)",
                "/f (a list)",
                "/g",
            ],
        ),
        ({"a": {"b": {"c": {"d": 1}}}}, ["/a/b/c (an object)"]),
        ({"s3cr3t-0123456789": 1, "x y": 1, "a" * 41: 1}, ["/…", "/…", "/…"]),
        ({}, []),
        ("s3cr3t", []),
    ],
)
def test_fields_are_named_and_their_values_are_not(document, fields):
    assert fields_in(document) == fields


def test_of_very_many_fields_some_are_named():
    assert len(fields_in({f"f{chr(97 + number % 26)}{'x' * number}": 1 for number in range(30)})) == 13


@pytest.mark.parametrize(
    ("document", "likely"),
    [
        ({"accessToken": "a", "refresh_token": "b", "token_type": "c", "expires_in": 1}, "/accessToken"),
        ({"data": {"jwt": "a"}}, "/data/jwt"),
        ({"token": {"value": "a"}}, "/token/value"),
        ({"token": 7}, None),
        ({"token": ""}, None),
        ({"token": "", "jwt": "a"}, "/jwt"),
        ({"one_token": "a", "another_token": "b"}, None),
        ({"a": "b"}, None),
    ],
)
def test_a_field_that_is_called_like_a_token_may_be_it(document, likely):
    assert likely_token(document) == likely


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:12:20 GMT", -60.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 0.0),
        ("soon", 0.0),
        ("", 0.0),
    ],
)
def test_the_clocks_are_compared_by_date(date, skew):
    assert NOW == 1_700_000_000  # 22:13:20
    assert clock_skew(answer({}, headers={"Date": date})) == skew


def test_who_wants_tls_says_so_with_a_400():
    body = b"Client sent an HTTP request to an HTTPS server.\n"
    assert wants_tls(answer(status=400, body=body))
    assert not wants_tls(answer(status=200, body=body))
    assert not wants_tls(answer(status=400, body=b"bad"))
