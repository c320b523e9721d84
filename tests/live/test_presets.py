"""The systems served out of the box: what goes over the wire, and what a wrong credential costs."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from tests.support.command import authproxy, running_proxy
from tests.support.wire import Message, Wire, json_reply, reply

from .conftest import Place

AWKWARD = "s3cret+/ %&=é"
REQUESTS = 12
TRANSPORT = {"host", "user-agent", "content-length", "connection"}  # of an HTTP client, not of the protocol


@dataclass
class Case:
    """A preset: its `auth` in the file, and what it says to the token endpoint at `target`."""

    auth: dict[str, Any]
    method: str
    target: str
    headers: dict[str, str]
    answer: dict[str, Any]
    basic: str | None = None
    form: dict[str, str] = field(default_factory=dict)


CASES = {
    "code42-api-client": Case(
        {"client_id": "key-42", "client_secret": AWKWARD},
        "POST",
        "/api/v3/oauth/token?grant_type=client_credentials",
        {"accept": "application/json"},
        {"access_token": "TOKEN", "token_type": "bearer", "expires_in": 900},
        basic=f"key-42:{AWKWARD}",
    ),
    "incydr-api-client": Case(
        {"client_id": "key-42", "client_secret": AWKWARD},
        "POST",
        "/v1/oauth?grant_type=client_credentials",
        {"accept": "application/json"},
        {"access_token": "TOKEN", "token_type": "bearer", "expires_in": 900},
        basic=f"key-42:{AWKWARD}",
    ),
    "code42-user": Case(
        {"username": "me@example.com", "password": AWKWARD, "totp": "123456"},
        "GET",
        "/api/v3/auth/jwt?useBody=true",
        {"accept": "application/json", "totp-auth": "123456"},
        {"data": {"v3_user_token": "TOKEN"}},
        basic=f"me@example.com:{AWKWARD}",
    ),
    "up42": Case(
        {
            "username": "me@example.com",
            "password": AWKWARD,
            "token_url": "{api}/realms/public/protocol/openid-connect/token",
        },
        "POST",
        "/realms/public/protocol/openid-connect/token",
        {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"},
        {"access_token": "TOKEN", "token_type": "Bearer", "expires_in": 300, "refresh_token": "r"},
        form={
            "grant_type": "password",
            "client_id": "up42-api",
            "username": "me@example.com",
            "password": AWKWARD,
        },
    ),
    "password-login": Case(
        {"username": "me@example.com", "password": AWKWARD},
        "POST",
        "/authorization",
        {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"},
        {"access_token": "TOKEN", "token_type": "bearer", "expires_in": "3600"},
        form={"username": "me@example.com", "password": AWKWARD},
    ),
}
OF_ANOTHER_KIND = {
    "code42-basic", "calendar42-user-token", "calendar42-action-token", "calendar42-oauth",
    "calendar42-silent-oauth",
}  # fmt: skip
WELL_KNOWN = {  # test_presets_stand_ins.py has them
    "keycloak", "auth0-m2m", "okta-m2m", "entra-client-credentials", "google-service-account", "github-token",
    "github-app", "gitlab-token", "salesforce-jwt", "spotify-client-credentials", "zoom-server-to-server",
    "atlassian-api-token", "sentinel-hub", "planet", "copernicus-dataspace",
}  # fmt: skip


class Vendor:
    """An API that hands out its tokens itself. `logins` are the requests for a token, `calls` the others."""

    def __init__(self, case: Case) -> None:
        self.path = case.target.partition("?")[0]
        self.logins: list[Message] = []
        self.calls: list[Message] = []
        self.login: Callable[[], bytes] = lambda: json_reply(case.answer)

    def __call__(self, request: Message, _wire: Wire) -> bytes:
        if request.path == self.path:
            self.logins.append(request)
            return self.login()
        self.calls.append(request)
        return reply(body=b"fine")


def on_a_route_with(preset: str, **more: Any) -> Any:
    return pytest.param(
        preset,
        marks=pytest.mark.route(auth={"preset": preset, **CASES[preset].auth, **more}),
        id=preset,
    )


EACH_PRESET = [on_a_route_with(name) for name in CASES]


def behind(place: Place, preset: str) -> Vendor:
    vendor = Vendor(CASES[preset])
    place.api.answer = vendor
    return vendor


def test_every_preset_is_proved_here() -> None:
    listed = json.loads(authproxy("presets", "--json").stdout)
    assert {each["name"] for each in listed} == CASES.keys() | OF_ANOTHER_KIND | WELL_KNOWN


@pytest.mark.parametrize("preset", EACH_PRESET)
def test_the_token_request_is_what_the_vendor_documents_and_is_made_once(place: Place, preset: str) -> None:
    case, vendor = CASES[preset], behind(place, preset)
    answers = [place.get(f"/things/{number}") for number in range(REQUESTS)]
    assert [answer.status for answer in answers] == [200] * REQUESTS
    (login,) = vendor.logins
    assert (login.method, login.target) == (case.method, case.target)
    sent = {name: login.one(name) for name in login.names if name not in TRANSPORT | {"authorization"}}
    assert sent == case.headers
    if case.basic is None:
        assert "authorization" not in login.names
        assert login.form == case.form
    else:
        assert login.basic == case.basic
        assert login.body == b""
    assert [call.one("Authorization") for call in vendor.calls] == ["Bearer TOKEN"] * REQUESTS


@pytest.mark.route(auth={"preset": "code42-user", "username": "me", "password": "pw-of-a-flat-reply"})
def test_a_code42_user_token_may_stand_at_the_top_level_and_needs_no_second_factor(place: Place) -> None:
    vendor = behind(place, "code42-user")
    vendor.login = lambda: json_reply({"v3_user_token": "FLAT"})
    assert place.get("/api/v1/User/my").status == 200
    assert "totp-auth" not in vendor.logins[0].names
    assert vendor.calls[0].one("Authorization") == "Bearer FLAT"


@pytest.mark.route(
    auth={
        "preset": "password-login",
        "username": "me",
        "password": "pw&in=the query",
        "params_in": "query",
    }
)
def test_password_login_puts_its_parameters_in_the_query_when_told_to(
    place: Place,
) -> None:
    vendor = behind(place, "password-login")
    assert place.get("/items").status == 200
    (login,) = vendor.logins
    assert login.target == "/authorization?username=me&password=pw%26in%3Dthe+query"
    assert login.body == b""
    assert "content-type" not in login.names


# ── a wrong credential ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preset", EACH_PRESET)
def test_a_wrong_credential_is_tried_once_and_said_plainly(place: Place, preset: str) -> None:
    vendor = behind(place, preset)
    vendor.login = lambda: json_reply({"error": "invalid_grant"}, 401, 'WWW-Authenticate: Basic realm="x"')

    first = place.get("/things")
    assert first.status == 502
    assert first.one("Content-Type") == "application/problem+json"
    assert first.proxy_error == "proxy_configuration_error"
    problem = first.json
    assert problem["status"] == 502
    assert problem["route"] == place.name
    assert problem["error"] == "invalid_grant"
    assert problem["title"]
    assert problem["detail"]
    assert "check" in problem["hint"]
    assert AWKWARD.encode() not in first.body

    for _ in range(3):
        later = place.get("/things")
        assert later.status == 503
        assert later.proxy_error == "destination_unavailable"
        assert 0 < int(later.one("Retry-After") or 0) <= 60
        assert later.json["hint"] == problem["hint"]
    assert len(vendor.logins) == 1, "another try could lock the account"
    assert vendor.calls == [], "nothing is sent to the API without its token"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        pytest.param(
            status,
            says,
            id=str(status),
            marks=pytest.mark.route(
                auth={"preset": "up42", **CASES["up42"].auth, "username": f"{status}@example.com"}
            ),
        )
        for status, says in [(401, "password"), (404, "auth.sa.up42.com"), (415, "form")]
    ],
)
def test_up42_gets_a_hint_of_its_own_for_each_refusal(place: Place, status: int, says: str) -> None:
    vendor = behind(place, "up42")
    vendor.login = lambda: reply(status, "Content-Type: text/html", body=b"<html>no</html>")
    answer = place.get("/v2/assets")
    assert answer.status == 502
    assert says in answer.json["hint"]
    assert place.get("/v2/assets").status == 503
    assert len(vendor.logins) == 1
    assert vendor.calls == []


@pytest.mark.route(auth={"preset": "code42-user", "username": "me", "password": "pw-without-a-factor"})
def test_a_missing_second_factor_becomes_a_hint_to_set_totp(place: Place) -> None:
    vendor = behind(place, "code42-user")
    vendor.login = lambda: json_reply(
        {"error": [{"primaryErrorKey": "TIME_BASED_ONE_TIME_PASSWORD_REQUIRED"}]}, 401
    )
    answer = place.get("/api/v1/User/my")
    assert answer.status == 502
    assert "totp" in answer.json["hint"]
    assert len(vendor.logins) == 1


@pytest.mark.parametrize(
    ("keys", "warning"),
    [
        ({"upstream": "https://api.up42.com"}, "set `auth_host: auth.up42.com`"),
        ({"upstream": "https://api.up42.com", "auth_host": "auth.up42.com"}, None),
        ({"upstream": "https://api.sa.up42.com"}, None),
        ({"upstream": "https://api.example.com"}, "check upstream and auth_host"),
    ],
)
def test_up42_warns_at_the_start_when_the_hosts_do_not_belong_together(
    keys: dict[str, str], warning: str | None
) -> None:
    auth = {"preset": "up42", "username": "me@example.com", "password": AWKWARD}
    auth |= {key: value for key, value in keys.items() if key != "upstream"}
    route = {"name": "up42", "upstream": keys["upstream"], "auth": auth}
    with running_proxy({"routes": [route]}) as proxy:
        assert proxy.stop() == 0
        warnings = [line for line in proxy.log().splitlines() if "auth_host" in line]
    assert [warning in line and "route=up42" in line for line in warnings] == ([True] if warning else [])


# ── tokens that do not change ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scheme", "status"),
    [
        pytest.param(
            scheme,
            200,
            id=scheme,
            marks=pytest.mark.route(auth={"preset": preset, "token": f"handed-out-{preset}"}),
        )
        for scheme, preset in [("Token", "calendar42-user-token"), ("ActionToken", "calendar42-action-token")]
    ],
)
def test_a_calendar42_token_goes_out_under_its_scheme(place: Place, scheme: str, status: int) -> None:
    assert place.get("/app/django/api/v2/events/").status == status
    (sent,) = place.api.requests
    kind = "user" if scheme == "Token" else "action"
    assert sent.one("Authorization") == f"{scheme} handed-out-calendar42-{kind}-token"


@pytest.mark.route(auth={"preset": "calendar42-user-token", "token": "handed-out-and-wrong"})
def test_a_static_token_that_is_refused_is_not_sent_again(place: Place) -> None:
    place.api.says(reply("401 Unauthorized", "WWW-Authenticate: Token", body=b'{"detail":"Invalid token."}'))
    answer = place.get("/events/")
    assert (answer.status, answer.body) == (401, b'{"detail":"Invalid token."}')
    assert answer.one("WWW-Authenticate") == "Token"
    assert answer.proxy_error is None
    assert len(place.api.requests) == 1


# ── Calendar42 with OAuth ────────────────────────────────────────────────────────────────────────

REDIRECT = "https://app.example.com/back"
CONSENTED = {
    "preset": "calendar42-oauth", "client_id": "c42", "client_secret": "c42-s3cret", "service": "77"
}  # fmt: skip
SILENT = {
    **CONSENTED,
    "preset": "calendar42-silent-oauth",
    "email_address": "sand+box@example.com",
    "redirect_uri": REDIRECT,
}


class Calendar42:
    """The vendor's OAuth, which sends an unknown address back with a code at once."""

    def __init__(self) -> None:
        self.asked: list[Message] = []
        self.redeemed: list[Message] = []
        self.calls: list[Message] = []
        self.good: set[str] = set()
        self.send_back: Callable[[dict[str, str]], bytes] = lambda query: self.back(state=query["state"])

    def back(self, **query: str) -> bytes:
        return reply("302 Found", f"Location: {REDIRECT}?{urlencode({'code': 'c0de', **query})}")

    def __call__(self, request: Message, _wire: Wire) -> bytes:
        if request.path == "/oauth2/authorize/":
            self.asked.append(request)
            return self.send_back(dict(parse_qsl(request.target.partition("?")[2])))
        if request.path == "/oauth2/token/":
            self.redeemed.append(request)
            token = f"c42-token-{len(self.redeemed)}"
            self.good.add(f"Bearer {token}")
            return json_reply({"access_token": token, "token_type": "Bearer", "expires_in": 3600})
        self.calls.append(request)
        return reply(body=b"fine") if request.one("Authorization") in self.good else reply(403)


