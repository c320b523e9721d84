"""`client_credentials`: the whole conversation."""

from authproxy.grants.client_credentials import ClientCredentials

from .talk import TOKEN_URL, answer, hold, make, pairs


def test_one_question_earns_the_token():
    grant = make(ClientCredentials, token_url=TOKEN_URL, client_id="id", client_secret="s")
    (step,), token = hold(grant.flow(None), answer({"access_token": "a", "expires_in": 300}))
    assert (step.method, step.url) == ("POST", TOKEN_URL)
    assert pairs(step) == [("grant_type", "client_credentials")]
    assert (token.value, token.lifetime, token.refresh_token) == ("a", 300, None)


def test_the_request_of_a_code42_api_client():
    grant = make(
        ClientCredentials,
        token_url="https://console.example/api/v3/oauth/token",
        client_id="key-1",
        client_secret="s",
        client_auth="client_secret_basic_raw",
        params_in="query",
    )
    (step,), _ = hold(grant.flow(None), answer({"access_token": "a"}))
    assert step.url == "https://console.example/api/v3/oauth/token?grant_type=client_credentials"
    assert step.body is None
    assert step.headers == {"Accept": "application/json", "Authorization": "Basic a2V5LTE6cw=="}
