"""What the OAuth grants have in common: the request on the wire, and refreshing."""

import base64
from dataclasses import replace
from urllib.parse import quote_plus

import pytest
from pydantic import ValidationError

from authproxy.errors import BadTokenReply, CredentialRejected, TokenError, TokenUnavailable
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.steps import Ask
from authproxy.masking import MASK

from .talk import TOKEN_URL, answer, expired, hold, make, pairs, refusal

FORM = "application/x-www-form-urlencoded"


def client(**keys):
    return make(
        ClientCredentials, **{"token_url": TOKEN_URL, "client_id": "id", "client_secret": "s3cr3t"} | keys
    )


def first(grant, old=None):
    return next(grant.flow(old))


# ── the request ──────────────────────────────────────────────────────────────────────────────────


def test_a_token_request_is_a_form():
    assert first(client()) == Ask(
        "POST",
        TOKEN_URL,
        {
            "Content-Type": FORM,
            "Accept": "application/json",
            "Authorization": f"Basic {base64.b64encode(b'id:s3cr3t').decode()}",
        },
        b"grant_type=client_credentials",
    )


@pytest.mark.parametrize(
    ("keys", "authorization", "sent"),
    [
        ({}, "id:s3cr3t", []),
        ({"client_auth": "client_secret_basic", "client_id": "a:b"}, "a%3Ab:s3cr3t", []),
        ({"client_auth": "client_secret_basic_raw", "client_secret": "a+b"}, "id:a+b", []),
        ({"client_auth": "client_secret_post"}, None, [("client_id", "id"), ("client_secret", "s3cr3t")]),
        ({"client_auth": "none", "client_secret": None}, None, [("client_id", "id")]),
        ({"client_secret": None}, None, [("client_id", "id")]),
        ({"client_id": None, "client_secret": None}, None, []),
    ],
)
def test_the_client_authenticates_as_configured(keys, authorization, sent):
    step = first(client(**keys))
    expected = authorization and f"Basic {base64.b64encode(authorization.encode()).decode()}"
    assert step.headers.get("Authorization") == expected
    assert pairs(step) == [("grant_type", "client_credentials"), *sent]


@pytest.mark.parametrize("style", ["client_secret_basic", "client_secret_basic_raw", "client_secret_post"])
@pytest.mark.parametrize("missing", ["client_id", "client_secret"])
def test_a_style_that_needs_a_secret_is_not_left_without(style, missing):
    with pytest.raises(ValidationError, match="needs client_id and client_secret"):
        client(client_auth=style, **{missing: None})


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({"scope": "a b"}, [("scope", "a b")]),
        ({"scope": ["a", "b"]}, [("scope", "a b")]),
        ({"scope": ""}, []),
        ({"audience": "https://api.example"}, [("audience", "https://api.example")]),
        ({"audience": ["a", "b"]}, [("audience", "a"), ("audience", "b")]),
        ({"audience": []}, []),
        ({"resource": "https://a"}, [("resource", "https://a")]),
        ({"resource": ["https://a", "https://b"]}, [("resource", "https://a"), ("resource", "https://b")]),
        ({"params": {"tenant": "ü &"}}, [("tenant", "ü &")]),
        ({"params": {"grant_type": "x"}}, None),
    ],
)
def test_every_parameter_goes_into_the_form(keys, sent):
    if sent is None:  # a user's own word comes last
        assert pairs(first(client(**keys))) == [("grant_type", "x")]
    else:
        assert pairs(first(client(**keys))) == [("grant_type", "client_credentials"), *sent]


def test_every_parameter_goes_into_the_query_when_the_server_wants_it_there():
    step = first(client(params_in="query", client_auth="client_secret_post", scope="a b"))
    assert step.url == (
        f"{TOKEN_URL}?grant_type=client_credentials&scope=a+b&client_id=id&client_secret=s3cr3t"
    )
    assert step.body is None
    assert step.headers == {"Accept": "application/json"}
    assert step.place == TOKEN_URL  # what is shown of it


