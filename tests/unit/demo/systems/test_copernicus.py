"""The Copernicus Data Space Ecosystem: the password of an account, and its public client."""

import pytest

from authproxy.demo.systems.copernicus import Copernicus

from .talk import LOGIN, is_let_in, post

FORM = LOGIN | {"grant_type": "password", "client_id": "cdse-public"}


async def test_a_password_earns_a_token_for_10_minutes(client, demo):
    status, document = await post(client, demo, "copernicus", Copernicus.token_path, FORM)
    assert (status, document["expires_in"], document["refresh_expires_in"]) == (200, 600, 3600)
    assert await is_let_in(client, demo, "copernicus", document["access_token"])


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"password": "wrong"}, "invalid_grant"), ({"client_id": "other"}, "invalid_client")],
)
async def test_another_password_or_client_gets_none(client, demo, changes, error):
    status, document = await post(client, demo, "copernicus", Copernicus.token_path, FORM | changes)
    assert (status, document["error"]) == (401, error)
