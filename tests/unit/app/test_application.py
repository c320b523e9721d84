"""From a configuration to what the data path wants; nothing is listened on and nobody is asked."""

import asyncio
import socket
import ssl
from dataclasses import replace

import pytest
from aiohttp import HttpVersion11
from multidict import CIMultiDict

from authproxy.admin.api import AdminRequest
from authproxy.app import application as module
from authproxy.app import remarks
from authproxy.app.application import App, Stopping
from authproxy.app.listeners import Listeners, configured_addresses
from authproxy.app.site import NO_TLS
from authproxy.app.tls import TLSContexts
from authproxy.config.read import parse
from authproxy.errors import Forbidden, LoginRequired, TokenError, TokenUnavailable
from authproxy.net.own_listeners import OwnListeners
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
    monkeypatch.setattr(remarks, "affordable_connections", lambda _config: 50)
    made = await app(f"tls: {{verify: false}}, http_proxy: 'http://joe:s3cr3t@proxy.example:3128', {STATIC}")
    made.warn()
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("fewer connections than limits.connections")
    assert caplog.records[0].facts["possible"] == 50
    assert "goes through an HTTP proxy" in said
    assert any("certificate is not verified" in each for each in said)
    assert "s3cr3t" not in str([str(record.facts) for record in caplog.records])


async def test_nothing_is_said_of_what_is_in_order(app, monkeypatch, caplog):
    monkeypatch.setattr(remarks, "affordable_connections", lambda config: config.limits.connections)
    (await app(STATIC)).warn()
    assert caplog.records == []


async def test_at_the_end_pools_are_closed(app):
    made = await app(MACHINE)
    [pool] = made.site.pools.values()
    await made.__aexit__(None, None, None)
    assert pool._closed


async def test_what_pages_may_do_with_the_routes_they_may_not_with_the_admin_listener(app, monkeypatch):
    asked = []

    def admin_application(backend, **_settings):
        asked.append(backend.guard)
        raise NotImplementedError

    def from_a_page(origin):
        headers = CIMultiDict({"Host": "localhost", "Origin": origin})
        return AdminRequest("GET", "/metrics", HttpVersion11, headers, None)

    monkeypatch.setattr("authproxy.app.admin.admin_application", admin_application)
    made = await app(STATIC, top="allowed_origins: ['https://page.example']")
    with pytest.raises(NotImplementedError):
        await made.start_admin([None])
    [guard] = asked
    assert guard.check(from_a_page("http://localhost")) == ("localhost", "/metrics")
    with pytest.raises(Forbidden):
        guard.check(from_a_page("https://page.example"))


@pytest.mark.parametrize(
    ("auth", "obtains"), [(STATIC, False), ("auth: {grant: none}", False), (MACHINE, True)]
)
async def test_tokens_are_obtained_where_neither_the_configuration_nor_a_broker_has_them(app, auth, obtains):
    with_broker = await app(auth)
    assert not with_broker.obtains_tokens
    async with App(with_broker.config) as alone:
        assert alone.obtains_tokens is obtains


# ── another configuration ────────────────────────────────────────────────────────────────────────

LISTENER = "127.0.0.1:0"


@pytest.fixture
async def serving(app, monkeypatch):
    """Return a maker of an application that serves on a socket of its own, and of what a route would be."""
    monkeypatch.setattr(module, "raise_file_limit", lambda _connections: None)
    monkeypatch.setattr(module.logs, "set_up", lambda *_style: None)

    async def make(*routes, **settings):
        made = await app(*routes, top=f"listen: '{LISTENER}'", **settings)
        await made.start([(LISTENER, listening())])
        return made

    return make


def listening():
    return socket.create_server(("127.0.0.1", 0))


def another(app, *auths, listen=(LISTENER,), top=""):
    """Return the configuration of `app` with other routes."""
    lines = [
        f"- {{name: r{number}, path: /r{number}, upstream: https://up.example, {auth}}}"
        for number, auth in enumerate(auths)
    ]
    listens = f"listen: [{', '.join(map(repr, listen))}]"
    return parse("\n".join([top, listens, "routes:", *lines]), app.config.file, environ={})


def accepts(sock_or_place):
    """Whether anybody listens there."""
    try:
        socket.create_connection(sock_or_place).close()
    except OSError:
        return False
    return True


NOTHING = Listeners([])


async def prepare(made, config, opened=NOTHING, tls=NO_TLS):
    """Have `made` prepare for `config`, as a reload of this process alone would."""
    kept = [sock for address, sock in made.served if address in config.listen and not made.draining]
    own = OwnListeners(configured_addresses(config), [*kept, *opened.sockets])
    return await made.prepare(config, opened, tls, own)


async def test_nothing_changes_until_it_is_committed_and_then_all_does(serving):
    made = await serving(MACHINE)
    before, [(_, old)] = made.site, made.served
    place, new = old.getsockname(), listening()
    change = await prepare(
        made, another(made, "auth: {grant: none}", listen=["[::1]:0"]), Listeners([("[::1]:0", new)]), NO_TLS
    )
    assert made.site is before
    assert made.served == [(LISTENER, old)]
    await made.commit(change)
    assert made.site is change.site is made._handler.site
    assert made.served == [("[::1]:0", new)]
    await settle()
    assert not accepts(place)
    assert accepts(new.getsockname())
    assert made.own.listens_at(new.getsockname()[1])
    assert not made.own.listens_at(place[1])


