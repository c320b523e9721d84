"""What comes back pointing at the proxy, and what does not."""

import re
from dataclasses import dataclass
from time import process_time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from authproxy.proxy.headers import ResponseHeaders
from authproxy.proxy.rewrite import Rewriting
from authproxy.proxy.router import upstream_target
from tests.support.examples import examples

API = "https://api.example.com"
LOCAL = "http://localhost:8080"


@dataclass
class Asked:
    """A request, as far as its answer's headers depend on it."""

    target: str = "/up42/a/b"
    authority: str = "localhost:8080"


def route(path="/up42", base="", *, origin=API, strips=True, **settings):
    """Return the rewriting of a route mounted at `path`, whose upstream is `origin` with `base`."""
    strip = path if strips and path != "/" else ""
    return Rewriting(origin, base=base, path=path, strip=strip, **settings)


def rewritten(line, rewriting=None, asked=None):
    """Return the header line that the caller gets for the upstream's."""
    name, _, value = line.partition(": ")
    pairs = [(name.encode(), value.encode("latin-1"))]
    head = ResponseHeaders(rewriting=rewriting or route()).head(302, b"Found", pairs, asked or Asked())
    return head.decode("latin-1").split("\r\n")[1]


def location(value, rewriting=None, target="/up42/a/b", host="localhost:8080"):
    return rewritten(f"Location: {value}", rewriting, Asked(target, host)).removeprefix("Location: ")


def cookie(value, rewriting=None, target="/up42/a/b", host="localhost:8080"):
    return rewritten(f"Set-Cookie: {value}", rewriting, Asked(target, host)).removeprefix("Set-Cookie: ")


# ── absolute URLs ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "comes_back"),
    [
        ("https://api.example.com/api/x", "http://localhost:8080/up42/x"),
        ("https://api.example.com/api/x/?a=/api/b&c=%20#d/?e", "http://localhost:8080/up42/x/?a=/api/b&c=%20#d/?e"),
        ("https://api.example.com/api", "http://localhost:8080/up42"),
        ("https://api.example.com/api/", "http://localhost:8080/up42/"),
        ("https://api.example.com/api?x", "http://localhost:8080/up42?x"),
        ("https://api.example.com/api#x", "http://localhost:8080/up42#x"),
        ("https://api.example.com:443/api/x", "http://localhost:8080/up42/x"),
        ("https://api.example.com:/api/x", "http://localhost:8080/up42/x"),
        ("https://api.example.com:00443/api/x", "http://localhost:8080/up42/x"),
        ("HTTPS://API.Example.COM/api/x", "http://localhost:8080/up42/x"),
        ("https://api.example.com./api/x", "http://localhost:8080/up42/x"),
        ("https://api.example.com/%61pi/x", "http://localhost:8080/up42/x"),
        ("https://api.example.com/api/a%2Fb//c;v=1/%zz", "http://localhost:8080/up42/a%2Fb//c;v=1/%zz"),
        ("https://api.example.com/api/a b", "http://localhost:8080/up42/a b"),
        ("https://api.example.com/api/caf\xc3\xa9?\xe9", "http://localhost:8080/up42/caf\xc3\xa9?\xe9"),
        ("https://api.example.com/api/x?\\", "http://localhost:8080/up42/x?\\"),
        ("//api.example.com/api/x?y#z", "//localhost:8080/up42/x?y#z"),
        ("//API.example.com:443/api", "//localhost:8080/up42"),
        ("\thttps://api.example.com/api \t", "http://localhost:8080/up42"),  # blanks are none of it
    ],
)  # fmt: skip
def test_an_absolute_url_of_the_upstream_becomes_the_proxys(said, comes_back):
    assert location(said, route(base="/api")) == comes_back


@pytest.mark.parametrize(
    "said",
    [
        "https://api.example.com/apiary/x",  # a segment is whole or not at all
        "https://api.example.com/API/x",
        "https://api.example.com/",
        "https://api.example.com",
        "https://api.example.com?/api/x",
        "https://api.example.com//api/x",
        "https://api.example.com/api%2Fx",
        "https://api.example.com/up42/x",
        "https://api.example.com:8443/api/x",
        "https://api.example.com:99999999999/api/x",
        "https://api.example.com:x/api/x",
        "https://api.example.com:443:443/api/x",
        "http://api.example.com/api/x",
        "http://api.example.com:443/api/x",
        "https://example.com/api/x",
        "https://api.example.com.evil.example/api/x",
        "https://evil.example/https://api.example.com/api/x",
        "https://evil.example?https://api.example.com/api/x",
        "//example.com/api/x",
        "///api.example.com/api/x",
        "https:///api/x",
        "https://me@api.example.com/api/x",
        "https://api.example.com:443@evil.example/api/x",
        "https://api.example.com%2f@evil.example/api/x",
        "https://api.example.com\\@evil.example/api/x",
        "https://api.example.com/api\\x",
        "https:\\\\api.example.com/api/x",
        "https://api.example.com/api/\tx",
        "https://api.ex\xe4mple.com/api/x",
        "https://[::1/api/x",
        "https:/api/x",
        "https:api/x",
        "ftp://api.example.com/api/x",
        "wss://api.example.com/api/x",
        "mailto:me@api.example.com",
        "urn:x:/api/x",
        "data:text/plain,/api/x",
        "://api.example.com/api/x",
    ],
)
def test_what_is_not_the_routes_comes_back_to_the_byte(said):
    assert location(said, route(base="/api")) == said


