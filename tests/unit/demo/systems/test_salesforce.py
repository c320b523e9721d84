"""Salesforce: an app acts as a user."""

import pytest

from authproxy.demo.accounts import USERNAME
from authproxy.demo.systems.salesforce import Salesforce
from authproxy.demo.systems.signed_login import GRANT_TYPE

from .talk import FOREIGN_KEY, is_let_in, post, signed


async def exchange(client, demo, clock, key=None, **changes):
    claims = {"iss": Salesforce.app, "sub": USERNAME, "aud": demo.systems["salesforce"]}
    assertion = signed(key, **claims | {"iat": None, "exp": int(clock()) + 180} | changes)
    form = {"grant_type": GRANT_TYPE, "assertion": assertion}
    return await post(client, demo, "salesforce", Salesforce.token_path, form)


async def test_an_app_gets_a_session_of_which_nobody_says_how_long_it_lasts(client, demo, clock):
    status, document = await exchange(client, demo, clock)
    assert (status, document["token_type"]) == (200, "Bearer")
    assert "expires_in" not in document
    assert document["instance_url"] == demo.systems["salesforce"]
    assert await is_let_in(client, demo, "salesforce", document["access_token"])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"key": FOREIGN_KEY}, "invalid_grant", "invalid assertion"),
        ({"iss": "other"}, "invalid_client_id", "client identifier invalid"),
        ({"aud": "https://login.salesforce.com"}, "invalid_grant", "audience is invalid"),
        ({"exp": 1}, "invalid_grant", "expired authorization code"),
        ({"exp": 2**40}, "invalid_grant", "expired authorization code"),
        ({"sub": "nobody@example.com"}, "invalid_grant", "user hasn't approved this consumer"),
    ],
)
async def test_an_assertion_that_says_something_wrong_gets_none(client, demo, clock, changes, error, words):
    status, document = await exchange(client, demo, clock, **changes)
    assert (status, document["error"], document["error_description"]) == (400, error, words)
