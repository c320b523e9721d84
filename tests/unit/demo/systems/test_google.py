"""Google: a service account's assertion, to the letter."""

import pytest

from authproxy.demo.systems.google import Google
from authproxy.demo.systems.signed_login import GRANT_TYPE

from .talk import FOREIGN_KEY, is_let_in, post, signed

SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"


async def exchange(client, demo, clock, key=None, **changes):
    now = int(clock())
    claims = {"iss": Google.account, "aud": f"{demo.systems['google']}/token", "scope": SCOPE}
    assertion = signed(key, **claims | {"iat": now, "exp": now + 3600} | changes)
    return await post(client, demo, "google", "/token", {"grant_type": GRANT_TYPE, "assertion": assertion})


async def test_a_service_account_gets_a_token_for_an_hour(client, demo, clock):
    status, document = await exchange(client, demo, clock)
    assert (status, document["token_type"], document["expires_in"]) == (200, "Bearer", 3599)
    assert await is_let_in(client, demo, "google", document["access_token"])


@pytest.mark.parametrize(
    ("changes", "status", "error", "words"),
    [
        ({"key": FOREIGN_KEY}, 400, "invalid_grant", "Invalid JWT Signature"),
        ({"iss": "other@example.com"}, 400, "invalid_grant", "account not found"),
        ({"aud": "https://elsewhere.example/token"}, 400, "invalid_grant", "audience"),
        ({"exp": 1}, 400, "invalid_grant", "short-lived"),
        ({"iat": 2**40}, 400, "invalid_grant", "short-lived"),
        ({"exp": 2**40}, 400, "invalid_grant", "short-lived"),
        ({"sub": "ann@example.com"}, 401, "unauthorized_client", "unauthorized"),
        ({"scope": None}, 400, "invalid_scope", "scope"),
        ({"scope": f"{SCOPE},{SCOPE}x other"}, 400, "invalid_scope", "scope"),
    ],
)
async def test_an_assertion_that_says_something_wrong_gets_none(
    client, demo, clock, changes, status, error, words
):
    answered, document = await exchange(client, demo, clock, **changes)
    assert (answered, document["error"]) == (status, error)
    assert words in document["error_description"]
