"""Each vendor's stand-in takes what the vendor takes, and refuses what the vendor refuses."""

import base64

import pyotp
import pytest

from authproxy.demo.systems import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME, Code42, Up42


def basic(name, password):
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


CLIENT = {"Authorization": basic(CLIENT_ID, CLIENT_SECRET)}
USER = basic(USERNAME, PASSWORD)
TOTP_USER = basic(Code42.totp_user, PASSWORD)
PASSWORD_FORM = {
    "grant_type": "password",
    "client_id": "up42-api",
    "username": USERNAME,
    "password": PASSWORD,
}
LOGIN = {"username": USERNAME, "password": PASSWORD}
API_CLIENTS = pytest.mark.parametrize(
    ("system", "path"), [("code42", "/api/v3/oauth/token"), ("incydr", "/v1/oauth")]
)


async def call(client, demo, system, authorization=None, path="/api/v3/things"):
    """Call the API; return the status and the challenge."""
    headers = {"Authorization": authorization} if authorization else {}
    async with client.get(f"{demo.systems[system]}{path}", headers=headers) as reply:
        return reply.status, reply.headers.get("WWW-Authenticate")


async def ask(client, demo, system, method, path, **request):
    """Ask for a token; return the status and the document."""
    async with client.request(method, f"{demo.systems[system]}{path}", **request) as reply:
        return reply.status, await reply.json()


async def ask_up42(client, demo, **changes):
    form = {name: value for name, value in (PASSWORD_FORM | changes).items() if value is not None}
    return await ask(client, demo, "up42", "POST", Up42.token_path, data=form)


async def ask_user_token(client, demo, authorization=TOTP_USER, **headers):
    return await ask(
        client,
        demo,
        "code42",
        "GET",
        "/api/v3/auth/jwt?useBody=true",
        headers={"Authorization": authorization} | headers,
    )


