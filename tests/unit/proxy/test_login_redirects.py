"""Redirects that mean: log in."""

import pytest

from authproxy.proxy.login_redirects import LoginRedirects

ORIGIN = "https://Api.example:443"


HEAD = b"GET /a/b?c HTTP/1.1\r\nX-Host: x\r\nHost: up.localhost:8080\r\n"


def fit(location, *patterns, **settings):
    headers = [(b"X-A", b"1"), (b"location", location.encode())]
    return LoginRedirects(patterns, ORIGIN, **settings).fit(headers, HEAD)


@pytest.mark.parametrize(
    ("location", "pattern", "fits"),
    [
        ("/login", "/login**", True),
        ("/login?next=/", "/login", True),
        ("/log%69n", "/login", True),
        (" /login\t", "/login", True),
        ("/login/x", "/login", False),
        ("/other", "/login**", False),
        ("login", "/a/login", True),
        ("../login", "/login", True),
        ("?login", "/a/b", True),
        ("https://api.example/login", "/login", True),
        ("HTTPS://API.example:443/login", "/login", True),
        ("//api.example/login", "/login", True),
        ("http://api.example/login", "/login", False),
        ("https://api.example:8443/login", "/login", False),
        ("https://sso.example/login", "/login", False),
        ("https://sso.example/auth?x", "https://sso.example/**", True),
        ("https://SSO.example/auth", "https://sso.example/auth", True),
        ("https://user@sso.example/auth", "https://sso.example/auth", True),
        ("https://sso.example.evil/auth", "https://sso.example/**", False),
        ("https://sso.example", "https://sso.example/", True),
        ("https://sso.example:443/q", "https://sso.example/**", True),
        ("https://sso.example/q", "https://sso.example:443/**", True),
        ("http://sso.example:80/q", "http://sso.example/**", True),
        ("https://sso.example:/q", "https://sso.example/**", True),
        ("https://sso.example:80/q", "https://sso.example/**", False),
        ("https://sso.example:8443/q", "https://sso.example/**", False),
        ("https://sso.example/q", "https://sso.example:8443/**", False),
        ("https://sso.example:8443/q", "https://sso.example:8443/**", True),
        ("http://sso.example/q", "https://sso.example/**", False),
        ("https://sso.example./q", "https://sso.example/**", True),
        ("https://sso.example/q", "https://SSO.Example./**", True),
        ("https://sso.example/Q", "https://sso.example/q", False),
        ("https://[2001:DB8::1]:443/q", "https://[2001:db8::1]/q", True),
        ("https://api.example/login", "https://api.example/login", True),
        ("https://sso.example/login", "https://-:x/login", False),
        ("x://sso.example/login", "https://sso.example/login", False),
        ("https://[/", "/**", False),
        ("https://a:b/", "/**", False),
    ],
)
def test_a_location_fits_its_pattern(location, pattern, fits):
    assert fit(location, pattern) is fits


def test_without_a_location_or_with_two_nothing_fits():
    redirects = LoginRedirects(["/**"], ORIGIN)
    assert not redirects.fit([], HEAD)
    assert not redirects.fit([(b"Location", b"/a"), (b"Location", b"/b")], HEAD)


def test_it_knows_whether_there_are_any():
    assert LoginRedirects(["https://a/**"], ORIGIN)
    assert not LoginRedirects([], ORIGIN)


@pytest.mark.parametrize(("preserve_host", "fits"), [(True, True), (False, False)])
def test_an_upstream_that_gets_the_callers_host_may_call_itself_by_it(preserve_host, fits):
    assert fit("https://up.localhost:8080/login", "/login", preserve_host=preserve_host) is fits
    assert not fit("https://other.localhost:8080/login", "/login", preserve_host=preserve_host)
    assert fit("/login", "/login", preserve_host=preserve_host)
