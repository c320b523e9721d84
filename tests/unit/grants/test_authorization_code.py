"""A login in a browser: what goes out with it, and what of what comes back is believed."""

from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from pydantic import ValidationError

from authproxy.errors import BadTokenReply, CredentialRejected, LoginRequired, TokenUnavailable
from authproxy.grants.authorization_code import AuthorizationCode, challenge
from authproxy.grants.discovery import Server
from authproxy.grants.steps import Ask, Callback, Discover, Show

from .talk import TOKEN_URL, answer, expired, make, pairs, refusal

AUTHORIZATION_URL = "https://id.example/authorize"
REDIRECT_URI = "http://127.0.0.1:8081/callback"
ISSUER = "https://id.example"


def code_grant(**keys):
    given = {"token_url": TOKEN_URL, "authorization_url": AUTHORIZATION_URL, "client_id": "id"}
    return make(AuthorizationCode, **given | keys)


def query_of(url):
    found = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(found)) == len(found)
    return dict(found)


class Login:
    """A login that is driven by hand up to the callback."""

    def __init__(self, grant=None, server=None):
        self.flow = (grant or code_grant()).login(REDIRECT_URI)
        show = next(self.flow)
        if server is not None:
            assert show == Discover(ISSUER)
            show = self.flow.send(server)
        assert isinstance(show, Show)
        self.url = show.url
        self.sent = query_of(show.url)
        assert self.flow.send(None) == Callback(self.sent["state"])

    def comes_back(self, **query):
        return self.flow.send({"state": self.sent["state"]} | query)


# ── what goes out ────────────────────────────────────────────────────────────────────────────────


def test_the_user_is_sent_to_the_authorization_url():
    login = Login(
        code_grant(scope=["a", "b c"], audience="them", authorization_params={"prompt": "login", "x": "&"})
    )
    assert login.url.startswith(f"{AUTHORIZATION_URL}?")
    state, code_challenge = login.sent.pop("state"), login.sent.pop("code_challenge")
    assert login.sent == {
        "response_type": "code",
        "client_id": "id",
        "redirect_uri": REDIRECT_URI,
        "code_challenge_method": "S256",
        "scope": "a b c",
        "audience": "them",
        "prompt": "login",
        "x": "&",
    }
    assert len(state) >= 43
    assert len(code_challenge) == 43


def test_a_query_of_the_authorization_url_is_kept():
    login = Login(code_grant(authorization_url=f"{AUTHORIZATION_URL}?tenant=x"))
    assert login.sent["tenant"] == "x"


def test_no_two_logins_are_alike():
    one, other = Login(), Login()
    assert one.sent["state"] != other.sent["state"]
    assert one.sent["code_challenge"] != other.sent["code_challenge"]


def test_the_challenge_is_that_of_rfc_7636_appendix_b():
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_configured_redirect_uri_is_the_default():
    grant = code_grant(redirect_uri="https://app.example/back")
    assert query_of(next(grant.login()).url)["redirect_uri"] == "https://app.example/back"
    with pytest.raises(ValueError, match="needs a redirect URI"):
        next(code_grant().login())


# ── what comes back ──────────────────────────────────────────────────────────────────────────────


def test_the_code_is_redeemed_with_the_verifier():
    login = Login(code_grant(scope="a", params={"service": "s"}))
    ask = login.comes_back(code="c0de")
    form = dict(pairs(ask))
    verifier = form.pop("code_verifier")
    assert 43 <= len(verifier) <= 128
    assert challenge(verifier) == login.sent["code_challenge"]
    assert (ask.url, form) == (
        TOKEN_URL,
        {
            "grant_type": "authorization_code",
            "code": "c0de",
            "redirect_uri": REDIRECT_URI,
            "client_id": "id",
            "service": "s",
        },
    )
    with pytest.raises(StopIteration) as end:
        login.flow.send(answer({"access_token": "new", "refresh_token": "r", "expires_in": 60}))
    assert (end.value.value.value, end.value.value.refresh_token) == ("new", "r")


def test_a_confidential_client_proves_who_it_is():
    ask = Login(code_grant(client_secret="s3cr3t")).comes_back(code="c0de")
    assert ask.headers["Authorization"].startswith("Basic ")
    assert "client_id" not in dict(pairs(ask))


@pytest.mark.parametrize("state", ["", "forged", None])
def test_another_state_is_not_believed(state):
    login = Login()
    query = {"code": "c0de"} | ({"state": state} if state is not None else {})
    with pytest.raises(BadTokenReply, match="another state"):
        login.flow.send(query)


