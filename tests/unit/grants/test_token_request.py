"""`token_request`: the request on the wire, whatever the login endpoint wants."""

import base64
import json
from dataclasses import replace

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from pydantic import ValidationError

from authproxy.errors import BadTokenReply, CredentialRejected, TokenUnavailable
from authproxy.grants.steps import Answer, Ask, Code, Now, UseUp
from authproxy.grants.token_request import TokenRequest
from authproxy.masking import MASK

from .talk import NOW, answer, expired, hold, make, pairs, refusal

URL = "https://api.example/authorization"
FORM = "application/x-www-form-urlencoded"
LOGIN = {"username": "joe", "password": "p&ß"}
KEY = ECKey.generate_key("P-256")
KEY_TEXT = json.dumps(KEY.as_dict(private=True))
ACCEPT = {"Accept": "application/json"}


def login(**keys):
    return make(TokenRequest, **{"url": URL} | keys)


def first(grant, old=None):
    return next(grant.flow(old))


# ── the request ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("keys", "ask"),
    [
        ({}, Ask("POST", URL, ACCEPT, None)),
        (
            {"form": LOGIN},
            Ask("POST", URL, {"Content-Type": FORM} | ACCEPT, b"username=joe&password=p%26%C3%9F"),
        ),
        (
            {"form": LOGIN, "params_in": "query"},
            Ask("POST", f"{URL}?username=joe&password=p%26%C3%9F", ACCEPT),
        ),
        (
            {"form": LOGIN, "query": {"v": "1"}},
            Ask("POST", f"{URL}?v=1", {"Content-Type": FORM} | ACCEPT, b"username=joe&password=p%26%C3%9F"),
        ),
        ({"method": "GET", "query": {"useBody": "true"}}, Ask("GET", f"{URL}?useBody=true", ACCEPT)),
        ({"form": {}}, Ask("POST", URL, {"Content-Type": FORM} | ACCEPT, b"")),
        (
            {"json": {"user": {"name": "joe"}, "n": [1, None]}},
            Ask(
                "POST",
                URL,
                {"Content-Type": "application/json"} | ACCEPT,
                b'{"user": {"name": "joe"}, "n": [1, null]}',
            ),
        ),
        (
            {"headers": {"accept": "*/*", "X-Key": "k"}},
            Ask("POST", URL, {"accept": "*/*", "X-Key": "k"}, None),
        ),
        (
            {"form": {"a": "b"}, "headers": {"content-type": "text/plain"}},
            Ask("POST", URL, {"content-type": "text/plain"} | ACCEPT, b"a=b"),
        ),
    ],
)
def test_the_request_is_what_the_configuration_says(keys, ask):
    assert first(login(**keys)) == ask


def test_name_and_password_as_basic_are_utf_8():
    step = first(login(method="GET", basic={"username": "joe", "password": "p:ß"}))
    assert base64.b64decode(step.headers["Authorization"].removeprefix("Basic ")).decode() == "joe:p:ß"
    assert step.body is None


@pytest.mark.parametrize("method", ["get", "GET /", "", "G T"])
def test_a_method_is_a_word_in_capitals(method):
    with pytest.raises(ValidationError, match="a word in capitals"):
        login(method=method)


def test_a_body_is_a_form_or_json():
    with pytest.raises(ValidationError, match="cannot be used together"):
        login(form=LOGIN, json=LOGIN)


def test_the_url_is_told_because_it_sees_the_credential():
    assert list(login().urls()) == [("url", URL)]


# ── a JWT that says who asks ─────────────────────────────────────────────────────────────────────

JWT = {"issuer_claim": "app-1", "key": KEY_TEXT}


def test_a_jwt_goes_along_as_bearer_and_is_made_for_each_request():
    flow = login(jwt=JWT).flow(None)
    assert next(flow) == Now()
    step = flow.send(NOW)
    scheme, _, sent = step.headers["Authorization"].partition(" ")
    assert (scheme, jwt.decode(sent, KEY).claims["iss"]) == ("Bearer", "app-1")
    assert step.secrets == (sent,)
    again = login(jwt=JWT).flow(None)
    next(again)
    assert again.send(NOW).secrets != (sent,)


def test_the_moment_when_the_token_ends_counts_as_its_lifetime():
    ends = {"token": "t", "expires_at": "2023-11-14T23:13:20Z"}  # an hour after NOW
    _, token = hold(login(jwt=JWT, response={"token": "/token"}).flow(None), NOW, answer(ends, status=201))
    assert (token.value, token.expires_at) == ("t", NOW + 3600)


def test_an_echo_of_the_jwt_is_masked():
    flow = login(jwt=JWT).flow(None)
    next(flow)
    step = flow.send(NOW)
    echo = Answer(json.dumps({"message": step.secrets[0]}).encode(), NOW, URL, 401, secrets=step.secrets)
    with pytest.raises(CredentialRejected) as caught:
        flow.send(echo)
    assert step.secrets[0] not in str(caught.value)


