"""From a configuration to what the forward listener goes by."""

from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from authproxy.app.forward import _guard, _keys, bundle_of, trust_hint
from authproxy.app.site import NO_TLS
from authproxy.errors import Forbidden, NoRoute, ProxyKeyRequired, StoreError
from authproxy.proxy.forward.guard import Place
from tests.unit.app.sites import STATIC, site
from tests.unit.proxy.test_guard import asked

__all__ = ["site"]

FORWARD = "forward: true"


def places(found):
    return set(found.secure), set(found.plain)


def test_without_it_there_is_nothing(site):
    assert site(STATIC).forward is None


def test_each_origin_of_an_upstream_is_one_place(site):
    found = site(
        STATIC,
        f"upstream: 'https://UP.example:443/v1', {STATIC}",
        f"upstream: 'https://up.example:444', {STATIC}",
        f"upstream: 'http://127.0.0.1', {STATIC}",
        f"upstream: 'https://[2001:DB8:0::1]', {STATIC}",
        f"upstream: 'https://own.example', listen: '127.0.0.1:1', host: x, {STATIC}",
        top=FORWARD,
    ).forward
    assert places(found) == (
        {
            Place("up.example", 443), Place("up.example", 444), Place("2001:db8::1", 443),
            Place("own.example", 443),
        },
        {Place("127.0.0.1", 80)},
    )  # fmt: skip


def test_of_an_origins_routes_the_longest_base_path_wins_and_of_equal_ones_the_first(site):
    found = site(
        f"upstream: 'https://up.example/v1', {STATIC}",
        f"upstream: 'https://up.example/v1/deep', {STATIC}",
        f"upstream: 'https://up.example/v1/', {STATIC}",
        f"upstream: 'https://other.example', {STATIC}",
        top=FORWARD,
    ).forward.secure[Place("up.example", 443)]
    named = {path: found.routes.match("up.example", path).name for path in ("/v1", "/v1/x", "/v1/deep/x")}
    assert named == {"/v1": "r0", "/v1/x": "r0", "/v1/deep/x": "r1"}
    with pytest.raises(NoRoute):
        found.routes.match("up.example", "/v2")


def test_a_route_is_the_same_there_but_for_its_path_and_what_is_rewritten(site):
    made = site(f"path: /mounted, upstream: 'https://up.example/v1', {STATIC}", top=FORWARD)
    usual = made.routes.match("localhost", "/mounted")
    there = made.forward.secure[Place("up.example", 443)].routes.match("up.example", "/v1")
    assert (there.path, there.strip, there.base, there.host) == ("/v1", "/v1", "/v1", None)
    assert there.sender.pool is usual.sender.pool
    assert there.credential is usual.credential
    assert usual.response_headers._rewriting is not None
    assert there.response_headers._rewriting is None
    assert there.facts.listener == "forward https://up.example:443"


@pytest.mark.parametrize(
    ("top", "goes", "reaches_local"),
    [
        (FORWARD, True, True),
        ("forward: {unmatched: refuse}", False, None),
        ("allow_remote: true\nforward: {listen: '0.0.0.0:1'}", False, None),
        ("access: {tokens: [k]}\nforward: {listen: '0.0.0.0:1', unmatched: tunnel}", True, False),
        ("access: {tokens: [k]}\nforward: {listen: '0.0.0.0:1'}", False, None),
    ],
)
def test_where_other_hosts_may_lead_depends_on_who_asks(site, top, goes, reaches_local):
    found = site(STATIC, top=top).forward
    if not goes:
        with pytest.raises(Forbidden):
            found.way_to(Place("far.example", 443))
        return
    assert found.way_to(Place("far.example", 443))._reaches_local is reaches_local


def test_hosts_that_are_no_routes_take_the_timeouts_and_the_proxy_of_defaults(site):
    top = f"{FORWARD}\ndefaults: {{timeouts: {{connect: 1s, idle: 2s}}, http_proxy: 'http://p.example:1'}}"
    unmatched = site(STATIC, top=top).forward.way_to(Place("far.example", 443))
    assert (unmatched.timeouts.connect, unmatched.timeouts.response, unmatched.timeouts.idle) == (1, 60, 2)
    assert str(unmatched.dialer(Place("far.example", 443)).proxy) == "http://p.example:1"


def test_the_keys_are_those_of_access(site):
    guard = site(STATIC, top=f"{FORWARD}\naccess: {{tokens: [one, two]}}").forward.guard
    guard.check_proxy_key(asked(headers={"Proxy-Authorization": "Bearer two"}))
    with pytest.raises(ProxyKeyRequired):
        guard.check_proxy_key(asked())
    site(STATIC, top=FORWARD).forward.guard.check_proxy_key(asked())


def test_a_key_made_for_one_run_is_the_only_one():
    access = SimpleNamespace(tokens=[SecretStr("one")])
    assert _keys(SimpleNamespace(forward_key=SecretStr("made"), access=access)) == ["made"]
    assert _keys(SimpleNamespace(forward_key=None, access=access)) == ["one"]
    for key, where in ((SecretStr("made"), "HTTPS_PROXY as it is"), (None, "access.tokens")):
        with pytest.raises(ProxyKeyRequired) as refused:
            _guard(SimpleNamespace(forward_key=key, access=access)).check_proxy_key(asked())
        assert where in (refused.value.hint or "")


def test_a_site_that_is_replaced_keeps_no_connection_to_strangers(site):
    made = site(STATIC, top=FORWARD)
    pool = made.forward.unmatched.route(Place("far.example", 80)).sender.pool
    made.close(successor=site(STATIC, top=FORWARD))
    assert pool._closed


class NotYet:
    @property
    def bundle_file(self):
        raise StoreError("there is no bundle.pem yet")


def test_what_a_client_should_trust_is_named_where_it_is_there():
    made = SimpleNamespace(forward=SimpleNamespace(bundle_file="/run/bundle.pem"))
    assert "/run/bundle.pem" in trust_hint(made)
    for none in (NO_TLS, SimpleNamespace(forward=NotYet())):
        assert bundle_of(none) is None
        assert "/forward-ca.pem" in trust_hint(none)


def test_a_program_of_exec_is_not_told_of_exec(site):
    made = site(STATIC, top=FORWARD)
    assert "authproxy exec" in made.forward.trust_hint()
    hint = site(STATIC, top=FORWARD, for_one_program=True).forward.trust_hint()
    assert "SSL_CERT_FILE" in hint
    assert "authproxy exec" not in hint
