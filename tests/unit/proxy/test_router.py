"""Which route, the path that is judged, and the target for the upstream."""

import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authproxy.errors import Forbidden, NoRoute
from authproxy.proxy import router
from authproxy.proxy.router import RouteTable, is_plain, path_interpretations, upstream_target
from tests.support.examples import examples


@dataclass
class Route:
    name: str
    path: str = "/"
    host: str | None = None


TABLE = RouteTable(
    [
        Route("a", "/a"),
        Route("a-b", "/a/b"),
        Route("hosted", "/", "h.localhost"),
        Route("hosted-a", "/a", "h.localhost"),
        Route("ü", "/ü"),
    ]
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a", "a"),
        ("/a/", "a"),
        ("/a/x", "a"),
        ("/a/bc", "a"),  # a segment is whole or not at all
        ("/a/b", "a-b"),  # the longest wins
        ("/a/b/c", "a-b"),
        ("/%61/x", "a"),
        ("/a/%62/c", "a-b"),
        ("/a%2fb", None),  # an encoded slash makes no segment
        ("/a%2Fb/c", None),
        ("/a/b%2fc", "a"),
        ("/a//b", "a"),
        ("/%C3%BC/x", "ü"),
        ("/%FC", None),
        ("/ab", None),
        ("/A", None),
        ("/", None),
        ("//a", None),
        ("/x/../a", None),
        ("/a;x/b", None),
        ("*", None),
    ],
)
def test_the_longest_prefix_on_a_segment_boundary_wins(path, name):
    if name is None:
        with pytest.raises(NoRoute):
            TABLE.match("localhost", path)
    else:
        assert TABLE.match("localhost", path).name == name


@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        ("h.localhost", "/a/b/c", "hosted-a"),  # a host beats a longer path
        ("h.localhost", "/z", "hosted"),
        ("h.localhost", "*", "hosted"),
        ("other.localhost", "/a/b/c", "a-b"),
    ],
)
def test_a_route_of_the_host_goes_first(host, path, name):
    assert TABLE.match(host, path).name == name


def test_when_nothing_is_mounted_there_the_prefixes_are_told():
    with pytest.raises(NoRoute) as caught:
        TABLE.match("localhost", "/z")
    assert caught.value.detail.endswith("the routes are: h.localhost/, h.localhost/a, /a, /a/b, /ü")


def test_a_table_can_be_empty():
    with pytest.raises(NoRoute):
        RouteTable([]).match("localhost", "/")


SEGMENTS = st.sampled_from(["a", "b", "ab", "ü", "a b"])
MOUNTS = st.lists(SEGMENTS, max_size=4).map(lambda segments: "/" + "/".join(segments))
HOSTS = st.sampled_from([None, "h.localhost", "i.localhost"])
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "ü", "a b", "", "c"]), max_size=6).map(
    lambda segments: "/" + "/".join(segments)
)


def found_one_by_one(routes, host, path):
    """Return the route that a look at each of them finds: what the table promises, and nothing clever."""

    def fits(route):
        below = route.path == "/" or path == route.path or path.startswith(f"{route.path}/")
        return below and route.host in {None, host}

    longest = sorted(routes, key=lambda route: (route.host is None, -len(route.path)))
    return next(filter(fits, longest), None)


@given(
    mounts=st.lists(st.tuples(HOSTS, MOUNTS), max_size=8),
    host=st.sampled_from(["h.localhost", "i.localhost", "localhost"]),
    path=st.one_of(PATHS, MOUNTS, st.just("*")),
)
def test_a_route_is_found_as_if_each_was_looked_at(mounts, host, path):
    routes = [Route(str(number), path, host) for number, (host, path) in enumerate(mounts)]
    assert RouteTable(routes).find(host, path) is found_one_by_one(routes, host, path)