def test_a_query_that_is_there_already_is_kept():
    step = first(client(params_in="query", token_url=f"{TOKEN_URL}?tenant=1"))
    assert step.url == f"{TOKEN_URL}?tenant=1&grant_type=client_credentials"


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"X-Tenant": "geo"}, {"X-Tenant": "geo", "Content-Type": FORM, "Accept": "application/json"}),
        ({"accept": "*/*"}, {"accept": "*/*", "Content-Type": FORM}),
        ({"content-type": "text/plain"}, {"content-type": "text/plain", "Accept": "application/json"}),
    ],
)
def test_configured_headers_are_sent_instead_of_ours(headers, sent):
    assert first(client(headers=headers, client_secret=None)).headers == sent


def test_the_token_is_where_the_configuration_says():
    grant = client(response={"token": "/data/accessToken", "expires_in": "/data/ttl"})
    _, token = hold(grant.flow(None), answer({"data": {"accessToken": "a", "ttl": 60}}))
    assert (token.value, token.lifetime) == ("a", 60)


def test_the_token_url_is_told_because_it_sees_the_credential():
    assert list(client().urls()) == [("token_url", TOKEN_URL)]


# ── refreshing ───────────────────────────────────────────────────────────────────────────────────


def test_a_refresh_token_goes_first():
    (step,), token = hold(
        client(scope="a", audience="b").flow(expired("r1")), answer({"access_token": "new"})
    )
    assert pairs(step) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "r1"),
        ("scope", "a"),
        ("audience", "b"),
    ]
    assert step.headers["Authorization"].startswith("Basic ")
    assert token.value == "new"


@pytest.mark.parametrize(("came", "kept"), [("r2", "r2"), (None, "r1")])
def test_a_rotated_refresh_token_takes_the_old_ones_place(came, kept):
    _, token = hold(client().flow(expired("r1")), answer({"access_token": "new", "refresh_token": came}))
    assert token.refresh_token == kept


@pytest.mark.parametrize(
    ("granted", "asked"), [("a", "a"), (["a", "c"], "a c"), ("", None), (None, "a b"), (7, "a b")]
)
def test_a_refresh_asks_for_the_scope_that_was_granted(granted, asked):
    grant = client(scope="a b")
    _, token = hold(grant.flow(None), answer({"access_token": "t", "refresh_token": "r", "scope": granted}))
    (step,), renewed = hold(grant.flow(token), answer({"access_token": "u"}))
    assert dict(pairs(step)).get("scope") == asked
    (step,), _ = hold(grant.flow(renewed), answer({"access_token": "v"}))
    assert dict(pairs(step)).get("scope") == asked, "a reply that does not say means what was asked for"


def test_the_grants_own_way_asks_for_all_that_is_wished_again():
    old = replace(expired("r1"), scope="a")
    (refresh, own), _ = hold(
        client(scope="a b").flow(old), refusal("invalid_grant"), answer({"access_token": "new"})
    )
    assert [dict(pairs(step))["scope"] for step in (refresh, own)] == ["a", "a b"]


def test_a_spent_token_without_a_refresh_token_is_earned_anew():
    (step,), _ = hold(client().flow(expired()), answer({"access_token": "new"}))
    assert pairs(step) == [("grant_type", "client_credentials")]


@pytest.mark.parametrize(
    "error",
    ["invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_request", "invalid_token"],
)
@pytest.mark.parametrize("status", [400, 401, 200])
def test_a_dead_refresh_token_gives_way_to_the_grants_own_way_at_once(error, status):
    (_, step), token = hold(
        client().flow(expired("r1")), refusal(error, status=status), answer({"access_token": "new"})
    )
    assert pairs(step) == [("grant_type", "client_credentials")]
    assert token.value == "new"
    assert token.refresh_token is None  # the dead one is gone


