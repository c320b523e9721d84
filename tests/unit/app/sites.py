"""A site made of a few lines: what the tests of sites and of their routes share."""

from dataclasses import replace

import pytest

from authproxy.app.credentials import TokenSources
from authproxy.app.site import NO_TLS, build_site
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.observed import Observed
from authproxy.proxy.placeholders import placeholder
from authproxy.tokens.source import Innermost

STATIC = "auth: {grant: static, token: t0k3n}"
MACHINE = (
    "auth: {grant: client_credentials, token_url: https://id.invalid/token, client_id: id,"
    " client_secret: s3cr3t-1}"
)
UP = "upstream: https://up.example"
OWN = OwnListeners([])
MARK = placeholder("r0")


@pytest.fixture
def site(monkeypatch):
    """Return a maker of a site with a route for each of its arguments."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    sources = TokenSources(lambda _route: Innermost())

    def make(*routes, top="", tls=NO_TLS, before=None, planned=None, for_one_program=False):
        lines = []
        for number, keys in enumerate(routes):
            upstream = "" if "upstream:" in keys else "upstream: https://up.example, "
            path = "" if "path:" in keys else f"path: /r{number}, "
            lines.append(f"- {{name: r{number}, {path}{upstream}{keys}}}")
        config = parse("\n".join([top, "routes:", *lines]), "proxy.yaml", environ={})
        config = replace(config, for_one_program=for_one_program)
        make.observed = Observed()
        return build_site(config, sources, OWN, tls, observed=make.observed, before=before, planned=planned)

    make.sources = sources
    return make


def route(site, path="/r0"):
    return site.routes.match("localhost", path)