@pytest.mark.parametrize(
    ("query", "kind", "says"),
    [
        ({"error": "access_denied"}, CredentialRejected, "access_denied"),
        (
            {"error": "invalid_scope", "error_description": "no such scope"},
            CredentialRejected,
            "no such scope",
        ),
        ({"error": "server_error", "code": "c0de"}, TokenUnavailable, "server_error"),
        ({"error": "temporarily_unavailable"}, TokenUnavailable, "temporarily"),
        ({}, BadTokenReply, "no code"),
        ({"code": ""}, BadTokenReply, "no code"),
    ],
)
def test_a_login_that_failed_says_why(query, kind, says):
    with pytest.raises(kind, match=says):
        Login().comes_back(**query)


def test_a_replayed_code_is_the_servers_to_refuse():
    login = Login()
    login.comes_back(code="c0de-s3cr3t")
    with pytest.raises(CredentialRejected) as caught:
        login.flow.send(refusal("invalid_grant", error_description="code c0de-s3cr3t was used"))
    assert "s3cr3t" not in caught.value.detail


def server(**keys):
    return Server(issuer=ISSUER, token_url=TOKEN_URL, authorization_url=AUTHORIZATION_URL, **keys)


def discovering(**keys):
    return make(AuthorizationCode, issuer=ISSUER, client_id="id", **keys)


@pytest.mark.parametrize(
    ("always", "query", "good"),
    [
        (False, {}, True),
        (False, {"iss": ISSUER}, True),
        (False, {"iss": f"{ISSUER}/"}, False),
        (False, {"iss": "https://evil.example"}, False),
        (True, {}, False),
        (True, {"iss": ISSUER}, True),
        (True, {"iss": "https://evil.example", "error": "access_denied"}, False),
    ],
)
def test_the_answer_of_another_issuer_is_not_believed(always, query, good):
    login = Login(discovering(), server(always_says_iss=always))
    if good:
        assert login.comes_back(code="c0de", **query) == Discover(ISSUER)
        return
    with pytest.raises(BadTokenReply, match="iss"):
        login.comes_back(code="c0de", **query)


def test_an_endpoint_of_the_configuration_wins():
    login = Login(discovering(authorization_url="https://own.example/a"), server())
    assert login.url.startswith("https://own.example/a?")


def test_an_issuer_without_an_authorization_endpoint():
    flow = discovering().login(REDIRECT_URI)
    next(flow)
    with pytest.raises(BadTokenReply, match="publishes no authorization_url"):
        flow.send(Server(issuer=ISSUER, token_url=TOKEN_URL))


# ── by itself ────────────────────────────────────────────────────────────────────────────────────


def test_without_a_login_there_is_no_token():
    with pytest.raises(LoginRequired):
        next(code_grant().flow(None))


def test_a_refresh_token_keeps_the_login():
    assert dict(pairs(next(code_grant().flow(expired("r")))))["grant_type"] == "refresh_token"


def test_a_dead_refresh_token_means_another_login():
    flow = code_grant().flow(expired("r"))
    next(flow)
    with pytest.raises(LoginRequired):
        flow.send(refusal("invalid_grant"))


# ── silently ─────────────────────────────────────────────────────────────────────────────────────


class Silently:
    """A silent login, up to the answer of the authorization URL."""

    def __init__(self, **keys):
        self.flow = code_grant(silent=True, redirect_uri=REDIRECT_URI, **keys).flow(None)
        self.ask = next(self.flow)
        self.sent = query_of(self.ask.url)

    def answered(self, status, location=None, **query):
        query = {name: value for name, value in ({"state": self.sent["state"]} | query).items() if value}
        if location is None:
            location = REDIRECT_URI
        headers = {"Location": f"{location}?{urlencode(query, doseq=True)}"}
        return self.flow.send(answer(body=b"", status=status, headers=headers, place=AUTHORIZATION_URL))


@pytest.mark.parametrize("status", [301, 302, 303, 307])
def test_a_code_that_comes_at_once_is_redeemed(status):
    login = Silently(authorization_params={"email_address": "joe@example.com"})
    assert isinstance(login.ask, Ask)
    assert (login.ask.method, login.ask.body) == ("GET", None)
    assert login.sent["email_address"] == "joe@example.com"
    ask = login.answered(status, code="c0de")
    form = dict(pairs(ask))
    assert (form["code"], form["redirect_uri"]) == ("c0de", REDIRECT_URI)
    assert challenge(form["code_verifier"]) == login.sent["code_challenge"]