@pytest.mark.parametrize(
    "given",
    [
        answer(body=b"", status=400),
        answer({}, status=401),
        answer(body=b"no such token", status=404),
        answer(body=b"no such token", status=400, headers={"Content-Type": "text/html"}),
        answer({"message": "expired"}, status=422),
        answer({"error": {"code": "190"}}, status=403, headers={"Content-Type": "text/html"}),
        answer({"error": {"code": "190"}}),
        answer({"ok": False}),
        answer(body=b""),
    ],
)
def test_a_refresh_token_is_dead_whatever_words_a_server_has_for_it(given):
    (_, step), token = hold(client().flow(expired("r1")), given, answer({"access_token": "new"}))
    assert pairs(step) == [("grant_type", "client_credentials")]
    assert token.value == "new"


@pytest.mark.parametrize(
    ("given", "failure"),
    [
        (refusal("invalid_client", status=401), CredentialRejected),
        (refusal("invalid_client", status=200), CredentialRejected),
        (refusal("temporarily_unavailable"), TokenUnavailable),
        (answer({}, status=408), TokenUnavailable),
        (answer({}, status=425), TokenUnavailable),
        (answer(body=b"<!DOCTYPE html><p>Please log in"), TokenUnavailable),
        (answer(body=b"\n<HTML>", status=403), TokenUnavailable),
        (answer(body=b"<b>No</b>", status=404, headers={"Content-Type": "text/html"}), TokenUnavailable),
        (answer(body=b"", status=302, headers={"Location": "https://portal.example"}), BadTokenReply),
        (answer(body=b'{"access_tok'), BadTokenReply),
        (answer({"access_token": "bound", "token_type": "DPoP"}), BadTokenReply),
        (answer({}, status=503), TokenUnavailable),
        (answer({}, status=429), TokenUnavailable),
    ],
)
def test_another_failure_of_refreshing_is_not_followed_by_a_second_request(given, failure):
    flow = client().flow(expired("r1"))
    next(flow)
    with pytest.raises(failure):
        flow.send(given)


def test_when_the_grants_own_way_fails_too_that_is_the_failure():
    flow = client().flow(expired("r1"))
    next(flow)
    flow.send(refusal("invalid_grant"))
    with pytest.raises(CredentialRejected, match="invalid_client") as caught:
        flow.send(refusal("invalid_client"))
    assert caught.value.__context__ is None
    assert caught.value.refresh_refused


def test_a_failure_says_that_a_refresh_token_was_refused_only_when_it_was():
    for old, given in [("r1", answer({}, status=503)), (None, refusal("invalid_grant"))]:
        flow = client().flow(expired(old))
        next(flow)
        with pytest.raises(TokenError) as caught:
            flow.send(given)
        assert not caught.value.refresh_refused


# ── what a server echoes ─────────────────────────────────────────────────────────────────────────


def test_a_refresh_token_that_a_server_echoes_is_masked():
    flow = client().flow(expired("r3fr3sh"))
    next(flow)
    with pytest.raises(CredentialRejected) as caught:
        flow.send(refusal("invalid_client", error_description="r3fr3sh is too old"))
    assert caught.value.detail.endswith(f"{MASK} is too old")


@pytest.mark.parametrize(
    "echo",
    [
        "s3cr3t&",
        quote_plus("s3cr3t&"),
        base64.b64encode(b"id:s3cr3t&").decode(),
        base64.b64encode(b"id:s3cr3t%26").decode(),
    ],
)
def test_a_client_secret_is_masked_in_every_spelling_in_which_it_was_sent(echo):
    flow = client(client_secret="s3cr3t&").flow(None)
    next(flow)
    with pytest.raises(CredentialRejected) as caught:
        flow.send(refusal("invalid_client", error_description=f"not {echo}."))
    assert caught.value.detail.endswith(f"not {MASK}.")