@pytest.mark.route(auth=SILENT)
def test_silent_oauth_completes_by_itself_and_again_after_the_vendors_403(place: Place) -> None:
    vendor = place.api.answer = Calendar42()
    assert [place.get("/api/v2/events/").status for _ in range(3)] == [200] * 3
    (asked,), (redeemed,) = vendor.asked, vendor.redeemed
    query = dict(parse_qsl(asked.target.partition("?")[2]))
    assert asked.method == "GET"
    assert query["response_type"] == "code"
    assert query["client_id"] == "c42"
    assert query["redirect_uri"] == REDIRECT
    assert query["email_address"] == "sand+box@example.com"
    assert query["scope"] == "service.read"
    assert query["state"]
    assert query["code_challenge_method"] == "S256"
    assert "c42-s3cret" not in asked.target
    form = redeemed.form
    assert (redeemed.method, form["grant_type"], form["code"]) == ("POST", "authorization_code", "c0de")
    assert (form["client_id"], form["client_secret"], form["service"]) == ("c42", "c42-s3cret", "77")
    assert form["redirect_uri"] == REDIRECT
    digest = sha256(form["code_verifier"].encode()).digest()
    assert query["code_challenge"] == urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert "authorization" not in asked.names + redeemed.names

    vendor.good.clear()
    assert place.get("/api/v2/events/").status == 200
    assert (len(vendor.asked), len(vendor.redeemed)) == (2, 2)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(answer, id=name, marks=pytest.mark.route(auth={**SILENT, "client_id": name}))
        for name, answer in {
            "a-login-page": lambda _vendor, _query: reply(body=b"<form>log in</form>"),
            "a-redirect-to-one": lambda _vendor, _query: reply(302, "Location: /login/?next=x"),
            "login-required": lambda _vendor, query: reply(
                302, f"Location: {REDIRECT}?error=login_required&state={query['state']}"
            ),
            "another-state": lambda vendor, _query: vendor.back(state="somebody-elses"),
            "no-state": lambda vendor, _query: vendor.back(),
            "somewhere-else": lambda _vendor, query: reply(
                302, f"Location: https://evil.example/back?code=c0de&state={query['state']}"
            ),
        }.items()
    ],
)
def test_silent_oauth_redeems_no_code_but_its_own(
    place: Place, answer: Callable[[Calendar42, dict[str, str]], bytes]
) -> None:
    vendor = place.api.answer = Calendar42()
    vendor.send_back = lambda query: answer(vendor, query)
    first = place.get("/api/v2/events/")
    assert first.status in {502, 503}
    assert first.proxy_error
    assert place.get("/api/v2/events/").status == 503
    assert vendor.redeemed == []
    assert vendor.calls == []
    assert len(vendor.asked) == 1, "it is left alone for a while"


