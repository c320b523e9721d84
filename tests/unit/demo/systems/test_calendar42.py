"""Calendar42's tokens that were handed out by hand."""

import pytest

from authproxy.demo.accounts import USER_TOKEN
from authproxy.demo.systems.calendar42 import Calendar42

from .talk import call


@pytest.fixture
def tokens(demo):
    return {
        route["name"]: route["auth"]["token"] for route in demo.config()["routes"] if "token" in route["auth"]
    }


async def test_each_scheme_takes_its_own_token(client, demo, clock, tokens):
    clock.advance(10 * 365 * 86400)
    user, action = tokens["calendar42"], tokens["calendar42-action"]
    assert await call(client, demo, "calendar42", f"Token {user}") == (200, None)
    assert await call(client, demo, "calendar42", f"ActionToken {action}") == (200, None)
    assert await call(client, demo, "calendar42", f"Token {action}") == (403, None)
    assert await call(client, demo, "calendar42", f"ActionToken {user}") == (403, None)


async def test_no_token_is_401_and_a_wrong_one_403(client, demo, tokens):
    assert await call(client, demo, "calendar42") == (401, "Token")
    assert await call(client, demo, "calendar42", f"Bearer {tokens['calendar42']}") == (401, "Token")
    assert await call(client, demo, "calendar42", "Token made-up") == (403, None)


def test_what_was_handed_out_by_hand_does_not_expire():
    calendar42 = Calendar42()
    calendar42.expire()
    assert calendar42.tokens.knows(USER_TOKEN)
    calendar42.revoke()
    assert not calendar42.tokens.knows(USER_TOKEN)
