"""What the grants that need a person have in common."""

import pytest

from authproxy.errors import LoginRequired
from authproxy.grants.interactive import InteractiveGrant
from authproxy.tokens.token import Token

from .talk import TOKEN_URL, answer, expired, hold, make, pairs, refusal


@pytest.fixture
def grant():
    return make(InteractiveGrant, token_url=TOKEN_URL, client_id="me")


def test_without_a_refresh_token_a_person_is_called_for_and_nobody_asked(grant):
    with pytest.raises(LoginRequired) as caught:
        next(grant.flow(None))
    assert caught.value.hint == "log in"


def test_a_refresh_token_is_used_without_a_person(grant):
    steps, token = hold(grant.flow(expired("r1")), answer({"access_token": "a", "refresh_token": "r2"}))
    assert ("refresh_token", "r1") in pairs(steps[0])
    assert (token.value, token.refresh_token) == ("a", "r2")


def test_a_refresh_token_that_is_refused_calls_for_a_person(grant):
    flow = grant.flow(expired("r1"))
    next(flow)
    with pytest.raises(LoginRequired):
        flow.send(refusal("invalid_grant"))


def test_what_a_person_earned_must_last(grant):
    assert grant.needs_person
    assert grant.must_last


def test_where_the_browser_comes_back_to_is_left_to_who_runs_the_login(grant):
    assert grant.comes_back_to is None


def test_a_login_that_brought_no_refresh_token_is_told_how_to_get_one(grant):
    assert "offline_access" in grant.advice(Token("a"))
    assert grant.advice(Token("a", refresh_token="r")) is None
