"""Where a host leads that a caller names: judged by its addresses."""

import asyncio
import socket
import threading

import pytest

from authproxy.errors import DNSFailure, Forbidden
from authproxy.net.http_proxy import HTTPProxy
from authproxy.net.own_listeners import OwnListeners
from authproxy.proxy.forward import dialing
from authproxy.proxy.forward.dialing import NO_NAME, ForwardDialer, LookUps, is_local
from authproxy.proxy.forward.guard import Place
from tests.support.clock import settle
from tests.support.launch import GUARD

OWN = OwnListeners(["127.0.0.1:8080"])
PROXY = HTTPProxy("proxy.example", 3128)


@pytest.fixture
def names(monkeypatch):
    """Have names resolve to what the test says; return what was asked for."""
    known, asked = {}, []

    def addresses_of(host, port):
        asked.append(host)
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port)) for each in known[host]]

    async def look_up(host, port):
        return addresses_of(host, port)

    monkeypatch.setattr(dialing, "addresses_of", addresses_of)
    monkeypatch.setattr(dialing, "look_up", look_up)
    monkeypatch.setattr("authproxy.net.dial.look_up", look_up)
    known["asked"] = asked
    return known


def dialer(host, port=443, *, own=OWN, reaches_local=True, proxy=None):
    return ForwardDialer(
        Place(host, port), proxy=proxy, own=own, lookups=LookUps(), reaches_local=reaches_local
    )


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("::", True), ("169.254.169.254", True), ("fe80::1", True), ("fe80::1%eth0", True),
        ("localhost", True), ("0.0.0.0", True),
        ("::ffff:169.254.0.1", True), ("api.localhost", True), ("127.1", True), ("192.0.2.1", False),
        ("10.0.0.1", False), ("2001:db8::1", False), ("api.example", False), ("::ffff:192.0.2.1", False),
    ],
)  # fmt: skip
def test_what_only_this_machine_should_reach(host, local):
    assert is_local(host) == local


async def test_a_name_that_leads_to_one_of_our_listeners_is_refused(names, monkeypatch):
    monkeypatch.setattr(OwnListeners, "reached_by", lambda _own, place: place == ("127.0.0.1", 8080))
    names["inside.example"] = ["192.0.2.1", "127.0.0.1"]
    with pytest.raises(Forbidden, match="own listeners"):
        await dialer("inside.example", 8080).resolve()
    assert len(await dialer("inside.example", 8081).resolve()) == 2


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "::ffff:127.0.0.1"])
async def test_from_other_machines_no_name_leads_to_loopback_or_link_local(names, address):
    names["rebound.example"] = ["192.0.2.1", address]
    with pytest.raises(Forbidden, match="this machine itself"):
        await dialer("rebound.example", reaches_local=False).resolve()
    assert len(await dialer("rebound.example").resolve()) == 2
    names["rebound.example"] = ["192.0.2.1"]
    assert await dialer("rebound.example", reaches_local=False).resolve()


async def test_behind_an_http_proxy_the_host_is_judged_as_it_is_written(names):
    names["proxy.example"] = ["127.0.0.1"]  # that is the way, not the end of it
    for host in ("127.0.0.1", "localhost", "169.254.169.254"):
        with pytest.raises(Forbidden):
            await dialer(host, reaches_local=False, proxy=PROXY).resolve()
    assert await dialer("far.example", reaches_local=False, proxy=PROXY).resolve()
    assert names["asked"] == ["proxy.example"]


async def test_a_name_that_does_not_resolve_is_told_with_what_to_check(names):
    with pytest.raises(DNSFailure) as failed:
        await dialer("nobody.example").resolve()
    assert failed.value.hint == NO_NAME
    assert failed.value.detail == "the host name of nobody.example:443 does not resolve"


async def test_look_ups_that_hang_hold_only_a_few_threads(monkeypatch):
    begun, goes_on, both = [], threading.Event(), threading.Barrier(3)

    def addresses_of(host, _port):
        begun.append(host)
        if len(begun) <= 2:
            both.wait(GUARD)
        assert goes_on.wait(GUARD)
        return []

    monkeypatch.setattr(dialing, "addresses_of", addresses_of)
    lookups = LookUps(2)
    waiting = [asyncio.create_task(lookups.addresses(f"h{number}.example", 1)) for number in range(5)]
    await settle()
    both.wait(GUARD)
    assert set(begun) == {"h0.example", "h1.example"}
    waiting[0].cancel()  # who goes away leaves the look-up behind
    await settle()
    assert len(begun) == 2
    assert await lookups.addresses("192.0.2.1", 1)  # nobody has to be asked for that
    assert len(begun) == 2
    goes_on.set()
    await asyncio.gather(*waiting[1:])
    assert len(begun) == 5


async def test_a_look_up_that_hangs_keeps_nobody_else_from_one(monkeypatch):
    hangs = threading.Event()

    def addresses_of(host, _port):
        if host.startswith("dead"):
            assert hangs.wait(GUARD)
        return [host]

    monkeypatch.setattr(dialing, "addresses_of", addresses_of)
    lookups = LookUps()
    dead = [asyncio.create_task(lookups.addresses(f"dead{number}.example", 1)) for number in range(10)]
    await settle()
    assert await lookups.addresses("alive.example", 1) == ["alive.example"]
    hangs.set()
    await asyncio.gather(*dead)


async def test_through_an_http_proxy_the_other_end_may_speak_first(monkeypatch):
    async def open_tunnel(_sock, proxy, host, port, *, may_begin):
        assert (proxy, host, port, may_begin) == (PROXY, "far.example", 22, True)
        return b"SSH-2.0"

    monkeypatch.setattr(dialing, "open_tunnel", open_tunnel)
    made = dialer("far.example", 22, proxy=PROXY)
    await made.tunnel(None)
    assert made.early == b"SSH-2.0"
    direct = dialer("far.example", 22)
    await direct.tunnel(None)
    assert direct.early == b""
