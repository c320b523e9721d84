"""An issuer's own account of itself, and what of it is believed."""

import pytest

from authproxy.errors import BadTokenReply, TokenUnavailable
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.discovery import Server, discover, well_known
from authproxy.grants.steps import Ask, Discover

from .talk import TOKEN_URL, answer, make

ISSUER = "https://id.example/tenant"
DOCUMENT = {
    "issuer": ISSUER,
    "token_endpoint": f"{ISSUER}/token",
    "authorization_endpoint": f"{ISSUER}/auth",
    "device_authorization_endpoint": f"{ISSUER}/device",
    "authorization_response_iss_parameter_supported": True,
    "mtls_endpoint_aliases": {"token_endpoint": "https://mtls.id.example/token"},
}


def hold(issuer, *answers):
    talk = discover(issuer)
    asked = [next(talk)]
    for each in answers:
        try:
            asked.append(talk.send(each))
        except StopIteration as end:
            return asked, end.value
    raise AssertionError("the conversation goes on")


@pytest.mark.parametrize(
    ("issuer", "places"),
    [
        (
            "https://id.example",
            (
                "https://id.example/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server",
            ),
        ),
        (
            "https://id.example:8443/a/b/",
            (
                "https://id.example:8443/a/b/.well-known/openid-configuration",
                "https://id.example:8443/.well-known/oauth-authorization-server/a/b",
            ),
        ),
    ],
)
def test_the_document_has_two_places(issuer, places):
    assert well_known(issuer) == places


def test_the_first_place_is_that_of_openid_connect():
    asked, server = hold(ISSUER, answer(DOCUMENT))
    assert asked == [Ask("GET", f"{ISSUER}/.well-known/openid-configuration", {"Accept": "application/json"})]
    assert server == Server(
        issuer=ISSUER,
        token_url=f"{ISSUER}/token",
        authorization_url=f"{ISSUER}/auth",
        device_authorization_url=f"{ISSUER}/device",
        token_url_with_certificate="https://mtls.id.example/token",
        always_says_iss=True,
    )


def test_the_second_place_is_asked_when_nothing_is_at_the_first():
    asked, server = hold(ISSUER, answer(body=b"", status=404), answer(DOCUMENT))
    assert asked[1].url == "https://id.example/.well-known/oauth-authorization-server/tenant"
    assert server.token_url == f"{ISSUER}/token"


def test_an_issuer_without_a_document():
    with pytest.raises(BadTokenReply, match="publishes no discovery document") as caught:
        hold(ISSUER, answer(body=b"", status=404), answer(body=b"", status=404))
    assert "endpoints instead" in caught.value.hint


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_issuer_that_is_down_is_not_taken_for_one_without_a_document(status):
    with pytest.raises(TokenUnavailable) as caught:
        hold(ISSUER, answer(body=b"", status=status, headers={"Retry-After": "7"}))
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    "named", ["https://evil.example", f"{ISSUER}/", ISSUER.upper(), "https://ID.example/tenant", None, 5]
)
def test_the_document_of_another_issuer_is_not_believed(named):
    with pytest.raises(BadTokenReply, match="of another issuer") as caught:
        hold(ISSUER, answer(DOCUMENT | {"issuer": named}))
    assert "to the" in caught.value.hint or "exactly" in caught.value.hint


@pytest.mark.parametrize(
    "document",
    [
        answer(body=b"<html>"),
        answer([]),
        answer({}),
        answer({"message": "no such page"}),
        answer(body=b"", status=204),
        answer(DOCUMENT, status=302),
    ],
)
def test_what_is_no_document(document):
    with pytest.raises(BadTokenReply, match="without a JSON document"):
        hold(ISSUER, document, answer(body=b"", status=404))
    with pytest.raises(BadTokenReply, match="without a JSON document"):
        hold(ISSUER, answer(body=b"", status=404), document)
    _, server = hold(ISSUER, document, answer(DOCUMENT))
    assert server.token_url == f"{ISSUER}/token"


@pytest.mark.parametrize(
    ("issuer", "url", "good"),
    [
        (ISSUER, "https://elsewhere.example/token", True),
        (ISSUER, "http://127.0.0.1:9/token", True),
        (ISSUER, "http://id.example/token", False),
        ("http://localhost:9", "http://id.example/token", False),
        ("http://id.example", "http://id.example/token", True),  # `insecure: true` allowed the issuer
        (ISSUER, "/token", False),
        (ISSUER, 5, False),
        (ISSUER, "https://user:s3cr3t@id.example/token", False),
    ],
)
def test_an_endpoint_must_not_bring_the_credential_into_the_open(issuer, url, good):
    document = answer({"issuer": issuer, "token_endpoint": url})
    if good:
        assert hold(issuer, document)[1].token_url == url
        return
    with pytest.raises(BadTokenReply, match="token_endpoint in the document") as caught:
        hold(issuer, document)
    assert "s3cr3t" not in str(caught.value)


# ── a grant with an issuer ───────────────────────────────────────────────────────────────────────


def client(**keys):
    return make(ClientCredentials, client_id="id", client_secret="s3cr3t", **keys)


def test_a_grant_asks_where_the_issuer_says():
    flow = client(issuer=ISSUER).flow(None)
    assert next(flow) == Discover(ISSUER)
    assert flow.send(Server(issuer=ISSUER, token_url=TOKEN_URL)).url == TOKEN_URL


def test_an_issuer_without_a_token_endpoint():
    flow = client(issuer=ISSUER).flow(None)
    next(flow)
    with pytest.raises(BadTokenReply, match="publishes no token_url"):
        flow.send(Server(issuer=ISSUER))


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({}, "needs token_url, or issuer"),
        ({"issuer": ISSUER, "token_url": TOKEN_URL}, "not both"),
        ({"issuer": f"{ISSUER}?a=b"}, "query"),
    ],
)
def test_there_is_either_a_token_url_or_an_issuer(keys, complaint):
    with pytest.raises(ValueError, match=complaint):
        client(**keys)


def test_the_issuer_is_told_because_it_sees_the_credential():
    assert list(client(issuer=ISSUER).urls()) == [("issuer", ISSUER)]
