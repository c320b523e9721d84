"""A login by a short code: the user is elsewhere, and we ask again and again."""

import pytest
from pydantic import ValidationError

from authproxy.errors import (
    BadTokenReply,
    CredentialRejected,
    LoginRequired,
    TokenTimeout,
    TokenUnavailable,
)
from authproxy.grants.authorization_code import AuthorizationCode
from authproxy.grants.device_code import DeviceCode, device_login
from authproxy.grants.discovery import Server
from authproxy.grants.steps import Ask, Discover, Now, Show, Wait

from .talk import NOW, TOKEN_URL, answer, expired, make, pairs, refusal

DEVICE_URL = "https://id.example/device"
STARTED = {
    "device_code": "s3cr3t-device",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://id.example/activate",
    "verification_uri_complete": "https://id.example/activate?user_code=WDJB-MJHT",
    "expires_in": 900,
    "interval": 4,
}
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"


def device(**keys):
    given = {"token_url": TOKEN_URL, "device_authorization_url": DEVICE_URL, "client_id": "id"}
    return make(DeviceCode, **given | keys)


class Login:
    """A login that is driven by hand; `waits` are the pauses between its questions."""

    def __init__(self, grant=None, started=STARTED):
        self.flow = (grant or device()).login()
        self.asked = next(self.flow)
        self.now = NOW
        self.waits = []
        self.shown = self.flow.send(answer(started))
        self.step = self.flow.send(None)

    def poll(self, reply):
        """Let the pause go by, and answer the question after it; return that question."""
        assert isinstance(self.step, Wait)
        self.waits.append(self.step.seconds)
        self.now += self.step.seconds
        assert self.flow.send(None) == Now()
        ask = self.flow.send(self.now)
        assert isinstance(ask, Ask)
        self.step = self.flow.throw(reply) if isinstance(reply, Exception) else self.flow.send(reply)
        return ask

    def ends_with(self, reply):
        with pytest.raises(StopIteration) as end:
            self.poll(reply)
        return end.value.value


# ── by itself ────────────────────────────────────────────────────────────────────────────────────


def test_without_a_login_there_is_no_token():
    with pytest.raises(LoginRequired):
        next(device().flow(None))


def test_a_refresh_token_keeps_the_login():
    flow = device().flow(expired("r"))
    assert dict(pairs(next(flow)))["grant_type"] == "refresh_token"
    with pytest.raises(StopIteration):
        flow.send(answer({"access_token": "new"}))


def test_a_dead_refresh_token_means_another_login():
    flow = device().flow(expired("r"))
    next(flow)
    with pytest.raises(LoginRequired):
        flow.send(refusal("invalid_grant"))


# ── a login ──────────────────────────────────────────────────────────────────────────────────────


def test_the_user_is_shown_where_to_enter_which_code():
    login = Login(device(scope=["a", "offline_access"], audience="them"))
    assert login.asked.url == DEVICE_URL
    assert pairs(login.asked) == [
        ("scope", "a offline_access"),
        ("audience", "them"),
        ("client_id", "id"),
    ]
    assert login.shown == Show(
        "https://id.example/activate",
        "WDJB-MJHT",
        "https://id.example/activate?user_code=WDJB-MJHT",
        900,
    )


def test_the_token_is_asked_for_until_it_comes():
    login = Login()
    for _ in range(2):
        ask = login.poll(refusal("authorization_pending"))
    assert (ask.url, pairs(ask)) == (
        TOKEN_URL,
        [("grant_type", GRANT_TYPE), ("device_code", "s3cr3t-device"), ("client_id", "id")],
    )
    token = login.ends_with(answer({"access_token": "new", "refresh_token": "r"}))
    assert (token.value, token.refresh_token) == ("new", "r")
    assert login.waits == [4, 4, 4]


def test_slow_down_is_obeyed_from_then_on_and_adds_up():
    login = Login()
    for error in ("slow_down", "authorization_pending", "slow_down", "authorization_pending"):
        login.poll(refusal(error))
    login.ends_with(answer({"access_token": "new"}))
    assert login.waits == [4, 9, 9, 14, 14]


def test_trouble_on_the_way_makes_it_slower_until_an_answer_comes():
    login = Login()
    for trouble in (TokenTimeout("x"), TokenUnavailable("x"), answer(body=b"", status=502)):
        login.poll(trouble)
    login.poll(refusal("authorization_pending"))
    login.ends_with(answer({"access_token": "new"}))
    assert login.waits == [4, 8, 16, 32, 4]


