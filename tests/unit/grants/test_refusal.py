"""A token endpoint's no is told from an outage and from an answer that makes no sense."""

import pytest

from authproxy.errors import BadTokenReply, CredentialRejected, TokenUnavailable
from authproxy.grants.grant import Grant
from authproxy.grants.password import Password
from authproxy.grants.refusal import Checks, failure_in, is_no_to_refresh_token, no_field_in, no_token_in
from authproxy.grants.reply import read_json
from authproxy.grants.reply_places import ReplyPointers, TokenPlace
from authproxy.masking import MASK

from .talk import TOKEN_URL, answer, make

POINTERS = ReplyPointers()


def read(given, **keys):
    return make(Grant, **keys).read_token(given, POINTERS)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "invalid_grant", CredentialRejected),
        (400, "invalid_client", CredentialRejected),
        (400, "unauthorized_client", CredentialRejected),
        (400, None, CredentialRejected),
        (401, None, CredentialRejected),
        (403, None, CredentialRejected),
        (422, None, CredentialRejected),
        (200, "invalid_grant", CredentialRejected),  # some say no with a 200
        (408, None, TokenUnavailable),
        (429, None, TokenUnavailable),
        (429, "invalid_grant", TokenUnavailable),
        (500, None, TokenUnavailable),
        (503, "invalid_client", TokenUnavailable),
        (400, "temporarily_unavailable", TokenUnavailable),
        (400, "server_error", TokenUnavailable),
        (400, "slow_down", TokenUnavailable),
        (301, None, BadTokenReply),
        (307, None, BadTokenReply),
        (404, None, BadTokenReply),
        (405, None, BadTokenReply),
        (415, None, BadTokenReply),
    ],
)
def test_a_refusal_is_told_from_an_outage(status, error, kind):
    document = {"access_token": "a"} | ({"error": error} if error else {})
    with pytest.raises(kind) as caught:
        read(answer(document, status=status))
    assert type(caught.value) is kind
    assert caught.value.error == error


def test_a_200_whose_error_is_a_document_holds_no_token():
    with pytest.raises(BadTokenReply):
        read(answer({"access_token": "a", "error": {"code": 7}}))


@pytest.mark.parametrize("error", [None, "", False, 0])
def test_an_empty_error_is_none(error):
    assert read(answer({"access_token": "a", "error": error})).value == "a"


def test_a_refusal_repeats_what_the_server_said():
    with pytest.raises(CredentialRejected) as caught:
        read(answer({"error": "invalid_grant", "error_description": "Invalid user credentials"}, status=401))
    assert caught.value.detail == f"{TOKEN_URL} answered 401 invalid_grant: Invalid user credentials"


def test_a_refusal_without_words_is_told_by_its_status():
    with pytest.raises(CredentialRejected) as caught:
        read(answer(status=403, body=b""))
    assert caught.value.detail == f"{TOKEN_URL} answered 403"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("error", "no user joe with {}"),
        ("error_description", "no user joe with {}"),
        ("message", "no user joe with {}"),
        ("detail", "no user joe with {}"),
    ],
)
@pytest.mark.parametrize("spelled", ["p&ss wörd", "p%26ss+w%C3%B6rd"])
def test_a_secret_that_a_server_echoes_is_masked(key, text, spelled):
    grant = make(Password, token_url=TOKEN_URL, client_id="x", username="joe", password="p&ss wörd")
    with pytest.raises(CredentialRejected) as caught:
        grant.read_token(answer({key: text.format(spelled)}, status=400), POINTERS)
    assert f"no user joe with {MASK}" in caught.value.detail
    assert spelled not in caught.value.detail + (caught.value.error or "")


def test_a_server_cannot_write_into_the_log():
    with pytest.raises(CredentialRejected) as caught:
        read(answer({"error": "a\nb", "error_description": "c\r\x1bd" + "x" * 999}, status=400))
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 400
    assert caught.value.error == "a b"


