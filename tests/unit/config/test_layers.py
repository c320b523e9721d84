"""A route's own keys over the defaults, and no two routes in one place."""

from dataclasses import replace

import pytest
from pydantic import SecretStr

from authproxy.config import presets
from authproxy.config.route import Retry, Timeouts
from authproxy.grants.static import NoGrant, Static

NONE = "auth: {grant: none}\nupstream: https://x\n"


def test_a_routes_own_key_wins_over_the_default(reader):
    top = "defaults: {timeouts: {connect: 1s, idle: 2s}, retry: {cooldown: 9s}, prefetch: true}"
    route = reader.route(NONE + "timeouts: {connect: 5s}\nprefetch: false", top)
    assert route.timeouts == Timeouts(connect=5.0, idle=2.0)
    assert route.retry == Retry(cooldown=9.0)
    assert route.prefetch is False


def test_null_takes_a_default_away(reader):
    top = "defaults: {allow: {methods: [GET]}, timeouts: {connect: 1s}}"
    route = reader.route(NONE + "allow:\ntimeouts: {connect: }", top)
    assert (route.allow, route.timeouts) == (None, Timeouts())


def test_null_where_there_is_nothing_to_take_away_is_none(reader):
    keys = "path: null\nenv: {A: ~, B: b}\ntimeouts: {connect: null}\nretry: null\nprefetch: Null"
    route = reader.route(NONE + keys)
    assert (route.path, route.env, route.timeouts, route.prefetch) == ("/", {"B": "b"}, Timeouts(), False)
    assert route.retry == Retry()
    assert "put it in quotes: null and ~ mean: no value" in reader.route_fault(
        "upstream: null\nauth: {grant: none}"
    )
    assert "null and ~ mean: no value" in reader.route_fault(f"{NONE}headers: {{set: {{A: null}}}}")
    assert "a # begins a comment" in reader.route_fault(f"{NONE}env:\n  A: #b")


def test_null_takes_away_what_defaults_and_the_preset_bring(reader, monkeypatch):
    known = dict(presets.presets())
    known["up42"] = replace(known["up42"], route={**known["up42"].route, "env": {"A": "{url}", "B": "{url}"}})
    monkeypatch.setattr(presets, "_PRESETS", known)
    keys = "upstream: https://api.sa.up42.com\nauth: {preset: up42, username: a, password: b}\nenv: {A: null}"
    assert reader.route(keys, "defaults: {env: {A: mine, C: c}}").env == {"B": "{url}", "C": "c"}


def test_auth_is_replaced_as_a_whole(reader):
    top = "defaults: {auth: {grant: static, token: x, scheme: Token}}"
    assert reader.route("upstream: https://x", top).grant == Static(token=SecretStr("x"), scheme="Token")
    assert reader.route(NONE, top).grant == NoGrant()


def test_a_fault_in_the_defaults_is_told_once_at_its_place(reader):
    text = """\
defaults: {timeouts: {conect: 1s}}
routes:
  - {name: a, upstream: https://x, auth: {grant: none}}
  - {name: b, path: /b, upstream: https://x, auth: {grant: none}}
"""
    assert reader.fault(text) == "1:23: defaults.timeouts.conect: unknown key; did you mean `connect`?"


# ── twins ────────────────────────────────────────────────────────────────────────────────────────


def routes(*keys):
    lines = [f"  - {{upstream: https://x, auth: {{grant: none}}, {each}}}" for each in keys]
    return "routes:\n" + "\n".join(lines)


def test_a_name_is_given_once(reader):
    assert reader.fault(routes("name: a", "name: a, path: /b")) == (
        "3:54: routes[1].name: is the name of an earlier route, in line 2; give one of them another"
    )


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ("path: /a", "path: /a", ".path"),
        ("path: /", "strip_path: true", ""),
        ("host: a.test", "host: A.test", ".host"),
        ("host: a.test, path: /x", "host: a.test, path: /x", ".path"),
    ],
)
def test_a_place_is_taken_once(reader, first, second, key):
    fault = reader.fault(routes(f"name: a, {first}", f"name: b, {second}"))
    assert fault.endswith(
        f"routes[1]{key}: is mounted where an earlier route is, a in line 2: give it another `path` or `host`"
    )


def test_the_same_path_on_another_host_is_another_place(reader):
    reader.config(
        routes("name: a, path: /x", "name: b, path: /x, host: a.test", "name: c, path: /x, host: b.test")
    )


@pytest.mark.parametrize("more", ["", "path: /, "])
def test_a_route_at_an_address_of_its_own_alone_takes_no_place(reader, more):
    text = routes("name: a", f"name: b, {more}listen: '127.0.0.1:1'")
    if more:
        assert "is mounted where an earlier route is" in reader.fault(text)
    else:
        reader.config(text)
