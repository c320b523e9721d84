"""GitHub: personal tokens, and Apps with their JWTs."""

from datetime import datetime

import pytest

from .talk import FOREIGN_KEY, ask, call, signed

PATH = "/app/installations/42/access_tokens"


def jwt(clock, key=None, **changes):
    now = int(clock())
    return signed(key, **{"iss": "Iv1.demo", "iat": now - 60, "exp": now + 480} | changes)


async def exchange(client, demo, token, path=PATH, **headers):
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"} | headers
    return await ask(client, demo, "github", "POST", path, headers=headers)


async def test_an_app_gets_a_token_for_an_installation_for_an_hour(client, demo, clock):
    status, document = await exchange(client, demo, jwt(clock))
    assert status == 201
    ends = datetime.fromisoformat(document["expires_at"]).timestamp()
    assert ends == pytest.approx(clock() + 3600, abs=1)
    for scheme in ("Bearer", "token"):
        assert (await call(client, demo, "github", f"{scheme} {document['token']}"))[0] == 200
    clock.advance(3601)
    assert (await call(client, demo, "github", f"Bearer {document['token']}"))[0] == 401


@pytest.mark.parametrize(
    ("changes", "path", "status", "words"),
    [
        ({"key": FOREIGN_KEY}, PATH, 401, "could not be decoded"),
        ({"iss": "other"}, PATH, 401, "could not be decoded"),
        ({"iat": 0, "exp": 1}, PATH, 401, "'Expiration time'"),
        ({"exp": 2**40}, PATH, 401, "too far in the future"),
        ({}, PATH.replace("42", "43"), 404, "Not Found"),
    ],
)
async def test_another_app_key_time_or_installation_gets_none(
    client, demo, clock, changes, path, status, words
):
    answered, document = await exchange(client, demo, jwt(clock, **changes), path)
    assert answered == status
    assert words in document["message"]


async def test_an_app_is_no_installation(client, demo, clock):
    assert (await call(client, demo, "github", f"Bearer {jwt(clock)}"))[0] == 401


async def test_who_does_not_say_which_program_asks_is_forbidden(client, demo, clock):
    headers = {"Authorization": f"Bearer {jwt(clock)}"}
    for method, path in (("POST", PATH), ("GET", "/user")):
        async with client.request(
            method, f"{demo.systems['github']}{path}", headers=headers, skip_auto_headers=["User-Agent"]
        ) as reply:
            assert reply.status == 403
            assert "User-Agent" in await reply.text()


async def test_a_personal_token_is_taken_until_it_is_revoked(client, demo):
    routes = {route["name"]: route["auth"] for route in demo.config()["routes"]}
    bearer = f"Bearer {routes['github']['token']}"
    assert (await call(client, demo, "github", bearer))[0] == 200
    demo.revoke("github")
    assert (await call(client, demo, "github", bearer))[0] == 401
