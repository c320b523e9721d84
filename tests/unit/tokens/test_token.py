"""A token: equality, expiry, and that it does not print."""

from math import inf

import pytest

from authproxy.tokens.token import Token


def test_tokens_are_equal_when_they_would_make_the_same_header():
    token = Token("a", issued_at=0, expires_at=10, refresh_token="x")
    assert token == Token("a", issued_at=5, expires_at=99, refresh_token="y")
    assert token != Token("b", issued_at=0, expires_at=10, refresh_token="x")


def test_a_token_does_not_print_its_secrets():
    shown = repr(Token("s3cr3t", expires_at=10, refresh_token="r3fr3sh"))
    assert "s3cr3t" not in shown
    assert "r3fr3sh" not in shown
    assert "expires_at=10" in shown


@pytest.mark.parametrize(
    ("lifetime", "margin"),
    [
        (3600, 5),
        (100, 5),
        (60, 3),  # 5 % of it
        (10, 0.5),
        (1, 0.05),
    ],
)
def test_the_last_seconds_are_not_used(lifetime, margin):
    token = Token("a", issued_at=1000, expires_at=1000 + lifetime)
    assert token.lifetime == lifetime
    assert token.usable_until == pytest.approx(1000 + lifetime - margin)


def test_a_token_of_which_nobody_said_when_it_ends_is_usable_for_ever():
    token = Token("a", issued_at=1000)
    assert (token.expires_at, token.lifetime, token.usable_until) == (inf, inf, inf)