async def test_an_abandoned_change_leaves_nothing(serving):
    made = await serving(MACHINE)
    before, new = made.site, listening()
    place = new.getsockname()
    change = await prepare(
        made, another(made, MACHINE, MACHINE.replace("-1", "-2")), Listeners([(LISTENER, new)]), NO_TLS
    )
    made.abandon(change)
    await settle()
    assert made.site is before
    assert not accepts(place)
    assert len(made.sources._stacks) == 1
    assert [name for name, behind in made.behind.items() if behind.closed] == ["r1"]


async def test_what_cannot_be_prepared_leaves_nothing(serving, monkeypatch):
    made = await serving(MACHINE)
    taken = []

    async def create(site, address, sock):
        if taken:
            raise OSError(24, "Too many open files")
        taken.append(await App._create(made, site, address, sock))
        return taken[0]

    monkeypatch.setattr(made, "_create", create)
    opened = Listeners([(LISTENER, listening()) for _ in range(2)])
    place = opened.sockets[0].getsockname()
    with pytest.raises(OSError, match="Too many open files"):
        await prepare(made, another(made, MACHINE.replace("-1", "-2")), opened)
    opened.sockets[1].close()  # for which no server was made
    await settle()
    assert not accepts(place)
    assert list(made.sources._stacks) == [(made.config.routes[0].key, None)]


async def test_credentials_that_are_gone_are_let_go_once_all_have_changed(serving):
    made = await serving(MACHINE)
    [route] = made.config.routes
    await made.token(route)
    change = await prepare(made, another(made, "auth: {grant: none}"))
    await made.commit(change)
    assert await made.token(route) == Token("a")  # of a worker that goes by the old one still
    assert len(made.behind["r0"].asked) == 1
    made.let_go()
    await settle()
    assert made.behind["r0"].closed


async def test_a_listener_that_stays_but_speaks_tls_otherwise_is_served_anew(serving):
    made = await serving(MACHINE)
    [(_, old)] = made.served
    place = old.getsockname()
    tls = TLSContexts(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), {})
    await made.commit(await prepare(made, another(made, MACHINE), NOTHING, tls))
    [(address, new)] = made.served
    await settle()
    assert (address, new.getsockname()) == (LISTENER, place)
    assert (old.fileno(), made._served[0].tls) == (-1, tls.listener)
    slower = another(made, MACHINE, top="limits: {header_timeout: 9s}")
    await made.commit(await prepare(made, slower, NOTHING, tls))
    assert made._served[0].handshake_seconds == 9
    [(_, kept)] = made.served
    await made.commit(await prepare(made, slower, NOTHING, tls))
    assert made.served == [(LISTENER, kept)]


async def test_requests_are_remembered_once_there_is_an_admin_listener(app):
    """Where the configuration asks for one, but its default address was not to be had, nobody can ask."""
    made = await app(STATIC)
    async with App(made.config) as alone:
        await alone.start([])
        assert alone.recent.keep == 0
        with listening() as sock:
            alone.admin_opens_at(LISTENER, [sock])
            assert alone.recent.keep == alone.config.admin.keep > 0


async def test_requests_are_remembered_where_another_process_has_the_admin_listener(app):
    made = await app(STATIC)
    await made.start([])
    assert made.recent.keep == made.config.admin.keep > 0


async def test_once_the_end_has_begun_nothing_changes(serving):
    made = await serving(MACHINE)
    before = made.site
    change = await prepare(made, another(made, MACHINE))
    await made.drain()
    with pytest.raises(Stopping):
        await made.commit(change)
    with pytest.raises(Stopping):
        await prepare(made, another(made, MACHINE))
    assert made.site is before
    made.abandon(change)


async def test_a_change_that_has_begun_is_carried_out_before_the_end_begins(serving, monkeypatch):
    made, go = await serving(MACHINE), asyncio.Event()
    new = listening()
    place = new.getsockname()
    change = await prepare(made, another(made, MACHINE), Listeners([("[::1]:0", new)]))
    begin = module.ServedListener.begin

    async def slowly(listener):
        await go.wait()
        await begin(listener)

    monkeypatch.setattr(module.ServedListener, "begin", slowly)
    committing = asyncio.create_task(made.commit(change))
    await settle()
    draining = asyncio.create_task(made.drain())
    await settle()
    assert not draining.done()
    go.set()
    await asyncio.gather(committing, draining)
    await settle()
    assert not accepts(place)


async def test_a_listener_that_cannot_begin_any_more_is_told(serving, monkeypatch, caplog):
    made = await serving(MACHINE)
    opened = Listeners([("[::1]:0", listening())])
    change = await prepare(made, another(made, MACHINE), opened)

    async def begin(_listener):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(module.ServedListener, "begin", begin)
    await made.commit(change)
    assert made.site is change.site
    [told] = [record.facts for record in caplog.records if record.getMessage() == "cannot listen"]
    assert told == {"address": "[::1]:0", "cause": "Address already in use"}


async def test_of_what_is_hardly_meant_only_what_is_new_is_told(app, monkeypatch, caplog):
    monkeypatch.setattr(module.logs, "set_up", lambda *_style: None)
    odd = STATIC + ", tls: {verify: false}"
    first = await app(odd)
    async with App(first.config) as alone:
        alone.warn()
        told = len(caplog.records)
        assert told
        await alone.commit(await prepare(alone, another(alone, odd)))
        assert len(caplog.records) == told
        await alone.commit(await prepare(alone, another(alone, odd, odd)))
        assert [record.facts["route"] for record in caplog.records[told:]] == ["r1"]
