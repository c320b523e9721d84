"""A name that nobody knows is told with what was meant, or with where it belongs."""

import pytest

from authproxy.config.meant import (
    did_you_mean,
    names_at,
    nearest,
    unknown_grant,
    unknown_key,
    unknown_name,
    unknown_preset,
)
from authproxy.config.model import FileKeys
from authproxy.config.presets import presets
from authproxy.config.route import RouteKeys
from authproxy.grants.registry import GRANTS
from authproxy.grants.token_request import TokenRequest

STATIC = GRANTS["static"]


def test_the_keys_of_a_nested_mapping_are_known():
    assert names_at(FileKeys, ("log",)) == {"level", "format", "access"}
    assert names_at(RouteKeys, ("retry",)) == {"statuses", "redirects", "methods", "max_body", "cooldown"}
    assert names_at(TokenRequest, ("totp",)) == {"header", "secret", "code"}
    assert names_at(TokenRequest, ("nothing",)) == set()


def test_the_nearest_name_is_suggested():
    assert unknown_key("tokn", {"token", "header"}) == "unknown key; did you mean `token`?"
    assert unknown_key("cookies", {"headers", "bodies", "max"}) == (
        "unknown key; the keys here are bodies, headers, max"
    )
    assert unknown_key("x", {"b", "a"}) == "unknown key; the keys here are a, b"
    assert unknown_name("grant", "basik", ["basic", "none"]) == (
        "unknown grant; did you mean basic? (choose from basic, none)"
    )
    assert unknown_name("grant", 5, ["basic"]) == "unknown grant (choose from basic)"


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (RouteKeys, "username", "it belongs under `auth`, as in `auth: {username: …}`"),
        (RouteKeys, "preset", "it belongs under `auth`, as in `auth: {preset: …}`"),
        (RouteKeys, "log", "it belongs to the top level of the file, outside `routes`"),
        (RouteKeys, "methods", "it belongs under `allow`, `retry` or `stand_in`"),
        (RouteKeys, "zzz", "the keys here are a, b"),
        (
            FileKeys,
            "auth",
            "it belongs to a route: below `- name: …` under `routes`, or under `defaults` for",
        ),
        (FileKeys, "upstream", "it belongs to a route: "),
        (FileKeys, "client_id", "it belongs to a route's `auth`"),
        (FileKeys, "level", "it belongs under `log`"),
        (FileKeys, "x-base", "an anchor needs no key of its own: put the & where the value is first used"),
        (STATIC, "timeouts", "it belongs to the route itself, beside `auth`"),
        (STATIC, "username", "this grant does not take it, but basic"),
        (STATIC, "limits", "it belongs to the top level of the file, outside `routes`"),
        (TokenRequest, "secret", "it belongs under `totp`"),
    ],
)
def test_a_key_of_another_place_is_told_where_it_belongs(kind, name, said):
    assert unknown_key(name, {"b", "a"}, kind).startswith(f"unknown key; {said}")


@pytest.mark.parametrize("name", ["clientId", "client-id", "clientid", "clint_id", "id"])
def test_a_key_is_known_in_other_spellings(name):
    assert unknown_key(name, {"client_id", "scope"}) == "unknown key; did you mean `client_id`?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("basik", ["basic"]),
        ("code42", ["code42-basic", "code42-user"]),
        ("user", ["code42-user"]),
        ("zzz", []),
        ("", []),
    ],
)
def test_what_is_near_a_name_or_longer(name, meant):
    assert nearest(name, ["basic", "code42-basic", "code42-user"]) == meant


def test_what_is_no_name_is_not_compared():
    assert did_you_mean(5, ["a"]) == did_you_mean(None, ["a"]) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("up42", "unknown grant; up42 is a preset: write `preset: up42` instead"),
        ("Bearer", "unknown grant; did you mean static? (choose from none, static, "),
        ("oauth2", "unknown grant; did you mean client_credentials? (choose from "),
        ("statik", "unknown grant; did you mean static? (choose from "),
        (["static"], "unknown grant (choose from "),
    ],
)
def test_a_grant_that_is_a_preset_or_goes_by_another_name_is_told(name, said):
    assert unknown_grant(name, presets()).startswith(said)


def test_a_preset_that_is_a_grant_is_told():
    assert (
        unknown_preset("basic", presets()) == "unknown preset; basic is a grant: write `grant: basic` instead"
    )
    assert unknown_preset("up43", presets()).startswith("unknown preset; did you mean up42? (choose from ")
