"""`authproxy demo`: what it serves, and what it says. Nothing is served."""

import logging

import pytest
import yaml

from authproxy.cli import demo as module
from authproxy.config.read import parse
from authproxy.logs import LEVELS, logger


class Running:
    """A demo with a route that answers at once, and one that needs a login."""

    login_routes = ("person",)

    def curl_lines(self, url):
        return [("plain", f"curl {url}/plain/x")]

    def repeat_lines(self, url):
        return [("Have it refused:", f"curl -X POST {url}/plain/demo/revoke")]


@pytest.fixture
def served(monkeypatch):
    """Return the overrides that were to be served."""
    served = []
    monkeypatch.setattr(module, "_demo", lambda overrides: overrides)
    monkeypatch.setattr(module, "run_loop", served.append)
    return served


@pytest.mark.parametrize(
    ("options", "overrides"),
    [
        ([], {}),
        (["--listen", "127.0.0.1:9"], {"listen": "127.0.0.1:9"}),
        (["--admin", "127.0.0.1:9"], {"admin": {"listen": "127.0.0.1:9"}}),
        (["--no-admin"], {"admin": False}),
    ],
)
def test_the_demo_listens_where_it_is_told_and_keeps_tokens_in_memory(run, served, options, overrides):
    run("demo", *options)
    assert served == [{"listen": "127.0.0.1:8080", "token_store": {"type": "memory"}} | overrides]


def test_it_says_what_to_try_and_where_to_log_in(capsys):
    module._explain(Running(), "http://127.0.0.1:1", "http://127.0.0.1:2")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "curl http://127.0.0.1:1/plain/x" in lines
    assert "curl -X POST http://127.0.0.1:1/plain/demo/revoke" in lines
    assert "http://127.0.0.1:2/login/person" in lines


def test_without_an_admin_listener_nobody_is_sent_to_log_in(capsys):
    module._explain(Running(), "http://127.0.0.1:1", None)
    assert "login" not in capsys.readouterr().out


def test_its_configuration_is_printed_and_nothing_is_served(run, served):
    printed = run("demo", "--print-config", "--listen", "127.0.0.1:9", "--no-admin").stdout
    assert not served
    document = yaml.safe_load(printed)
    assert (document["listen"], document["admin"]) == ("127.0.0.1:9", False)
    assert parse(printed, "demo.yaml").routes


def test_options_that_exclude_each_other_are_bad_usage(run, served):
    assert "cannot be used together" in run("demo", "--admin", "127.0.0.1:9", "--no-admin", exits=2).stderr
    assert not served


@pytest.mark.parametrize(
    ("level", "route", "before", "after"),
    [
        ("info", "plain", False, True),
        ("warning", "plain", False, True),
        ("warning", "person", False, False),
        ("error", "person", True, True),
    ],
)
def test_the_log_is_quiet_before_the_explanation_and_on_what_that_says(level, route, before, after):
    with module._quiet(Running()) as quiet:
        record = logging.makeLogRecord({"levelno": LEVELS[level], "facts": {"route": route}})
        assert quiet.filter(record) == before
        quiet.is_explained = True
        assert quiet.filter(record) == after
    assert quiet not in logger.filters
