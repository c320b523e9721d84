"""When a token is renewed in the background: early enough, and not too often."""

from math import inf

import pytest

from authproxy.errors import TokenUnavailable
from authproxy.tokens import early_renewal
from authproxy.tokens.early_renewal import JITTER, MIN_SECONDS, REFRESH_BEFORE, EarlyRenewal
from authproxy.tokens.token import Token

NOW = 1000.0


def token(lifetime, *, age=0.0):
    issued = NOW - age
    return Token("a", issued_at=issued, expires_at=issued + lifetime)


@pytest.fixture(params=[0.0, JITTER], ids=["no jitter", "most jitter"])
def jitter(request, monkeypatch):
    """Draw one end of the range that is asked for."""

    def uniform(low, high):
        assert (low, high) == (0, JITTER)
        return request.param

    monkeypatch.setattr(early_renewal.random, "uniform", uniform)
    return request.param


@pytest.mark.parametrize(
    ("lifetime", "refresh_before", "before"),
    [
        (3600, None, 60),  # auto: a minute before the end…
        (300, None, 60),
        (200, None, 40),  # …or a fifth of the life, if that is less
        (3600, 600, 600),
        (3600, 0, 0),
        (300, 600, 150),  # more than half the life would be nearly every request
    ],
)
def test_it_is_due_so_long_before_the_end_and_a_little_earlier_for_some(
    jitter, lifetime, refresh_before, before
):
    due = EarlyRenewal(refresh_before).renew_at(token(lifetime), NOW)
    assert due == pytest.approx(NOW + lifetime - before * (1 + jitter))


@pytest.mark.parametrize("age", [0, 1.9, 100])
def test_a_token_that_ends_soon_or_has_ended_is_not_renewed_with_every_request(age):
    due = EarlyRenewal(None).renew_at(token(2, age=age), NOW)
    assert due >= NOW + MIN_SECONDS


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [(1, 0.8), (1.5, 1.2), (0.5, MIN_SECONDS), (0.001, MIN_SECONDS)]
)
def test_one_that_lives_for_a_second_is_renewed_before_it_ends_and_a_shorter_one_no_more_often(
    lifetime, seconds
):
    due = EarlyRenewal(None).renew_at(token(lifetime), NOW)
    assert due == pytest.approx(NOW + seconds, abs=0.03 * lifetime)


def test_a_token_without_an_end_is_never_due():
    assert EarlyRenewal(None).renew_at(Token("a", issued_at=NOW), NOW) == inf
    assert EarlyRenewal(60).renew_at(Token("a", issued_at=NOW), NOW) == inf


# ── after a failure ──────────────────────────────────────────────────────────────────────────────


def test_it_is_tried_again_after_a_tenth_of_what_is_left():
    held = token(1000, age=800)
    assert EarlyRenewal().retry_at(held, TokenUnavailable("down"), NOW) == pytest.approx(NOW + 19.5)
    assert EarlyRenewal().retry_at(held, None, NOW) == pytest.approx(NOW + 19.5)


def test_it_is_tried_again_when_the_endpoint_said_so():
    failure = TokenUnavailable("down", retry_after=42)
    assert EarlyRenewal().retry_at(token(1000), failure, NOW) == NOW + 42


@pytest.mark.parametrize("retry_after", [0, 0.1, None])
def test_it_is_not_tried_again_at_once(retry_after):
    failure = TokenUnavailable("down", retry_after=retry_after)
    assert EarlyRenewal().retry_at(token(300, age=299), failure, NOW) == NOW + MIN_SECONDS


def test_a_token_without_an_end_that_was_refused_is_tried_again_after_a_minute():
    assert EarlyRenewal().retry_at(Token("a"), None, NOW) == NOW + REFRESH_BEFORE
