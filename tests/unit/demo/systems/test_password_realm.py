"""A realm with passwords, and refresh tokens that rotate; UP42 has one."""

import json

import pytest

from authproxy.demo.accounts import PASSWORD, USERNAME
from authproxy.demo.systems.up42 import Up42

from .talk import ask, call

PASSWORD_FORM = {
    "grant_type": "password",
    "client_id": "up42-api",
    "username": USERNAME,
    "password": PASSWORD,
}


async def ask_up42(client, demo, **changes):
    form = {name: value for name, value in (PASSWORD_FORM | changes).items() if value is not None}
    return await ask(client, demo, "up42", "POST", Up42.token_path, data=form)


async def test_a_password_earns_a_token_for_5_minutes(client, demo, clock):
    status, document = await ask_up42(client, demo)
    assert (status, document["expires_in"], document["refresh_expires_in"]) == (200, 300, 1800)
    bearer = f"Bearer {document['access_token']}"
    assert (await call(client, demo, "up42", bearer))[0] == 200
    clock.advance(301)
    assert (await call(client, demo, "up42", bearer))[0] == 401


async def test_a_refresh_token_is_good_once_and_for_30_minutes(client, demo, clock):
    async def refresh(token):
        changes = {"grant_type": "refresh_token", "refresh_token": token}
        return await ask_up42(client, demo, username=None, password=None, **changes)

    first = (await ask_up42(client, demo))[1]["refresh_token"]
    clock.advance(1799)
    status, document = await refresh(first)
    assert status == 200
    assert document["refresh_token"] != first
    assert (await call(client, demo, "up42", f"Bearer {document['access_token']}"))[0] == 200
    status, error = await refresh(first)
    assert (status, error["error"]) == (400, "invalid_grant")
    clock.advance(1801)
    assert (await refresh(document["refresh_token"]))[0] == 400


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"password": "wrong"}, 401, "invalid_grant"),
        ({"username": "nobody"}, 401, "invalid_grant"),
        ({"password": None}, 401, "invalid_request"),
        ({"grant_type": None}, 401, "invalid_request"),
        ({"client_id": None}, 401, "invalid_request"),
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
    ],
)
async def test_wrong_parameters_earn_none(client, demo, changes, status, error):
    answered, document = await ask_up42(client, demo, **changes)
    assert (answered, document["error"]) == (status, error)


async def test_a_wrong_password_is_told_as_keycloak_does(client, demo):
    assert await ask_up42(client, demo, password="wrong") == (
        401,
        {"error": "invalid_grant", "error_description": "Invalid user credentials"},
    )


@pytest.mark.parametrize("request_", [{"json": PASSWORD_FORM}, {"params": PASSWORD_FORM}])
async def test_another_media_type_is_415(client, demo, request_):
    status, _ = await ask(client, demo, "up42", "POST", Up42.token_path, **request_)
    assert status == 415


async def test_parameters_in_the_query_do_not_count(client, demo):
    status, _ = await ask(
        client,
        demo,
        "up42",
        "POST",
        Up42.token_path,
        params=PASSWORD_FORM,
        data={"grant_type": "password"},
    )
    assert status == 401


def test_an_expired_session_goes_on_by_its_refresh_token_and_a_revoked_one_does_not():
    for spoil, status in ((Up42.expire, 200), (Up42.revoke, 400)):
        up42 = Up42()
        document = json.loads(up42._session().body)
        spoil(up42)
        assert not up42.tokens.knows(document["access_token"])
        form = {"refresh_token": document["refresh_token"]}
        assert up42._for_refresh_token(form).status == status
