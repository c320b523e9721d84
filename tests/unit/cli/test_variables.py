"""Which variables a program gets."""

import pytest

from authproxy.cli.variables import url_variable, variables
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


def found(a="{}", b="{}", *, environ=None, token="one-token"):
    config = parse(TEXT.format(a=a, b=b, token=token), "proxy.yaml", environ={})
    return variables(config, config.routes, URLS, common="http://127.0.0.1:1000", environ=environ or {})


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
