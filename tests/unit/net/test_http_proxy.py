"""Which proxy leads to a URL: what may be written, and what the environment says."""

import pytest
from pydantic import SecretStr

from authproxy.net.http_proxy import HTTPProxy, environment_proxy, may_except, proxy_for, read_proxy
from authproxy.net.own_listeners import OwnListeners

PROXY = {"http_proxy": "http://plain:1", "https_proxy": "http://secure:2"}


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy:3128", HTTPProxy("proxy", 3128)),
        ("http://proxy:3128/", HTTPProxy("proxy", 3128)),
        ("HTTP://Proxy.Example:3128", HTTPProxy("proxy.example", 3128)),
        ("proxy:3128", HTTPProxy("proxy", 3128)),
        ("user:pass@proxy:3128", HTTPProxy("proxy", 3128, "user", "pass")),
        ("http://u%40x:p%2Fw%3a@10.0.0.1:80", HTTPProxy("10.0.0.1", 80, "u@x", "p/w:")),
        ("http://user@proxy:80", HTTPProxy("proxy", 80, "user")),
        ("http://[::1]:3128", HTTPProxy("::1", 3128)),
    ],
)
def test_a_proxy_that_can_be_used(text, proxy):
    assert read_proxy(text) == proxy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proxy",
        "http://proxy",
        "http://:3128",
        "http://proxy:0",
        "http://proxy:99999",
        "http://proxy:s3cr3t",
        "http://proxy:3128/s3cr3t",
        "http://proxy:3128?s3cr3t",
        "http://proxy:3128#s3cr3t",
        "http://user:s3#cr3t@proxy:3128",
        "http://user:s3cr3t@pro xy:3128",
        "http://user:s3cr3t@pröxy:3128",
        "http://[::s3cr3t]:3128",
        "http://us%3aer:s3cr3t@proxy:3128",
        "https://user:s3cr3t@proxy:3128",
        "socks5://user:s3cr3t@proxy:1080",
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_without_a_secret(text):
    with pytest.raises(ValueError, match=r"^should ") as caught:
        read_proxy(text)
    told = caught.value
    while told is not None:
        assert "cr3t" not in str(told)
        told = None if told.__suppress_context__ else told.__context__


@pytest.mark.parametrize("text", ["https://proxy:3128", "socks5://proxy:1080", "socks5h://proxy:1080"])
def test_another_kind_of_proxy_is_told_from_a_misspelt_one(text):
    with pytest.raises(ValueError, match="TLS or SOCKS are not supported"):
        read_proxy(text)


def test_a_proxy_does_not_print_who_may_use_it():
    proxy = read_proxy("http://us3r:s3cr3t@proxy:3128")
    assert str(proxy) == "http://proxy:3128"
    assert repr(proxy) == "HTTPProxy(host='proxy', port=3128)"
    assert str(read_proxy("http://[::1]:1")) == "http://[::1]:1"


