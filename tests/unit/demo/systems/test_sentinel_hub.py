"""Sentinel Hub: an OAuth client of the vendor's realm."""

from authproxy.demo.systems.sentinel_hub import SentinelHub

from .talk import CLIENT_FORM, is_let_in, post


async def test_an_oauth_client_gets_a_token_for_an_hour(client, demo):
    status, document = await post(client, demo, "sentinel-hub", SentinelHub.token_path, CLIENT_FORM)
    assert (status, document["expires_in"]) == (200, 3600)
    assert await is_let_in(client, demo, "sentinel-hub", document["access_token"])


async def test_a_wrong_secret_gets_none(client, demo):
    form = CLIENT_FORM | {"client_secret": "wrong"}
    status, document = await post(client, demo, "sentinel-hub", SentinelHub.token_path, form)
    assert (status, document["error"]) == (401, "unauthorized_client")
