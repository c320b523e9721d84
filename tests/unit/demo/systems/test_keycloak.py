"""Keycloak: a client of one realm."""

import pytest

from .talk import CLIENT_FORM, is_let_in, post

PATH = "/realms/demo/protocol/openid-connect/token"


async def test_a_client_gets_a_token_for_5_minutes(client, demo):
    status, document = await post(client, demo, "keycloak", PATH, CLIENT_FORM)
    assert (status, document["token_type"], document["expires_in"]) == (200, "Bearer", 300)
    assert await is_let_in(client, demo, "keycloak", document["access_token"])


@pytest.mark.parametrize(
    ("path", "changes", "status", "error"),
    [
        (PATH.replace("demo", "other"), {}, 404, "Realm does not exist"),
        (PATH, {"client_secret": "wrong"}, 401, "unauthorized_client"),
        (PATH, {"client_id": "other"}, 401, "unauthorized_client"),
        (PATH, {"grant_type": "magic"}, 400, "unsupported_grant_type"),
    ],
)
async def test_another_realm_client_or_grant_gets_none(client, demo, path, changes, status, error):
    answered, document = await post(client, demo, "keycloak", path, CLIENT_FORM | changes)
    assert (answered, document["error"]) == (status, error)