# ── the path that is judged ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "prefix", "judged"),
    [
        ("/a/x", "/a", {"/x"}),
        ("/a", "/a", {"/"}),
        ("/a/", "/a", {"/"}),
        ("/a/x/", "/a", {"/x/"}),
        ("/a/b/x", "/a/b", {"/x"}),
        ("/x/y", "/", {"/x/y"}),
        ("*", "/", {"/"}),
        ("/a/%78", "/a", {"/x"}),
        ("/%61/x", "/a", {"/x"}),
        ("/a/x%2fy", "/a", {"/x%2Fy", "/x/y"}),
        ("/a/x%5cy", "/a", {"/x\\y", "/x/y"}),
        ("/a/x\\y", "/a", {"/x\\y", "/x/y"}),
        ("/a//x", "/a", {"//x", "/x"}),
        ("/a/./x", "/a", {"/./x", "/x"}),
        ("/a/x/../y", "/a", {"/x/../y", "/y"}),
        ("/a/x//../y", "/a", {"/x//../y", "/x/../y", "/x/y", "/y"}),
        ("/a/x/%2e%2e/y", "/a", {"/x/../y", "/y"}),
        ("/a/x/..", "/a", {"/x/..", "/"}),
        ("/a/x/y/..", "/a", {"/x/y/..", "/x/"}),
        ("/a/x/.", "/a", {"/x/.", "/x/"}),
        ("/a/%252e%252e/x", "/a", {"/%2e%2e/x"}),  # decoded once, as the server will
        ("/a/.well-known", "/a", {"/.well-known"}),
        ("/a/...", "/a", {"/..."}),
        ("/a/x;v=1/y", "/a", {"/x;v=1/y", "/x/y"}),
        ("/a/x/..;v=1/y", "/a", {"/x/..;v=1/y", "/x/../y", "/y"}),
        ("/a/x;/..;/y", "/a", {"/x;/..;/y", "/x/../y", "/y"}),
        ("/a/x%3bv", "/a", {"/x;v", "/x"}),
        ("/a/%00", "/a", {"/\0"}),
        ("/a/%ff", "/a", {"/\udcff"}),
    ],
)
def test_a_path_is_judged_as_a_server_may_read_it(path, prefix, judged):
    assert path_interpretations(path, prefix) == judged


@pytest.mark.parametrize(
    "rest",
    ["..", "../", "../x", "x/../..", "%2e%2e", "%2E.", ".%2e/x", "..%2fx", "x%2f..%2f..%2fy",
     "x%2f%2e%2e%2f%2e%2e", "..;", "..;a=b/x", "%2e%2e;/x", "x/..;/..", "..\\x", "..%5cx", "x%5c..%5c..",
     "./../x", "//../x", ";/../x", "..%3b/x"],
)  # fmt: skip
def test_a_path_that_leaves_its_route_is_403(rest):
    with pytest.raises(Forbidden, match="steps out of its route"):
        path_interpretations(f"/a/{rest}", "/a")


@pytest.mark.parametrize("blank", ["%20", "%09", "%00", "%0a", "%7F"])
@pytest.mark.parametrize(
    "step", ["{}..", "..{}", ".{}.", "{0}..{0}{0}", "{}.", "%2e%2e{}", "..{};x", "a%2f..{}", "..\\..{}"]
)
def test_a_step_that_hides_behind_blanks_is_403(step, blank):
    for path in (f"/v2/{step.format(blank)}/x", f"/v2/{step.format(blank)}"):
        with pytest.raises(Forbidden):
            path_interpretations(path, "/v2")


@pytest.mark.parametrize("path", ["/v2/a%20b", "/v2/%20/x", "/v2/...%20/x", "/v2/a..%20", "/v2/..a%09"])
def test_blanks_that_hide_nothing_are_let_through(path):
    assert path_interpretations(path, "/v2")


@pytest.mark.parametrize(
    "hidden",
    [
        "%c0%ae%c0%ae",
        "%C0%AE.",
        "%c0%af",
        "%c1%9c",
        "%e0%80%ae",
        "%E0%80%AF",
        "%e0%9f%bf",
        "%f0%80%80%ae",
        "%f0%8f%bf%bf",
        "%u002e%u002E",
        "%U2215",
    ],
)
def test_a_path_that_hides_a_character_in_too_many_bytes_is_403(hidden):
    for path in (f"/a/{hidden}/x", f"/a/x{hidden}", f"/a/b/../{hidden}"):
        with pytest.raises(Forbidden, match="overlong"):
            path_interpretations(path, "/a")


