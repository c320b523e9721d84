"""Where a grant's servers are, and what is told of its token."""

from math import inf
from types import SimpleNamespace

import pytest

from authproxy.app.doctor.steps import Steps
from authproxy.app.doctor.token import describe, endpoint_targets
from authproxy.config.read import parse
from authproxy.grants.steps import Answer
from authproxy.masking import MASK
from authproxy.net.own_listeners import NOBODY
from authproxy.tokens.token import Token

from .test_steps import Told

ROUTE = "routes: [{{name: a, upstream: 'https://a.example', auth: {auth}}}]"
CLIENT = "{grant: client_credentials, token_url: 'https://id.example/token', client_id: a, client_secret: b}"
LOGIN = (
    "{grant: authorization_code, authorization_url: 'https://web.example/', "
    "token_url: 'http://127.0.0.1:99/token', client_id: a}"
)


def route(auth):
    return parse(ROUTE.format(auth=auth), "a.yaml").routes[0]


@pytest.mark.parametrize(
    ("auth", "found"),
    [
        (CLIENT, [("token_url", "https://id.example")]),
        (LOGIN, [("token_url", "http://127.0.0.1:99")]),  # what a browser opens is not ours to ask
        ("{grant: static, token: x}", []),
    ],
)
def test_the_servers_of_a_grant_are_found(auth, found, monkeypatch):
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    targets = endpoint_targets(route(auth), NOBODY, Steps(Told()))
    assert [(target.setting, str(target.origin)) for target in targets] == found


def test_a_proxy_that_cannot_be_used_is_a_step_that_failed(monkeypatch):
    made = route(CLIENT)
    monkeypatch.setattr("authproxy.app.doctor.token.proxy_for", lambda *_, **__: int("x"))
    steps = Steps(Told())
    assert list(endpoint_targets(made, NOBODY, steps)) == []
    assert steps.failed_at("token ")


def test_a_token_is_described_and_not_shown():
    token = Token("t0ken", issued_at=100, expires_at=400, refresh_token="r3fresh", scope="read write")
    said = describe(token, route(CLIENT), Answer(b"", 100.0, "https://id.example/token"), 100)
    assert said == (
        "client_credentials: https://id.example/token answered 200, valid for 300 s, scope read write, "
        "with a refresh token"
    )


def test_a_scope_is_one_line_without_the_token():
    said = describe(Token("t0ken-of-9", scope="a\x1b[2J t0ken-of-9\n" + "b" * 9999), route(CLIENT), None, 0)
    assert said.endswith("…")
    assert f"scope a [2J {MASK} bbb" in said
    assert len(said) < 500


def test_where_it_came_from_is_told():
    grant = SimpleNamespace(in_configuration=False, watched_file=None)
    made = SimpleNamespace(auth={"grant": "client_credentials"}, grant=grant)
    assert "from the token store" in describe(Token("t", expires_at=inf), made, None, 0)
    assert "valid until it is refused" in describe(Token("t"), route("{grant: static, token: x}"), None, 0)
