"""What every grant does with an answer: token and lifetime."""

import base64
import json
from math import inf

import pytest
from pydantic import SecretStr, ValidationError

from authproxy.errors import BadTokenReply, CredentialRejected
from authproxy.grants.grant import Grant, ReplyPointers
from authproxy.grants.inject import Place
from authproxy.grants.password import Password
from authproxy.grants.reply import MAX_LIFETIME

from .talk import NOW, TOKEN_URL, answer, make

POINTERS = ReplyPointers()


def read(given, pointers=POINTERS, *, keep=None, **keys):
    return make(Grant, **keys).read_token(given, pointers, keep=keep)


def jwt(**claims):
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


# ── the token ────────────────────────────────────────────────────────────────────────────────────


def test_a_token_reply_becomes_a_token():
    token = read(
        answer({"access_token": "a", "expires_in": 300, "refresh_token": "r", "token_type": "bearer"})
    )
    assert token.value == "a"
    assert (token.issued_at, token.expires_at) == (NOW, NOW + 300)
    assert token.refresh_token == "r"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"access_token": None},
        {"access_token": ""},
        {"access_token": True},
        {"access_token": 7.5},
        {"access_token": ["a"]},
        [],
        "a",
        None,
    ],
)
def test_a_reply_without_a_token_says_where_it_was_looked_for(document):
    with pytest.raises(BadTokenReply, match="answered 200 without a token at /access_token") as caught:
        read(answer(document))
    assert "response.token" in caught.value.hint


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, b"9" * 5000])
def test_a_reply_that_is_no_json_holds_no_token(body):
    with pytest.raises(BadTokenReply):
        read(answer(body=body))


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ({"v3": "flat"}, "flat"),
        ({"data": {"v3": "nested"}}, "nested"),
        ({"v3": None, "data": {"v3": "nested"}}, "nested"),
        ({"v3": "flat", "data": {"v3": "nested"}}, "flat"),
    ],
)
def test_of_a_list_of_pointers_the_first_that_is_there_counts(document, value):
    assert read(answer(document), make(ReplyPointers, token=["/v3", "/data/v3"])).value == value


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (answer({"access_token": 1234567890123456789012}), "1234567890123456789012"),
        (answer(body=b"\xef\xbb\xbf" + b'{"access_token": "a"}'), "a"),
        (answer(body='{"access_token": "a"}'.encode("utf-16")), "a"),
        (
            answer(
                body='{"access_token": "a", "user": "Jürgen"}'.encode("latin-1"),
                headers={"Content-Type": "application/json; charset=ISO-8859-1"},
            ),
            "a",
        ),
        (answer(body='{"access_token": "a", "user": "Jürgen"}'.encode("latin-1")), "a"),
        (
            answer(
                body='{"access_token": "a"}'.encode("cp037"), headers={"Content-Type": 'a/b; Charset="cp037"'}
            ),
            "a",
        ),
        (
            answer(body='{"access_token": "ü"}'.encode(), headers={"Content-Type": "a/b; charset=latin-1"}),
            None,
        ),
        (answer(body=b'{"access_token": "a"}', headers={"Content-Type": "a/b; charset=nonsense"}), "a"),
        (answer(body=b'"\xe4\xff', headers={"Content-Type": "a/b; charset=punycode"}), None),
        (answer(body=b'"\xe4\xff', headers={"Content-Type": "a/b; charset=base64"}), None),
    ],
)
def test_numbers_and_other_charsets_than_utf_8_are_read(given, value):
    if value is None:
        with pytest.raises(BadTokenReply):
            read(given)
    else:
        assert read(given).value == value


def test_a_servers_words_are_read_in_its_charset():
    body = '{"error": "invalid_grant", "error_description": "Schlüssel gesperrt"}'.encode("latin-1")
    with pytest.raises(CredentialRejected, match="Schlüssel gesperrt"):
        read(answer(body=body, status=400, headers={"Content-Type": "application/json;charset=iso-8859-1"}))


@pytest.mark.parametrize(
    ("document", "lifetime"),
    [
        ({"expires_at": NOW + 300}, 300),
        ({"expires_at": str(int(NOW) + 300)}, 300),
        ({"expires_at": int(NOW + 300) * 1000}, 300),
        ({"expires_on": str(int(NOW) + 300)}, 300),
        ({"expiresAt": "2023-11-14T22:18:20Z"}, 300),
        ({"expiresAt": "2023-11-14T22:18:20.1234567Z"}, 300.123456),
        ({"expiresOn": "2023-11-15T00:18:20+02:00"}, 300),
        ({"expiration": int(NOW) + 300}, 300),
        ({"expiry": "2023-11-14 22:18:20"}, 300),
        ({"token_expiry": "20231114T221820Z"}, 300),
        ({"expires_in": 60, "expires_at": NOW + 300}, 60),
        ({"expires_in": 0, "expires_at": NOW + 300}, 300),
        ({"expires_at": 3600}, inf),
        ({"expires_at": NOW - 1}, inf),
        ({"expires_at": "soon"}, inf),
        ({"expires_at": "0001-01-01T00:00:00"}, inf),
        ({"expires_at": "9999-12-31T23:59:59Z"}, MAX_LIFETIME),
        ({"expires_at": True}, inf),
        ({"expires_at": {}}, inf),
    ],
)
def test_a_moment_of_expiry_gives_the_lifetime_too(document, lifetime):
    assert read(answer({"access_token": "a"} | document)).lifetime == pytest.approx(lifetime)