@pytest.mark.parametrize(
    "path", ["/a/%c3%a9", "/a/%e0%a0%80", "/a/%f0%9f%98%80", "/a/%c1rbol", "/a/%e0%20x", "/a/%f0x", "/a/%c0"]
)
def test_other_8_bit_characters_are_nobodys_business(path):
    assert len(path_interpretations(path, "/a")) == 1


@pytest.mark.parametrize("path", ["/..", "/%2e%2e/x", "/x/../../y"])
def test_there_is_nothing_above_the_root(path):
    with pytest.raises(Forbidden):
        path_interpretations(path, "/")


# ── what servers really do, each after its own documentation ─────────────────────────────────────


def walk(path):
    """RFC 3986 §5.2.4, to the letter."""
    out = ""
    while path:
        if path.startswith(("/./", "/../")) or path in {"/.", "/.."}:
            up = path.startswith("/..")
            path = "/" + path[4 if up else 3 :]
            out = out.rpartition("/")[0] if up else out
        else:
            segment = re.match("/[^/]*", path)[0]
            out, path = out + segment, path[len(segment) :]
    return out


def merge(path):
    while "//" in path:
        path = path.replace("//", "/")
    return path


def strip(path):
    return "/".join(segment.split(";")[0] for segment in path.split("/"))


def dots(path):
    return re.sub("%2e", ".", path, flags=re.IGNORECASE)


def but_slashes(path):
    return unquote(re.sub("%2f", "%252F", path, flags=re.IGNORECASE))


def backslashes(path):
    return path.replace("\\", "/")


def slashes(path):
    return backslashes(re.sub("%5c", "/", re.sub("%2f", "/", path, flags=re.IGNORECASE), flags=re.IGNORECASE))


SERVERS = {
    "Express, Rails": but_slashes,
    "Django, PHP": unquote,
    "nginx": lambda path: walk(merge(unquote(path))),
    "nginx, merge_slashes off": lambda path: walk(unquote(path)),
    "Apache, AllowEncodedSlashes NoDecode": lambda path: but_slashes(walk(merge(dots(path)))),
    "Apache, MergeSlashes off": lambda path: but_slashes(walk(dots(path))),
    "Go": lambda path: walk(merge(unquote(path))),
    "Go, another router": unquote,
    "Tomcat": lambda path: walk(merge(unquote(strip(path)))),
    "Tomcat, encoded slashes passed through": lambda path: walk(merge(but_slashes(strip(path)))),
    "Tomcat, backslashes allowed": lambda path: walk(merge(backslashes(unquote(strip(path))))),
    "Jetty": lambda path: walk(unquote(strip(path))),
    "Spring behind a server that walks": lambda path: merge(unquote(strip(walk(path)))),
    "IIS": lambda path: merge(walk(backslashes(unquote(path)))),
    "Node, by URL": lambda path: but_slashes(walk(backslashes(dots(path)))),
    "Envoy": lambda path: unquote(merge(walk(dots(path)))),
    "Envoy, UNESCAPE_AND_FORWARD": lambda path: unquote(merge(walk(dots(slashes(path))))),
    "HAProxy before Tomcat": lambda path: walk(merge(unquote(strip(merge(walk(dots(path))))))),
    "nginx before Jetty": lambda path: walk(strip(walk(merge(unquote(path))))),
}
SEGMENTS = ["..", ".", "", "x", "y", "%2e%2e", "%2E", "..;", "x;a", ";", "x%2fy", "..%2f", "%2F..", "\\..",
            "x\\", "%5c%2e.", "x%3b", "..%3Ba", "%252e", "caf%c3%a9"]  # fmt: skip