@pytest.mark.route(auth=CONSENTED)
def test_a_route_that_needs_a_login_says_how_to_log_in(place: Place) -> None:
    vendor = place.api.answer = Calendar42()
    answer = place.get("/api/v2/events/")
    assert answer.status == 503
    assert answer.proxy_error == "destination_unavailable"
    assert answer.one("Retry-After")
    assert f"authproxy login {place.name}" in answer.json["hint"]
    assert vendor.asked == vendor.redeemed == vendor.calls == []


# ── Code42 with Basic ────────────────────────────────────────────────────────────────────────────

CODE42_BASIC = {"preset": "code42-basic", "username": "me@example.com", "password": AWKWARD}


@pytest.mark.route(auth=CODE42_BASIC)
@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/Computer?active=true",
        "/api/v3/auth/jwt",
        "/api/v3/auth/jwt?useBody=true",
        "/api/v4/user",
        "/api/v12/x",
        "/api/User",
        "/api/v31/x",
    ],
)
def test_code42_basic_sends_basic_where_the_vendor_takes_it(place: Place, target: str) -> None:
    assert place.get(target).status == 200
    (sent,) = place.api.requests
    assert sent.target == target
    assert sent.basic == f"me@example.com:{AWKWARD}"


@pytest.mark.route(auth=CODE42_BASIC)
@pytest.mark.parametrize(
    "target",
    [
        "/api/v3",
        "/api/v3/",
        "/api/v3/users",
        "/api/v3/auth/jwt/more",
        "/api/v3/auth/jwt/../../users",
        "/api/%763/x",
        "/api//v3/x",
        "/api/./v3/x",
        "/api/v1/../v3/x",
        "/api/v1/%2e%2e/v3/x",
        "/api%2Fv3/x",
        "/api%2fv3%2fx",
        "//api/v3/x",
        "/%61pi/v3/x",
        "/api\\v3\\x",
        "/api/v3;x=1/users",
        "/x/../api/v3/users?y",
    ],
)
def test_code42_basic_never_leaves_for_v3_however_that_is_spelled(place: Place, target: str) -> None:
    answer = place.get(target)
    assert answer.status == 403
    assert answer.proxy_error == "http_request_denied"
    assert "code42-user" in answer.json["hint"]
    assert place.api.requests == []


@pytest.mark.route(auth=CODE42_BASIC)
def test_code42_basic_warns_at_the_start_that_it_is_deprecated(place: Place) -> None:
    assert place.proxy is not None
    warnings = [line for line in place.proxy.log().splitlines() if "deprecated" in line]
    assert any(place.name in line and "warning" in line for line in warnings)