@pytest.mark.parametrize(
    ("said", "comes_back"),
    [
        ("https://api.example.com", "http://localhost:8080/up42"),
        ("https://api.example.com/", "http://localhost:8080/up42/"),
        ("https://api.example.com?x", "http://localhost:8080/up42?x"),
        ("https://api.example.com/x", "http://localhost:8080/up42/x"),
        ("https://api.example.com//x", "http://localhost:8080/up42//x"),
    ],
)
def test_without_a_base_path_the_whole_upstream_is_the_routes(said, comes_back):
    assert location(said) == comes_back


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/x"),
        ("http://127.0.0.1", "http://127.0.0.1:80/x"),
        ("http://[::1]:8000", "http://[::1]:8000/x"),
        ("https://[fe80::a]", "https://[FE80::A]:443/x"),
        ("http://api.example.com:8000", "//api.example.com:8000/x"),
    ],
)
def test_an_upstream_may_be_an_address_and_have_a_port(origin, said):
    comes_back = location(said, route(origin=origin))
    assert comes_back.removeprefix("http:") == "//localhost:8080/up42/x"


@pytest.mark.parametrize(
    ("target", "host", "comes_back"),
    [
        ("/up42/x", "127.0.0.1:8080", "http://127.0.0.1:8080/up42/y"),
        ("/up42/x", "[::1]:8080", "http://[::1]:8080/up42/y"),
        ("/up42/x", "Up42.LocalHost", "http://Up42.LocalHost/up42/y"),
        ("http://proxy.localhost:1/up42/x", "localhost:8080", "http://proxy.localhost:1/up42/y"),
        ("HTTP://proxy.localhost/up42/x?http://evil.example/", "localhost", "http://proxy.localhost/up42/y"),
        ("/up42/http://evil.example/", "localhost", "http://localhost/up42/y"),
        ("/up42/x?http://evil.example/", "localhost", "http://localhost/up42/y"),
    ],
)
def test_the_proxy_is_called_what_the_caller_called_it(target, host, comes_back):
    assert location(f"{API}/y", target=target, host=host) == comes_back


def test_behind_tls_the_proxy_is_https():
    assert location(f"{API}/x", route(secure=True)) == "https://localhost:8080/up42/x"
    assert location("//api.example.com/x", route(secure=True)) == "//localhost:8080/up42/x"


@pytest.mark.parametrize(
    ("said", "host", "comes_back"),
    [
        ("http://localhost:8080/x", "localhost:8080", "http://localhost:8080/up42/x"),
        ("https://localhost:8080/x", "localhost:8080", "http://localhost:8080/up42/x"),
        ("https://up42.localhost/x", "up42.localhost", "http://up42.localhost/up42/x"),
        ("http://UP42.localhost:80/x", "up42.localhost", "http://up42.localhost/up42/x"),
        ("//localhost:8080/x", "localhost:8080", "//localhost:8080/up42/x"),
        (f"{API}/x", "localhost:8080", "http://localhost:8080/up42/x"),
        ("http://localhost/x", "localhost:8080", "http://localhost/x"),
        ("http://localhost:8081/x", "localhost:8080", "http://localhost:8081/x"),
        ("ftp://localhost:8080/x", "localhost:8080", "ftp://localhost:8080/x"),
    ],
)
def test_with_preserve_host_the_upstream_knows_itself_by_the_callers_name_too(said, host, comes_back):
    assert location(said, route(preserve_host=True), host=host) == comes_back


def test_without_preserve_host_the_callers_name_is_not_the_upstreams():
    assert location("http://localhost:8080/x") == "http://localhost:8080/x"


