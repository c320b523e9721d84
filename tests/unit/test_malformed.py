"""A value that will not do is told what it is, and never repeated."""

import pytest

from authproxy.malformed import (
    ADDRESS,
    DURATION,
    SIZE,
    URL,
    address_fault,
    duration_fault,
    size_fault,
    url_fault,
)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", ""),
        ("api.example.com", "; put https:// before it"),
        ("localhost:8000", "; put https:// before it"),
        ("https:/api.example.com", "; two slashes belong after the colon"),
        ("https:api.example.com", "; two slashes belong after the colon"),
        ("<https://api.example.com>", "; remove the brackets around it"),
        ("'https://api.example.com'", "; remove the quotes around it"),
        ("wss://api.example.com", "; WebSockets take the same way: write https://"),
        ("ws://api.example.com", "; WebSockets take the same way: write http://"),
        ("htps://api.example.com", "; did you mean https://?"),
        ("ftp://api.example.com", ", and not with another scheme"),
        ("https://", "; the host is missing after ://"),
        ("https://[::1", "; put [ ] around the IPv6 address"),
        ("https://api.example.com:99999", "; its port should be a number from 1 to 65535"),
        ("https://api.example.com:port", "; its port should be a number from 1 to 65535"),
    ],
)
def test_a_url(url, said):
    assert url_fault(url) == URL + said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", ""),
        ("8080", "; put 127.0.0.1: before the port"),
        ("127.0.0.1", "; the port is missing"),
        ("[::1]", "; the port is missing"),
        ("::1:8080", "; put [ ] around the IPv6 address"),
        ("http://127.0.0.1:8080", "; remove http:// and anything after the port"),
        ("127.0.0.1:8080,127.0.0.1:8081", "; write a list, one address in each entry"),
        ("unix:run/proxy.sock", "; the path of a Unix socket begins with /"),
        ("127.0.0.1:http", "; the port should be a number from 0 to 65535"),
        ("127.0.0.1:123456", "; the port should be a number from 0 to 65535"),
        ("a b:80", ""),
    ],
)
def test_an_address(address, said):
    assert address_fault(address) == ADDRESS + said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("10sec", "; the unit is written s"),
        ("10 Minutes", "; the unit is written m"),
        ("2hrs", "; the unit is written h"),
        ("1 day", "; the unit is written d"),
        ("5 millis", "; the unit is written ms"),
        ("1m30s", "; write it with one unit alone, such as 90s for a minute and a half"),
        (-1, "; it cannot be negative"),
        ("-1s", "; it cannot be negative"),
        ("5 weeks", ""),
        ("soon", ""),
        ([], ""),
        (None, ""),
    ],
)
def test_a_duration(value, said):
    assert duration_fault(value) == DURATION + said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("64KB", "; the unit is written KiB, in steps of 1024"),
        ("64k", "; the unit is written KiB, in steps of 1024"),
        ("64kib", "; the unit is written KiB, in steps of 1024"),
        ("10 MB", "; the unit is written MiB, in steps of 1024"),
        ("1G", "; the unit is written GiB, in steps of 1024"),
        ("1.5MiB", "; a whole number goes before the unit"),
        (-1, "; it cannot be negative"),
        ("5 gallons", ""),
        (True, ""),
        ({}, ""),
    ],
)
def test_a_size(value, said):
    assert size_fault(value) == SIZE + said
