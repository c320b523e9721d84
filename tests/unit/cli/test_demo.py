"""`authproxy demo`: what it serves, and what it says. Nothing is served."""

import pytest

from authproxy.cli import demo as module


class Running:
    """A demo with a route that answers at once, and one that needs a login."""

    login_routes = ("person",)

    def curl_lines(self, url):
        return [("plain", f"curl {url}/plain/x")]


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
    module._explain(Running(), ["http://127.0.0.1:1", "unix:/s"], "http://127.0.0.1:2")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "curl http://127.0.0.1:1/plain/x" in lines
    assert "http://127.0.0.1:2/login/person" in lines


def test_without_an_admin_listener_nobody_is_sent_to_log_in(capsys):
    module._explain(Running(), ["http://127.0.0.1:1"], None)
    assert "log in" not in capsys.readouterr().out