# ── absolute paths ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mounted", "base", "said", "comes_back"),
    [
        ("/up42", "", "/x?y#z", "/up42/x?y#z"),
        ("/up42", "", "/", "/up42/"),
        ("/up42", "", "/up42/x", "/up42/up42/x"),  # what the upstream calls /up42 is below our /up42
        ("/up42", "", "/a//b", "/up42/a//b"),
        ("/up42", "", "/caf\xc3\xa9", "/up42/caf\xc3\xa9"),
        ("/up42", "", "/\xff", "/up42/\xff"),
        ("/up42", "/api", "/api", "/up42"),
        ("/up42", "/api", "/api?x", "/up42?x"),
        ("/up42", "/api", "/api/", "/up42/"),
        ("/up42", "/api", "/api/x", "/up42/x"),
        ("/up42", "/api", "/%61p%69/x", "/up42/x"),
        ("/up42", "/api", "/apiary", "/apiary"),
        ("/up42", "/api", "/other/x", "/other/x"),
        ("/up42", "/api", "/", "/"),
        ("/up42", "/up42", "/up42/x", "/up42/x"),
        ("/up42", "/a/b", "/a/b/x", "/up42/x"),
        ("/up42", "/a/b", "/a/x", "/a/x"),
        ("/a/b", "", "/x", "/a/b/x"),
        ("/a/b", "/a", "/a/b/x", "/a/b/b/x"),
        ("/", "", "/x?y", "/x?y"),
        ("/", "", "/a/./b/../c", "/a/./b/../c"),
        ("/", "/api", "/api/x", "/x"),
        ("/", "/api", "/api", "/"),
        ("/", "/api", "/api/", "/"),
        ("/", "/api", "/x", "/x"),
        ("/up42", "/b//c", "/b//c/x", "/up42/x"),
        ("/up42", "/a/../b", "/b/x", "/up42/x"),
        ("/up42", "/\u00fc", "/%C3%BC/x", "/up42/x"),
        ("/\u00fc;x", "", "/x", "/%C3%BC%3Bx/x"),
    ],
)
def test_an_absolute_path_is_put_under_the_mount(mounted, base, said, comes_back):
    assert location(said, route(mounted, base), target=f"{mounted.rstrip('/')}/a") == comes_back


@pytest.mark.parametrize(
    ("base", "said", "comes_back"),
    [
        ("", "/up42/x", "/up42/x"),
        ("", "/up42/./x", "/up42/./x"),
        ("", "/x", "/x"),
        ("", f"{API}/up42/x", f"{LOCAL}/up42/x"),
        ("", f"{API}/up42", f"{LOCAL}/up42"),
        ("", f"{API}/x", f"{API}/x"),
        ("/v2", "/v2/up42/x", "/up42/x"),
        ("/v2", "/v2/up42", "/up42"),
        ("/v2", "/v2/%75p42/x", "/%75p42/x"),
        ("/v2", "/v2/x", "/v2/x"),
        ("/v2", f"{API}/v2/up42/x", f"{LOCAL}/up42/x"),
        ("/v2", f"{API}/v2/x", f"{API}/v2/x"),
        ("/v2", f"{API}/up42/x", f"{API}/up42/x"),
        ("/v2", "../b", "../b"),
        ("/v2", "../../../v2/up42/x", "/up42/x"),
        ("/v2", "../../x", "../../x"),
    ],
)
def test_a_mount_that_is_not_stripped_is_in_the_upstreams_path_already(base, said, comes_back):
    assert location(said, route(base=base, strips=False)) == comes_back


@pytest.mark.parametrize(
    ("base", "said", "comes_back"),
    [
        ("/api", "/api/../x", "/api/../x"),
        ("/api", "/api/%2e%2E/x", "/api/%2e%2E/x"),
        ("/api", "/api/./../x", "/api/./../x"),
        ("/api", "/api/..", "/api/.."),
        ("/api", f"{API}/api/../x", f"{API}/api/../x"),
        ("/api", "/x/../api/y", "/up42/y"),
        ("/api", "/./api/y", "/up42/y"),
        ("/api", "/%2e./%2e/api/y", "/up42/y"),
        ("/api", "/../api/y", "/up42/y"),
        ("/api", "/api/../api/y", "/up42/y"),
        ("/api", "/api/../api/..", "/api/../api/.."),
        ("/api", "/api/a/../b/./c", "/up42/a/../b/./c"),
        ("/api", "/api/a/..", "/up42/a/.."),
        ("/api", "/api/...", "/up42/..."),
        ("/a/b", "/a/../a/b/c", "/up42/c"),
        ("", "/../x", "/up42/x"),
        ("", "/..", "/up42/"),
        ("", "/a/../../x/.", "/up42/x/"),
        ("", f"{API}/../x", f"{LOCAL}/up42/x"),
    ],
)
def test_dot_segments_are_walked_before_a_path_is_judged(base, said, comes_back):
    assert location(said, route(base=base)) == comes_back


@pytest.mark.parametrize("said", ["/api//evil.example/x", "../../api//evil.example/x"])
def test_no_path_of_the_upstream_becomes_a_host(said):
    assert location(said, route("/", "/api"), target="/a") == f"{LOCAL}//evil.example/x"


def test_a_backslash_is_not_taken_for_anything():
    assert location("/\\evil.example/x") == "/\\evil.example/x"


