"""Answers at the forward listener: what is judged in which order, and whose host is whose. No sockets."""

from types import SimpleNamespace

import pytest
from aiohttp.http import HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.errors import BadRequest, Forbidden, Misdirected, NoRoute, ProxyKeyRequired
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.counters import Counters
from authproxy.proxy.context import Answered, Waiting
from authproxy.proxy.forward.guard import ForwardGuard, OriginGuard, Place
from authproxy.proxy.forward.handler import ForwardHandler, listener_of, sites_of
from authproxy.proxy.forward.site import ForwardSite, Inside, Unmatched
from authproxy.proxy.guard import Guard
from authproxy.proxy.handler import ProxyHandler
from authproxy.proxy.request import NO_BODY, Request
from authproxy.proxy.router import RouteTable
from tests.support.client_side import Transport

API, PLAIN, FAR = Place("api.example", 443), Place("plain.example", 80), Place("far.example", 443)
KEY = "a-key"
OWN = OwnListeners(["127.0.0.1:8888", "127.0.0.1:8081"])
SITE = Inside(Guard(), RouteTable(()), 1000)


def inside(scheme, place):
    return Inside(OriginGuard(scheme, place), RouteTable(()), 1000)


def forward_site(*, keys=(), unmatched=True, secure=(API,), plain=(PLAIN,)):
    return ForwardSite(
        ForwardGuard(access_keys=keys),
        OWN,
        secure={each: inside("https", each) for each in secure},
        plain={each: inside("http", each) for each in plain},
        unmatched=Unmatched(OWN) if unmatched else None,
    )


class World:
    def __init__(self, **site):
        self.told = []
        base = ProxyHandler(SITE, Counters(), [self.told.append])
        self.forward = forward_site(**site)
        self.handler = ForwardHandler(base, SITE, self.forward, SimpleNamespace(wind_down=lambda _: None))

    def start(self, method, target, *headers, host=None):
        transport = Transport()
        connection = SimpleNamespace(transport=transport, draining=False, stall_seconds=0)
        request = Request(connection, method, target, NO_BODY)
        request.version = HttpVersion11
        request.headers = CIMultiDictProxy(CIMultiDict([("Host", host or target), *headers]))
        request.raw_headers = tuple(
            (name.encode(), value.encode()) for name, value in request.headers.items()
        )
        return self.handler.start(request), transport.written

    def connect(self, target, *headers, **more):
        step, written = self.start("CONNECT", target, *headers, **more)
        return step if isinstance(step, Waiting) else int(written[9:12])


def test_where_a_connect_leads_is_known_before_anything_is_dialled():
    world = World()
    for target, place, is_unmatched in (
        ("api.example:443", API, False),
        ("API.EXAMPLE.:443", API, False),
        ("plain.example:80", PLAIN, False),
        ("far.example:443", FAR, True),
        ("api.example:444", Place("api.example", 444), True),
    ):
        step = world.connect(target)
        assert type(step) is Waiting
        assert (step.context.place, step.context.unmatched is not None) == (place, is_unmatched)
        assert step.context.path == str(place)
    assert world.told == []


@pytest.mark.parametrize(
    ("target", "more", "status"),
    [
        ("api.example", {}, 400),
        ("api.example:443", {"host": "other.example"}, 421),
        ("api.example:443", {}, 407),
        ("127.0.0.1:8888", {}, 407),  # a stranger is not told where we listen
    ],
)
def test_form_comes_first_then_the_key(target, more, status):
    world = World(keys=[KEY])
    assert world.connect(target, **more) == status
    [record] = world.told
    assert (record.method, record.status, record.route) == ("CONNECT", status, None)


def test_then_our_own_listeners_and_then_who_is_refused():
    key = ("Proxy-Authorization", f"Bearer {KEY}")
    world = World(keys=[KEY])
    for target in ("127.0.0.1:8888", "localhost:8081", "127.1:8888"):
        assert world.connect(target, key) == 403
    assert world.handler.counters.refused == {("forbidden",): 3}
    refusing = World(keys=[KEY], unmatched=False)
    assert refusing.connect("far.example:443", key) == 403
    assert type(refusing.connect("api.example:443", key)) is Waiting


@pytest.mark.parametrize(
    ("target", "host", "kind"),
    [
        ("http://plain.example/x", "plain.example", NoRoute),  # its own table has none
        ("http://plain.example/x", "other.example", Misdirected),
        ("https://api.example/x", "api.example", BadRequest),
        ("http://api.example:443/x", "api.example:443", BadRequest),
        ("/x", "plain.example", BadRequest),
        ("http://127.1:8888/x", "127.1:8888", Forbidden),
    ],
)
def test_a_whole_url_is_judged_likewise(target, host, kind):
    world = World()
    step, _ = world.start("GET", target, host=host)
    assert type(step) is Answered
    assert world.told[0].status == kind.status


def test_a_whole_url_of_another_host_is_made_ready_and_nothing_is_added():
    world = World()
    step, _ = world.start("GET", "http://far.example/x?a", ("Proxy-Authorization", "Bearer x"), host="other")
    context = step.context
    assert context.outgoing.head == b"GET /x?a HTTP/1.1\r\nHost: far.example\r\n"
    record = context.record(context.started + 1)
    assert (record.route, record.facts, record.path) == (None, None, "http://far.example:80/x")
    assert record.forward == "forwarded"
    assert context.route_name is None


def test_a_key_is_wanted_for_those_too():
    world = World(keys=[KEY])
    world.start("GET", "http://far.example/", host="far.example")
    assert world.told[0].status == ProxyKeyRequired.status


# ── another configuration ────────────────────────────────────────────────────────────────────────


def test_each_origin_has_a_handler_of_its_own_which_a_reload_gives_another_site():
    world = World()
    named = world.handler.named
    assert set(named) == {"forward https://api.example:443", "forward http://plain.example:80"}
    handler = named[listener_of("https", API)]
    other = forward_site(secure=(API, FAR), plain=())
    world.handler.serve_forward(SITE, other)
    assert world.handler.named[listener_of("https", API)] is handler
    assert handler.site is other.secure[API]
    assert set(world.handler.named) == {listener_of("https", API), listener_of("https", FAR)}


def test_who_is_connected_to_a_host_that_is_gone_is_told_so_once():
    world = World()
    entrance = world.handler._entrance(("http", PLAIN))
    world.handler.serve_forward(SITE, forward_site(plain=()))
    assert entrance.closing
    with pytest.raises(Misdirected):
        entrance.answerer.site.guard.check(None)
    late = world.handler._entrance(("http", PLAIN))  # of a handshake that was under way
    assert late.closing
    with pytest.raises(Misdirected):
        late.answerer.site.guard.check(None)


def test_switched_off_it_refuses_everything():
    world = World()
    world.handler.serve_forward(SITE, None)
    assert world.connect("api.example:443") == 403
    assert (world.handler.named, sites_of(None)) == ({}, {})


def test_no_head_is_read_plainly_there():
    head = b"GET http://plain.example/ HTTP/1.1\r\nHost: plain.example\r\n\r\n"
    assert World().handler.reader.read(head) is None
    assert World().handler.reader.read(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") is None
