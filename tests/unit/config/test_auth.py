"""What may stand under `auth`, and the grant that is made of it."""

import pytest
from pydantic import SecretStr

from authproxy.config.auth import NEITHER
from authproxy.config.presets import presets
from authproxy.grants.registry import GRANTS
from authproxy.grants.static import Basic
from authproxy.masking import MASK

GRANT_NAMES = "choose from " + ", ".join(GRANTS)
PRESET_NAMES = "choose from " + ", ".join(presets())


@pytest.mark.parametrize(
    ("auth", "fault"),
    [
        ("x", "auth: should be a mapping: `grant` or `preset`, and its keys, such as {grant: none}"),
        ("static", "auth: should be a mapping: write `auth: {grant: static}`, and its keys"),
        ("up42", "auth: should be a mapping: write `auth: {preset: up42}`, and its keys"),
        ("{token: x}", f"auth: {NEITHER}"),
        ("{}", f"auth: {NEITHER}"),
        (
            "{grant: static, preset: up42}",
            "auth: takes `grant` or `preset`, not both: a preset brings its grant; remove one of them",
        ),
        ("{grant: up42}", "auth.grant: unknown grant; up42 is a preset: write `preset: up42` instead"),
        ("{preset: basic}", "auth.preset: unknown preset; basic is a grant: write `grant: basic` instead"),
        ("", "auth: is required; for plain forwarding `auth: {grant: none}`"),
        ("{grant: statik}", "auth.grant: unknown grant; did you mean static? " + f"({GRANT_NAMES})"),
        ("{grant: [x]}", "auth.grant: unknown grant " + f"({GRANT_NAMES})"),
        ("{preset: up43}", "auth.preset: unknown preset; did you mean up42? " + f"({PRESET_NAMES})"),
        (
            "{grant: none, topic: x}",
            (
                "auth.topic: unknown key; the keys here are default_lifetime, grant, "
                "header, hints, incoming, inject, preset, refresh_before, scheme, tls"
            ),
        ),
        (
            "{grant: basic, username: 'a:b', password: x}",
            "auth.username: a username for Basic must not contain a colon (RFC 7617 §2)",
        ),
        ("{grant: client_credentials, token_url: 'https://x'}", None),
    ],
)
def test_the_shape_of_auth(reader, auth, fault):
    keys = f"upstream: https://x\nauth: {auth}"
    if fault is None:
        assert reader.route(keys).grant.token_url == "https://x"
    else:
        assert reader.route_fault(keys) == fault


def test_a_grant_is_made_of_its_keys(reader):
    keys = "upstream: https://x\nauth: {grant: basic, username: '${USER_NAME}', password: '${PASSWORD}'}"
    assert reader.route(keys).grant == Basic(username="joe", password=SecretStr("hunter2"))


def test_what_a_preset_lacks_hides_no_key_that_is_misspelt(reader):
    keys = "upstream: https://x\nauth: {preset: code42-user, usernam: joe, password: x}"
    lacking, misspelt = reader.route_faults(keys)
    said = presets()["code42-user"].keys["username"].help
    assert lacking.startswith(f"auth.username: preset code42-user needs username: {said}; see ")
    assert lacking.endswith("`authproxy presets show code42-user`")
    assert misspelt == "auth.usernam: unknown key; did you mean `username`?"


@pytest.mark.parametrize(
    ("auth", "shown"),
    [
        ("{grant: static, token: x}", {"grant": "static", "token": MASK}),
        (
            "{grant: token_request, url: https://x, json: {a: [x, {b: 1}]}, response: {token: /t}}",
            {"grant": "token_request", "json": {"a": [MASK, {"b": MASK}]}},
        ),
        ("{grant: token_request, url: https://x}", {"response": None}),
        ("{grant: client_credentials, token_url: https://x, scope: '${PASSWORD}'}", {"scope": MASK}),
    ],
)
def test_what_is_shown_of_it(reader, auth, shown):
    found = reader.route(f"upstream: https://x\nauth: {auth}").auth
    assert {name: found.get(name) for name in shown} == shown
