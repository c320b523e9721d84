"""What the forward listener goes by: hosts that are refused, and the ways to those that are no routes'."""

import ssl

import pytest

from authproxy.errors import Forbidden, NoCertificate
from authproxy.net.http_proxy import HTTPProxy
from authproxy.net.own_listeners import OwnListeners
from authproxy.proxy.forward import site as module
from authproxy.proxy.forward.guard import ForwardGuard, Place
from authproxy.proxy.forward.site import ForwardSite, Timeouts, Unmatched

API, FAR = Place("api.example", 443), Place("far.example", 80)
OWN = OwnListeners(["127.0.0.1:8080"])


class Leaves:
    def __init__(self, fault=None):
        self.fault = fault

    def context(self, host):
        if self.fault is not None:
            raise self.fault
        return f"context of {host}"


def test_our_own_listeners_are_refused_by_any_name():
    site = ForwardSite(ForwardGuard(), OWN)
    for host in ("127.0.0.1", "localhost", "127.1", "::ffff:7f00:1"):
        with pytest.raises(Forbidden, match="own listeners"):
            site.check(Place(host, 8080))
    site.check(Place("127.0.0.1", 8081))


def test_hosts_that_are_no_routes_are_refused_where_there_is_no_way_to_them():
    unmatched = Unmatched(OWN)
    assert ForwardSite(ForwardGuard(), OWN, unmatched=unmatched).way_to(FAR) is unmatched
    with pytest.raises(Forbidden) as refused:
        ForwardSite(ForwardGuard(), OWN).way_to(FAR)
    assert "unmatched" in refused.value.hint


def test_no_certificate_is_an_error_that_can_be_told():
    assert ForwardSite(ForwardGuard(), OWN, leaves=Leaves()).context(API) == "context of api.example"
    for leaves in (None, Leaves(ValueError("not that host")), Leaves(ssl.SSLError(1, "no"))):
        with pytest.raises(NoCertificate) as failed:
            ForwardSite(ForwardGuard(), OWN, leaves=leaves).context(API)
        assert failed.value.status == 502


def test_a_proxy_on_the_way_is_asked_to_forward_plain_http_and_to_tunnel_all_else():
    proxy = HTTPProxy("proxy.example", 3128)
    asked = []

    def proxy_of(url):
        asked.append(url)
        return proxy

    unmatched = Unmatched(OWN, proxy_of=proxy_of)
    assert not unmatched.dialer(API).forwards
    assert unmatched.dialer(FAR, scheme="http", tunnel=False).forwards
    assert asked == ["https://api.example:443/", "http://far.example:80/"]


def test_a_proxy_that_cannot_be_used_is_told():
    def proxy_of(_url):
        raise ValueError("HTTPS_PROXY, in the environment, should begin with http://")

    with pytest.raises(Forbidden, match="HTTPS_PROXY"):
        Unmatched(OWN, proxy_of=proxy_of).dialer(API)


async def test_connections_are_kept_to_so_many_hosts_and_no_more(monkeypatch):
    monkeypatch.setattr(module, "MAX_HOSTS", 2)
    unmatched = Unmatched(OWN, timeouts=Timeouts(1, 2, 3))
    first, second = unmatched.route(Place("a", 80)), unmatched.route(Place("b", 80))
    assert unmatched.route(Place("a", 80)) is first
    unmatched.route(Place("c", 80))
    assert unmatched.route(Place("a", 80)) is first
    assert unmatched.route(Place("b", 80)) is not second
    assert second.sender.pool._closed
    unmatched.close()
    assert (first.idle_seconds, first.credential, first.name) == (3, None, "")