def test_basic_and_a_jwt_are_one_header():
    with pytest.raises(ValidationError, match="both are sent as Authorization"):
        login(jwt=JWT, basic={"username": "joe", "password": "p"})


def test_the_key_is_one_of_its_secrets():
    assert login(jwt=JWT).secrets() == [KEY_TEXT]


# ── the second factor ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "totp",
    [
        {"header": "totp-auth", "secret": "JBSW Y3DP-ehpk3pxp"},
        {"header": "totp-auth", "value": "JBSWY3DPEHPK3PXP"},
    ],
)
def test_a_code_is_made_from_the_secret_for_each_request(totp):
    (code, step), _ = hold(login(totp=totp).flow(None), "123456", answer({"access_token": "a"}))
    assert code == Code("JBSWY3DPEHPK3PXP")
    assert step.headers["totp-auth"] == "123456"


@pytest.mark.parametrize(
    "totp",
    [
        {"header": "totp-auth", "code": "012345"},
        {"header": "totp-auth", "value": "012345"},
    ],
)
def test_a_given_code_is_sent_as_it_is_and_used_up(totp):
    (used_up, step), _ = hold(login(totp=totp).flow(None), None, answer({"access_token": "a"}))
    assert isinstance(used_up, UseUp)
    assert step.headers["totp-auth"] == "012345"
    assert "012345" not in repr(used_up)


@pytest.mark.parametrize(
    "totp",
    [
        {"header": "h"},
        {"header": "h", "secret": "JBSWY3DPEHPK3PXP", "code": "123456"},
        {"header": "h", "code": "12345"},
        {"header": "h", "code": "123456789"},
        {"header": "h", "secret": "not base32!"},
        {"header": "h", "value": 123456},
        {"header": "a b", "code": "123456"},
    ],
)
def test_what_is_no_second_factor_is_refused(totp):
    with pytest.raises(ValidationError):
        login(totp=totp)


# ── the answer ───────────────────────────────────────────────────────────────────────────────────


def test_the_token_is_where_the_configuration_says():
    grant = login(response={"token": ["/v3_user_token", "/data/v3_user_token"]}, default_lifetime="30m")
    _, token = hold(grant.flow(None), answer({"data": {"v3_user_token": "a"}}))
    assert (token.value, token.lifetime) == ("a", 1800)


def test_a_refresh_token_is_not_kept_unless_the_configuration_says_where_it_is():
    reply = answer({"access_token": "a", "refresh_token": "r1"})
    assert hold(login().flow(None), reply)[1].refresh_token is None
    grant = login(response={"refresh_token": "/refresh_token"})
    assert hold(grant.flow(None), reply)[1].refresh_token == "r1"


def test_a_refresh_token_is_traded_in_at_the_same_place():
    (step,), token = hold(
        login(form=LOGIN, headers={"X-Key": "k"}).flow(expired("r1")), answer({"access_token": "b"})
    )
    assert (step.method, step.url) == ("POST", URL)
    assert pairs(step) == [("grant_type", "refresh_token"), ("refresh_token", "r1")]
    assert step.headers == {"Content-Type": FORM, "Accept": "application/json", "X-Key": "k"}
    assert (token.value, token.refresh_token) == ("b", "r1")


@pytest.mark.parametrize(
    "given",
    [
        refusal("invalid_grant"),
        refusal("unknown_session", status=200),
        answer({}, status=401),
        answer({}, status=404),
        answer(body=b"", status=400),
        answer({"message": "hm"}),
    ],
)
def test_whatever_a_login_endpoint_has_against_a_refresh_token_it_is_asked_for_a_login(given):
    (_, step), token = hold(login(form=LOGIN).flow(expired("r1")), given, answer({"access_token": "b"}))
    assert pairs(step) == list(LOGIN.items())
    assert token.value == "b"


def test_a_login_is_not_sent_to_an_endpoint_that_is_down():
    flow = login(form=LOGIN).flow(expired("r1"))
    next(flow)
    with pytest.raises(Exception, match="503"):
        flow.send(answer({}, status=503))


def test_a_page_from_somebody_in_between_is_not_taken_for_the_end_of_a_refresh_token():
    flow = login(form=LOGIN).flow(expired("r1"))
    next(flow)
    with pytest.raises(TokenUnavailable, match="answered 403 with an HTML page"):
        flow.send(answer(body=b"<html>Blocked</html>", status=403))


