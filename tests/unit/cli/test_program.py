"""What is served beside a program, and what the program is told."""

import logging
from types import SimpleNamespace

import pytest

from authproxy.app import child_trust, java_trust
from authproxy.cli.program import Program, place_of, served_beside, with_log_level
from authproxy.config.read import parse
from authproxy.errors import ConfigError
from tests.unit.cli.programs import opened

TEXT = """\
access: {{tokens: ["${{KEY}}"]}}
tls: auto
{top}
routes:
  - {{name: a, path: /a, upstream: "{upstream}", auth: {{grant: static, token: "${{A_TOKEN}}"}}}}
  - {{name: b-2, path: /b, upstream: "https://b.example", auth: {{grant: none}}, env: {{X: "{fields}"}}}}
"""
SECRETS = {"KEY": "the-key-of-callers", "A_TOKEN": "the-token-of-a"}


def program(environ=None, *, upstream="https://a.example", top="", routes=None, forward=False, **options):
    text = TEXT.format(top=top, upstream=upstream, fields="{host}:{port}")
    config = parse(text, "proxy.yaml", environ=SECRETS)
    chosen = [route for route in config.routes if routes is None or route.name in routes]
    keyed = not options.get("java")
    served = served_beside(config, chosen, forward=forward, keyed=keyed)
    return Program(config, served, opened(served), SECRETS | (environ or {}), **options)


@pytest.fixture
def authority(monkeypatch):
    """An authority of which no file is made."""
    monkeypatch.setattr(
        child_trust,
        "trust_variables",
        lambda authority, environ: {"SSL_CERT_FILE": "bundle", "OF": sorted(environ)},
    )
    monkeypatch.setattr(
        java_trust, "java_variables",
        lambda proxy, authority, environ, direct: {"JAVA_TOOL_OPTIONS": f"{proxy} {direct}"},
    )  # fmt: skip
    return SimpleNamespace(root_pem=b"x")


def test_each_route_is_at_a_port_of_its_own_and_nothing_else_is_served():
    made = program()
    assert (made.served.admin, made.served.access, made.served.tls, made.served.forward) == (None,) * 4
    told = made.variables()
    assert told["AUTHPROXY_URL"] == "http://127.0.0.1:5001"
    assert (told["A_URL"], told["B_2_URL"]) == ("http://127.0.0.1:5002", "http://127.0.0.1:5003")
    assert told["X"] == "127.0.0.1:5003"
    assert made.forward_url() is None
    assert "HTTPS_PROXY" not in told


def test_the_key_of_the_forward_listener_is_made_anew_and_does_not_print():
    one, other = program(forward=True), program(forward=True)
    assert one.forward_url() != other.forward_url()
    key = one.served.forward_key.get_secret_value()
    assert one.forward_url() == f"http://exec:{key}@127.0.0.1:5004"
    assert one.variables()["http_proxy"] == one.forward_url()
    assert key not in repr(one)
    assert "the-token-of-a" not in repr(one)
    assert one.served.access is None  # which other listeners would want too


def test_where_an_upstream_is_this_machine_our_own_listeners_go_by_another_name_of_it():
    told = program(upstream="https://127.0.0.1:8443", forward=True).variables()
    assert (told["A_URL"], told["AUTHPROXY_URL"]) == ("http://localhost:5002", "http://localhost:5001")
    assert told["X"] == "localhost:5003"
    assert told["NO_PROXY"] == told["no_proxy"] == "localhost,::1"


def test_what_a_program_gets_has_no_secret_but_those_that_it_inherits(caplog):
    made = program({"PATH": "/bin"}, inherit=["A_TOKEN", "PATH"])
    with caplog.at_level(logging.INFO, "authproxy"):
        got = made.environment(made.variables(), None)
    assert (got["PATH"], got["A_TOKEN"]) == ("/bin", "the-token-of-a")
    assert "KEY" not in got
    assert [record.facts["variable"] for record in caplog.records] == ["PATH"]


def test_a_variable_that_is_overridden_is_named_and_not_told(caplog):
    made = program({"A_URL": "https://a.example", "NO_PROXY": "x", "X": "127.0.0.1:5003"})
    with caplog.at_level(logging.INFO, "authproxy"):
        made.environment(made.variables(), None)
    assert [record.facts for record in caplog.records] == [{"variable": "A_URL"}]


def test_a_program_is_told_whom_to_trust(authority):
    made = program({"SSL_CERT_DIR": "/corp"}, forward=True)
    got = made.environment(made.variables(), authority)
    assert got["SSL_CERT_FILE"] == "bundle"
    assert "SSL_CERT_DIR" not in got
    assert {"A_TOKEN", "SSL_CERT_DIR", "A_URL"} <= set(got["OF"])  # what was before, the routes' own included
    assert "JAVA_TOOL_OPTIONS" not in got


def test_java_is_told_too(authority):
    made = program(forward=True, java=True)
    got = made.environment(made.variables(), authority)
    assert got["JAVA_TOOL_OPTIONS"] == "http://127.0.0.1:5004 ['localhost', '127.0.0.1', '::1']"


def test_where_no_upstream_speaks_tls_there_is_nobody_to_trust(authority):
    authority.root_pem = b""
    made = program({"SSL_CERT_DIR": "/corp"}, upstream="http://127.0.0.1:9", routes=["a"], forward=True)
    got = made.environment(made.variables(), authority)
    assert "SSL_CERT_FILE" not in got
    assert got["SSL_CERT_DIR"] == "/corp"


def test_routes_that_are_at_odds_are_a_fault():
    made = program(top='defaults: {env: {Y: "{url}"}}')
    with pytest.raises(ConfigError):
        made.variables()


@pytest.mark.parametrize(
    ("top", "option", "level"),
    [("", None, "warning"), ("log: {level: info}", None, "info"), ("log: {level: info}", "error", "error")],
)
def test_little_is_logged_unless_somebody_says_otherwise(top, option, level):
    assert with_log_level(program(top=top).served, option).log.level == level


@pytest.mark.parametrize(
    ("upstream", "top", "options", "told"),
    [
        ("https://B.example.:443/", "", {"forward": True}, ["b-2"]),
        ("https://b.example", "", {"forward": True, "routes": ["a"]}, []),
        ("https://b.example", "", {}, []),
        ("https://b.example/v1", "", {"forward": True}, []),
        ("https://b.example:8443", "", {"forward": True}, []),
        (
            "https://b.example",
            "forward: true",
            {"forward": True},
            [],
        ),  # then the configuration is warned about
    ],
)
def test_a_route_that_nobody_comes_to_is_warned_of(upstream, top, options, told, caplog):
    made = program(upstream=upstream, top=top, **options)
    with caplog.at_level(logging.WARNING, "authproxy"):
        made.warn()
    assert [record.facts["route"] for record in caplog.records] == told


@pytest.mark.parametrize(
    ("upstream", "place"),
    [
        ("https://Api.Example./base", "api.example:443"),
        ("http://api.example", "api.example:80"),
        ("https://[fd00::1]:8443", "[fd00::1]:8443"),
    ],
)
def test_a_routes_upstream_is_named_as_a_connect_names_it(upstream, place):
    assert place_of(SimpleNamespace(upstream=upstream)) == place
