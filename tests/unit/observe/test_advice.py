"""What to check of a configuration, when an upstream's own answer looks as if that were at fault."""

import pytest

from authproxy.observe.advice import PATH, REDIRECT, SCHEME, TWICE, advice
from authproxy.observe.record import RouteFacts
from tests.support.records import record


def answered(status, url="https://api.example/v1/x", **changes):
    return record(status=status, facts=RouteFacts("up42", url_of=lambda _path: url), **changes)


@pytest.mark.parametrize(
    ("status", "url", "first", "later"),
    [
        (404, "https://api.example/v1/x", PATH, None),
        (404, "https://api.example/v1/v1/x", TWICE, TWICE),
        (404, "https://api.example/a/b/a/b", TWICE, TWICE),
        (404, "https://api.example/v1/v11/x", PATH, None),
        (400, "http://api.example/x", SCHEME, None),
        (400, "https://api.example/x", None, None),
        (200, "https://api.example/v1/v1", None, None),
        (401, "https://api.example/x", None, None),
        (500, "https://api.example/x", None, None),
    ],
)
def test_a_404_is_explained_until_the_route_has_had_a_success(status, url, first, later):
    assert advice(answered(status, url), (), None) == first
    assert advice(answered(status, url), {"up42"}, None) == later


def test_a_redirect_away_is_always_explained():
    assert advice(answered(302), {"up42"}, "https://elsewhere.example/") == REDIRECT


def test_what_authproxy_answers_itself_has_a_hint_of_its_own():
    assert advice(answered(404, cause="no route is mounted there"), (), None) is None
    assert advice(record(status=404), (), None) is None
