"""A login endpoint of its own kind takes a form or a query."""

import pytest

from authproxy.demo.accounts import USERNAME

from .talk import LOGIN, ask, call


@pytest.mark.parametrize("where", ["data", "params"])
async def test_a_form_or_a_query_earns_a_token_for_an_hour(client, demo, clock, where):
    status, document = await ask(client, demo, "login", "POST", "/authorization", **{where: LOGIN})
    assert (status, document["expires_in"]) == (200, 3600)
    bearer = f"Bearer {document['access_token']}"
    assert (await call(client, demo, "login", bearer))[0] == 200
    clock.advance(3601)
    assert (await call(client, demo, "login", bearer))[0] == 401


@pytest.mark.parametrize(
    ("method", "request_", "status"),
    [
        ("POST", {"data": LOGIN | {"password": "wrong"}}, 401),
        ("POST", {"params": LOGIN | {"username": "nobody"}}, 401),
        ("POST", {"data": {"username": USERNAME}}, 400),
        ("POST", {}, 400),
        ("POST", {"json": LOGIN}, 415),
        ("GET", {"params": LOGIN}, 405),
    ],
)
async def test_anything_else_earns_none(client, demo, method, request_, status):
    assert (await ask(client, demo, "login", method, "/authorization", **request_))[0] == status