@pytest.mark.parametrize(
    ("keys", "echo"),
    [
        ({"form": {"password": "s3cr3t&"}}, "s3cr3t&"),
        ({"form": {"password": "s3cr3t&"}}, "s3cr3t%26"),
        ({"query": {"key": "s3cr3t"}}, "s3cr3t"),
        ({"headers": {"X-Key": "s3cr3t"}}, "s3cr3t"),
        ({"json": {"login": [{"password": "s3cr3t"}], "lang": "en"}}, "s3cr3t"),
        ({"basic": {"username": "joe", "password": "s3cr3t"}}, "s3cr3t"),
        ({"basic": {"username": "joe", "password": "s3cr3t"}}, base64.b64encode(b"joe:s3cr3t").decode()),
    ],
)
def test_a_secret_that_the_server_echoes_is_masked(keys, echo):
    flow = login(**keys).flow(None)
    next(flow)
    with pytest.raises(CredentialRejected) as caught:
        flow.send(answer({"message": f"the credential {echo} is wrong"}, status=401))
    assert caught.value.detail == f"https://id.example/token answered 401 the credential {MASK} is wrong"


@pytest.mark.parametrize(
    "keys",
    [
        {"form": {"username": "joe-the-user", "grant_type": "password", "password": "s3cr3t"}},
        {"query": {"user_name": "joe-the-user", "scope": "a password"}, "form": {"pin": "s3cr3t"}},
        {"headers": {"User-Agent": "password", "X-Key": "s3cr3t", "Accept": "the user"}},
        {"json": {"userName": "joe-the-user", "login": {"pin": "s3cr3t", "type": "password", "on": True}}},
        {"json": {"clientId": "joe-the-user", "pin": ["s3cr3t"]}},
        {"basic": {"username": "joe-the-user", "password": "s3cr3t"}},
    ],
)
def test_a_name_is_no_secret(keys):
    flow = login(**keys).flow(None)
    next(flow)
    with pytest.raises(CredentialRejected) as caught:
        flow.send(answer({"message": "the password s3cr3t of joe-the-user is wrong: True"}, status=401))
    assert caught.value.detail.endswith(f"the password {MASK} of joe-the-user is wrong: True")


def test_a_number_in_a_body_may_be_a_secret():
    flow = login(json={"pin": 123456}).flow(None)
    next(flow)
    with pytest.raises(CredentialRejected) as caught:
        flow.send(answer({"message": "123456 is wrong"}, status=401))
    assert caught.value.detail.endswith(f"{MASK} is wrong")


def test_a_missing_second_factor_is_told_by_its_hint():
    hints = [{"contains": "TIME_BASED_ONE_TIME_PASSWORD_REQUIRED", "say": "set totp"}]
    flow = login(hints=hints).flow(None)
    next(flow)
    body = json.dumps([{"name": "TIME_BASED_ONE_TIME_PASSWORD_REQUIRED"}]).encode()
    with pytest.raises(CredentialRejected) as caught:
        flow.send(answer(body=body, status=401))
    assert caught.value.hint == "set totp"


def test_no_secret_is_printed():
    grant = login(json={"password": "s3cr3t"}, headers={"X-Key": "s3cr3t"}, query={"k": "s3cr3t"})
    assert "s3cr3t" not in repr(grant)


def test_an_answer_without_a_token_is_a_failure():
    with pytest.raises(BadTokenReply):
        hold(login().flow(None), answer({"status": "ok"}))


# ── what to check ────────────────────────────────────────────────────────────────────────────────

OTP_NO = answer({"error": [{"primaryErrorKey": "TIME_BASED_ONE_TIME_PASSWORD_INVALID"}]}, status=401)
SECRET = {"header": "totp-auth", "secret": "JBSWY3DPEHPK3PXP"}


@pytest.mark.parametrize(
    ("keys", "given", "hint"),
    [
        ({"totp": SECRET}, OTP_NO, "this machine's clock is right"),
        ({"totp": {"header": "totp-auth", "code": "123456"}}, OTP_NO, "set `totp` to the secret"),
        ({}, OTP_NO, "set `totp`"),
        ({}, answer({}, status=401), "check `basic.username` and `basic.password`"),
        ({"basic": None, "form": LOGIN}, answer({}, status=401), "in `form`, `json` or `query`"),
        ({}, answer({}, status=415), "`form` or `json`"),
        ({}, answer({}, status=404), "check `url`"),
        ({"hints": [{"status": 401, "say": "the vendor's"}]}, answer({}, status=401), "the vendor's"),
        ({"totp": SECRET, "hints": [{"status": 401, "say": "the vendor's"}]}, OTP_NO, "clock"),
        ({"hints": [{"contains": "ONE_TIME", "say": "the vendor's"}]}, OTP_NO, "the vendor's"),
    ],
)
def test_a_no_comes_with_what_to_check(keys, given, hint):
    grant = login(**({"basic": {"username": "joe", "password": "s3cr3t"}} | keys))
    asked = replace(given, setting="url")
    with pytest.raises((CredentialRejected, BadTokenReply)) as caught:
        grant.read_login(asked, grant.response)
    assert hint in caught.value.hint


def test_only_a_code_that_is_made_here_depends_on_the_clock():
    assert login(form=LOGIN, totp=SECRET).checks.clock
    assert not login(form=LOGIN, totp={"header": "totp-auth", "code": "123456"}).checks.clock
