"""One token traded in for another."""

import pytest
from pydantic import ValidationError

from authproxy.errors import BadTokenReply, CredentialRejected
from authproxy.grants.token_exchange import TokenExchange

from .talk import TOKEN_URL, answer, hold, make, pairs, refusal

TYPE = "urn:ietf:params:oauth:token-type:"


def exchange(**keys):
    return make(TokenExchange, **{"token_url": TOKEN_URL, "subject_token": "s3cr3t"} | keys)


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({}, [("subject_token_type", f"{TYPE}access_token")]),
        ({"subject_token_type": "jwt"}, [("subject_token_type", f"{TYPE}jwt")]),
        ({"subject_token_type": "urn:x:own"}, [("subject_token_type", "urn:x:own")]),
        (
            {"actor_token": "act", "requested_token_type": "access_token"},
            [
                ("subject_token_type", f"{TYPE}access_token"),
                ("actor_token", "act"),
                ("actor_token_type", f"{TYPE}access_token"),
                ("requested_token_type", f"{TYPE}access_token"),
            ],
        ),
        (
            {
                "actor_token": "act",
                "actor_token_type": "id_token",
                "audience": "them",
                "resource": ["a", "b"],
            },
            [
                ("subject_token_type", f"{TYPE}access_token"),
                ("actor_token", "act"),
                ("actor_token_type", f"{TYPE}id_token"),
                ("audience", "them"),
                ("resource", "a"),
                ("resource", "b"),
            ],
        ),
    ],
)
def test_the_exchange_says_what_is_traded_for_what(keys, sent):
    grant_type = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
    assert pairs(next(exchange(**keys).flow(None))) == [grant_type, ("subject_token", "s3cr3t"), *sent]


@pytest.mark.parametrize("issued", [f"{TYPE}access_token", f"{TYPE}jwt", None, 5])
def test_a_token_for_calling_apis_is_taken(issued):
    reply = {"access_token": "new", "token_type": "Bearer", "issued_token_type": issued}
    assert hold(exchange().flow(None), answer(reply))[1].value == "new"


@pytest.mark.parametrize(
    "reply",
    [
        {"token_type": "N_A", "issued_token_type": f"{TYPE}jwt"},
        {"token_type": "n_a"},
        {"token_type": "Bearer", "issued_token_type": f"{TYPE}refresh_token"},
    ],
)
def test_what_no_api_takes_is_refused(reply):
    with pytest.raises(BadTokenReply, match="no API takes") as caught:
        hold(exchange().flow(None), answer({"access_token": "new"} | reply))
    assert "requested_token_type" in caught.value.hint


def test_a_refused_exchange_says_why_but_not_what():
    with pytest.raises(CredentialRejected, match="too old") as caught:
        hold(exchange().flow(None), refusal("invalid_request", error_description="s3cr3t is too old"))
    assert "s3cr3t" not in caught.value.detail


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"subject_token_type": "token"}, "should be access_token, id_token"),
        ({"actor_token_type": "jwt"}, "needs actor_token"),
        ({"subject_token": None}, "valid string"),
    ],
)
def test_what_does_not_go_together_is_refused(keys, complaint):
    with pytest.raises(ValidationError, match=complaint):
        exchange(**keys)


def test_no_secret_is_printed():
    assert "s3cr3t" not in repr(exchange(actor_token="s3cr3t"))