def test_who_may_use_it_is_sent_as_basic():
    assert read_proxy("proxy:1").headers == {}
    assert read_proxy("http://Aladdin:open%20sesame@proxy:1").headers == {
        "Proxy-Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617 §2
    }


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://id.example/", None),
        (PROXY, "https://id.example/", "http://secure:2"),
        (PROXY, "http://id.example/", "http://plain:1"),
        ({"HTTPS_PROXY": "http://upper:1"}, "https://id.example/", "http://upper:1"),
        ({"HTTPS_PROXY": "http://upper:1"}, "http://id.example/", None),
        ({"HTTP_PROXY": "http://upper:1"}, "http://id.example/", "http://upper:1"),
        ({"HTTP_PROXY": "http://upper:1"} | PROXY, "http://id.example/", "http://plain:1"),
        ({"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}, "http://id.example/", None),
        (PROXY | {"REQUEST_METHOD": "GET"}, "http://id.example/", "http://plain:1"),
        ({"HTTPS_PROXY": "http://upper:1", "REQUEST_METHOD": "GET"}, "http://id.example/", None),
        ({"ALL_PROXY": "http://all:1"}, "https://id.example/", "http://all:1"),
        ({"all_proxy": "http://all:1"} | PROXY, "https://id.example/", "http://secure:2"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://upper:1"}, "https://id.example/", "http://upper:1"),
        (PROXY, "http://localhost/", None),
        (PROXY, "http://api.localhost:80/", None),
        (PROXY, "https://127.8.9.1:8443/", None),
        (PROXY, "https://[::1]/", None),
        (PROXY, "https://10.0.0.1/", "http://secure:2"),
    ],
)
def test_the_environments_proxy_is_used_as_curl_and_go_do(environ, url, proxy):
    found = environment_proxy(url, environ)
    assert (str(found) if found else None) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "excepted", "others"),
    [
        ("*", ["https://api.example", "http://10.0.0.1"], []),
        ("api.example", ["https://api.example", "https://v2.api.example", "https://API.example.:8443"],
         ["https://example", "https://myapi.example"]),
        (".api.example", ["https://api.example", "https://v2.api.example"], ["https://xapi.example"]),
        ("*.api.example", ["https://v2.api.example"], ["https://xapi.example"]),
        ("API.Example", ["https://api.example"], []),
        ("a.example, ,b.example c.example", ["https://a.example", "https://b.example", "https://c.example"],
         ["https://d.example"]),
        ("api.example:8443", ["https://api.example:8443", "https://v2.api.example:8443"],
         ["https://api.example", "https://api.example:443"]),
        ("api.example:443", ["https://api.example"], ["http://api.example"]),
        ("10.1.2.3", ["https://10.1.2.3", "http://10.1.2.3:81"], ["https://10.1.2.4", "https://110.1.2.3"]),
        ("10.1.2.3:81", ["http://10.1.2.3:81"], ["http://10.1.2.3"]),
        ("10.1.0.0/16", ["https://10.1.255.1"], ["https://10.2.0.1", "https://10.1.example"]),
        ("10.1.2.3/16", ["https://10.1.255.1"], ["https://10.2.0.1"]),
        ("fd00::/8", ["https://[fd00::1]"], ["https://[fe80::1]", "https://10.0.0.1"]),
        ("fd00::1", ["https://[fd00::1]:1"], ["https://[fd00::2]"]),
        ("[fd00::1]", ["https://[fd00::1]"], []),
        ("[fd00::1]:8443", ["https://[fd00::1]:8443"], ["https://[fd00::1]"]),
        (".", [], ["https://api.example"]),
        (":443", [], ["https://api.example"]),
        ("", [], ["https://api.example"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_excepts_names_addresses_blocks_and_ports(name, no_proxy, excepted, others):
    environ = PROXY | {name: no_proxy}
    assert [url for url in excepted + others if environment_proxy(url, environ) is None] == excepted


@pytest.mark.parametrize("value", ["socks5://u:s3cr3t@proxy:1080", "https://p:1", "pr0xy", "http://a b:1"])
@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_a_variable_that_cannot_be_used_is_named_and_not_quoted(name, value):
    with pytest.raises(ValueError, match=f"^{name}, in the environment, should") as caught:
        environment_proxy("https://api.example", {name: value})
    assert value not in str(caught.value)
    assert environment_proxy("https://localhost", {name: value}) is None, "it is not needed there"


def test_a_route_may_name_one_or_none_whatever_the_environment_says():
    url = "https://api.example"
    assert str(proxy_for(url, None, PROXY)) == "http://secure:2"
    assert proxy_for(url, "none", PROXY) is None
    assert str(proxy_for(url, SecretStr("http://mine:3"), PROXY)) == "http://mine:3"
    assert (
        str(proxy_for("http://localhost", SecretStr("http://mine:3"), {"no_proxy": "*"})) == "http://mine:3"
    )


def test_the_environments_proxy_is_passed_over_when_it_is_ourselves():
    own, environ = OwnListeners(["127.0.0.1:8080"]), {"http_proxy": "http://localhost:8080"}
    assert proxy_for("http://api.example", None, environ, own=own) is None
    assert str(proxy_for("http://api.example", None, environ)) == "http://localhost:8080"
    elsewhere = {"http_proxy": "http://localhost:8081"}
    assert str(proxy_for("http://api.example", None, elsewhere, own=own)) == "http://localhost:8081"


@pytest.mark.parametrize(
    ("host", "entries"),
    [
        ("api.example.com", ["api.example.com", "API.Example.com", "example.com", ".example.com",
                             "*.example.com", "*example.com", "com", ".com", "api.example.com.", "*", "api.*",
                             "ample.com", "example.com:443", "api.example.com:8443", ".api.example.com"]),
        ("API.example.com.", ["example.com"]),
        ("localhost", ["localhost", "localhost:80", "*"]),
        ("v2.api.localhost", ["localhost", ".localhost"]),
        ("10.1.2.3", ["10.1.2.3", "10.1.2.3:443", "10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0", "10.1.*", "*"]),
        ("fd00::1", ["fd00::1", "[fd00::1]", "[fd00::1]:443", "fd00:0::1", "fd00::/8"]),
    ],
)  # fmt: skip
def test_an_entry_that_anybody_might_take_to_be_for_a_host_is_known(host, entries):
    assert [each for each in entries if not may_except(each, host)] == []


@pytest.mark.parametrize(
    ("host", "entries"),
    [
        ("api.example.com", ["v2.api.example.com", "api.example.org", "10.0.0.0/8", "::/0", ".", "", ":443",
                             "api", "127.0.0.1"]),
        ("10.1.2.3", ["10.2.0.0/16", "10.1.2.4", "::/0", "localhost"]),
        ("fd00::1", ["fd00::2", "0.0.0.0/0", "fe80::/10"]),
        ("localhost", ["127.0.0.1", "::1", "127.0.0.0/8"]),
    ],
)  # fmt: skip
def test_an_entry_that_nobody_takes_to_be_for_a_host_is_left(host, entries):
    assert [each for each in entries if may_except(each, host)] == []
