"""Atlassian: an account's address, and its API token in the password's place."""

import pytest

from authproxy.demo.accounts import USERNAME

from .talk import basic, call

TOKEN = "demo-token-of-atlassian"


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (basic(USERNAME, TOKEN), 200),
        (basic(USERNAME, "wrong"), 401),
        (basic("nobody@example.com", TOKEN), 401),
        (f"Bearer {TOKEN}", 401),
        (None, 401),
    ],
)
async def test_a_token_is_taken_with_its_account(client, demo, authorization, status):
    assert (await call(client, demo, "atlassian", authorization))[0] == status


async def test_a_revoked_token_is_refused(client, demo):
    demo.revoke("atlassian")
    assert (await call(client, demo, "atlassian", basic(USERNAME, TOKEN)))[0] == 401
