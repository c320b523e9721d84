"""Zoom: a grant of its own, with the account in it."""

import pytest

from authproxy.demo.systems.zoom import Zoom

from .talk import CLIENT, basic, is_let_in, post

FORM = {"grant_type": "account_credentials", "account_id": Zoom.account}


async def test_an_app_gets_a_token_for_an_hour(client, demo):
    status, document = await post(client, demo, "zoom", "/oauth/token", FORM, headers=CLIENT)
    assert (status, document["token_type"], document["expires_in"]) == (200, "bearer", 3600)
    assert await is_let_in(client, demo, "zoom", document["access_token"])


@pytest.mark.parametrize(
    ("changes", "headers", "error"),
    [
        ({}, {"Authorization": basic("key-demo", "wrong")}, "invalid_client"),
        ({"grant_type": "client_credentials"}, CLIENT, "unsupported_grant_type"),
        ({"account_id": "other"}, CLIENT, "invalid_request"),
        ({"account_id": None}, CLIENT, "invalid_request"),
    ],
)
async def test_another_app_grant_or_account_gets_400(client, demo, changes, headers, error):
    status, document = await post(client, demo, "zoom", "/oauth/token", FORM | changes, headers=headers)
    assert (status, document["error"]) == (400, error)