# ── relative references ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "said",
    ["", "?q", "?", "#f", "x", "x/y?q#f", "./x", ".", "./", "..", "../", "../x", "../x?../../y", "a/../../x",
     "..x", "x:", "%2e%2e/x", "caf\xc3\xa9", "\xff"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("mounted", "base"), [("/up42", ""), ("/up42", "/v2"), ("/a/b", "/v2"), ("/", "/v2")]
)
def test_a_relative_reference_that_stays_on_the_route_comes_back_to_the_byte(said, mounted, base):
    target = f"{mounted.rstrip('/')}/p/q/r"
    assert location(said, route(mounted, base), target=target) == said


@pytest.mark.parametrize(
    ("mounted", "base", "target", "said", "comes_back"),
    [
        # Above the root of the upstream there is nothing, above the mount there is.
        ("/up42", "", "/up42/a", "../x?y#z", "/up42/x?y#z"),
        ("/up42", "", "/up42/a", "..", "/up42/"),
        ("/up42", "", "/up42/a/b", "../../x", "/up42/x"),
        ("/up42", "", "/up42/a/b", "../x", "../x"),
        ("/up42", "", "/up42/a/b", "%2e%2E/.%2e/x", "/up42/x"),
        ("/up42", "", "/up42/a/../b/c", "../../x", "/up42/x"),
        ("/up42", "", "/up42//a", "../x", "../x"),
        ("/up42", "", "/up42//a", "../../x", "/up42/x"),
        ("/a/b", "", "/a/b/c", "../x", "/a/b/x"),
        ("/a/b", "", "/a/b/c", "../b/x", "/a/b/b/x"),
        ("/", "", "/a", "../../x", "../../x"),
        # The bare mount is `/` to the upstream: its directory is the mount, not what holds the mount.
        ("/up42", "", "/up42", "x", "/up42/x"),
        ("/up42", "", "/up42?p", "./x?q", "/up42/x?q"),
        ("/up42", "", "/up42", ".", "/up42/"),
        ("/up42", "", "/up42", "../x", "/up42/x"),
        ("/up42", "", "/up42", "?q", "?q"),
        ("/up42", "", "/up42", "#f", "#f"),
        ("/up42", "", "/up42", "", ""),
        ("/up42", "", "/%75p42", "x", "/up42/x"),
        ("/up42", "", "/%75p42/a", "x", "x"),
        # The directory of the bare base path holds the base path.
        ("/up42", "/v2", "/up42", "v2/x", "/up42/x"),
        ("/up42", "/v2", "/up42", "x", "x"),
        ("/up42", "/v2", "/up42", "up42/x", "up42/x"),
        ("/v2", "/v2", "/v2", "v2/x", "v2/x"),
        # Up and down again, where the base path and the mount are not called the same.
        ("/up42", "/a/b", "/up42/c", "../../a/b/x", "/up42/x"),
        ("/up42", "/a/b", "/up42/c", "../b/x", "/up42/x"),
        ("/up42", "/a/b", "/up42/c", "../x", "../x"),
        ("/up42", "/v2", "/up42/c", "../up42/x", "../up42/x"),
        ("/a/b", "/v2", "/a/b/c", "../v2/x", "/a/b/x"),
        ("/", "/v2", "/c", "../v2/x", "/x"),
        ("/", "/v2", "/c", "../x", "../x"),
        ("/v2", "/v2", "/v2/c", "../v2/x", "../v2/x"),
        # The whole server was asked.
        ("/", "", "*", "x", "x"),
        ("/", "/v2", "*", "v2/x", "/x"),
        ("/", "", "http://localhost:8080", "x", "x"),
        ("/", "/v2", "http://localhost:8080?q", "../v2/x", "/x"),
        ("/up42", "", "http://localhost:8080/up42", "x", "/up42/x"),
    ],
)  # fmt: skip
def test_a_relative_reference_is_changed_only_where_it_would_lead_elsewhere(
    mounted, base, target, said, comes_back
):
    assert location(said, route(mounted, base), target=target) == comes_back


# ── the same place, whatever the form: RFC 3986 §5.2 written out, and asked for again ────────────


def without_dots(path):
    """RFC 3986 §5.2.4, letter by letter."""
    output = ""
    while path:
        if path.startswith("../"):
            path = path[3:]
        elif path.startswith(("./", "/./")):
            path = path[2:]
        elif path == "/.":
            path = "/"
        elif path.startswith("/../") or path == "/..":
            path = "/" + path[4:]
            output = output.rpartition("/")[0]
        elif path in {".", ".."}:
            path = ""
        else:
            segment = re.match("/?[^/]*", path)[0]
            output += segment
            path = path[len(segment) :]
    return output


