"""`refresh_token`: one that somebody obtained elsewhere, and what becomes of it."""

import pytest

from authproxy.errors import CredentialRejected
from authproxy.grants.refresh_token import RefreshToken

from .talk import TOKEN_URL, answer, expired, hold, make, pairs, refusal

GRANT = make(RefreshToken, token_url=TOKEN_URL, client_id="id", refresh_token="configured")


def sent(step):
    return dict(pairs(step))["refresh_token"]


def test_the_configured_one_is_traded_in():
    (step,), token = hold(GRANT.flow(None), answer({"access_token": "a"}))
    assert pairs(step) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "configured"),
        ("client_id", "id"),
    ]
    assert token.refresh_token == "configured"


def test_a_rotated_one_takes_its_place():
    _, token = hold(GRANT.flow(None), answer({"access_token": "a", "refresh_token": "rotated"}))
    (step,), _ = hold(GRANT.flow(token), answer({"access_token": "b"}))
    assert sent(step) == "rotated"


def test_the_configured_one_is_tried_when_the_rotated_one_is_dead():
    (first, second), _ = hold(
        GRANT.flow(expired("rotated")), refusal("invalid_grant"), answer({"access_token": "b"})
    )
    assert (sent(first), sent(second)) == ("rotated", "configured")


@pytest.mark.parametrize("old", ["configured", "rotated"])
def test_each_asks_for_the_scope_that_was_granted(old):
    grant = make(RefreshToken, token_url=TOKEN_URL, refresh_token="configured", scope="read write")
    _, token = hold(grant.flow(None), answer({"access_token": "a", "refresh_token": old, "scope": "read"}))
    (step,), _ = hold(grant.flow(token), answer({"access_token": "b"}))
    assert (sent(step), dict(pairs(step))["scope"]) == (old, "read")


def test_one_that_was_refused_is_not_sent_once_more():
    flow = GRANT.flow(expired("configured"))
    assert sent(next(flow)) == "configured"
    with pytest.raises(CredentialRejected):
        flow.send(refusal("invalid_grant"))
