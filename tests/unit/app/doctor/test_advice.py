"""What to do when there is no token."""

import pytest
from pydantic import SecretStr

from authproxy.app.doctor.advice import advise
from authproxy.errors import BadTokenReply, CredentialRejected, TokenUnavailable
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.grant import ReplyHint
from authproxy.grants.password import Password
from authproxy.grants.steps import Answer

URL = "https://id.example/token"
CLIENT = {"token_url": URL, "client_id": "a", "client_secret": SecretStr("b")}
HINT = "check `client_id`"
RAW = "; other styles that servers take: `client_secret_basic_raw` where the secret has special characters"


def advice(grant, failure, status=None, body=b"", **headers):
    answer = None if status is None else Answer(body, 0.0, URL, status, headers)
    return advise(grant, failure, answer, key="token_url")


@pytest.mark.parametrize(
    ("keys", "headers", "more"),
    [
        ({}, {}, f"{RAW} or `client_secret_post`"),
        ({}, {"WWW-Authenticate": "Basic realm=x"}, RAW),
        ({"client_auth": "client_secret_post"}, {}, ""),
        (
            {"client_auth": "client_secret_post"},
            {"WWW-Authenticate": "Basic realm=x"},
            "; the server asks for Basic: `client_auth: client_secret_basic`",
        ),
    ],
)
def test_a_client_that_is_refused_is_told_of_other_styles(keys, headers, more):
    grant = ClientCredentials(**CLIENT, **keys)
    for error in (None, "invalid_client"):
        failure = CredentialRejected("no", hint=HINT, error=error)
        assert advice(grant, failure, 401, **headers) == HINT + more


@pytest.mark.parametrize(
    ("status", "error", "body"),
    [
        (400, "invalid_grant", b""),
        (400, "invalid_scope", b""),
        (400, None, b"The plain HTTP request was sent to HTTPS port"),
        (404, None, b""),
        (302, None, b""),
        (503, None, b""),
    ],
)
def test_what_is_no_matter_of_the_style_has_the_hint_of_its_failure(status, error, body):
    grant = Password(**CLIENT, username="m", password=SecretStr("x"))
    assert advice(grant, CredentialRejected("no", hint=HINT, error=error), status, body) == HINT


def test_the_hint_of_a_preset_goes_alone():
    grant = ClientCredentials(**CLIENT, hints=(ReplyHint(say="do that", status=401),))
    assert advice(grant, CredentialRejected("no", hint="do that"), 401) == "do that"


def test_one_that_is_left_alone_says_how_to_try_at_once():
    failure = TokenUnavailable("no", hint="check the credential", retry_after=12.2)
    failure.rejects = True
    said = advice(ClientCredentials(**CLIENT), failure)
    assert said == "check the credential; it is tried again in 13 s, or at once with --retry-rejected"


def test_what_came_in_place_of_a_token_has_its_own_hint():
    assert advice(ClientCredentials(**CLIENT), BadTokenReply("no", hint="look there"), 200) == "look there"
    assert advice(ClientCredentials(**CLIENT), TokenUnavailable("no")) == "check `token_url`"
