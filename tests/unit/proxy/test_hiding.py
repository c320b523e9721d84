"""What an answer would tell of the credential that went into the query or a cookie."""

import re
from urllib.parse import quote, unquote

import pytest

from authproxy.proxy.hiding import Hiding

HIDING = Hiding(query=["api_key"], cookies=["SID"])


@pytest.mark.parametrize(
    ("link", "left"),
    [
        ("/a?api_key=s3cr3t", "/a"),
        ("/a?api_key=s3cr3t&x=1", "/a?x=1"),
        ("/a?x=1&api_key=s3cr3t", "/a?x=1"),
        ("/a?x=1&api_key=s3cr3t&y=2", "/a?x=1&y=2"),
        ("/a?x=1&api_key=s3cr3t#f", "/a?x=1#f"),
        ("/a?api_key=s3cr3t&api_key=s3cr3t", "/a"),
        ("/a?api_key=s3cr3t&api_key=s3cr3t&x", "/a?x"),
        ("/a?x&api_key=s3cr3t&api_key=s3cr3t;y", "/a?x;y"),
        ("/a?api%5Fkey=s3cr3t", "/a"),
        ("/a?api%255fkey=s3cr3t", "/a"),
        ("/a?api_key&x", "/a?x"),
        ("/a#api_key=s3cr3t&x", "/a#x"),
        ("/l?next=%2Fa%3Fapi_key%3Ds3cr3t", "/l?next=%2Fa"),
        ("/l?next=%2Fa%3Fapi_key%3Ds3cr3t%26x%3D1&y", "/l?next=%2Fa%3Fx%3D1&y"),
        ("/l?next=%2Fa%3Fapi_key%3Ds3cr3t&y", "/l?next=%2Fa&y"),
        ("/l?next=%2Fa%3fx%26api_key%3ds3cr3t&y", "/l?next=%2Fa%3fx&y"),
        ("https://other.example/?api_key=s3cr3t,with;x", "https://other.example/?x"),
        ("/a?my_api_key=1&api_keys=2&x=api_key=3", "/a?my_api_key=1&api_keys=2&x=api_key=3"),
        ("/a?a=1&api_key=s3cr3t%26s3cr3t%23s3cr3t%3Bs3cr3t&z", "/a?a=1&z"),
        ("/a?api_key=s3cr3t's3cr3t&z", "/a?z"),
        ("/api_key=1", "/api_key=1"),
        ("/a", "/a"),
    ],
)
def test_the_parameter_goes_out_of_links(link, left):
    assert HIDING.value(b"Location", link.encode()) == left.encode()


def encoded(text, times):
    for _ in range(times):
        text = quote(text, safe="")
    return text


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("sent", [[], ["AbC+/&12;5=="]])
def test_the_parameter_goes_from_a_link_within_links_however_deep(levels, sent):
    hiding = Hiding(query=["api_key"], sent=sent)
    link = f"/x?a=1&api_key={quote('AbC+/&12;5==', safe='')}&b=2"
    assert (
        hiding.value(b"location", f"/l?u={encoded(link, levels)}&y=3".encode())
        == f"/l?u={encoded('/x?a=1&b=2', levels)}&y=3".encode()
    )


def test_each_level_of_a_link_may_have_one():
    link = "/0?api_key=s3cr3t"
    for level in range(1, 5):
        link = f"/{level}?api_key=s3cr3t&u={encoded(link, 1)}&z=1"
    left = HIDING.value(b"location", link.encode()).decode()
    for level in (4, 3, 2, 1):
        assert re.fullmatch(rf"/{level}\?u=([^&]*)&z=1", left)
        left = unquote(left.partition("u=")[2].partition("&")[0])
    assert left == "/0"


def test_a_parameter_whose_marks_alone_are_encoded_goes_too():
    assert HIDING.value(b"location", b"/l?n=%252Fa%253Fx%2526api_key=s3cr3t&y") == b"/l?n=%252Fa%253Fx&y"


def test_bytes_that_are_no_text_stay():
    hiding = Hiding(query=["k"], sent=["s3cr3t-s3cr3t"])
    assert hiding.value(b"location", b"/\xff?x=%FF&k=1") == b"/\xff?x=%FF"


def test_in_a_list_of_links_each_is_looked_at():
    value = b'<https://a/?api_key=s3cr3t&p=2>; rel="next", </b?q&api_key=s3cr3t>; rel=prev'
    assert HIDING.value(b"link", value) == b'<https://a/?p=2>; rel="next", </b?q>; rel=prev'


def test_a_name_with_a_blank_is_known_in_each_spelling():
    hiding = Hiding(query=["a b"])
    assert [hiding.value(b"location", f"/?{each}=1&c".encode()) for each in ("a+b", "a%20b", "a b")] == [
        b"/?c"
    ] * 3


@pytest.mark.parametrize(
    "link",
    ["/n?x=abc&defTAIL", "/n?x=abc%26defTAIL", "/n?n=%2Fb%3Fn%3Dx%253Dabc%2526defTAIL", "/abc&defTAIL/n"],
)
def test_what_was_sent_lately_goes_in_whatever_spelling_and_place(link):
    hiding = Hiding(query=["api_key"], sent=["abc&defTAIL", "a"])
    left = hiding.value(b"location", link.encode())
    assert b"TAIL" not in left
    assert b"abc" not in left
    assert b"n" in left, "a value of a character or two is not looked for"


def test_a_refresh_is_a_link_too():
    assert HIDING.value(b"Refresh", b"0; url=/x?api_key=s3cr3t") == b"0; url=/x"


def test_the_cookie_is_not_set():
    assert HIDING.value(b"Set-Cookie", b"SID=s3cr3t; Path=/") is None
    assert HIDING.value(b"Set-Cookie", b"sid=other") == b"sid=other"
    assert HIDING.value(b"Set-Cookie", b"x=SID") == b"x=SID"


def test_only_what_may_tell_is_looked_at():
    names = (b"location", b"refresh", b"set-cookie", b"etag")
    assert [name for name in names if HIDING.concerns(name)] == [b"location", b"refresh", b"set-cookie"]
    cookies_only, query_only = Hiding(cookies=["S"]), Hiding(query=["k"])
    assert not cookies_only.concerns(b"location")
    assert not query_only.concerns(b"set-cookie")
    assert cookies_only.value(b"location", b"/?k=1") == b"/?k=1"
    assert query_only.value(b"set-cookie", b"S=1") == b"S=1"


def test_a_long_header_is_done_with():
    value = b"/a" + b"?api_key=1&x" * 5_000 + b"%3Fapi_key%3D1" * 5_000
    assert HIDING.value(b"location", value) == b"/a" + b"?x" * 5_000
