"""A JWT in the header of a login request."""

import json

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from pydantic import ValidationError

from authproxy.grants.assertion import HeaderAssertion
from authproxy.grants.steps import Now

from .talk import NOW, make

RSA = RSAKey.generate_key(2048)
PEM = RSA.as_pem(private=True).decode()


def assertion(**keys):
    return make(HeaderAssertion, **{"issuer_claim": "app-1", "key": PEM} | keys)


def signed(**keys):
    making = assertion(**keys).signed()
    assert next(making) == Now()
    with pytest.raises(StopIteration) as end:
        making.send(NOW)
    return jwt.decode(end.value.value, RSA)


def test_it_says_who_asks_for_some_minutes_and_nothing_else():
    token = signed()
    assert token.header == {"alg": "RS256", "typ": "JWT"}
    assert token.claims.pop("jti")
    assert token.claims == {"iss": "app-1", "iat": int(NOW) - 10, "exp": int(NOW) + 230}


def test_it_says_what_it_is_told_to():
    token = signed(
        subject="joe",
        audience_claim="them",
        key_id="k1",
        assertion_lifetime="10m",
        clock_skew="60s",
        claims={"team": "geo", "jti": None},
    )
    assert token.header["kid"] == "k1"
    assert token.claims == {
        "iss": "app-1",
        "sub": "joe",
        "aud": "them",
        "team": "geo",
        "iat": int(NOW) - 60,
        "exp": int(NOW) + 540,
    }


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"key": "s3cr3t"}, "private key in PEM"),
        (
            {"key": json.dumps(ECKey.generate_key("P-256").as_dict(private=True)), "algorithm": "RS256"},
            "ES256",
        ),
        ({"assertion_lifetime": 10, "clock_skew": 10}, "longer than clock_skew"),
        ({"issuer_claim": None}, "issuer_claim"),
        ({"audience": "x"}, "audience"),
    ],
)
def test_what_cannot_be_signed_is_refused(keys, complaint):
    with pytest.raises(ValidationError, match=complaint):
        assertion(**keys)


def test_the_key_does_not_print():
    assert "PRIVATE KEY" not in repr(assertion())
