"""What to check of a configuration, when an upstream's own answer looks as if that were at fault."""

import pytest

from authproxy.observe.advice import AT_ITS_OWN, PATH, REDIRECT, SCHEME, TWICE, advice
from authproxy.observe.record import RouteFacts
from tests.support.records import record


def advised(
    status, url="https://api.example/v1/x", proven=(), *, base="", redirect=None, listener="", **changes
):
    facts = RouteFacts("up42", url_of=lambda _path: url, base=base, listener=listener)
    return advice(record(status=status, facts=facts, **changes), proven, redirect=redirect, upstream=url)


@pytest.mark.parametrize(
    ("status", "url", "base", "first", "later"),
    [
        (404, "https://api.example/v1/x", "/v1", PATH, None),
        (404, "https://api.example/v1/v1/x", "/v1", TWICE, TWICE),
        (404, "https://api.example/a/b/a/b", "/a/b", TWICE, TWICE),
        (404, "https://api.example/v1/v11/x", "/v1", PATH, None),
        (404, "https://api.example/users/users/1", "", PATH, None),
        (400, "http://api.example/x", "", SCHEME, None),
        (400, "https://api.example/x", "", None, None),
        (200, "https://api.example/v1/v1", "/v1", None, None),
        (401, "https://api.example/x", "", None, None),
        (500, "https://api.example/x", "", None, None),
    ],
)
def test_a_404_is_explained_until_the_route_has_had_a_success(status, url, base, first, later):
    assert advised(status, url, base=base) == first
    assert advised(status, url, {"up42"}, base=base) == later


def test_at_a_routes_own_address_no_prefix_is_spoken_of():
    assert advised(404, listener="127.0.0.1:1") == AT_ITS_OWN


def test_a_redirect_away_is_always_explained():
    assert advised(302, proven={"up42"}, redirect="https://elsewhere.example") == REDIRECT


def test_what_authproxy_answers_itself_has_a_hint_of_its_own():
    assert advised(404, cause="no route is mounted there") is None
    assert advice(record(status=404), (), redirect=None, upstream=None) is None
