"""Which variables a program gets."""

import pytest

from authproxy.cli import variables as module
from authproxy.cli.variables import direct_loopback, upstream_hosts, url_variable, variables
from authproxy.config.read import parse
from authproxy.errors import ConfigError
from authproxy.proxy.placeholders import placeholder

TEXT = """\
routes:
  - name: a
    path: /a
    upstream: https://a.example
    auth: {{grant: static, token: one-token}}
    env: {a}
  - name: b-2
    path: /b
    upstream: https://b.example
    auth: {{grant: static, token: {token}}}
    env: {b}
"""
URLS = {"a": "http://127.0.0.1:1001", "b-2": "https://[::1]/b"}


def found(a="{}", b="{}", *, environ=None, token="one-token", forward=None, upstream="https://a.example"):
    text = TEXT.format(a=a, b=b, token=token).replace("https://a.example", upstream)
    config = parse(text, "proxy.yaml", environ={})
    return variables(
        config, config.routes, URLS, common="http://127.0.0.1:1000", environ=environ or {}, forward=forward
    )


def test_each_route_has_its_url_and_all_have_one():
    got = found()
    assert (got["A_URL"], got["B_2_URL"], got["AUTHPROXY_URL"]) == (*URLS.values(), "http://127.0.0.1:1000")
    assert url_variable("up42") == "UP42_URL"


def test_what_is_in_braces_is_filled_in():
    got = found(b='{B: "{host} {port} {url} {placeholder} {{x}}"}')
    assert got["B"] == f"::1 443 https://[::1]/b {placeholder('a')} {{x}}"  # they share a credential
    assert found(b='{B: "{placeholder}"}', token="another")["B"] == placeholder("b-2")


def test_env_of_a_route_goes_before_what_is_there_anyway():
    assert found(a="{B_2_URL: mine}")["B_2_URL"] == "mine"
    assert found(a="{NO_PROXY: mine}")["NO_PROXY"] == "mine,localhost,127.0.0.1,::1"


def test_two_routes_may_want_the_same_of_a_variable_but_nothing_else():
    assert found(a="{X: same}", b="{X: same}")["X"] == "same"
    assert found(a='{X: "{placeholder}"}', b='{X: "{placeholder}"}')["X"] == placeholder("a")
    with pytest.raises(ConfigError) as raised:
        found(a='{X: "{url}"}', b='{X: "{url}"}')
    [fault] = raised.value.faults
    assert (fault.line, fault.column, fault.key) == (11, 14, "routes[1].env.X")
    assert "from the route a" in fault.message


@pytest.mark.parametrize(
    ("environ", "upper", "lower"),
    [
        ({}, "localhost,127.0.0.1,::1", "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "x"}, "x,localhost,127.0.0.1,::1", "x,localhost,127.0.0.1,::1"),
        ({"no_proxy": "x, ::1"}, "x,::1,localhost,127.0.0.1", "x,::1,localhost,127.0.0.1"),
        ({"NO_PROXY": "*", "no_proxy": ""}, "*", "localhost,127.0.0.1,::1"),
    ],
)
def test_no_proxy_grows(environ, upper, lower):
    got = found(environ=environ)
    assert (got["NO_PROXY"], got["no_proxy"]) == (upper, lower)


# ── a forward proxy ──────────────────────────────────────────────────────────────────────────────

FORWARD = "http://exec:some-key@127.0.0.1:8888"


def test_a_forward_proxy_is_named_in_each_spelling_there_is():
    got = found(
        forward=FORWARD, environ={"HTTPS_PROXY": "http://another:1", "ALL_PROXY": "socks5h://third:2"}
    )
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        assert got[name] == FORWARD
    assert got["NODE_USE_ENV_PROXY"] == "1"
    assert "ALL_PROXY" not in got  # what it is for besides stays as it is
    assert not {"HTTPS_PROXY", "https_proxy", "NODE_USE_ENV_PROXY"} & set(found())


@pytest.mark.parametrize(
    ("upstream", "before", "after"),
    [
        ("https://a.example", None, "localhost,127.0.0.1,::1"),
        ("https://a.example", "*", "localhost,127.0.0.1,::1"),
        ("https://a.example", "x.test,a.example, .example\tb.example:443", "x.test,localhost,127.0.0.1,::1"),
        ("https://a.example/base", "10.0.0.0/8,example", "10.0.0.0/8,localhost,127.0.0.1,::1"),
        ("https://10.1.2.3:8443", "10.0.0.0/8,192.168.0.0/16", "192.168.0.0/16,localhost,127.0.0.1,::1"),
        ("https://127.0.0.1:8443", "127.0.0.0/8", "localhost,::1"),
        ("https://localhost:8443", "localhost,x.test", "x.test,127.0.0.1,::1"),
        ("https://api.localhost", None, "127.0.0.1,::1"),
        ("https://[::1]:8443", "::1", "localhost,127.0.0.1"),
        ("http://127.0.0.1:9", None, "localhost,::1"),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy_has_nothing_that_is_for_a_routes_upstream(upstream, before, after, name):
    environ = {} if before is None else {name: before}
    got = found(forward=FORWARD, environ=environ, upstream=upstream)
    assert (got["NO_PROXY"], got["no_proxy"]) == (after, after)


def test_without_a_forward_proxy_no_proxy_only_grows():
    assert found(environ={"NO_PROXY": "a.example"})["NO_PROXY"] == "a.example,localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        ((), "127.0.0.1"),
        (("a.example", "::1"), "127.0.0.1"),
        (("127.0.0.1",), "localhost"),
        (("localhost",), "127.0.0.1"),
        (("localhost", "127.0.0.1"), "127.0.0.2"),
        (("localhost", "127.0.0.1", "127.0.0.2"), "127.0.0.1"),
    ],
)
def test_this_machine_has_a_name_that_needs_no_proxy(monkeypatch, hosts, name):
    monkeypatch.setattr(module, "_is_there", lambda _address: True)
    assert direct_loopback(hosts) == name
    monkeypatch.setattr(module, "_is_there", lambda _address: False)
    assert direct_loopback(hosts) == ("127.0.0.1" if name == "127.0.0.2" else name)


def test_the_hosts_of_upstreams_are_known():
    config = parse(TEXT.format(a="{}", b="{}", token="x"), "proxy.yaml", environ={})
    assert upstream_hosts(config.routes) == {"a.example", "b.example"}
