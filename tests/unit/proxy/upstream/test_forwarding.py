"""Requests as an HTTP proxy wants them, which asks the upstream itself."""

import pytest

from authproxy.net.http_proxy import read_proxy
from authproxy.proxy.upstream.forwarding import Forwarding

PROXY = read_proxy("http://joe:s3cr3t@proxy.example:3128")
CREDENTIAL = b"Proxy-Authorization: Basic am9lOnMzY3IzdA=="
FORWARDING = Forwarding(PROXY, "http://up.example:8080")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (b"/x?q=1", b"http://up.example:8080/x?q=1"),
        (b"/", b"http://up.example:8080/"),
        (b"//x", b"http://up.example:8080//x"),
        (b"*", b"http://up.example:8080"),
    ],
)
def test_a_forwarded_request_names_its_whole_url_and_who_asks(target, named):
    rest = b"Host: up.example:8080\r\nA: b c\r\n\r\nbody with GET / HTTP/1.1\r\n"
    sent = FORWARDING.addressed(b"GET " + target + b" HTTP/1.1\r\n" + rest)
    assert sent == b"GET " + named + b" HTTP/1.1\r\n" + CREDENTIAL + b"\r\n" + rest


def test_a_407_to_a_forwarded_request_is_the_proxys_own_answer():
    failure = FORWARDING.refusal()
    assert "answered 407 to a request to http://up.example:8080" in failure.detail
    assert "wants a user and a password" in failure.hint
    assert "s3cr3t" not in failure.detail + failure.hint
