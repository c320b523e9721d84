"""Which requests go to a credential's own token endpoint, however they are spelled."""

import pytest

from authproxy.errors import Forbidden
from authproxy.proxy.token_endpoint import TokenEndpoints

API = "https://api.example"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example/in",
        "https://API.example:443/in",
        "https://api.example./in/",
        "https://api.example/IN",
    ],
)
def test_what_is_on_the_server_is_one(url):
    endpoints = TokenEndpoints(API, [url])
    assert endpoints
    with pytest.raises(Forbidden) as caught:
        endpoints.check("/in")
    assert "`stand_in`" in caught.value.hint


@pytest.mark.parametrize(
    "url", ["http://api.example/in", "https://api.example:444/in", "https://id.example/in"]
)
def test_what_is_elsewhere_is_none(url):
    assert not TokenEndpoints(API, [url])
    TokenEndpoints(API, [url]).check("/in")


def test_every_name_of_this_machine_is_the_same():
    endpoints = TokenEndpoints("http://127.0.0.1:81", ["http://localhost:81/in"])
    assert not endpoints.lets_through("/in")
    assert TokenEndpoints("http://127.0.0.1:81", ["http://localhost:82/in"]).lets_through("/in")


@pytest.mark.parametrize(
    "target", ["/in", "/in/", "/IN", "/%69n", "//in", "/a/../in", "/in;a", "/in?a=b", "/./in"]
)
def test_no_spelling_gets_there(target):
    assert not TokenEndpoints(API, [f"{API}/in"]).lets_through(target)


@pytest.mark.parametrize("target", ["/", "/in/x", "/inn", "/x/in", "*", "/in%20"])
def test_other_paths_are_let_through(target):
    assert TokenEndpoints(API, [f"{API}/in"]).lets_through(target)


@pytest.mark.parametrize(
    ("query", "through"),
    [
        ("", False), ("?action=login", False), ("?b=1", False), ("?action=list&action=login", False),
        ("?action=LOGIN", False), ("?action=list", True), ("?full=no", False),
    ],
)  # fmt: skip
def test_the_query_counts_where_it_says_what_is_asked_for(query, through):
    endpoints = TokenEndpoints(API, [f"{API}/api?action=login&full=true"])
    assert endpoints.lets_through(f"/api{query}") is through


def test_what_an_issuer_publishes_counts_from_then_on():
    known = ()
    endpoints = TokenEndpoints(API, (), lambda: known)
    assert endpoints
    assert endpoints.lets_through("/found")
    known = (f"{API}/found",)
    assert not endpoints.lets_through("/found")
    assert not endpoints.lets_through("/found")
