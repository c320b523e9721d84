"""From a configuration to what the data path wants; nothing is listened on and nobody is asked."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from aiohttp import HttpVersion11
from multidict import CIMultiDict

from authproxy.admin.application import AdminRequest
from authproxy.app import application as module
from authproxy.app import forward_authority, local_certificate, remarks, runtime_files
from authproxy.app.application import App, Stopping
from authproxy.app.forward_authority import ForwardAuthority
from authproxy.app.listeners import Listeners
from authproxy.app.local_authority import LocalAuthority
from authproxy.app.local_certificate import LocalCertificate
from authproxy.app.reload import Reloader
from authproxy.app.served import ServedListener
from authproxy.app.site import NO_TLS
from authproxy.app.tls import TLSContexts, tls_contexts
from authproxy.config.read import parse
from authproxy.errors import Forbidden, StoreError, TokenError
from authproxy.grants.discovery import Server
from authproxy.tokens.token import Token
from tests.support.clock import Clock, settle
from tests.unit.app.apps import LISTENER, MACHINE, STATIC, accepts, another, listening, prepare

# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_is_fetched_for_whoever_asks_and_a_route_without_one_says_so(app):
    made = await app(MACHINE, "auth: {grant: none}")
    one, other = made.config.routes
    assert await made.token(one) == Token("a")
    with pytest.raises(TokenError, match="needs no token"):
        await made.token(other)


# ── what is told ─────────────────────────────────────────────────────────────────────────────────


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
    create, taken = ServedListener.create, []

    async def create_one(*given, **settings):
        if taken:
            raise OSError(24, "Too many open files")
        taken.append(await create(*given, **settings))
        return taken[0]

    monkeypatch.setattr(ServedListener, "create", create_one)
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
    begin = ServedListener.begin

    async def slowly(listener):
        await go.wait()
        await begin(listener)

    monkeypatch.setattr(ServedListener, "begin", slowly)
    committing = asyncio.create_task(made.commit(change))
    await settle()
    draining = asyncio.create_task(made.drain())
    await settle()
    assert not draining.done()
    go.set()
    await asyncio.gather(committing, draining)
    await settle()
    assert not accepts(place)


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


async def test_the_certificate_of_auto_is_kept_valid_while_it_serves(app, monkeypatch, tmp_path):
    """A leaf of two seconds, looked at all the time: who connects later gets another one."""
    monkeypatch.setattr(local_certificate, "LOOK_SECONDS", 0.01)
    clock = Clock()
    kept = LocalAuthority(tmp_path / "authority", keyring=lambda: None, clock=clock)
    certificate = LocalCertificate(kept, ("localhost",))
    made = await app(MACHINE)
    made._tls = TLSContexts(certificate.context, {}, local=certificate)
    made.site = replace(made.site, tls=made._tls)
    shown = []
    monkeypatch.setattr(LocalCertificate, "_show", lambda self, _authority: shown.append(clock()))
    await made.keep_certificate()
    await made.keep_certificate()  # which begins nothing a second time
    assert [task.get_name() for task in made._tasks].count("keep the local certificate valid") == 1
    assert shown == []
    clock.advance(5 * 86_400)
    await until(lambda: shown)
    made.site = replace(made.site, tls=NO_TLS)
    await until(lambda: not made._keeps_certificate)


async def test_who_was_started_long_after_the_certificate_was_made_renews_it_first(app, tmp_path):
    clock = Clock()
    kept = LocalAuthority(tmp_path / "authority", keyring=lambda: None, clock=clock)
    certificate = LocalCertificate(kept, ("localhost",))
    clock.advance(30 * 86_400)
    made = await app(MACHINE)
    made.site = replace(made.site, tls=TLSContexts(certificate.context, {}, local=certificate))
    assert certificate.is_due
    await made.start([(LISTENER, listening())])
    assert not certificate.is_due


# ── the authority of forward mode ────────────────────────────────────────────────────────────────


@pytest.fixture
async def forwarding(tmp_path, monkeypatch):
    """Return an application whose clients read its authority, and where they do."""
    monkeypatch.setattr(module, "raise_file_limit", lambda _connections: None)
    monkeypatch.setattr(module.logs, "set_up", lambda *_style: None)
    (run := tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))
    config = parse(f"forward: true\n{HOSTS % 'a'}", str(tmp_path / "proxy.yaml"), environ={})
    async with App(config, tls=tls_contexts(config)) as made:
        made.site.tls.begin()
        yield made, made.forward_authority.cert_file
        made.site.tls.end()
    assert list(run.iterdir()) == []


HOSTS = "routes: [{name: r, upstream: 'https://%s.example', auth: {grant: none}}]"


async def prepare_for(made, text):
    config = parse(text, made.config.file, environ={})
    return await prepare(made, config, tls=tls_contexts(config, made.site.tls))


async def test_what_clients_read_changes_with_everything_else_and_not_before(forwarding):
    made, file = forwarding
    before = file.read_bytes()
    change = await prepare_for(made, f"forward: true\n{HOSTS % 'b'}")
    assert file.read_bytes() == before == made.forward_authority.root_pem
    await made.commit(change)
    assert file.read_bytes() == made.forward_authority.root_pem != before
    assert before in file.read_bytes()


async def test_an_abandoned_change_leaves_what_clients_read_as_it_was(forwarding):
    made, file = forwarding
    before = {each.name: each.read_bytes() for each in file.parent.iterdir()}
    made.abandon(await prepare_for(made, f"forward: true\n{HOSTS % 'b'}"))
    assert {each.name: each.read_bytes() for each in file.parent.iterdir()} == before


async def test_what_cannot_be_prepared_leaves_what_clients_read_as_it_was(forwarding, monkeypatch):
    made, file = forwarding
    before = {each.name: each.read_bytes() for each in file.parent.iterdir()}

    def broken(_name):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module, "import_module", broken)
    config = parse(f"forward: true\n{HOSTS % 'b'}", made.config.file, environ={})
    with pytest.raises(OSError, match="Too many open files"):
        await prepare(made, config, Listeners([], ("a", [])), tls_contexts(config, made.site.tls))
    assert {each.name: each.read_bytes() for each in file.parent.iterdir()} == before


async def test_where_clients_cannot_be_told_nothing_changes(forwarding, monkeypatch):
    made, _ = forwarding

    def full(*_given):
        raise StoreError("No space left on device")

    monkeypatch.setattr(runtime_files.disk, "replace_private", full)
    with pytest.raises(StoreError, match="clients of the forward proxy: No space left"):
        await prepare_for(made, f"forward: true\n{HOSTS % 'b'}")


async def test_without_forward_clients_have_nothing_to_read(forwarding):
    made, file = forwarding
    await made.commit(await prepare_for(made, HOSTS % "b"))
    assert made.forward_authority is None
    assert not file.exists()


async def test_an_authority_that_ends_is_followed_by_another_one_under_the_same_configuration(
    forwarding, monkeypatch
):
    made, file = forwarding
    early = ForwardAuthority.of(
        made.config, files=made.site.tls.files, clock=lambda: time.time() - 340 * 86_400
    )
    made.site = replace(made.site, tls=replace(made.site.tls, forward=early))
    assert early.authorities
    early.stage()
    early.publish()
    monkeypatch.setattr(forward_authority, "LOOK_SECONDS", 0.001)
    early._clock = time.time
    Reloader(made, Listeners([]), lambda: pytest.fail("it is read again"))
    made.keep_authority()
    await until(lambda: made.forward_authority is not early)
    assert made.forward_authority.authorities[0] is early.authorities[0]
    assert len(made.forward_authority.authorities) == 2
    await until(lambda: file.read_bytes() == made.forward_authority.root_pem)
    await settle(50)
    assert len(made.forward_authority.authorities) == 2


async def test_another_authority_is_asked_for_in_time(forwarding, monkeypatch):
    made, _ = forwarding
    monkeypatch.setattr(forward_authority, "LOOK_SECONDS", 0.001)
    clock, asked = Clock(time.time()), []
    made.forward_authority._clock = clock

    async def renew():
        asked.append(clock())
        made.site = replace(made.site, tls=NO_TLS)

    made.renew_hook = renew
    tls = made.site.tls
    made.keep_authority()
    await settle(50)
    assert asked == []
    clock.advance(340 * 86_400)
    await until(lambda: asked)
    await until(lambda: not made._keeps_authority)
    made.site = replace(made.site, tls=tls)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# ── what issuers publish ─────────────────────────────────────────────────────────────────────────


async def test_what_an_issuer_publishes_is_known_here_and_told_once(app):
    auth = "auth: {grant: client_credentials, issuer: 'https://up.example', client_id: a, client_secret: b}"
    made = await app(auth)
    told = []
    made.others = SimpleNamespace(published=lambda *about: told.append(about))
    endpoints = made.site.routes.match("localhost", "/r0").token_endpoints
    assert endpoints.lets_through("/token")
    found = Server(token_url="https://up.example/token", token_url_with_certificate="https://mtls.example/t")
    for _ in range(2):
        made._discovered("https://up.example", found)
    assert told == [("https://up.example", ("https://up.example/token", "https://mtls.example/t"))]
    assert not endpoints.lets_through("/token")
