"""An assertion, traded in."""

import json

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from pydantic import ValidationError

from authproxy.grants.discovery import Server
from authproxy.grants.jwt_bearer import JWTBearer
from authproxy.grants.steps import Discover, Now

from .talk import NOW, TOKEN_URL, answer, expired, make, pairs

KEY = ECKey.generate_key("P-256")
KEY_TEXT = json.dumps(KEY.as_dict(private=True))
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def robot(**keys):
    return make(JWTBearer, **{"token_url": TOKEN_URL, "issuer_claim": "robot", "key": KEY_TEXT} | keys)


def test_the_assertion_says_who_asks_for_whom():
    flow = robot(subject="joe", key_id="k1", claims={"scope": "a b", "exp": 1}, scope=["a"]).flow(None)
    assert next(flow) == Now()
    form = dict(pairs(flow.send(NOW)))
    token = jwt.decode(form.pop("assertion"), KEY)
    assert form == {"grant_type": GRANT_TYPE, "scope": "a"}
    assert token.header == {"alg": "ES256", "typ": "JWT", "kid": "k1"}
    assert token.claims.pop("jti")
    assert token.claims == {
        "iss": "robot",
        "sub": "joe",
        "aud": TOKEN_URL,
        "scope": "a b",
        "iat": int(NOW) - 10,  # a server's clock may be behind
        "exp": 1,  # whoever writes a claim means it
    }


@pytest.mark.parametrize(
    ("keys", "claims"),
    [
        ({}, {"iss": "robot", "sub": "robot", "aud": TOKEN_URL}),
        ({"issuer_claim": None, "client_id": "id"}, {"iss": "id", "sub": "id", "aud": TOKEN_URL}),
        ({"audience_claim": "urn:them"}, {"iss": "robot", "sub": "robot", "aud": "urn:them"}),
    ],
)
def test_what_is_not_said_follows_from_the_rest(keys, claims):
    flow = robot(**keys).flow(None)
    next(flow)
    said = jwt.decode(dict(pairs(flow.send(NOW)))["assertion"], KEY).claims
    assert {name: said[name] for name in claims} == claims


def test_an_empty_subject_leaves_the_claim_out():
    assert "sub" not in claims_of(robot(subject=""))


def claims_of(grant):
    flow = grant.flow(None)
    next(flow)
    return jwt.decode(dict(pairs(flow.send(NOW)))["assertion"], KEY).claims


@pytest.mark.parametrize("claim", ["iat", "exp", "jti", "iss", "sub", "aud", "extra"])
def test_a_claim_that_is_null_is_left_out(claim):
    assert claim in claims_of(robot(claims={"extra": "x"}))
    assert claim not in claims_of(robot(claims={"extra": "x"} | {claim: None}))


def test_lifetime_and_skew_are_as_configured():
    said = claims_of(robot(assertion_lifetime="1m", clock_skew="30s"))
    assert (said["iat"], said["exp"]) == (NOW - 30, NOW + 30)
    said = claims_of(robot(assertion_lifetime=60, clock_skew=0))
    assert (said["iat"], said["exp"]) == (NOW, NOW + 60)


def test_an_assertion_made_elsewhere_is_sent_as_it_is():
    ask = next(make(JWTBearer, token_url=TOKEN_URL, assertion="a.b.c").flow(None))
    assert pairs(ask) == [("grant_type", GRANT_TYPE), ("assertion", "a.b.c")]


def test_the_same_key_may_prove_who_the_client_is():
    flow = robot(client_id="id", client_auth="private_key_jwt", issuer=None).flow(None)
    assert next(flow) == Now()
    assert flow.send(NOW) == Now()
    form = dict(pairs(flow.send(NOW)))
    assert jwt.decode(form["assertion"], KEY).claims["iss"] == "robot"
    assert jwt.decode(form["client_assertion"], KEY).claims["iss"] == "id"


def test_the_assertion_is_for_the_issuer_when_there_is_one():
    flow = robot(token_url=None, issuer="https://id.example").flow(None)
    assert next(flow) == Discover("https://id.example")
    found = Server(issuer="https://id.example", token_url=TOKEN_URL)
    assert flow.send(found) == Now()
    assert flow.send(NOW) == Discover("https://id.example")
    assertion = dict(pairs(flow.send(found)))["assertion"]
    assert jwt.decode(assertion, KEY).claims["aud"] == "https://id.example"


def test_a_refresh_token_goes_first():
    assert dict(pairs(next(robot().flow(expired("r")))))["grant_type"] == "refresh_token"


def test_the_answer_is_the_token():
    flow = make(JWTBearer, token_url=TOKEN_URL, assertion="a.b.c").flow(None)
    next(flow)
    with pytest.raises(StopIteration) as end:
        flow.send(answer({"access_token": "new", "expires_in": 60}))
    assert (end.value.value.value, end.value.value.lifetime) == ("new", 60)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"key": None}, "needs either key"),
        ({"assertion": "s3cr3t"}, "needs either key"),
        ({"key": None, "assertion": "s3cr3t"}, "made here"),
        ({"issuer_claim": None}, "needs issuer_claim"),
        ({"key": "s3cr3t"}, "should be a private key"),
        ({"algorithm": "RS256"}, "signs with ES256"),
        ({"key": None, "issuer_claim": None, "assertion": "s3cr3t", "key_id": "x"}, "key_id"),
        ({"key": None, "issuer_claim": None, "assertion": "s3cr3t", "clock_skew": 1}, "clock_skew"),
        ({"assertion_lifetime": "10s"}, "longer than clock_skew"),
        ({"assertion_lifetime": "30s", "clock_skew": "30s"}, "longer than clock_skew"),
    ],
)
def test_what_does_not_go_together_is_refused_and_not_repeated(keys, complaint):
    with pytest.raises(ValidationError, match=complaint) as caught:
        robot(**keys)
    assert "s3cr3t" not in str([each["msg"] for each in caught.value.errors()])


def test_no_secret_is_printed():
    grant = robot(claims={"pin": "s3cr3t"})
    assert "s3cr3t" not in repr(grant)
    assert KEY.as_dict(private=True)["d"] not in repr(grant)
    assert "s3cr3t" not in repr(make(JWTBearer, token_url=TOKEN_URL, assertion="s3cr3t"))
