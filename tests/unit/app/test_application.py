"""From a configuration to what the data path wants; nothing is listened on and nobody is asked."""

from dataclasses import replace

import pytest

from authproxy.app import application as module
from authproxy.app.application import App
from authproxy.config.read import parse
from authproxy.errors import LoginRequired, TokenError, TokenUnavailable
from authproxy.tokens.token import Token
from tests.support.clock import settle
from tests.support.records import record
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
    assert {name: len(behind.asked) for name, behind in made.behind.items()} == {"r0": 0, "r1": 1, "r2": 1}


async def test_a_token_that_cannot_be_had_at_the_start_stops_nobody(app):
    made = await app(f"{MACHINE}, prefetch: true", answer=TokenUnavailable("down"))
    made.prefetch()
    await settle()
    assert [(each.state, each.trouble.detail) for each in made.states()] == [("failing", "down")]


async def test_while_a_login_is_missing_looking_at_it_looks_for_one_made_elsewhere(app):
    made = await app(LOGIN, answer=LoginRequired("nobody has logged in"))
    made.prefetch()
    await settle()
    assert made.states()[0].state == "login_required"
    made.behind["r0"].answer = Token("a")
    made.look_for_logins(made.states())
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
    made.counters.request(record(route="r0"))
    snapshot = made.snapshot()
    assert ["r0", "idle", 0] in snapshot["connections"]

    class Others:
        async def counts(self):
            return [snapshot | {"connections": [["r0", "idle", 2]]}]

    made.others = Others()
    await made.token(made.config.routes[0])
    told = (await made.metrics()).decode()
    assert 'authproxy_requests_total{method="GET",route="r0",status="200"} 2.0' in told
    assert 'route="r0",state="idle"} 2.0' in told
    assert "4e+09" in told
    assert 'authproxy_route_state{route="r0",state="valid"} 1.0' in told
    assert "authproxy_config_reload_failed 0.0" in told
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
    [(_, pool)] = made.site.pools
    await made.__aexit__(None, None, None)
    assert pool._closed


async def test_what_pages_may_do_with_the_routes_they_may_not_with_the_admin_listener(app, monkeypatch):
    asked = []

    def admin_application(backend, **_settings):
        asked.append(backend.guard)
        raise NotImplementedError

    monkeypatch.setattr("authproxy.app.admin.admin_application", admin_application)
    made = await app(STATIC, top="allowed_origins: ['https://page.example']")
    with pytest.raises(NotImplementedError):
        await made.start_admin([None])
    assert [guard.has_origins for guard in asked] == [False]


@pytest.mark.parametrize(
    ("auth", "obtains"), [(STATIC, False), ("auth: {grant: none}", False), (MACHINE, True)]
)
async def test_tokens_are_obtained_where_neither_the_configuration_nor_a_broker_has_them(app, auth, obtains):
    with_broker = await app(auth)
    assert not with_broker.obtains_tokens
    async with App(with_broker.config) as alone:
        assert alone.obtains_tokens is obtains