def test_retry_after_is_obeyed():
    login = Login()
    login.poll(answer(body=b"", status=429, headers={"Retry-After": "50"}))
    login.ends_with(answer({"access_token": "new"}))
    assert login.waits == [4, 50]


def test_trouble_does_not_slow_it_down_for_ever():
    login = Login()
    for _ in range(8):
        login.poll(TokenTimeout("x"))
    assert login.waits == [4, 8, 16, 32, 60, 60, 60, 60]


def test_nobody_waits_longer_than_the_code_is_good():
    login = Login(started=STARTED | {"expires_in": 10, "interval": 7})
    login.poll(refusal("authorization_pending"))
    assert login.step == Wait(3)
    login.flow.send(None)
    with pytest.raises(LoginRequired, match="expired before") as caught:
        login.flow.send(NOW + 10)
    assert caught.value.error == "expired_token"


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (refusal("expired_token"), LoginRequired, "expired before"),
        (refusal("invalid_grant"), LoginRequired, "expired before"),
        (refusal("access_denied"), CredentialRejected, "denied the login"),
        (refusal("invalid_client", status=401), CredentialRejected, "invalid_client"),
        (answer(body=b"<html>"), BadTokenReply, "with an HTML page"),
        (answer({"access_token": "x", "token_type": "DPoP"}), BadTokenReply, "DPoP"),
        (
            refusal("invalid_request", error_description="s3cr3t-device?"),
            CredentialRejected,
            "invalid_request",
        ),
    ],
)
def test_what_ends_a_login(reply, error, says):
    with pytest.raises(error, match=says) as caught:
        Login().poll(reply)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "interval", "lifetime"),
    [
        ({"interval": None}, 5, 900),
        ({"interval": -1}, 5, 900),
        ({"interval": "2"}, 2, 900),
        ({"expires_in": None}, 4, 600),
        ({"expires_in": 0}, 4, 600),
    ],
)
def test_what_a_server_leaves_out_is_assumed(more, interval, lifetime):
    login = Login(started=STARTED | more)
    assert (login.step, login.shown.expires_in) == (Wait(interval), lifetime)


def test_an_old_draft_called_the_place_by_another_name():
    started = {name: STARTED[name] for name in ("device_code", "user_code")}
    login = Login(started=started | {"verification_url": "https://id.example/device"})
    assert login.shown.url == "https://id.example/device"
    assert login.shown.complete_url is None


@pytest.mark.parametrize(
    "started",
    [
        {},
        STARTED | {"device_code": ""},
        STARTED | {"user_code": None},
        STARTED | {"verification_uri": "javascript:alert(1)"},
        STARTED | {"verification_uri": "https://id.example/\x1b[2J"},
    ],
)
def test_what_is_no_beginning(started):
    with pytest.raises(BadTokenReply, match="without a device_code"):
        Login(started=started)


def test_what_a_terminal_would_obey_is_not_shown():
    shown = Login(
        started=STARTED | {"user_code": "A\x1b[2JB", "verification_uri_complete": "file:///x"}
    ).shown
    assert (shown.code, shown.complete_url) == ("A [2JB", None)


def test_a_refused_beginning_says_why():
    flow = device().login()
    next(flow)
    with pytest.raises(CredentialRejected, match="unauthorized_client"):
        flow.send(refusal("unauthorized_client"))


def test_the_endpoints_may_be_those_of_an_issuer():
    grant = make(DeviceCode, issuer="https://id.example", client_id="id")
    flow = grant.login()
    assert next(flow) == Discover("https://id.example")
    found = Server(
        issuer="https://id.example", token_url=TOKEN_URL, device_authorization_url="https://id.example/d"
    )
    assert flow.send(found).url == "https://id.example/d"


def test_a_grant_for_browsers_can_log_in_by_code_too_when_its_server_can():
    grant = make(AuthorizationCode, issuer="https://id.example", client_id="id")
    flow = device_login(grant)
    next(flow)
    with pytest.raises(BadTokenReply, match="publishes no device_authorization_url"):
        flow.send(Server(issuer="https://id.example", token_url=TOKEN_URL))


def test_there_must_be_a_device_endpoint():
    with pytest.raises(ValidationError, match="needs device_authorization_url"):
        device(device_authorization_url=None)


def test_a_login_without_a_refresh_token_comes_with_advice():
    assert "offline_access" in device().advice(expired())
    assert device().advice(expired("r")) is None


def test_every_url_is_told():
    assert dict(device().urls()) == {"token_url": TOKEN_URL, "device_authorization_url": DEVICE_URL}
