"""An API client earns a token by Basic, with the grant in the query and no body."""

import pytest

from authproxy.demo.accounts import CLIENT_ID

from .talk import CLIENT, ask, basic, call

API_CLIENTS = pytest.mark.parametrize(
    ("system", "path"), [("code42", "/api/v3/oauth/token"), ("incydr", "/v1/oauth")]
)


@API_CLIENTS
async def test_a_raw_basic_credential_and_no_body_earn_a_token_for_15_minutes(
    client, demo, clock, system, path
):
    status, document = await ask(
        client, demo, system, "POST", f"{path}?grant_type=client_credentials", headers=CLIENT
    )
    assert (status, document["token_type"], document["expires_in"]) == (200, "bearer", 900)
    bearer = f"Bearer {document['access_token']}"
    clock.advance(899)
    assert await call(client, demo, system, bearer) == (200, None)
    clock.advance(2)
    status, challenge = await call(client, demo, system, bearer)
    assert status == 401
    assert 'error="invalid_token"' in challenge


@API_CLIENTS
@pytest.mark.parametrize(
    ("method", "query", "request_", "status", "error"),
    [
        ("POST", "?grant_type=client_credentials", {}, 401, "invalid_client"),
        (
            "POST",
            "?grant_type=client_credentials",
            {"headers": {"Authorization": basic(CLIENT_ID, "wrong")}},
            401,
            "invalid_client",
        ),
        # Form-encoded as RFC 6749 §2.3.1 has it, which this vendor does not undo.
        (
            "POST",
            "?grant_type=client_credentials",
            {"headers": {"Authorization": basic(CLIENT_ID, "demo%2Bsecret%2F100%25")}},
            401,
            "invalid_client",
        ),
        (
            "POST",
            "",
            {"headers": CLIENT, "data": {"grant_type": "client_credentials"}},
            400,
            "invalid_request",
        ),
        ("POST", "?grant_type=password", {"headers": CLIENT}, 400, "unsupported_grant_type"),
        ("GET", "?grant_type=client_credentials", {"headers": CLIENT}, 405, "method_not_allowed"),
        (
            "POST",
            "?grant_type=client_credentials",
            {"headers": CLIENT | {"Accept": "text/html"}},
            406,
            "not_acceptable",
        ),
    ],
)
async def test_anything_else_earns_none(client, demo, system, path, method, query, request_, status, error):
    answered, document = await ask(client, demo, system, method, path + query, **request_)
    assert (answered, document["error"]) == (status, error)


@API_CLIENTS
async def test_the_api_refuses_other_tokens(client, demo, system, path):
    assert await call(client, demo, system) == (401, f'Bearer realm="{system}"')
    assert (await call(client, demo, system, "Bearer made-up"))[0] == 401


async def test_one_of_them_has_a_grant_named_and_the_other_does_without_as_its_sdk_names_none(client, demo):
    refused, document = await ask(client, demo, "code42", "POST", "/api/v3/oauth/token", headers=CLIENT)
    assert (refused, document["error"]) == (400, "invalid_request")
    status, document = await ask(client, demo, "incydr", "POST", "/v1/oauth", headers=CLIENT)
    assert (status, document["token_type"]) == (200, "bearer")
