"""Spotify: an app says who it is in the header."""

import pytest

from .talk import CLIENT, CLIENT_FORM, basic, is_let_in, post

FORM = {"grant_type": "client_credentials"}


async def test_an_app_gets_a_token_for_an_hour(client, demo):
    status, document = await post(client, demo, "spotify", "/api/token", FORM, headers=CLIENT)
    assert (status, document["expires_in"]) == (200, 3600)
    assert await is_let_in(client, demo, "spotify", document["access_token"])


@pytest.mark.parametrize(
    ("form", "headers", "error"),
    [
        (FORM, {"Authorization": basic("key-demo", "wrong")}, "invalid_client"),
        (CLIENT_FORM, {}, "invalid_client"),
        ({"grant_type": "password"}, CLIENT, "unsupported_grant_type"),
    ],
)
async def test_anybody_else_gets_400(client, demo, form, headers, error):
    status, document = await post(client, demo, "spotify", "/api/token", form, headers=headers)
    assert (status, document["error"]) == (400, error)