@pytest.mark.parametrize(
    ("status", "error", "hint"),
    [
        (302, None, "write the final URL into `token_url`"),
        (404, None, "check `token_url`"),
        (405, None, "check `token_url`"),
        (410, None, "check `token_url`"),
        (415, None, "check what the server wants to be sent"),
        (400, None, "check the credential"),
        (400, "invalid_client", "`client_id` and `client_secret`"),
        (400, "unauthorized_client", "have the server allow this client"),
        (400, "unsupported_grant_type", "use a `grant` that this server offers"),
        (400, "invalid_scope", "check `scope`"),
        (400, "invalid_target", "check `audience`"),
        (401, None, "check the credential"),
        (403, "access_denied", "check the credential"),
        (423, None, "unlocked first; then check the credential"),
        (429, None, "limits token requests"),
        (500, None, "authproxy tries again"),
        (418, None, "check `token_url`"),
    ],
)
def test_a_refusal_comes_with_advice(status, error, hint):
    with pytest.raises((BadTokenReply, CredentialRejected, TokenUnavailable)) as caught:
        read(answer({"error": error}, status=status))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("status", "document", "title"),
    [
        (401, {}, "Credential rejected"),
        (400, {"error": "invalid_grant"}, "Credential rejected"),
        (404, {"error": "Realm does not exist"}, "No token endpoint there"),
        (404, {}, "No token endpoint there"),
        (302, {}, "Token endpoint redirects"),
        (415, {"error": "HTTP 415 Unsupported Media Type"}, "Token request not understood"),
        (423, {}, "Account locked"),
        (401, {"error": "invalid_client"}, "Credential rejected"),
        (400, {"error": "invalid_scope"}, "Scope refused"),
        (400, {"error": "some_code_of_its_own"}, "Token request refused"),
        (500, {}, "Token endpoint unavailable"),
        (429, {}, "Token endpoint unavailable"),
    ],
)
def test_a_title_fits_what_happened(status, document, title):
    with pytest.raises((BadTokenReply, CredentialRejected, TokenUnavailable)) as caught:
        read(answer(document, status=status))
    assert caught.value.title == title


def test_a_404_with_words_of_its_own_is_no_rejected_credential():
    with pytest.raises(BadTokenReply, match="404 Realm does not exist"):
        read(answer({"error": "Realm does not exist"}, status=404))
    with pytest.raises(CredentialRejected):  # some answer so
        read(answer({"error": "invalid_grant"}, status=404))


def test_a_redirect_is_told_with_where_it_leads_but_no_query():
    location = {"Location": "https://me:s3cr3t@sso.example/login?session=s3cr3t"}
    with pytest.raises(BadTokenReply) as caught:
        read(answer(status=302, body=b"", headers=location))
    assert caught.value.detail == f"{TOKEN_URL} answered 302, a redirect to https://sso.example"


def test_a_vendors_code_is_shown_wherever_it_stands():
    document = {"error": [{"primaryErrorKey": "CODE_INVALID", "description": "p&ss is wrong"}]}
    grant = make(Password, token_url=TOKEN_URL, client_id="x", username="joe", password="p&ss")
    with pytest.raises(CredentialRejected) as caught:
        grant.read_token(answer(document, status=401), POINTERS)
    assert caught.value.detail == f"{TOKEN_URL} answered 401 CODE_INVALID: {MASK} is wrong"


def test_plain_http_at_an_https_port_is_told_as_such():
    body = b"<html><title>400 The plain HTTP request was sent to HTTPS port</title>"
    with pytest.raises(BadTokenReply) as caught:
        read(answer(status=400, body=body))
    assert (caught.value.title, caught.value.hint) == (
        "Token endpoint speaks https",
        "write https:// in `token_url`",
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_may_be_somebody_elses_no(status):
    with pytest.raises(CredentialRejected, match=f"answered {status} with an HTML page") as caught:
        read(answer(status=status, body=b"<html>blocked</html>"))
    assert caught.value.hint == "check the credential; or a firewall or proxy in between answered"


# ── a clock that is wrong ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("date", "says"),
    [
        ("Tue, 14 Nov 2023 22:15:20 GMT", "this machine's clock is 120 s behind the server's: set it right"),
        ("Tue, 14 Nov 2023 22:11:20 GMT", "this machine's clock is 120 s ahead of the server's"),
        ("Tue, 14 Nov 2023 22:13:25 GMT", ""),
        ("yesterday", ""),
    ],
)
def test_where_the_clock_counts_a_wrong_one_is_told(date, says):
    given = answer({"error": "invalid_grant"}, status=400, headers={"Date": date})
    told = failure_in(given, {"error": "invalid_grant"}, (), None, Checks(clock=True))
    assert told.hint.startswith(says)
    assert ("clock" in told.hint) is bool(says)
    assert "clock" not in failure_in(given, {"error": "invalid_grant"}, (), None, Checks()).hint


