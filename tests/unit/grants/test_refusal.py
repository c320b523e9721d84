"""A token endpoint's no is told from an outage and from an answer that makes no sense."""

import pytest

from authproxy.errors import BadTokenReply, CredentialRejected, TokenUnavailable
from authproxy.grants.grant import Grant, ReplyPointers
from authproxy.grants.password import Password
from authproxy.grants.refusal import is_no_to_refresh_token
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
        (302, None, "redirects are not followed"),
        (404, None, "check the URL"),
        (415, None, "check the URL"),
        (400, "invalid_client", "client_id and client_secret"),
        (400, "invalid_scope", "check scope"),
        (401, None, "check the credential"),
        (500, None, None),
    ],
)
def test_a_refusal_comes_with_advice(status, error, hint):
    with pytest.raises((BadTokenReply, CredentialRejected, TokenUnavailable)) as caught:
        read(answer({"error": error}, status=status))
    assert caught.value.hint is None if hint is None else hint in caught.value.hint


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (401, b"TOTP_NEEDED", "set totp"),
        (200, b"TOTP_NEEDED", "set totp"),
        (401, b"", "vendor's 401"),
        (404, b"", "check the URL of the token endpoint, and what it expects"),
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
    assert is_no_to_refresh_token(given, failure, "/access_token") is is_no
