"""The proxy's listeners, one in another's place."""

import gc
import ssl
from dataclasses import replace

from authproxy.app.listeners import Listeners
from authproxy.app.served import ServedListener
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Forward
from authproxy.proxy.forward.handler import ForwardHandler
from tests.support.clock import settle
from tests.unit.app.apps import LISTENER, MACHINE, NOTHING, another, listening, prepare


async def test_a_listener_that_stays_but_speaks_tls_otherwise_is_served_anew(serving):
    made = await serving(MACHINE)
    [(_, old)] = made.served
    place = old.getsockname()
    tls = TLSContexts(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), {})
    await made.commit(await prepare(made, another(made, MACHINE), NOTHING, tls))
    [(address, new)] = made.served
    await settle()
    assert (address, new.getsockname()) == (LISTENER, place)
    assert (old.fileno(), made._listeners._served[0].tls) == (-1, tls.listener)
    slower = another(made, MACHINE, top="limits: {header_timeout: 9s}")
    await made.commit(await prepare(made, slower, NOTHING, tls))
    assert made._listeners._served[0].handshake_seconds == 9
    [(_, kept)] = made.served
    await made.commit(await prepare(made, slower, NOTHING, tls))
    assert made.served == [(LISTENER, kept)]


async def test_a_listener_that_cannot_begin_any_more_is_told(serving, monkeypatch, caplog):
    made = await serving(MACHINE)
    opened = Listeners([("[::1]:0", listening())])
    change = await prepare(made, another(made, MACHINE), opened)

    async def begin(_listener):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(ServedListener, "begin", begin)
    await made.commit(change)
    assert made.site is change.site
    [told] = [record.facts for record in caplog.records if record.getMessage() == "cannot listen"]
    assert told == {"address": "[::1]:0", "cause": "Address already in use"}


# ── routes' own ──────────────────────────────────────────────────────────────────────────────────

OWN = "127.0.0.1:0 for r0"


def with_own(made, *listens, listen=(LISTENER,)):
    """Return a configuration in which each route has that own address; None for none."""
    config = another(made, *[MACHINE] * len(listens), listen=listen)
    routes = [replace(each, listen=address) for each, address in zip(config.routes, listens, strict=True)]
    return replace(config, routes=tuple(routes))


def entrances(made):
    return {each.address: each.protocols for each in made._listeners._served}


async def test_a_routes_own_listener_is_answered_by_one_of_its_own_that_stays(serving):
    made = await serving(MACHINE)
    change = await prepare(made, with_own(made, "127.0.0.1:0"), Listeners([(OWN, listening())]))
    assert made.server.own == {}
    await made.commit(change)
    own = entrances(made)[OWN].answerer
    assert own is made.server.own[OWN]
    assert own.site is made.site.own[OWN]
    assert entrances(made)[LISTENER].answerer is made._handler
    await made.commit(await prepare(made, with_own(made, "127.0.0.1:0")))
    assert entrances(made)[OWN].answerer is own
    assert own.site is made.site.own[OWN]


async def test_who_was_connected_to_one_that_is_gone_is_served_once_more_where_its_route_is(serving):
    made = await serving(MACHINE)
    await made.commit(await prepare(made, with_own(made, "127.0.0.1:0"), Listeners([(OWN, listening())])))
    entrance = entrances(made)[OWN]
    moved = Listeners([("127.0.0.1:7", listening())])
    await made.commit(await prepare(made, with_own(made, "127.0.0.1:7"), moved))
    assert entrance.closing
    assert entrance.answerer.site is made.site.own["127.0.0.1:7"]
    assert list(made.server.own) == ["127.0.0.1:7"]
    assert not entrances(made)["127.0.0.1:7"].closing
    await made.commit(await prepare(made, with_own(made, None)))
    assert entrance.answerer.site.routes.find("localhost", "/r0") is None
    assert entrance.answerer.site.config is made.config
    await settle()
    assert len(made._listeners._gone) == 1
    del entrance
    gc.collect()
    assert len(made._listeners._gone) == 0


async def test_an_address_that_becomes_a_routes_own_or_all_routes_keeps_its_socket(serving):
    made = await serving(MACHINE)
    at = "127.0.0.1:7"
    opened = Listeners([(at, listening())])
    place = opened.sockets[0].getsockname()
    await made.commit(await prepare(made, with_own(made, at), opened))
    first = entrances(made)[at]
    await made.commit(await prepare(made, with_own(made, None, listen=(LISTENER, at))))
    second = entrances(made)[at]
    assert (first.closing, second.closing) == (True, False)
    assert second.answerer is made._handler
    await made.commit(await prepare(made, with_own(made, at)))
    third = entrances(made)[at]
    assert (second.closing, third.closing) == (True, False)
    assert third.answerer is made.server.own[at]
    assert dict(made.served)[at].getsockname() == place


async def test_an_address_that_becomes_another_routes_goes_on_as_it_is(serving):
    made = await serving(MACHINE)
    at = "127.0.0.1:7"
    await made.commit(await prepare(made, with_own(made, at, None), Listeners([(at, listening())])))
    before = entrances(made)[at]
    await made.commit(await prepare(made, with_own(made, None, at)))
    assert entrances(made)[at] is before
    assert not before.closing
    assert before.answerer.site.routes.find("localhost", "/").name == "r1"


# ── forward mode ─────────────────────────────────────────────────────────────────────────────────

FORWARD = "127.0.0.1:0 for the forward proxy"


def with_forward(made, **keys):
    return replace(another(made, MACHINE), forward=Forward(listen="127.0.0.1:0", **keys))


async def test_forward_mode_begins_goes_on_and_ends_at_a_listener_of_its_own(serving):
    made = await serving(MACHINE)
    tls = TLSContexts(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), {})
    on = with_forward(made)
    await made.commit(await prepare(made, on, Listeners([(FORWARD, listening())]), tls))
    entrance = entrances(made)[FORWARD]
    handler = entrance.answerer
    assert isinstance(handler, ForwardHandler)
    assert handler.forward is made.site.forward
    served = {each.address: each.tls for each in made._listeners._served}
    assert served == {LISTENER: tls.listener, FORWARD: None}  # whatever the others speak
    assert set(made.server.own) == {"forward https://up.example:443"}
    refuse = with_forward(made, unmatched="refuse")
    await made.commit(await prepare(made, refuse, NOTHING, tls))
    assert entrances(made)[FORWARD] is entrance
    assert handler.forward is made.site.forward
    assert handler.forward.unmatched is None
    await made.commit(await prepare(made, another(made, MACHINE), NOTHING, tls))
    assert set(entrances(made)) == {LISTENER}
    assert (handler.forward, entrance.closing, made.server.own) == (None, True, {})
