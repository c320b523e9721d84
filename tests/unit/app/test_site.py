"""From a configuration to what serving goes by; nothing is listened on and nobody is asked."""

from dataclasses import FrozenInstanceError

import pytest

from authproxy.app.site import build_site
from authproxy.config.read import parse
from authproxy.errors import NoRoute
from authproxy.observe.observed import Observed
from tests.unit.app.sites import OWN, STATIC, UP


def test_a_site_is_frozen_and_knows_its_limits(site):
    made = site(STATIC, top="limits: {header_bytes: 9KiB, body_bytes: 5MiB}")
    assert (made.header_bytes, made.body_bytes) == (9 << 10, 5 << 20)
    with pytest.raises(FrozenInstanceError):
        made.routes = None


@pytest.mark.parametrize(
    ("top", "one"),
    [
        ("", "`authproxy exec --forward`"),
        ("forward: {listen: '127.0.0.1:0'}", "http://127.0.0.1:4711 (`forward.listen`), or `authproxy"),
        ("forward: {listen: 'unix:/run/f'}", "unix:/run/f (`forward.listen`)"),
    ],
)
def test_who_takes_the_proxy_for_a_forward_proxy_is_told_where_that_is(site, top, one):
    made = site(STATIC, top=top)
    if made.config.forward_listener is not None:
        OWN.ports[made.config.forward_listener] = 4711
    try:
        assert f"or use {one}" in made.guard.use_proxy()
    finally:
        OWN.ports.clear()


def test_closing_a_site_closes_its_pools(site):
    made = site(STATIC, STATIC)
    made.close()
    assert [pool._closed for pool in made.pools.values()] == [True, True]


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


def test_closing_a_site_leaves_what_its_successor_has_taken_over(site):
    before = site(f"{UP}, {STATIC}", f"upstream: https://gone.example, {STATIC}")
    after = site(f"{UP}, {STATIC}", f"upstream: https://new.example, {STATIC}", before=before)
    before.close(successor=after)
    assert [pool._closed for pool in before.pools.values()] == [False, True]
    assert [pool._closed for pool in after.pools.values()] == [False, False]


def test_an_abandoned_site_is_closed_but_for_what_it_had_taken_over(site):
    before = site(f"{UP}, {STATIC}")
    after = site(f"{UP}, {STATIC}", f"upstream: https://new.example, {STATIC}", before=before)
    after.close(successor=before)
    assert [pool._closed for pool in after.pools.values()] == [False, True]


def test_a_route_that_is_there_alone_is_not_mounted(site):
    text = f"routes: [{{name: a, listen: '127.0.0.1:7', upstream: 'https://x', {STATIC}}}]"
    made = build_site(parse(text, "proxy.yaml", environ={}), site.sources, OWN, observed=Observed())
    with pytest.raises(NoRoute):
        made.routes.match("localhost", "/")
    assert made.own["127.0.0.1:7"].routes.match("localhost", "/").name == "a"


def test_the_guard_knows_a_routes_own_name(site):
    made = site(f"listen: 'box.example:7', {STATIC}", top="allow_remote: true")
    assert "box.example" in made.guard._hosts
    assert "box.example" in made.admin_guard._hosts


def test_at_a_listener_of_nobody_there_is_no_route(site):
    with pytest.raises(NoRoute, match="no route is mounted here"):
        site(STATIC).alone().routes.match("localhost", "/r0")