def test_a_silent_grant_refreshes_first():
    grant = code_grant(silent=True, redirect_uri=REDIRECT_URI)
    assert dict(pairs(next(grant.flow(expired("r")))))["grant_type"] == "refresh_token"


@pytest.mark.parametrize(
    ("status", "location", "query"),
    [
        (200, None, {}),
        (200, None, {"code": "c0de"}),
        (302, "https://id.example/login", {}),
        (302, "/login", {"next": "a"}),
        (302, "/login", {"code": "c0de", "state": None}),
        (302, "/login", {"code": "c0de", "state": "forged"}),
        (302, "http://[", {"code": "c0de"}),
        (302, None, {"error": "login_required"}),
        (302, None, {"error": "consent_required"}),
        (302, None, {"error": "interaction_required"}),
    ],
)
def test_anything_else_needs_a_person(status, location, query):
    with pytest.raises(LoginRequired) as caught:
        Silently().answered(status, location, **query)
    assert "c0de" not in caught.value.detail


@pytest.mark.parametrize(
    "location",
    [
        "https://id.example/login",
        "http://127.0.0.1:8081/other",
        "http://127.0.0.1:8082/callback",
        "https://127.0.0.1:8081/callback",
    ],
)
def test_a_code_that_is_sent_elsewhere_is_told_with_the_place(location):
    with pytest.raises(BadTokenReply) as caught:
        Silently().answered(302, location, code="c0de")
    assert (
        f"redirected with a code to {location}, not to redirect_uri ({REDIRECT_URI})" in caught.value.detail
    )
    assert "c0de" not in caught.value.detail
    assert "registered" in caught.value.hint


def test_a_place_that_looks_like_ours_is_told_without_what_disguises_it():
    with pytest.raises(BadTokenReply, match=r"code to http://evil\.example/callback, not"):
        Silently().answered(302, "http://127.0.0.1:8081@evil.example/callback", code="c0de")


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ({"code": "c0de", "state": "forged"}, "redirected back with another `state` than was sent"),
        ({"code": "c0de", "state": None}, "redirected back with no `state`"),
        ({"error": "login_required", "state": None}, "redirected back with no `state`"),
    ],
)
def test_a_redirect_back_that_belongs_to_another_login_is_told_as_such(query, fault):
    with pytest.raises(BadTokenReply) as caught:
        Silently().answered(302, **query)
    assert caught.value.detail.endswith(fault)
    assert caught.value.title == "Login failed"
    assert "forged" not in caught.value.detail


def test_a_redirect_back_with_a_parameter_that_occurs_twice_is_not_used():
    with pytest.raises(BadTokenReply, match="a parameter that occurs twice"):
        Silently().answered(302, code=["c0de", "other"])


@pytest.mark.parametrize(
    ("status", "query", "kind"),
    [
        (302, {"error": "invalid_scope"}, CredentialRejected),
        (302, {"error": "server_error"}, TokenUnavailable),
        (400, {}, CredentialRejected),
        (403, {}, CredentialRejected),
        (503, {}, TokenUnavailable),
    ],
)
def test_a_failure_that_no_login_mends_is_told_as_such(status, query, kind):
    with pytest.raises(kind):
        Silently().answered(status, **query)


def test_a_silent_grant_lets_people_log_in_too():
    flow = code_grant(silent=True, redirect_uri=REDIRECT_URI).login()
    assert isinstance(next(flow), Show)


# ── the keys ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"authorization_url": None}, "needs authorization_url, or issuer"),
        ({"client_id": None}, "needs client_id"),
        ({"silent": True}, "silent needs redirect_uri"),
        ({"redirect_uri": "/callback"}, "absolute URL"),
        ({"authorization_params": {"state": "s3cr3t"}}, "should not name state"),
        (
            {"authorization_params": {"code_challenge_method": "plain"}},
            "should not name code_challenge_method",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(keys, complaint):
    with pytest.raises(ValidationError, match=complaint):
        code_grant(**keys)


def test_every_url_is_told():
    assert dict(code_grant().urls()) == {"token_url": TOKEN_URL, "authorization_url": AUTHORIZATION_URL}
    assert dict(discovering().urls()) == {"issuer": ISSUER}


def test_nothing_of_a_login_prints():
    grant = code_grant(authorization_params={"email_address": "s3cr3t"})
    login = Login(grant)
    assert "s3cr3t" not in repr(grant)
    assert login.sent["state"] not in repr(Show(login.url)) + repr(Callback(login.sent["state"]))
