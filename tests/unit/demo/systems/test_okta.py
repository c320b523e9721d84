"""Okta: a custom authorization server wants a scope."""

import pytest

from .talk import CLIENT, CLIENT_FORM, is_let_in, post

PATH = "/oauth2/default/v1/token"
FORM = {"grant_type": "client_credentials", "scope": "orders.read orders.write"}


async def test_an_application_gets_a_token_for_an_hour(client, demo):
    status, document = await post(client, demo, "okta", PATH, FORM, headers=CLIENT)
    assert (status, document["expires_in"], document["scope"]) == (200, 3600, FORM["scope"])
    assert await is_let_in(client, demo, "okta", document["access_token"])


@pytest.mark.parametrize("scope", [None, "", "orders.delete", "orders.read orders.delete"])
async def test_without_a_scope_that_there_is_nobody_gets_one(client, demo, scope):
    status, document = await post(client, demo, "okta", PATH, FORM | {"scope": scope}, headers=CLIENT)
    assert (status, document["error"]) == (400, "invalid_scope")


async def test_the_secret_stands_in_the_header(client, demo):
    status, document = await post(client, demo, "okta", PATH, FORM | CLIENT_FORM)
    assert (status, document["error"]) == (401, "invalid_client")


async def test_another_server_is_not_there(client, demo):
    status, document = await post(client, demo, "okta", "/oauth2/other/v1/token", FORM, headers=CLIENT)
    assert (status, document["errorCode"]) == (404, "E0000007")
