"""What a route knows of itself."""

from types import SimpleNamespace

import pytest

from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.route import Route


def route(**changes):
    sender = SimpleNamespace(pool=SimpleNamespace(origin="https://up.example"))
    facts = {
        "name": "api",
        "host": None,
        "path": "/api",
        "strip": "",
        "base": "",
        "sender": sender,
        "request_headers": RequestHeaders(),
        "response_headers": ResponseHeaders(),
        "credential": None,
    }
    return Route(**facts | changes)


@pytest.mark.parametrize(
    ("path", "strip", "strips"), [("/api", "/api", True), ("/api", "", False), ("/", "", True)]
)
def test_the_upstream_sees_the_path_below_the_prefix_when_that_is_taken_off_or_is_none(path, strip, strips):
    assert route(path=path, strip=strip).strips is strips


@pytest.mark.parametrize(
    ("statuses", "refusals_from"),
    [(None, 300), ((401,), 300), ((302, 401), 300), ((401, 203, 204), 203), ((), 300)],
)
def test_replies_below_300_are_looked_at_where_one_of_them_is_a_refusal(statuses, refusals_from):
    credential = None
    if statuses is not None:
        credential = SimpleNamespace(statuses=frozenset(statuses), injection=SimpleNamespace(edits=False))
    assert route(credential=credential).refusals_from == refusals_from


def test_it_reads_well():
    assert repr(route(base="/v2")) == "<Route api /api to https://up.example/v2>"
    assert repr(route(host="api.localhost")) == "<Route api api.localhost/api to https://up.example>"
