"""What every endpoint that trades an assertion in has in common, without a socket."""

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.demo.standin import Received
from authproxy.demo.systems.signed_login import GRANT_TYPE, SignedLogin, address

from .talk import FOREIGN_KEY, signed

FORM = "application/x-www-form-urlencoded"


class Vendor(SignedLogin):
    name = "vendor"
    token_lifetime = 300
    token_path = "/token"
    bad_signature = "no good"

    def wrong_claims(self, claims, received):
        return web.Response(status=418) if claims.get("iss") != "me" else None

    def grant(self, received):
        return self.access_token()


def request(assertion="", grant_type=GRANT_TYPE, media_type=FORM):
    headers = CIMultiDict({"Content-Type": media_type, "Host": "demo:1"})
    body = f"grant_type={grant_type}&assertion={assertion}"
    return Received("POST", "/token", CIMultiDictProxy(headers), body.encode())


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (request(signed(iss="me")), 200),
        (request(signed(iss="somebody else")), 418),
        (request(signed(FOREIGN_KEY, iss="me")), 400),
        (request(), 400),
        (request(signed(iss="me"), grant_type="client_credentials"), 400),
        (request(signed(iss="me"), media_type="application/json"), 400),
    ],
)
def test_a_signed_assertion_is_traded_in_and_nothing_else(received, status):
    assert Vendor().token_for_assertion(received).status == status


def test_the_vendor_has_its_own_words_for_a_bad_signature():
    assert "no good" in Vendor().token_for_assertion(request("x")).text


def test_the_stand_in_knows_under_which_address_it_was_asked():
    assert address(request()) == "http://demo:1"
