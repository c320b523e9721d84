"""Microsoft Entra ID: each no has a number."""

import pytest

from authproxy.demo.systems.entra import Entra

from .talk import CLIENT_FORM, call, is_let_in, post

PATH = f"/{Entra.tenant}/oauth2/v2.0/token"
FORM = CLIENT_FORM | {"scope": Entra.scope}


async def test_an_application_gets_a_token_for_an_hour(client, demo):
    status, document = await post(client, demo, "entra", PATH, FORM)
    assert (status, document["expires_in"]) == (200, 3599)
    assert await is_let_in(client, demo, "entra", document["access_token"])


@pytest.mark.parametrize(
    ("path", "changes", "status", "number"),
    [
        (PATH.replace("demo", "other"), {}, 400, "AADSTS90002"),
        (PATH, {"client_secret": "wrong"}, 401, "AADSTS7000215"),
        (PATH, {"client_id": "other"}, 400, "AADSTS700016"),
        (PATH, {"grant_type": "password"}, 400, "AADSTS70003"),
        (PATH, {"scope": "User.Read"}, 400, "AADSTS1002012"),
        (PATH, {"scope": "https://other.example/.default"}, 400, "AADSTS500011"),
        (PATH, {"scope": None}, 400, "AADSTS1002012"),
    ],
)
async def test_each_no_has_its_number(client, demo, path, changes, status, number):
    answered, document = await post(client, demo, "entra", path, FORM | changes)
    assert answered == status
    assert document["error_description"].startswith(f"{number}:")


async def test_the_api_challenges_who_has_no_token(client, demo):
    assert await call(client, demo, "entra") == (401, 'Bearer realm="entra"')
