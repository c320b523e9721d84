"""Auth0: a token is for the API that it was asked for."""

import pytest

from authproxy.demo.systems.auth0 import Auth0

from .talk import CLIENT_FORM, is_let_in, post

FORM = CLIENT_FORM | {"audience": Auth0.audience}


async def test_an_application_gets_a_token_for_a_day(client, demo):
    status, document = await post(client, demo, "auth0", "/oauth/token", FORM)
    assert (status, document["expires_in"]) == (200, 86400)
    assert await is_let_in(client, demo, "auth0", document["access_token"])


@pytest.mark.parametrize(
    ("changes", "status", "error", "words"),
    [
        ({"client_secret": "wrong"}, 401, "access_denied", "Unauthorized"),
        ({"audience": None}, 403, "access_denied", "No audience parameter"),
        ({"audience": "https://orders.example.com"}, 403, "access_denied", "Service not found"),
        ({"grant_type": "password"}, 403, "unauthorized_client", "not allowed"),
    ],
)
async def test_another_application_audience_or_grant_gets_none(client, demo, changes, status, error, words):
    answered, document = await post(client, demo, "auth0", "/oauth/token", FORM | changes)
    assert (answered, document["error"]) == (status, error)
    assert words in document["error_description"]
