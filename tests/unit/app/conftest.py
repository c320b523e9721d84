"""Applications in this process, and a system without networks; nobody is asked for a token."""

from dataclasses import replace

import pytest

from authproxy.app import application, sockets
from authproxy.app.application import App
from authproxy.config.read import parse
from authproxy.tokens.token import Token
from tests.support.token_sources import OneAnswer
from tests.unit.app.apps import LISTENER, listening
from tests.unit.app.sites import site
from tests.unit.app.system import System

__all__ = ["site"]


@pytest.fixture
async def app(tmp_path, monkeypatch):
    """Return a maker of an application with a route for each of its arguments, and what it has tokens of."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    made = []

    async def make(*routes, top="", answer=None, **config):
        lines = []
        for number, keys in enumerate(routes):
            upstream = "" if "upstream:" in keys else "upstream: https://up.example, "
            lines.append(f"- {{name: r{number}, path: /r{number}, {upstream}{keys}}}")
        parsed = parse("\n".join([top, "routes:", *lines]), str(tmp_path / "proxy.yaml"), environ={})
        behind = {}
        app = App(
            replace(parsed, **config),
            lambda route: behind.setdefault(route.name, OneAnswer(answer or Token("a"))),
        )
        app.behind = behind
        await app.__aenter__()
        made.append(app)
        return app

    yield make
    for each in made:
        await each.__aexit__(None, None, None)


@pytest.fixture
async def serving(app, monkeypatch):
    """Return a maker of an application that serves on a socket of its own, and of what a route would be."""
    monkeypatch.setattr(application, "raise_file_limit", lambda _connections: None)
    monkeypatch.setattr(application.logs, "set_up", lambda *_style: None)

    async def make(*routes, **settings):
        made = await app(*routes, top=f"listen: '{LISTENER}'", **settings)
        await made.start([(LISTENER, listening())])
        return made

    return make


@pytest.fixture
def system(monkeypatch):
    """Have sockets opened, bound and closed in memory alone."""
    system = System()
    monkeypatch.setattr(sockets, "_tcp_socket", system.socket)
    return system