def test_the_moment_of_expiry_is_where_the_configuration_says():
    pointers = make(ReplyPointers, token="/session/key", expires_at="/session/until")
    reply = answer({"session": {"key": "a", "until": "2023-11-14T22:18:20Z"}})
    assert read(reply, pointers).lifetime == 300


def test_a_token_at_none_of_several_places_names_them_all():
    with pytest.raises(BadTokenReply, match="without a token at /v3 or /data/v3"):
        read(answer({}), make(ReplyPointers, token=["/v3", "/data/v3"]))


@pytest.mark.parametrize("body", [b"bare", b" bare\n", b'"bare"'])
def test_the_whole_reply_can_be_the_token(body):
    assert read(answer(body=body), make(ReplyPointers, token="")).value == "bare"


@pytest.mark.parametrize("kind", ["DPoP", "dpop", "MAC", "PoP"])
def test_a_token_bound_to_a_key_is_not_sent_as_a_bearer(kind):
    with pytest.raises(BadTokenReply, match="which is bound to a key"):
        read(answer({"access_token": "a", "token_type": kind}))


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "N_A", "", None, 7])
def test_any_other_token_type_is_taken(kind):
    assert read(answer({"access_token": "a", "token_type": kind})).value == "a"


@pytest.mark.parametrize("value", ["a\nb", "a\r\nX: 1", "a\0", "a\x7f", "grün", "a\u2028"])
def test_a_token_that_is_not_printable_is_refused_unseen(value):
    with pytest.raises(BadTokenReply, match="a character other than printable ASCII") as caught:
        read(answer({"access_token": value}))
    assert value not in str(caught.value)
    assert caught.value.title == "Unusable token"
    assert "it should stand there alone" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "mark"), [("", "empty"), (True, "a boolean"), ({}, "an object"), (None, "null")]
)
def test_a_place_that_holds_no_token_says_what_it_holds(value, mark):
    with pytest.raises(BadTokenReply) as caught:
        read(answer({"access_token": value, "expires_in": 3}))
    assert caught.value.detail.endswith(f"the fields there are: /access_token ({mark}), /expires_in")
    assert "perhaps" not in caught.value.hint


MISSING = "Field missing in the token reply"


@pytest.mark.parametrize(
    ("value", "title", "said"),
    [
        (
            "",
            "Field missing in the token reply",
            "without /e; the fields there are: /access_token, /e ",
        ),
        (True, MISSING, "/e (a boolean)"),
        ("a\nb", "Unusable token", "the field /e from"),
    ],
)
def test_a_field_that_cannot_be_sent_says_why(value, title, said):
    place = Place(header="X-E", value=SecretStr("{response:/e}"))
    with pytest.raises(BadTokenReply) as caught:
        read(answer({"access_token": "t", "e": value}), inject=(place,))
    assert said in caught.value.detail
    assert (caught.value.title, "inject" in caught.value.hint) == (title, True)


@pytest.mark.parametrize(
    ("came", "kept"), [("new", "new"), (None, "old"), ("", "old"), (7, "7"), ({}, "old")]
)
def test_a_rotated_refresh_token_is_kept_and_else_the_old_one(came, kept):
    assert read(answer({"access_token": "a", "refresh_token": came}), keep="old").refresh_token == kept


def test_a_refresh_token_is_not_looked_for_where_nobody_wants_it():
    pointers = make(ReplyPointers, refresh_token=None)
    assert read(answer({"access_token": "a", "refresh_token": "r"}), pointers).refresh_token is None


# ── the lifetime ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("token", "expires_in", "default", "lifetime"),
    [
        ("a", 300, 900, 300),  # the reply knows best
        (jwt(exp=NOW + 600), 300, 900, 300),
        (jwt(exp=NOW + 600), None, 900, 600),  # then the token itself
        (jwt(exp=NOW + 600), -1, 900, 600),
        (jwt(exp=str(NOW + 600)), None, 900, 600),
        (jwt(exp=NOW - 600), None, 900, 900),  # over before it began: our clock is wrong, or theirs
        (jwt(exp=True), None, 900, 900),
        (jwt(sub="x"), None, 900, 900),
        ("a.b.c", None, 900, 900),  # then the configuration
        ("a", None, None, inf),  # else until it is refused
        (jwt(exp=10**15), None, None, MAX_LIFETIME),
    ],
)
def test_the_first_that_knows_the_lifetime_is_believed(token, expires_in, default, lifetime):
    given = answer({"access_token": token, "expires_in": expires_in})
    assert read(given, default_lifetime=default).lifetime == pytest.approx(lifetime)


# ── a grant ────────────────────────────────────────────────────────────────────────────────────────


def test_a_grant_does_not_print_its_secrets():
    grant = make(
        Password,
        token_url=TOKEN_URL,
        client_id="x",
        client_secret="s3cr3t",
        username="joe",
        password="s3cr3t",
        headers={"X-Key": "s3cr3t"},
        params={"key": "s3cr3t"},
    )
    assert "s3cr3t" not in repr(grant)
    assert grant.secrets().count("s3cr3t") >= 4


@pytest.mark.parametrize("scheme", ["Bearer", "Token", ""])
def test_a_scheme_is_one_word_or_none(scheme):
    assert make(Grant, scheme=scheme).scheme == scheme


@pytest.mark.parametrize("scheme", ["Bearer ", "a b", "a\n", "a:"])
def test_anything_else_is_no_scheme(scheme):
    with pytest.raises(ValidationError, match="should be one word"):
        make(Grant, scheme=scheme)


def test_a_grant_takes_no_key_it_does_not_know():
    with pytest.raises(ValidationError):
        make(Password, token_url=TOKEN_URL, username="a", password=SecretStr("b"), passwort="c")
