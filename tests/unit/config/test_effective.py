"""What `routes` shows: the effective routes, secrets masked."""

import json

import pytest

from authproxy.config.effective import effective
from authproxy.masking import MASK

# ── what people see ──────────────────────────────────────────────────────────────────────────────


def shown(reader, keys):
    return effective(reader.config(reader.with_route(keys)))[0]


def test_the_effective_routes_are_plain_data_with_all_defaults(reader):
    route = shown(reader, "upstream: https://x\nretry: false\nauth: {grant: static, token: hunter2}")
    assert json.loads(json.dumps(route)) == route
    assert (route["name"], route["path"], route["retry"], route["tls"]) == (
        "api",
        "/",
        False,
        {"verify": True},
    )
    assert route["timeouts"] == {"connect": 10.0, "response": 60.0, "idle": 300.0}
    assert route["auth"]["token"] == MASK


@pytest.mark.parametrize(
    "auth",
    [
        "{grant: static, token: hunter2}",
        "{grant: basic, username: '${PASSWORD}', password: x}",
        "{grant: static, token: x, header: 'X-${PASSWORD}'}",
        "{grant: token_request, url: 'https://x/${PASSWORD}', form: {a: hunter2}, headers: {X-A: hunter2}}",
        "{grant: token_request, url: https://x, json: {a: [hunter2, {b: hunter2}]}}",
        "{grant: password, token_url: https://x, username: a, password: x, scope: ['${PASSWORD}']}",
        "{preset: code42-user, username: '${PASSWORD}', password: hunter2, url: 'https://x/${PASSWORD}'}",
        "{grant: command, command: [login, '${PASSWORD}']}",
    ],
)
def test_no_secret_is_shown(reader, auth):
    keys = f"upstream: https://x\nheaders: {{set: {{X-A: hunter2}}}}\nauth: {auth}"
    route = json.dumps(shown(reader, keys), ensure_ascii=False)
    assert "hunter2" not in route
    assert MASK in route


def test_what_is_no_secret_is_shown(reader):
    auth = shown(
        reader, "upstream: https://x\nauth: {preset: code42-user, username: joe, password: hunter2}"
    )["auth"]
    assert (auth["preset"], auth["grant"]) == ("code42-user", "token_request")
    assert auth["url"] == "https://x/api/v3/auth/jwt?useBody=true"
    assert auth["basic"] == {"username": "joe", "password": MASK}


def test_a_presets_warning_is_shown(reader):
    auth = "{preset: code42-basic, username: joe, password: x}"
    assert "deprecated" in shown(reader, f"upstream: https://x\nauth: {auth}")["warnings"][0]