def resolved(url, reference):
    """RFC 3986 §5.2.2."""
    split = re.compile(r"(?:([a-z]+):)?(?://([^/?#]*))?([^?#]*)(\?[^#]*)?(#.*)?")
    scheme, authority, path, query, _ = split.fullmatch(url).groups()
    r_scheme, r_authority, r_path, r_query, fragment = split.fullmatch(reference).groups()
    if r_authority is not None:
        scheme, authority, path, query = r_scheme or scheme, r_authority, without_dots(r_path), r_query
    elif r_path:
        merged = r_path if r_path.startswith("/") else (path.rpartition("/")[0] or "") + "/" + r_path
        path, query = without_dots(merged), r_query
    else:
        query = r_query if r_query is not None else query
    return f"{scheme}://{authority}{path or '/'}{query or ''}{fragment or ''}"


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("g", "http://a/b/c/g"), ("./g", "http://a/b/c/g"), ("g/", "http://a/b/c/g/"), ("/g", "http://a/g"),
        ("//g", "http://g/"), ("?y", "http://a/b/c/d;p?y"), ("#s", "http://a/b/c/d;p?q#s"), (".", "http://a/b/c/"),
        ("..", "http://a/b/"), ("../g", "http://a/b/g"), ("../../g", "http://a/g"), ("../../../../g", "http://a/g"),
        ("/../g", "http://a/g"), ("..g", "http://a/b/c/..g"), ("g/./h", "http://a/b/c/g/h"),
        ("g/../h", "http://a/b/c/h"), ("./g/.", "http://a/b/c/g/"),
    ],
)  # fmt: skip
def test_the_oracle_knows_the_examples_of_the_rfc(reference, url):
    assert resolved("http://a/b/c/d;p?q", reference) == url


def through_the_proxy(url, rewriting, mounted, strips, base):
    """Return the URL of the upstream that a request for `url` leads to; None when it is not the route's."""
    if not url.startswith(f"{LOCAL}/"):
        return None
    target = url.removeprefix(LOCAL)
    target, _, fragment = target.partition("#")
    path = target.partition("?")[0]
    if mounted != "/" and path != mounted and not path.startswith(f"{mounted}/"):
        return None
    strip = mounted if strips and mounted != "/" else ""
    sent = upstream_target(target, strip=strip, base=base)
    return f"{API}{sent}" + (f"#{fragment}" if fragment else "")


steps = st.lists(st.sampled_from(["a", "b", "up", "v", "", ".", "..", "x%2Fy"]), max_size=6).map("/".join)
references = st.builds(
    lambda start, path, rest: start + path + rest,
    st.sampled_from(
        ["", "/", "/v/", "/up/", f"{API}/", f"{API}/v/", "//api.example.com/v/", "../v/", "../../"]
    ),
    steps,
    st.sampled_from(["", "?q=/v/x", "#f", "?q#f"]),
)


@given(
    reference=references,
    mounted=st.sampled_from(["/", "/up", "/up/up", "/v"]),
    base=st.sampled_from(["", "/v", "/v/v", "/up"]),
    below=st.one_of(st.none(), st.lists(st.sampled_from(["a", "b", "", "up"]), max_size=4).map("/".join)),
    strips=st.booleans(),
)
@example(reference="../x", mounted="/up", base="", below="a", strips=True)
@example(reference="x", mounted="/up", base="", below=None, strips=True)
@settings(deadline=None, max_examples=examples(500))
def test_what_comes_back_leads_to_the_place_that_the_upstream_meant(reference, mounted, base, below, strips):
    assume(not (reference.startswith("//") and not reference.startswith("//api.")))  # a host of its own
    rewriting = route(mounted, base, strips=strips)
    path = mounted if below is None else f"{mounted.rstrip('/')}/{below}"
    asked_upstream = through_the_proxy(f"{LOCAL}{path}?p", rewriting, mounted, strips, base)
    meant = resolved(asked_upstream, reference)
    comes_back = location(reference, rewriting, target=f"{path}?p")
    reached = through_the_proxy(resolved(f"{LOCAL}{path}?p", comes_back), rewriting, mounted, strips, base)
    owned = base + ("" if strips or mounted == "/" else mounted)
    meant_path = re.match(r"https://[^/]*([^?#]*)", meant)[1]
    if not (meant_path == owned or meant_path.startswith(f"{owned}/")):
        assert comes_back == reference  # it is none of the route's
    elif meant_path == owned == base and mounted == "/" and base:
        # /v itself cannot be asked for through a route at /: /v/ comes nearest.
        assert reached == meant.replace(owned, f"{owned}/", 1)
    else:
        assert reached == meant


@given(reference=references, below=steps)
def test_a_route_that_changes_no_path_changes_no_reference_without_a_host(reference, below):
    assume(not reference.startswith(("http", "//")))
    assert location(reference, route("/"), target=f"/{below}") == reference


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=30))
def test_whatever_the_upstream_says_something_comes_back(value):
    for name in ("Location", "Link", "Set-Cookie"):
        assert rewritten(f"{name}: {value}", route(base="/v")).startswith(f"{name}: ")


