"""What to do when there is no token."""

import pytest
from pydantic import SecretStr

from authproxy.app.doctor.advice import advise
from authproxy.errors import BadTokenReply, CredentialRejected, LoginRequired, TokenUnavailable
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.grant import ReplyHint
from authproxy.grants.password import Password
from authproxy.grants.steps import Answer
from authproxy.grants.token_request import BasicLogin, OneTimePassword, TokenRequest

URL = "https://id.example/token"
CLIENT = {"token_url": URL, "client_id": "a", "client_secret": SecretStr("b")}
LOGIN = BasicLogin(username="maria", password=SecretStr("x"))


def advice(grant, failure, status=None, **headers):
    answer = None if status is None else Answer(b"", 0.0, URL, status, headers)
    return advise(grant, failure, answer, key="token_url")


@pytest.mark.parametrize(
    ("grant", "error", "status", "says"),
    [
        (ClientCredentials(**CLIENT), "invalid_client", 401, "are right, and not swapped"),
        (ClientCredentials(**CLIENT), "invalid_client", 401, "client_secret_basic_raw"),
        (ClientCredentials(**CLIENT), "invalid_scope", 400, "check `scope`"),
        (ClientCredentials(**CLIENT), "unauthorized_client", 400, "allowed to use this `grant`"),
        (ClientCredentials(**CLIENT), None, 404, "check `token_url`"),
        (ClientCredentials(**CLIENT), None, 302, "final URL into `token_url`"),
        (ClientCredentials(**CLIENT), None, 503, "not a fault of the configuration"),
        (Password(**CLIENT, username="m", password=SecretStr("x")), "invalid_grant", 400, "`password`"),
        (TokenRequest(url=URL, basic=LOGIN), None, 401, "has a second factor, set `totp`"),
        (
            TokenRequest(url=URL, basic=LOGIN, totp=OneTimePassword(header="t", code=SecretStr("123456"))),
            None, 401, "this machine's clock",
        ),
    ],
)  # fmt: skip
def test_an_answer_leads_to_the_settings_behind_it(grant, error, status, says):
    assert says in advice(grant, CredentialRejected("no", error=error), status)


def test_a_server_that_asks_for_basic_is_heard():
    grant = ClientCredentials(**CLIENT, client_auth="client_secret_post")
    said = advice(grant, CredentialRejected("no"), 401, **{"WWW-Authenticate": "Basic realm=x"})
    assert "`client_auth: client_secret_basic`" in said


def test_the_hint_of_a_preset_goes_first():
    grant = ClientCredentials(**CLIENT, hints=(ReplyHint(say="do that", status=401),))
    assert advice(grant, CredentialRejected("no", hint="do that"), 401) == "do that"


def test_a_login_is_proposed_as_it_is_said():
    assert advice(
        ClientCredentials(**CLIENT), LoginRequired("no", hint="run `authproxy login a`")
    ).startswith("run")


def test_one_that_is_left_alone_says_how_to_try_at_once():
    failure = TokenUnavailable("no", hint="check the credential", retry_after=12.2)
    failure.rejects = True
    said = advice(ClientCredentials(**CLIENT), failure)
    assert said == "check the credential; it is tried again in 13 s, or at once with --retry-rejected"


def test_what_came_in_place_of_a_token_has_its_own_hint():
    assert advice(ClientCredentials(**CLIENT), BadTokenReply("no", hint="look there"), 200) == "look there"
    assert advice(ClientCredentials(**CLIENT), TokenUnavailable("no")) == "check `token_url`"
