"""Which requests of a route may leave."""

import pytest

from authproxy.errors import Forbidden
from authproxy.proxy.allow import Allow


@pytest.mark.parametrize(
    ("patterns", "allowed", "refused"),
    [
        (["/v2/**"], ["/v2/", "/v2/a", "/v2/a/b/"], ["/v2", "/v20/a", "/v1", "/x/v2/a", "/"]),
        (["/v2/*"], ["/v2/", "/v2/a"], ["/v2/a/b", "/v2"]),
        (["/v2/*/x"], ["/v2/a/x"], ["/v2/a/b/x", "/v2/x", "/v2/a/y"]),
        (["/v2/**/x"], ["/v2/a/x", "/v2/a/b/x"], ["/v2/x"]),
        (["/v2/*.json"], ["/v2/a.json"], ["/v2/ajson", "/v2/a.json/b"]),
        (["/v2"], ["/v2"], ["/v2/", "/v2/a", "/V2"]),
        (["/a+(b)"], ["/a+(b)"], ["/aa+b", "/aab"]),
        (["/**"], ["/", "/a", "/a/b", "/a\nb"], []),
        (["!/v3/**", "/**"], ["/v1/a", "/v3"], ["/v3/a", "/v3/"]),
        (["/v3/login", "!/v3/**", "/**"], ["/v3/login", "/v1"], ["/v3/a"]),  # the first that fits decides
        (["/**", "!/v3/**"], ["/v3/a"], []),
        (["!/v3/**"], [], ["/v3/a", "/v1"]),  # what fits none is refused
        ([], [], ["/"]),
    ],
)
def test_the_first_pattern_that_fits_decides(patterns, allowed, refused):
    allow = Allow(paths=patterns)
    for path in allowed:
        allow.check("GET", path)
    for path in refused:
        with pytest.raises(Forbidden, match="does not allow that path") as caught:
            allow.check("GET", path)
        assert "`allow.paths`" in caught.value.hint


def test_a_method_is_allowed_by_name():
    allow = Allow(methods=["GET"], hint="read only")
    allow.check("GET", "/x")
    for method in ("POST", "HEAD", "get"):
        with pytest.raises(Forbidden, match=f"does not allow {method}") as caught:
            allow.check(method, "/x")
        assert caught.value.hint == "read only"


def test_nothing_said_allows_everything():
    Allow().check("DELETE", "/x")


def test_method_and_path_must_both_be_allowed():
    allow = Allow(methods=["GET"], paths=["/v2/**"])
    allow.check("GET", "/v2/x")
    for method, path in (("PUT", "/v2/x"), ("GET", "/v3/x")):
        with pytest.raises(Forbidden):
            allow.check(method, path)


def test_a_list_of_no_methods_allows_none():
    with pytest.raises(Forbidden) as caught:
        Allow(methods=[]).check("GET", "/")
    assert "`allow.methods`" in caught.value.hint