# ── Link ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "comes_back"),
    [
        (
            '<https://api.example.com/x?page=2>; rel="next"',
            '<http://localhost:8080/up42/x?page=2>; rel="next"',
        ),
        ("</x>;rel=next", "</up42/x>;rel=next"),
        (
            '</x?page=1>; rel="prev",  <//api.example.com/x>;rel=a , <https://other.example/x>;rel=b',
            '</up42/x?page=1>; rel="prev",  <//localhost:8080/up42/x>;rel=a , <https://other.example/x>;rel=b',
        ),
        ("</a,b>; rel=x,</c;d>", "</up42/a,b>; rel=x,</up42/c;d>"),
        ('</x>; title="</y>, </z>"; rel=next', '</up42/x>; title="</y>, </z>"; rel=next'),
        (r'</x>; title="a\", </y>\\", </z>', r'</up42/x>; title="a\", </y>\\", </up42/z>'),
        ('</x>; title="never ends, </y>', '</up42/x>; title="never ends, </y>'),
        ('</x>; title="ends so \\', '</up42/x>; title="ends so \\'),
        ('</x>; anchor="/y"; rel=next', '</up42/x>; anchor="/y"; rel=next'),
        ("</x>; title=</y>; rel=</z>", "</up42/x>; title=</y>; rel=</z>"),
        (", ,</x>,,\t</y>", ", ,</up42/x>,,\t</up42/y>"),
        ("< /x\t>", "</up42/x>"),
        ("</x", "</up42/x"),
        ("<>; rel=self, <b>, <?q>", "<>; rel=self, <b>, <?q>"),
        ("/x; rel=next", "/x; rel=next"),
        ("", ""),
        ('</caf\xc3\xa9>; title="\xe9"', '</up42/caf\xc3\xa9>; title="\xe9"'),
    ],
)
def test_the_targets_of_a_link_are_references_and_nothing_else_in_it(said, comes_back):
    assert rewritten(f"Link: {said}") == f"Link: {comes_back}"


@pytest.mark.parametrize(
    "said",
    [
        ",<" * 100_000,
        "," * 200_000,
        '"' + '\\"' * 100_000 + "\\",
        "<" + " " * 200_000 + "\\>",
        ",</>" * 30_000,
        ",<../.>" * 30_000,
        "<" + "../" * 60_000 + ">",
        "<" + "/.." * 60_000 + ">",
        "<" + "a" * 200_000 + ">",
    ],
    ids=lambda said: said[:5],
)
@pytest.mark.parametrize("target", ["/up42", "/up42" + "/a" * 15_000])
def test_the_time_that_a_hostile_link_takes_grows_with_its_length_only(said, target):
    begun = process_time()
    rewritten(f"Link: {said}", route(base="/v"), Asked(target))
    assert process_time() - begun < 5  # seconds: with the square of the length it is tens of them


# ── Set-Cookie: Domain ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "comes_back"),
    [
        ("a=1; Domain=api.example.com", "a=1"),
        ("a=1; domain=.example.com; Secure", "a=1; Secure"),
        ("a=1;DOMAIN = API.Example.com ;Secure", "a=1;Secure"),
        ("a=1; Domain=com", "a=1"),
        ("a=1; Domain=other.example; Domain=api.example.com", "a=1"),  # the last one counts
        ("a=1; Domain=api.example.com; Domain=", "a=1"),
        ("a=1; Domain=api.example.com; Domain=other.example", None),
        ("a=1; Domain=other.example", None),
        ("a=1; Domain=pi.example.com", None),
        ("a=1; Domain=x.api.example.com", None),
        ("a=1; Domain=localhost", "a=1"),  # it would reach every host below localhost
        ("a=1; Domain=", None),
        ("a=1; Domain", None),
        ("a=1; Domain=.", None),
        ("a=1; Domain=..com", None),
        ("domain=api.example.com", None),  # that is its name
        ('a="x; Domain=api.example.com; y"', 'a="x; y"'),  # a quote does not keep a semicolon from ending it
        ("a=1; XDomain=api.example.com", None),
    ],
)
def test_a_domain_that_holds_the_upstream_is_taken_out(said, comes_back):
    assert cookie(said, route("/")) == (said if comes_back is None else comes_back)


@pytest.mark.parametrize(
    ("host", "domain", "stays"),
    [
        ("a.team.example", "team.example", False),
        ("a.team.example:8080", ".Team.Example", False),
        ("a.team.example.", "example", False),
        ("a.team.example", "a.team.example", False),  # and all below it
        ("a.team.example", "team.example.", False),
        ("a.team.example", '"team.example"', False),
        ("a.team.example", "t%65am.example", False),
        ("a.team.example", "\xef\xbd\x94eam.example", False),
        ("a.team.example", "b.team.example", True),  # no client takes that
        ("a.team.example", "am.example", True),
        ("a.localhost", "localhost", False),
        ("127.0.0.1", "0.0.1", True),
        ("[fd00::1]:80", "[fd00::1]", False),
    ],
)
def test_no_domain_reaches_beyond_the_host_that_was_asked(host, domain, stays):
    for said in (f"a=1; Domain={domain}", f"a=1; Domain={domain}; Domain=other.example"):
        assert cookie(said, route("/"), host=host) == (said if stays else "a=1")
        assert cookie(said, route("/"), f"http://{host}/x", "localhost") == (said if stays else "a=1")


