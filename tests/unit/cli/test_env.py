"""`authproxy env`: what is printed; that shells take it, tests/live/test_env.py tries."""

import json

import pytest

from authproxy.cli import env as module
from authproxy.cli.calling import URLs
from authproxy.cli.running import NOT_RUNNING, Running
from authproxy.errors import AuthproxyError

TEXT = """\
listen: {listen}
admin: false
routes:
  - {{name: a, path: /a, upstream: 'https://a.example', auth: {{grant: none}}, env: {{A: '{{url}}'}}}}
  - {{name: b, listen: '127.0.0.1:0', upstream: 'https://b.example', auth: {{grant: none}}}}
"""


@pytest.fixture
def running(monkeypatch):
    """Return a setter of what the proxy that runs says."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    def set_to(found):
        monkeypatch.setattr(module, "ask_running", lambda config: found)

    set_to(NOT_RUNNING)
    return set_to


def text(listen="127.0.0.1:9123"):
    return TEXT.replace("{listen}", listen)


def test_without_a_proxy_that_runs_the_configuration_tells(write, run, running):
    assert run("env", "-c", write(text()), "a").stdout.splitlines() == [
        "export AUTHPROXY_URL=http://127.0.0.1:9123",
        "export A_URL=http://127.0.0.1:9123/a",
        "export A=http://127.0.0.1:9123/a",
        "export NO_PROXY=localhost,127.0.0.1,::1",
        "export no_proxy=localhost,127.0.0.1,::1",
    ]


def test_a_free_port_is_known_to_the_proxy_that_runs_alone(write, run, running):
    with pytest.raises(AuthproxyError, match="whichever port is free"):
        run("env", "-c", write(text()))
    running(Running(urls=URLs(("http://127.0.0.1:1",), {"b": "http://127.0.0.1:2"})))
    found = json.loads(run("env", "-c", write(text()), "--shell", "json").stdout)
    assert (found["AUTHPROXY_URL"], found["B_URL"]) == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    found = json.loads(run("env", "-c", write(text()), "--shell", "json", "b").stdout)
    assert (found["AUTHPROXY_URL"], "A_URL" in found) == ("http://127.0.0.1:1", False)


def test_each_shell_has_its_own(write, run, running):
    file = write(text())
    assert "set -gx A_URL 'http" in run("env", "-c", file, "--shell", "fish", "a").stdout
    assert "${env:A_URL} = 'http" in run("env", "-c", file, "--shell", "powershell", "a").stdout
    assert "\nA_URL=http" in run("env", "-c", file, "--shell", "dotenv", "a").stdout


def test_for_a_forward_proxy_there_are_none_and_the_way_is_told(write, run):
    result = run("env", "--forward", "-c", write(text()), exits=2)
    assert "authproxy exec --forward [ROUTE]... -- COMMAND [ARG]..." in result.stderr
    assert "--forward" not in run("env", "--help").stdout
