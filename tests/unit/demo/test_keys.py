"""The demo's key pair: what it signed is known by, and for how long."""

import pytest
from joserfc.jwk import OctKey

from authproxy.demo.keys import is_timely, private_key, verified
from authproxy.grants.signing import read_key, sign

from .systems.talk import FOREIGN_KEY, signed


def test_the_key_is_always_the_same():
    assert private_key() is private_key()
    assert read_key(private_key()).is_private


def test_what_it_signed_is_known():
    assert verified(signed(iss="me"))["iss"] == "me"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "no.jwt.atall",
        signed(FOREIGN_KEY, iss="me"),
        sign({}, read_key(private_key()), now=0, key_id=None, algorithm="PS256"),
        sign({}, OctKey.import_key(b"k" * 32), now=0, key_id=None, algorithm="HS256"),
        signed(iss="me")[:-4] + "AAAA",
        "eyJhbGciOiJub25lIn0.e30.",
    ],
)
def test_nothing_else_is(token):
    assert verified(token) is None


@pytest.mark.parametrize(
    ("claims", "timely"),
    [
        ({"iat": 90, "exp": 110}, True),
        ({"exp": 110}, True),
        ({"iat": 101, "exp": 110}, False),
        ({"iat": 0, "exp": 100}, False),
        ({"iat": 90, "exp": 161}, False),
        ({"iat": 90}, False),
        ({"iat": 90, "exp": "110"}, False),
    ],
)
def test_a_jwt_is_good_until_it_ends_and_not_for_too_long(claims, timely):
    assert is_timely(claims, 100, 60) is timely