@pytest.mark.parametrize(
    ("origin", "domain", "stays"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", False),
        ("http://127.0.0.1:8000", "0.0.1", True),  # an address has no parents
        ("http://[::1]:8000", "[::1]", False),
        ("http://localhost:8000", ".localhost", False),
    ],
)
def test_an_address_matches_itself_only(origin, domain, stays):
    said = f"a=1; Domain={domain}"
    assert cookie(said, route("/", origin=origin)) == (said if stays else "a=1")


def test_with_preserve_host_the_callers_host_is_the_upstreams_too():
    rewriting = route("/", preserve_host=True)
    for domain in ("up42.localhost", "localhost", "api.example.com"):
        assert cookie(f"a=1; Domain={domain}", rewriting, host="Up42.localhost:8080") == "a=1"
    assert cookie("a=1; Domain=other.localhost", rewriting, host="up42.localhost") == (
        "a=1; Domain=other.localhost"
    )


# ── Set-Cookie: Path ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mounted", "base", "said", "comes_back"),
    [
        ("/up42", "", "/", "/up42"),
        ("/up42", "", "/x", "/up42/x"),
        ("/up42", "", "/x/", "/up42/x/"),
        ("/up42", "", "/up42", "/up42/up42"),
        ("/up42", "/a/b", "/", "/up42"),
        ("/up42", "/a/b", "/a", "/up42"),
        ("/up42", "/a/b", "/a/", "/up42"),
        ("/up42", "/a/b", "/a/b", "/up42"),
        ("/up42", "/a/b", "/a/b/", "/up42/"),
        ("/up42", "/a/b", "/%61/b/x%2F", "/up42/x%2F"),
        ("/up42", "/a/b", "/a/bc", "/up42/a/bc"),
        ("/up42", "/a/b", "/a/c", "/up42/a/c"),
        ("/up42", "/a/b", "/A/b", "/up42/A/b"),
        ("/up42", "/a/b", "/a/b/../c", "/up42/a/b/../c"),
        ("/up42", "/a/b", "/x", "/up42/x"),
        ("/", "/a/b", "/x", "/x"),
        ("/", "", "/", "/"),
        ("/", "", "/x", "/x"),
        ("/", "/a/b", "/", "/"),
        ("/", "/a/b", "/a/b", "/"),
        ("/", "/a/b", "/a/b/x", "/x"),
        ("/x/y", "/a", "/a/z", "/x/y/z"),
        ("/\u00fc;x", "", "/", "/%C3%BC%3Bx"),
    ],
)
def test_a_path_of_the_upstream_is_put_under_the_mount(mounted, base, said, comes_back):
    rewriting = route(mounted, base)
    target = f"{mounted.rstrip('/')}/p"
    assert cookie(f"a=1; Path={said}; Secure", rewriting, target) == f"a=1; Path={comes_back}; Secure"


@pytest.mark.parametrize(
    ("base", "said", "comes_back"),
    [("", "/", "/up42"), ("", "/up42", "/up42"), ("", "/up42/x", "/up42/x"), ("", "/x", "/up42/x"),
     ("", "/up42x", "/up42/up42x"), ("", "/up42/../x", "/up42/up42/../x"),
     ("/v2", "/", "/up42"), ("/v2", "/v2", "/up42"), ("/v2", "/v2/up42/x", "/up42/x"),
     ("/v2", "/v2/x", "/up42/v2/x"), ("/v2", "/up42", "/up42/up42")],
)  # fmt: skip
def test_the_path_of_a_cookie_where_the_mount_is_not_stripped(base, said, comes_back):
    assert cookie(f"a=1; Path={said}", route(base=base, strips=False)) == f"a=1; Path={comes_back}"


@pytest.mark.parametrize(
    ("said", "comes_back"),
    [
        ("a=1;path=/;HttpOnly", "a=1;path=/up42;HttpOnly"),
        ("a=1 ;  PATH =\t/x  ;", "a=1 ;  PATH =\t/up42/x  ;"),
        ("a=1; Path=/x; Path=/y; Secure", "a=1; Path=/up42/x; Path=/up42/y; Secure"),  # some take the first
        ("a=1; Path", None),
        ("a=1; Path=", None),
        ("a=1; Path=x", None),
        ('a=1; Path="/x"', 'a=1; Path="/up42/x"'),  # curl takes the quotes off
        ("path=/x", None),
        ("a=1, b=2; Xpath=/x", None),
        ('a="x; path=/y"; Path=/z', 'a="x; path=/up42/y"; Path=/up42/z'),
        ("a=/x", None),
        ("", None),
        ("a", None),
        ("a=1; ;;  Expires=Wed, 21 Oct 2026 07:28:00 GMT ;SameSite=lax; Max-Age=-1; Partitioned", None),
        ("a=b=c; Path=/x=y", "a=b=c; Path=/up42/x=y"),
        ("a=\xff; Path=/\xe9", "a=\xff; Path=/up42/\xe9"),
        ("__Host-a=1; Path=/; Secure", None),
        ("__HOST-a=1; Path=/; Secure", None),
        ("__Host-a=1; Path=/x; Secure", "__Host-a=1; Path=/up42/x; Secure"),  # that makes it none
        ("__Host-a=1; Path=/; Secure; Domain=api.example.com", "__Host-a=1; Path=/; Secure"),
        ("__Secure-a=1; Path=/b; Domain=localhost", "__Secure-a=1; Path=/up42/b"),
        ("__Secure-a=1; Path=/; Secure", "__Secure-a=1; Path=/up42; Secure"),
        ("__Host=1; Path=/", "__Host=1; Path=/up42"),
    ],
)
def test_the_rest_of_a_cookie_stays_to_the_byte(said, comes_back):
    assert cookie(said) == (said if comes_back is None else comes_back)


