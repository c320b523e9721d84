"""Code42's users, with a second factor or without, and its Basic."""

import pyotp
import pytest

from authproxy.demo.accounts import PASSWORD, USERNAME
from authproxy.demo.systems.code42 import Code42

from .talk import USER, ask, basic, call

TOTP_USER = basic(Code42.totp_user, PASSWORD)


async def ask_user_token(client, demo, authorization=TOTP_USER, use_body="true", **headers):
    return await ask(
        client,
        demo,
        "code42",
        "GET",
        f"/api/v3/auth/jwt?useBody={use_body}",
        headers={"Authorization": authorization} | headers,
    )


async def test_a_user_with_a_code_earns_a_token_for_30_minutes(client, demo, clock):
    code = pyotp.TOTP(Code42.totp_secret).at(int(clock()))
    status, document = await ask_user_token(client, demo, **{"totp-auth": code})
    assert (status, document.keys()) == (200, {"data"})
    bearer = f"Bearer {document['data']['v3_user_token']}"
    clock.advance(1799)
    assert (await call(client, demo, "code42", bearer))[0] == 200
    clock.advance(2)
    assert (await call(client, demo, "code42", bearer))[0] == 401


async def test_its_sdk_spells_true_as_python_does(client, demo):
    status, document = await ask_user_token(client, demo, USER, use_body="True")
    assert (status, document["data"].keys()) == (200, {"v3_user_token"})


async def test_a_missing_code_is_asked_for(client, demo):
    status, document = await ask_user_token(client, demo)
    assert (status, document["error"][0]["primaryErrorKey"]) == (
        401,
        "TIME_BASED_ONE_TIME_PASSWORD_REQUIRED",
    )


async def test_a_code_is_good_once(client, demo, clock):
    totp = pyotp.TOTP(Code42.totp_secret)
    code = {"totp-auth": totp.at(int(clock()))}
    assert (await ask_user_token(client, demo, **code))[0] == 200
    assert (await ask_user_token(client, demo, **code))[0] == 401
    clock.advance(30)
    assert (await ask_user_token(client, demo, **code))[0] == 401
    assert (await ask_user_token(client, demo, **{"totp-auth": totp.at(int(clock()))}))[0] == 200


async def test_a_wrong_or_old_code_earns_none(client, demo, clock):
    old = pyotp.TOTP(Code42.totp_secret).at(int(clock()) - 90)
    for code in (old, "000000", "not a code"):
        status, document = await ask_user_token(client, demo, **{"totp-auth": code})
        assert status == 401
        assert "INVALID" in document["error"][0]["primaryErrorKey"]


async def test_a_user_without_a_second_factor_needs_no_code(client, demo):
    assert (await ask_user_token(client, demo, USER))[0] == 200


async def test_a_wrong_password_is_refused_before_any_code(client, demo):
    status, document = await ask_user_token(client, demo, basic(Code42.totp_user, "wrong"))
    assert status == 401
    assert "TIME_BASED" not in document["error"][0]["primaryErrorKey"]


async def test_without_use_body_the_token_is_a_cookie_that_the_api_does_not_take(client, demo):
    async with client.get(
        f"{demo.systems['code42']}/api/v3/auth/jwt", headers={"Authorization": USER}
    ) as reply:
        assert (reply.status, await reply.read()) == (200, b"")
        assert "C42_JWT_API_TOKEN" in reply.cookies
    assert (await call(client, demo, "code42"))[0] == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/Computer", 200),
        ("/api/v4/user", 200),
        ("/api/v12/user", 200),
        ("/api/v3/user", 401),
        ("/api/v2/user", 401),
        ("/api/v10x/user", 401),
    ],
)
async def test_basic_is_for_v1_and_from_v4_on(client, demo, path, status):
    assert (await call(client, demo, "code42", USER, path))[0] == status


async def test_basic_with_a_wrong_password_is_refused(client, demo):
    wrong = basic(USERNAME, "wrong")
    assert await call(client, demo, "code42", wrong, "/api/v1/Computer") == (401, 'Basic realm="code42"')
    assert (await call(client, demo, "code42", TOTP_USER, "/api/v1/Computer"))[0] == 401
    assert (await call(client, demo, "code42", "Basic n*t base64", "/api/v1/Computer"))[0] == 401
