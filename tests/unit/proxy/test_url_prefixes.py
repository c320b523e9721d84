"""How URLs begin, and whether they lead below that."""

from urllib.parse import urljoin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from authproxy.proxy.url_prefixes import (
    Prefix,
    is_plain_path,
    path_in_string,
    stays_below,
    stays_below_in_string,
)
from tests.support.examples import examples


def test_an_origin_is_written_in_many_ways():
    assert Prefix.of("https", "a", 443, "").authorities[-2:] == ["https://a.", "https://a.:"]
    assert set(Prefix.of("http", "::1", 8080, "").authorities) == {"http://[::1]:8080", "http://[::1]:08080"}


OUT = [
    "/..", "/../x", "/./../x", "/x/../../y", "/%2e%2e", "/%2E./x", "/.%2e/x", "//..", "//x/..//../y",
    "/..\xa0", "/.. ", "/..\ufeff", "/..\\x", "/x\\..\\..", "/.\t./x", "/\n../x", "/x\x00y", "/x\x7fy",
    "/../../a/v2/x",
]  # fmt: skip
BELOW = [
    "", "/", "/x", "/.", "/...", "/..x", "/x/..", "/x/../y", "/a/b/../../c", "/%2e", "/%252e%252e/x",
    "/..%2fx", "/..;/x", "/x\n", "/\xe9", "/x y", "//x", "/x//y",
]  # fmt: skip


@pytest.mark.parametrize("path", OUT)
def test_what_steps_out_in_any_reading_is_known(path):
    assert not stays_below(path)


@pytest.mark.parametrize("path", BELOW)
def test_what_stays_below_in_every_reading_is_known(path):
    assert stays_below(path)


def as_browsers(url):
    """Return a URL as browsers and others who follow WHATWG read it, before they walk its dots."""
    return url.strip("".join(map(chr, range(0x21)))).translate({9: None, 10: None, 13: None, 92: "/"})


@settings(max_examples=examples(500), deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["/", "/", "/", "..", ".", "%2e", "%2E", "x", "\\", "\t", "\n", " ", "\xa0", "%20", ";"]
        )
    ).map(lambda parts: "/" + "".join(parts))
)
def test_no_client_gets_out_of_what_stays_below(path):
    if not stays_below(path):
        return
    url = "http://localhost/evil" + path
    for read in (url, url.strip(), as_browsers(url), url.replace("//", "/").replace(":/", "://")):
        dots = read.replace("%2e", ".").replace("%2E", ".")
        assert f"{URL(dots).path}/".startswith("/evil/")
        assert f"{urljoin('http://localhost/', dots)}/".startswith("http://localhost/evil/")


@pytest.mark.parametrize("end", [b'"', b"?", b"#", rb"\u003f", rb"\u003F", rb"\u0023"])
@pytest.mark.parametrize(
    "path", [b"", b"/x", rb"\/x", rb"/\"", rb"/\\", rb"/\u003e", rb"/\u00", rb"/\u", b"/\xff"]
)
def test_a_path_in_a_string_goes_to_what_ends_it(path, end):
    data = b"." + path + end
    assert path_in_string(data, 1, len(data)) == (1 + len(path), True)
    for cut in range(1, len(data)):
        so_far, is_all = path_in_string(data, 1, cut)
        assert not is_all
        assert path_in_string(data, so_far, len(data)) == (1 + len(path), True)


@pytest.mark.parametrize(
    ("path", "is_plain"),
    [(rb'/x%20y\/z"', True), (b"/x?", True), (b"#", True), (b"/x", False), (b'/.x"', False),
     (rb'\/.x"', False), (b'/%2E"', False), (rb'/\u002e"', False), (b'/\t"', False)],
)  # fmt: skip
def test_a_path_that_ends_and_has_no_dots_to_walk_is_known(path, is_plain):
    assert is_plain_path(path, 0, len(path)) is is_plain
    assert not is_plain_path(path, 0, len(path) - 1)


@pytest.mark.parametrize(
    ("path", "stays"),
    [(rb"\/x\u002f..", True), (rb"\/..", False), (rb"/\u002E\u002e", False), (rb"/..\\x", False),
     (rb"/.\t.", False), (b"/.\t.", False), (rb"/\ud800", True), (b"/x/\xff", True), (rb"/\x", False),
     (rb"/\u12", False)],
)  # fmt: skip
def test_a_path_is_judged_by_what_it_says(path, stays):
    assert stays_below_in_string(path) is stays