class TestApiClients:
    @API_CLIENTS
    async def test_a_raw_basic_credential_and_no_body_earn_a_token_for_15_minutes(
        self, client, demo, clock, system, path
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
            ("POST", "", {"headers": CLIENT}, 400, "invalid_request"),
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
    async def test_anything_else_earns_none(
        self, client, demo, system, path, method, query, request_, status, error
    ):
        answered, document = await ask(client, demo, system, method, path + query, **request_)
        assert (answered, document["error"]) == (status, error)

    @API_CLIENTS
    async def test_the_api_refuses_other_tokens(self, client, demo, system, path):
        assert await call(client, demo, system) == (401, f'Bearer realm="{system}"')
        assert (await call(client, demo, system, "Bearer made-up"))[0] == 401


class TestCode42Users:
    async def test_a_user_with_a_code_earns_a_token_for_30_minutes(self, client, demo, clock):
        code = pyotp.TOTP(Code42.totp_secret).at(int(clock()))
        status, document = await ask_user_token(client, demo, **{"totp-auth": code})
        assert (status, document.keys()) == (200, {"data"})
        bearer = f"Bearer {document['data']['v3_user_token']}"
        clock.advance(1799)
        assert (await call(client, demo, "code42", bearer))[0] == 200
        clock.advance(2)
        assert (await call(client, demo, "code42", bearer))[0] == 401

    async def test_a_missing_code_is_asked_for(self, client, demo):
        status, document = await ask_user_token(client, demo)
        assert (status, document["error"][0]["primaryErrorKey"]) == (
            401,
            "TIME_BASED_ONE_TIME_PASSWORD_REQUIRED",
        )

    async def test_a_code_is_good_once(self, client, demo, clock):
        totp = pyotp.TOTP(Code42.totp_secret)
        code = {"totp-auth": totp.at(int(clock()))}
        assert (await ask_user_token(client, demo, **code))[0] == 200
        assert (await ask_user_token(client, demo, **code))[0] == 401
        clock.advance(30)
        assert (await ask_user_token(client, demo, **code))[0] == 401
        assert (await ask_user_token(client, demo, **{"totp-auth": totp.at(int(clock()))}))[0] == 200

    async def test_a_wrong_or_old_code_earns_none(self, client, demo, clock):
        old = pyotp.TOTP(Code42.totp_secret).at(int(clock()) - 90)
        for code in (old, "000000", "not a code"):
            status, document = await ask_user_token(client, demo, **{"totp-auth": code})
            assert status == 401
            assert "INVALID" in document["error"][0]["primaryErrorKey"]

    async def test_a_user_without_a_second_factor_needs_no_code(self, client, demo):
        assert (await ask_user_token(client, demo, USER))[0] == 200

    async def test_a_wrong_password_is_refused_before_any_code(self, client, demo):
        status, document = await ask_user_token(client, demo, basic(Code42.totp_user, "wrong"))
        assert status == 401
        assert "TIME_BASED" not in document["error"][0]["primaryErrorKey"]

    async def test_without_use_body_the_token_is_a_cookie_that_the_api_does_not_take(self, client, demo):
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
    async def test_basic_is_for_v1_and_from_v4_on(self, client, demo, path, status):
        assert (await call(client, demo, "code42", USER, path))[0] == status

    async def test_basic_with_a_wrong_password_is_refused(self, client, demo):
        wrong = basic(USERNAME, "wrong")
        assert await call(client, demo, "code42", wrong, "/api/v1/Computer") == (401, 'Basic realm="code42"')
        assert (await call(client, demo, "code42", TOTP_USER, "/api/v1/Computer"))[0] == 401
        assert (await call(client, demo, "code42", "Basic n*t base64", "/api/v1/Computer"))[0] == 401


class TestCalendar42:
    @pytest.fixture
    def tokens(self, demo):
        return {
            route["name"]: route["auth"]["token"]
            for route in demo.config()["routes"]
            if "token" in route["auth"]
        }

    async def test_each_scheme_takes_its_own_token(self, client, demo, clock, tokens):
        clock.advance(10 * 365 * 86400)
        user, action = tokens["calendar42"], tokens["calendar42-action"]
        assert await call(client, demo, "calendar42", f"Token {user}") == (200, None)
        assert await call(client, demo, "calendar42", f"ActionToken {action}") == (200, None)
        assert await call(client, demo, "calendar42", f"Token {action}") == (403, None)
        assert await call(client, demo, "calendar42", f"ActionToken {user}") == (403, None)

    async def test_no_token_is_401_and_a_wrong_one_403(self, client, demo, tokens):
        assert await call(client, demo, "calendar42") == (401, "Token")
        assert await call(client, demo, "calendar42", f"Bearer {tokens['calendar42']}") == (401, "Token")
        assert await call(client, demo, "calendar42", "Token made-up") == (403, None)


class TestUp42:
    async def test_a_password_earns_a_token_for_5_minutes(self, client, demo, clock):
        status, document = await ask_up42(client, demo)
        assert (status, document["expires_in"], document["refresh_expires_in"]) == (200, 300, 1800)
        bearer = f"Bearer {document['access_token']}"
        assert (await call(client, demo, "up42", bearer))[0] == 200
        clock.advance(301)
        assert (await call(client, demo, "up42", bearer))[0] == 401

    async def test_a_refresh_token_is_good_once_and_for_30_minutes(self, client, demo, clock):
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
    async def test_wrong_parameters_earn_none(self, client, demo, changes, status, error):
        answered, document = await ask_up42(client, demo, **changes)
        assert (answered, document["error"]) == (status, error)

    async def test_a_wrong_password_is_told_as_keycloak_does(self, client, demo):
        assert await ask_up42(client, demo, password="wrong") == (
            401,
            {"error": "invalid_grant", "error_description": "Invalid user credentials"},
        )

    @pytest.mark.parametrize("request_", [{"json": PASSWORD_FORM}, {"params": PASSWORD_FORM}])
    async def test_another_media_type_is_415(self, client, demo, request_):
        status, _ = await ask(client, demo, "up42", "POST", Up42.token_path, **request_)
        assert status == 415

    async def test_parameters_in_the_query_do_not_count(self, client, demo):
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


class TestPasswordLogin:
    @pytest.mark.parametrize("where", ["data", "params"])
    async def test_a_form_or_a_query_earns_a_token_for_an_hour(self, client, demo, clock, where):
        status, document = await ask(client, demo, "login", "POST", "/authorization", **{where: LOGIN})
        assert (status, document["expires_in"]) == (200, 3600)
        bearer = f"Bearer {document['access_token']}"
        assert (await call(client, demo, "login", bearer))[0] == 200
        clock.advance(3601)
        assert (await call(client, demo, "login", bearer))[0] == 401

    @pytest.mark.parametrize(
        ("method", "request_", "status"),
        [
            ("POST", {"data": LOGIN | {"password": "wrong"}}, 401),
            ("POST", {"params": LOGIN | {"username": "nobody"}}, 401),
            ("POST", {"data": {"username": USERNAME}}, 400),
            ("POST", {}, 400),
            ("POST", {"json": LOGIN}, 415),
            ("GET", {"params": LOGIN}, 405),
        ],
    )
    async def test_anything_else_earns_none(self, client, demo, method, request_, status):
        assert (await ask(client, demo, "login", method, "/authorization", **request_))[0] == status
