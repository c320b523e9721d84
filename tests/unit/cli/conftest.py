"""A small configuration, and the command run on it in this process."""

import logging

import pytest
from click.testing import CliRunner

from authproxy.cli import authproxy

CONFIG = """\
admin: false
token_store: {{type: file, path: {tokens}, key: open sesame}}
routes:
  - name: fixed
    path: /fixed
    upstream: https://fixed.example
    auth: {{grant: static, token: the-token}}
  - name: plain
    path: /plain
    upstream: https://plain.example
    auth: {{grant: none}}
  - name: person
    path: /person
    upstream: https://person.example
    auth:
      grant: authorization_code
      issuer: https://id.example
      client_id: me
"""


PLAIN = """\
routes: [{{name: a, upstream: 'https://a.example', auth: {{grant: none}}}}]
"""


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """The command sends the log to its own stderr."""
    root, own = logging.getLogger(), logging.getLogger("authproxy")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level, own.level = before


@pytest.fixture(autouse=True)
def _nowhere(tmp_path, monkeypatch):
    """Where no other configuration is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTHPROXY_CONFIG", raising=False)
    monkeypatch.setenv("AUTHPROXY_DUMPABLE", "1")  # the tests' own process stays as it is


@pytest.fixture
def tokens(tmp_path):
    """Where tokens are kept."""
    return tmp_path / "state" / "tokens"


@pytest.fixture
def write(tmp_path, tokens):
    """Return a writer of a configuration; it returns its path."""

    def write(text=CONFIG):
        path = tmp_path / "proxy.yaml"
        path.write_text(text.format(tokens=tokens))
        path.chmod(0o600)
        return str(path)

    return write


@pytest.fixture
def run():
    """Return what runs the command, and returns what came of it."""

    def run(*arguments, exits=0, **options):
        result = CliRunner().invoke(authproxy, arguments, **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exits, result.output
        return result

    return run
