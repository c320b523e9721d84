"""`password`: the whole conversation."""

from authproxy.grants.password import Password

from .talk import TOKEN_URL, answer, expired, hold, make, pairs, refusal

GRANT = make(Password, token_url=TOKEN_URL, client_id="up42-api", username="joe@a", password="p&ß +")
LOGIN = [("grant_type", "password"), ("username", "joe@a"), ("password", "p&ß +"), ("client_id", "up42-api")]


def test_a_name_and_a_password_earn_the_token():
    (step,), token = hold(
        GRANT.flow(None), answer({"access_token": "a", "expires_in": 300, "refresh_token": "r1"})
    )
    assert pairs(step) == LOGIN
    assert "Authorization" not in step.headers
    assert (token.value, token.lifetime, token.refresh_token) == ("a", 300, "r1")


def test_the_password_is_not_sent_while_there_is_a_refresh_token():
    (step,), _ = hold(GRANT.flow(expired("r1")), answer({"access_token": "b"}))
    assert pairs(step) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "r1"),
        ("client_id", "up42-api"),
    ]


def test_the_password_is_sent_again_once_the_refresh_token_is_too_old():
    (_, step), token = hold(
        GRANT.flow(expired("r1")),
        refusal("invalid_grant"),
        answer({"access_token": "b", "refresh_token": "r2"}),
    )
    assert pairs(step) == LOGIN
    assert token.refresh_token == "r2"
