"""From a configuration to what the data path wants; nothing is listened on and nobody is asked."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from authproxy.app import application as module
from authproxy.app.application import App
from authproxy.app.tls import TLSContexts
from authproxy.config.read import parse
from authproxy.errors import LoginRequired, TokenError, TokenUnavailable
from authproxy.proxy.guard import Guard
from authproxy.tokens.token import Token
from tests.support.clock import settle
from tests.support.token_sources import OneAnswer

ISSUER = "https://id.invalid"
STATIC = "auth: {grant: static, token: t0k3n}"
MACHINE = (
    f"auth: {{grant: client_credentials, token_url: {ISSUER}/token, client_id: id, client_secret: s3cr3t-1}}"
)
LOGIN = (
    f"auth: {{grant: authorization_code, authorization_url: {ISSUER}/a, token_url: {ISSUER}/token,"
    " client_id: id}"
)
NO_TLS = TLSContexts(None, {})


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


def route(app, path="/r0"):
    return app.route_table(NO_TLS).match("localhost", path)


# ── routes ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_route_is_made_as_it_was_configured(app):
    made = route(
        await app(
            f"upstream: 'https://up.example:8443/base/', {STATIC}, allow: {{methods: [GET]}},"
            " timeouts: {idle: 9s}, retry: {max_body: 5KiB}"
        )
    )
    assert (made.name, made.path, made.strip, made.base) == ("r0", "/r0", "/r0", "/base")
    assert (made.keep_body, made.idle_seconds) == (5 << 10, 9)
    made.allow.check("GET", "/")
    with pytest.raises(Exception, match="does not allow PUT"):
        made.allow.check("PUT", "/")


async def test_a_prefix_stays_when_the_route_says_so_and_the_root_is_none(app):
    made = await app(f"strip_path: false, {STATIC}", "auth: {grant: none}")
    assert route(made).strip == ""
    made = await app(f"{STATIC}")
    made.config = replace(made.config, routes=(replace(made.config.routes[0], path="/"),))
    assert route(made, "/").strip == ""


async def test_the_credential_goes_into_the_grants_header_and_is_refused_as_the_route_says(app):
    made = route(await app(f"{STATIC[:-1]}, header: X-Key, scheme: ''}}, retry: {{statuses: [401, 403]}}"))
    assert made.credential.line(Token("t0k3n")) == b"X-Key: t0k3n\r\n"
    assert [made.credential.refuses(status) for status in (401, 403, 404)] == [True, True, False]
    made = route(await app(f"{STATIC}, retry: false"))
    assert not made.credential.refuses(401)
    assert made.keep_body == 0
    assert route(await app("auth: {grant: none}")).credential is None


@pytest.mark.parametrize(("keys", "host"), [("", "up.example"), ("preserve_host: true, ", "localhost")])
async def test_of_a_clients_headers_the_key_stays_here_and_the_host_becomes_the_upstreams(app, keys, host):
    top = f"access: {{tokens: [{'k' * 32}]}}"
    headers = route(await app(keys + STATIC, top=top)).request_headers
    raw = [(b"Host", b"localhost"), (b"X-Authproxy-Key", b"k"), (b"x_authproxy_key", b"k"), (b"A", b"1")]
    head = headers.head(b"", raw, listed=None, replace=True)
    assert head == f"Host: {host}\r\nA: 1\r\n".encode()


async def test_routes_with_an_equal_auth_share_a_token(app):
    made = await app(MACHINE, MACHINE)
    table = made.route_table(NO_TLS)
    one, other = (table.match("localhost", path).credential for path in ("/r0", "/r1"))
    assert one.source is other.source
    assert one is not other  # each judges its own upstream's answers


async def test_the_guard_knows_our_names_and_keys_and_pages_may_not_call_the_admin_listener(app):
    top = (
        f"listen: 'box.example:8080'\nallow_remote: true\naccess: {{tokens: [{'k' * 32}], header: X-K}}\n"
        "allowed_hosts: [alias.example]\nallowed_origins: ['https://page.example']"
    )
    made = await app(f"host: api.example, {STATIC}", top=top)
    guard = made._guard(made.config.allowed_origins)
    assert isinstance(guard, Guard)
    assert guard._hosts >= {"box.example", "alias.example", "api.example", "127.0.0.1"}
    assert guard.is_key("k" * 32)
    assert guard.has_origins
    assert not made._guard().has_origins


@pytest.mark.parametrize(
    ("keys", "tunnels"),
    [
        ("upstream: 'https://up.example'", [True]),
        ("upstream: 'http://up.example', insecure: true", [False, True]),  # forwarded, but for upgrades
        ("upstream: 'http://up.example', insecure: true, preserve_host: true", [True]),
    ],
)
async def test_through_an_http_proxy_plain_requests_are_forwarded_and_the_rest_is_tunnelled(
    app, monkeypatch, keys, tunnels
):
    pools = []
    monkeypatch.setattr(
        module,
        "Pool",
        lambda origin, **settings: pools.append(settings) or SimpleNamespace(close=int, origin=origin),
    )
    made = await app(f"{keys}, http_proxy: 'http://proxy.example:3128', max_connections: 7, {STATIC}")
    made.route_table(TLSContexts(None, {"r0": object()} if "https" in keys.split(",")[0] else {}))
    assert [each["tunnel"] for each in pools] == tunnels
    assert {str(each["proxy"]) for each in pools} == {"http://proxy.example:3128"}
    assert {each["limit"] for each in pools} == {7}
    assert all(each["own"] is made.own for each in pools)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_is_fetched_for_whoever_asks_and_a_route_without_one_says_so(app):
    made = await app(MACHINE, "auth: {grant: none}")
    one, other = made.config.routes
    assert await made.token(one) == Token("a")
    with pytest.raises(TokenError, match="needs no token"):
        await made.token(other)


async def test_tokens_that_are_wanted_at_the_start_are_fetched_and_those_of_a_login_looked_for(app):
    made = await app(MACHINE, f"{MACHINE.replace('-1', '-2')}, prefetch: true", LOGIN, "auth: {grant: none}")
    made.prefetch()
    await settle()
    assert {name: len(behind.asked) for name, behind in made.behind.items()} == {"r1": 1, "r2": 1}


async def test_a_token_that_cannot_be_had_at_the_start_stops_nobody(app):
    made = await app(f"{MACHINE}, prefetch: true", answer=TokenUnavailable("down"))
    made.prefetch()
    await settle()
    assert [(each.state, each.cause) for each in made.states()] == [("failing", "down")]


async def test_while_a_login_is_missing_looking_at_it_looks_for_one_made_elsewhere(app):
    made = await app(LOGIN, answer=LoginRequired("nobody has logged in"))
    made.prefetch()
    await settle()
    assert made.states()[0].state == "login required"
    made.behind["r0"].answer = Token("a")
    await settle()
    assert made.states()[0].state == "valid"
    assert len(made.behind["r0"].asked) == 2


async def test_only_a_route_with_a_login_has_one(app):
    made = await app(MACHINE)
    assert await made.begin_login("r0", "http://localhost/callback") is None
    assert await made.begin_login("nobody", "http://localhost/callback") is None
    assert await made.end_login({"state": "forged"}) is None


# ── what is told ─────────────────────────────────────────────────────────────────────────────────


async def test_the_counts_of_all_processes_and_the_ends_of_tokens_are_told(app):
    made = await app(MACHINE, answer=Token("t0k3n", expires_at=4e9))
    made.route_table(NO_TLS)
    made.counters.request("r0", "GET", 200, 0.1)
    snapshot = made.snapshot()
    assert ["r0", "idle", 0] in snapshot["connections"]

    async def others():
        return [snapshot | {"connections": [["r0", "idle", 2]]}]

    made.others = others
    await made.token(made.config.routes[0])
    told = (await made.metrics()).decode()
    assert 'authproxy_requests_total{method="GET",route="r0",status="200"} 2.0' in told
    assert 'route="r0",state="idle"} 2.0' in told
    assert "4e+09" in told
    assert "t0k3n" not in told


async def test_the_operator_is_told_what_is_hardly_meant(app, monkeypatch, caplog):
    caplog.set_level("INFO", "authproxy")
    monkeypatch.setattr(module, "affordable_connections", lambda wanted, **_: min(wanted, 50))
    made = await app(f"tls: {{verify: false}}, http_proxy: 'http://joe:s3cr3t@proxy.example:3128', {STATIC}")
    made.warn()
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("fewer connections than limits.connections")
    assert caplog.records[0].facts["possible"] == 50
    assert "goes through an HTTP proxy" in said
    assert any("certificate is not verified" in each for each in said)
    assert "s3cr3t" not in str([str(record.facts) for record in caplog.records])


async def test_nothing_is_said_of_what_is_in_order(app, monkeypatch, caplog):
    monkeypatch.setattr(module, "affordable_connections", lambda wanted, **_: wanted)
    (await app(STATIC)).warn()
    assert caplog.records == []


async def test_at_the_end_pools_are_closed(app):
    made = await app(MACHINE)
    made.route_table(NO_TLS)
    [(_, pool)] = made._pools
    await made.__aexit__(None, None, None)
    assert pool._closed


async def test_what_pages_may_do_with_the_routes_they_may_not_with_the_admin_listener(app, monkeypatch):
    asked = []

    def admin_application(guard, _app, **_settings):
        asked.append(guard)
        raise NotImplementedError

    monkeypatch.setattr(module, "admin_application", admin_application)
    made = await app(STATIC, top="allowed_origins: ['https://page.example']")
    with pytest.raises(NotImplementedError):
        await made.start_admin("unix:/run/admin", [None])
    assert [guard.has_origins for guard in asked] == [False]