@settings(deadline=None, max_examples=examples(500))
@given(segments=st.lists(st.sampled_from(SEGMENTS), max_size=6))
@example(segments=["x", "", "..", "y"])
@example(segments=["x", "..", "", "y"])
@example(segments=["x", "..;", "y"])
@example(segments=["x", "", "..", "", "y"])
@example(segments=["x", "%2e%2e", "x%2fy", "..", "y"])
def test_the_reading_of_every_server_is_judged(segments):
    path = "/" + "/".join(["x", "x", *segments])
    try:
        judged = path_interpretations(path, "/")
    except Forbidden:
        return
    assert [server for server, reading in SERVERS.items() if reading(path) not in judged] == []


@pytest.mark.parametrize(
    "unit",
    ["/x/..", "/x//y", "/x;a", "/%2e", "/..;", "%2f", "\\", "//", "/x/%2e%2e;b%2f", "/a;/%2e//b%2f%5c/..;"],
)
def test_a_long_path_takes_no_more_than_its_length(unit, monkeypatch):
    read = []
    monkeypatch.setattr(
        router, "_WAYS", [lambda path, way=way: read.append(len(path)) or way(path) for way in router._WAYS]
    )

    def cost(times):
        read.clear()
        with suppress(Forbidden):
            path_interpretations("/a/b/c/d" + unit * times, "/a")
        return sum(read)

    assert cost(2000) < 2.5 * max(cost(1000), 8 * router.MAX_TO_READ)


def test_a_path_that_can_be_read_in_too_many_ways_is_403():
    with pytest.raises(Forbidden, match="too many ways"):
        path_interpretations("/x/x/x/x/x/x/a;/%2e//b%2fc%5cd/..;/e%3b/../f;/%2e%2e//g%2f.%5ch", "/")


@pytest.mark.parametrize(
    ("path", "plain"),
    [("/a/b-c_d~e.f:g@h", True), ("/a.b", True), ("/", True), ("/%61", False), ("//a", False), ("/.a", False),
     ("/a;b", False), ("/a\\b", False)],
)  # fmt: skip
def test_only_what_can_be_read_in_one_way_is_plain(path, plain):
    assert is_plain(path) is plain


# ── the target for the upstream ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "strip", "base", "sent"),
    [
        ("/a/x", "/a", "", "/x"),
        ("/a", "/a", "", "/"),
        ("/a/", "/a", "", "/"),
        ("/a?q=/a/b", "/a", "", "/?q=/a/b"),
        ("/a/x?", "/a", "", "/x?"),
        ("/a/x", "", "", "/a/x"),
        ("/x", "", "/base", "/base/x"),
        ("/", "", "/base", "/base/"),
        ("/a", "/a", "/base", "/base"),
        ("/a/", "/a", "/base", "/base/"),
        ("/a/b/x", "/a/b", "/base", "/base/x"),
        ("/%61/x%2Fy", "/a", "", "/x%2Fy"),  # what is left is sent as it came
        ("/a//x", "/a", "", "//x"),
        ("/a/%41;b/%7e?c=%41+d", "/a", "", "/%41;b/%7e?c=%41+d"),
        ("*", "", "", "*"),
        ("*", "", "/base", "/base"),
    ],
)
def test_the_prefix_is_taken_off_and_the_rest_sent_as_it_came(target, strip, base, sent):
    assert upstream_target(target, strip=strip, base=base) == sent


def test_at_a_listener_without_any_route_it_is_said_that_they_are_elsewhere():
    with pytest.raises(NoRoute) as caught:
        RouteTable([]).match("localhost", "/x")
    assert caught.value.detail == "no route is mounted here"
    assert "address of its own" in caught.value.hint


def test_at_an_upstreams_own_urls_base_paths_are_named():
    table = RouteTable([Route("a", "/v2", None), Route("b", "/v1", None)], at="api.example:443")
    with pytest.raises(NoRoute) as caught:
        table.match("api.example", "/zz")
    assert caught.value.detail == (
        "no route covers this path of api.example:443; base paths covered there: /v1, /v2"
    )
    assert "base path in the route's `upstream`" in caught.value.hint