# ── a success without a token ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "detail", "hint"),
    [
        (
            answer({"data": {"accessToken": "s3cr3t"}, "ok": True}),
            "answered 200 without a token at /access_token; the fields there are: /data/accessToken, /ok",
            "set `response.token` to the place of the token in the reply, perhaps /data/accessToken",
        ),
        (answer({}), "there are no fields in it", "set `response.token`"),
        (answer(body=b"s3cr3t"), "text that is not JSON came where JSON was due", 'set `response.token: ""`'),
        (answer(body=b" "), "an empty body came where JSON was due", "check `token_url`"),
        (
            answer(body=b"<!DOCTYPE html><p>s3cr3t"),
            "answered 200 with an HTML page where JSON was due",
            "a login page, or a captive portal",
        ),
    ],
)
def test_what_came_instead_of_a_token_is_told_without_its_values(given, detail, hint):
    told = no_token_in(given, read_json(given), "/access_token", (), None)
    assert detail in told.detail
    assert hint in told.hint
    assert "s3cr3t" not in f"{told.detail} {told.hint} {told.title}"
    assert no_token_in(given, read_json(given), "/access_token", (), "the vendor's").hint == "the vendor's"


SECRET = "client-s3cr3t-Value"


@pytest.mark.parametrize("document", [{SECRET: 1}, {"a": {f"x{SECRET}": 1}}, {f"{SECRET}_token": "x"}])
def test_a_secret_of_which_a_server_made_a_name_is_masked(document):
    given = answer(document)
    told = no_token_in(given, document, "/access_token", [SECRET], None)
    lacks = no_field_in(given, document, "/tenant", [SECRET])
    assert SECRET not in f"{told.detail} {told.hint} {lacks.detail}"
    assert "••••" in told.detail
    assert "••••" in lacks.detail


@pytest.mark.parametrize("kind", ["header", "cookie"])
def test_a_secret_of_which_a_server_made_the_name_of_a_header_or_a_cookie_is_masked(kind):
    headers = {f"X-{SECRET}": "1", "Set-Cookie": f"{SECRET}=1"}
    given = answer({}, headers=headers)
    at = TokenPlace(**{kind: "session"})
    told = no_token_in(given, {}, at, [SECRET], None)
    assert SECRET.lower() not in told.detail.lower()


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (401, b"TOTP_NEEDED", "set totp"),
        (200, b"TOTP_NEEDED", "set totp"),
        (401, b"", "vendor's 401"),
        (404, b"", "check `token_url`: its host, its path, and a realm or tenant in it"),
    ],
)
def test_the_first_configured_hint_that_fits_is_given(status, body, hint):
    hints = [{"contains": "TOTP_NEEDED", "say": "set totp"}, {"status": 401, "say": "vendor's 401"}]
    with pytest.raises((BadTokenReply, CredentialRejected)) as caught:
        read(answer(status=status, body=body), hints=hints)
    assert caught.value.hint == hint


def test_a_refusal_carries_retry_after():
    with pytest.raises(TokenUnavailable) as caught:
        read(answer({}, status=429, headers={"Retry-After": "17"}))
    assert caught.value.retry_after == 17


@pytest.mark.parametrize(
    ("given", "error", "is_no"),
    [
        (answer({}, status=400), None, True),
        (answer({}, status=404), None, True),
        (answer({}), "invalid_grant", True),
        (answer({}, status=401), "invalid_client", False),  # it would be said to the grant's own way as well
        (answer({}), None, True),
        (answer(body=b" "), None, True),
        (answer(body=b"cut sho"), None, False),
        (answer({}, status=302), None, False),
        (answer({"access_token": "a token that no header can carry"}), None, False),
    ],
)
def test_a_refresh_token_is_refused_in_many_words(given, error, is_no):
    failure = BadTokenReply("no token", error=error)
    assert (
        is_no_to_refresh_token(given, failure, has_token="access_token" in (read_json(given) or {})) is is_no
    )
