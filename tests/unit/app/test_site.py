"""From a configuration to what serving goes by; nothing is listened on and nobody is asked."""

from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import pytest

from authproxy.app import site as module
from authproxy.app.credentials import TokenSources
from authproxy.app.site import NO_TLS, build_site
from authproxy.app.tls import TLSContexts
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.observed import Observed
from authproxy.tokens.source import Innermost
from authproxy.tokens.token import Token

STATIC = "auth: {grant: static, token: t0k3n}"
MACHINE = (
    "auth: {grant: client_credentials, token_url: https://id.invalid/token, client_id: id,"
    " client_secret: s3cr3t-1}"
)
OWN = OwnListeners([])


@pytest.fixture
def site(monkeypatch):
    """Return a maker of a site with a route for each of its arguments."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def make(*routes, top="", tls=NO_TLS):
        lines = []
        for number, keys in enumerate(routes):
            upstream = "" if "upstream:" in keys else "upstream: https://up.example, "
            path = "" if "path:" in keys else f"path: /r{number}, "
            lines.append(f"- {{name: r{number}, {path}{upstream}{keys}}}")
        config = parse("\n".join([top, "routes:", *lines]), "proxy.yaml", environ={})
        sources = TokenSources(lambda _route: Innermost())
        return build_site(config, sources, OWN, tls, observed=Observed())

    return make


def route(site, path="/r0"):
    return site.routes.match("localhost", path)


def test_a_site_is_frozen_and_knows_its_limits(site):
    made = site(STATIC, top="limits: {header_bytes: 9KiB, body_bytes: 5MiB}")
    assert (made.header_bytes, made.body_bytes) == (9 << 10, 5 << 20)
    with pytest.raises(FrozenInstanceError):
        made.routes = None


def test_closing_a_site_closes_its_pools(site):
    made = site(STATIC, STATIC)
    made.close()
    assert [pool._closed for _, pool in made.pools] == [True, True]


def test_a_route_is_made_as_it_was_configured(site):
    made = route(
        site(
            f"upstream: 'https://up.example:8443/base/', {STATIC}, allow: {{methods: [GET]}},"
            " timeouts: {idle: 9s}, retry: {max_body: 5KiB}"
        )
    )
    assert (made.name, made.path, made.strip, made.base) == ("r0", "/r0", "/r0", "/base")
    assert (made.keep_body, made.idle_seconds) == (5 << 10, 9)
    made.allow.check("GET", "/")
    with pytest.raises(Exception, match="does not allow PUT"):
        made.allow.check("PUT", "/")


def test_a_prefix_stays_when_the_route_says_so_and_the_root_is_none(site):
    made = site(f"strip_path: false, {STATIC}", "auth: {grant: none}")
    assert route(made).strip == ""
    assert route(site(f"path: /, {STATIC}"), "/").strip == ""


def test_the_credential_goes_into_the_grants_header_and_is_refused_as_the_route_says(site):
    made = route(site(f"{STATIC[:-1]}, header: X-Key, scheme: ''}}, retry: {{statuses: [401, 403]}}"))
    assert made.credential.line(Token("t0k3n")) == b"X-Key: t0k3n\r\n"
    assert [made.credential.refuses(status) for status in (401, 403, 404)] == [True, True, False]
    made = route(site(f"{STATIC}, retry: false"))
    assert not made.credential.refuses(401)
    assert made.keep_body == 0
    assert route(site("auth: {grant: none}")).credential is None


@pytest.mark.parametrize(("keys", "host"), [("", "up.example"), ("preserve_host: true, ", "localhost")])
def test_of_a_clients_headers_the_key_stays_here_and_the_host_becomes_the_upstreams(site, keys, host):
    top = f"access: {{tokens: [{'k' * 32}]}}"
    headers = route(site(keys + STATIC, top=top)).request_headers
    raw = [(b"Host", b"localhost"), (b"X-Authproxy-Key", b"k"), (b"x_authproxy_key", b"k"), (b"A", b"1")]
    head = headers.head(b"", raw, listed=None, replace=True)
    assert head == f"Host: {host}\r\nA: 1\r\n".encode()


def test_routes_with_an_equal_auth_share_a_token(site):
    made = site(MACHINE, MACHINE)
    table = made.routes
    one, other = (table.match("localhost", path).credential for path in ("/r0", "/r1"))
    assert one.source is other.source
    assert one is not other  # each judges its own upstream's answers


def test_the_guard_knows_our_names_and_keys_and_pages_may_not_call_the_admin_listener(site):
    top = (
        f"listen: 'box.example:8080'\nallow_remote: true\naccess: {{tokens: [{'k' * 32}], header: X-K}}\n"
        "allowed_hosts: [alias.example]\nallowed_origins: ['https://page.example']"
    )
    made = site(f"host: api.example, {STATIC}", top=top)
    guard = made.guard
    assert guard._hosts >= {"box.example", "alias.example", "api.example", "127.0.0.1"}
    assert guard.is_key("k" * 32)
    assert guard.has_origins
    assert not made.admin_guard.has_origins
    assert made.admin_guard.is_key("k" * 32)


@pytest.mark.parametrize(
    ("keys", "tunnels"),
    [
        ("upstream: 'https://up.example'", [True]),
        ("upstream: 'http://up.example', insecure: true", [False, True]),  # forwarded, but for upgrades
        ("upstream: 'http://up.example', insecure: true, preserve_host: true", [True]),
    ],
)
def test_through_an_http_proxy_plain_requests_are_forwarded_and_the_rest_is_tunnelled(
    site, monkeypatch, keys, tunnels
):
    dialers, pools = [], []
    monkeypatch.setattr(
        module,
        "Dialer",
        lambda origin, **settings: dialers.append(settings) or SimpleNamespace(origin=origin),
    )
    monkeypatch.setattr(
        module,
        "Pool",
        lambda dialer, **settings: pools.append(settings) or SimpleNamespace(close=int, origin=dialer.origin),
    )
    tls = TLSContexts(None, {"r0": object()} if "https" in keys.split(",")[0] else {})
    site(f"{keys}, http_proxy: 'http://proxy.example:3128', max_connections: 7, {STATIC}", tls=tls)
    assert [each["tunnel"] for each in dialers] == tunnels
    assert {str(each["proxy"]) for each in dialers} == {"http://proxy.example:3128"}
    assert {each["limit"] for each in pools} == {7}
    assert all(each["own"] is OWN for each in dialers)