@pytest.mark.parametrize(
    ("mounted", "base", "target", "said", "comes_back"),
    [
        ("/up42", "", "/up42", "a=1", "a=1; Path=/up42"),
        ("/up42", "", "/up42?q=/x/y", "a=1; Secure", "a=1; Secure; Path=/up42"),
        ("/up42", "/v2", "/up42", "a=1", "a=1; Path=/up42"),
        ("/up42", "", "/%75p42", "a=1", "a=1; Path=/up42"),
        ("/up42", "", "/up42", "a=1; Path=", "a=1; Path=; Path=/up42"),
        ("/up42", "", "/up42", "a=1; Path=/x; Path=y", "a=1; Path=/up42/x; Path=y; Path=/up42"),
        ("/up42", "", "/up42", "a=1; Path=y; Path=/x", "a=1; Path=y; Path=/up42/x"),
        ("/a/b", "", "/a/b", "a=1", "a=1; Path=/a/b"),
        ("/up42", "", "/up42/", "a=1", "a=1"),
        ("/up42", "", "/up42/x", "a=1", "a=1"),
        ("/", "/v2", "/x", "a=1", "a=1"),
        ("/", "", "*", "a=1", "a=1"),
        ("/", "", "/", "a=1", "a=1"),
        ("/up42", "", "/up42", "__Host-a=1; Secure", "__Host-a=1; Secure"),
    ],
)
def test_a_cookie_without_a_path_does_not_leave_the_mount(mounted, base, target, said, comes_back):
    assert cookie(said, route(mounted, base), target=target) == comes_back


# ── the header section ───────────────────────────────────────────────────────────────────────────


def lines(rules, *lines):
    pairs = [tuple(part.encode() for part in line.split(": ", 1)) for line in lines]
    return rules.head(200, b"OK", pairs, Asked()).decode().split("\r\n")[1:-1]


def test_every_line_is_rewritten_by_itself_in_its_place():
    rules = ResponseHeaders(rewriting=route())
    assert lines(
        rules, "location: /a", "X-A: /a", "Link: </a>", "LOCATION: https://x.example/", "link: </b>",
        "Set-Cookie: a=1; Path=/", "Content-Location: /c", "set-cookie: b=2; Path=/d", "Refresh: 0; url=/e",
    ) == [
        "location: /up42/a", "X-A: /a", "Link: </up42/a>", "LOCATION: https://x.example/", "link: </up42/b>",
        "Set-Cookie: a=1; Path=/up42", "Content-Location: /up42/c", "set-cookie: b=2; Path=/up42/d",
        "Refresh: 0; url=/e",
    ]  # fmt: skip


POINTING = ["Location: /a", "Content-Location: /a", "Link: </a>", "Set-Cookie: a=1; Domain=api.example.com"]


def test_without_rewriting_everything_comes_back_as_it_is():
    assert lines(ResponseHeaders(), *POINTING) == POINTING


def test_what_is_configured_is_not_rewritten_and_what_is_listed_is_dropped():
    rules = ResponseHeaders(set_pairs=[("Location", "/mine")], remove=["Link"], rewriting=route())
    assert lines(rules, *POINTING, "Connection: Content-Location") == ["Set-Cookie: a=1", "Location: /mine"]


def test_an_answer_that_points_nowhere_does_not_even_ask_where_the_caller_is():
    head = ResponseHeaders(rewriting=route()).head(200, b"OK", [(b"X-A", b"/a")], None)
    assert head == b"HTTP/1.1 200 OK\r\nX-A: /a\r\n"


def test_where_the_caller_is_is_worked_out_once_an_answer(monkeypatch):
    rewriting = route()
    asked = []
    monkeypatch.setattr(rewriting, "bearings", lambda each: asked.append(each) or route().bearings(each))
    lines(ResponseHeaders(rewriting=rewriting), *POINTING)
    assert len(asked) == 1
