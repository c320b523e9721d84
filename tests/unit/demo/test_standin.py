"""What every stand-in has in common, without a socket."""

import base64

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.demo.standin import Issued, Received, StandIn, same


def received(target="/", *, method="GET", body=b"", **headers):
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Received(method, target, CIMultiDictProxy(CIMultiDict(pairs)), body)


class Vendor(StandIn):
    name = "vendor"
    token_lifetime = 300.0

    @property
    def endpoints(self):
        return {"/token": ("POST", lambda _received: self.access_token(scope="a"))}


@pytest.fixture
def vendor(clock):
    return Vendor(clock=clock)


# ── a request ────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_read_as_it_came():
    request = received("/a%20b?x=1&y=", body=b"user=J%C3%BC&empty=", Content_Type="Text/Plain; charset=x")
    assert (request.path, request.query) == ("/a%20b", {"x": "1", "y": ""})
    assert request.form == {"user": "Jü", "empty": ""}
    assert request.media_type == "text/plain"


@pytest.mark.parametrize(
    ("header", "basic"),
    [
        ("Basic " + base64.b64encode("jö:p:w".encode()).decode(), ("jö", "p:w")),
        ("bAsIc " + base64.b64encode(b":").decode(), ("", "")),
        ("Basic " + base64.b64encode(b"no colon").decode(), None),
        ("Basic " + base64.b64encode(b"\xff:").decode(), None),
        ("Basic !", None),
        ("Basic !" + base64.b64encode(b"a:b").decode(), None),
        ("Bearer " + base64.b64encode(b"a:b").decode(), None),
    ],
)
def test_a_basic_credential_is_taken_exactly_as_sent(header, basic):
    assert received(Authorization=header).basic == basic


def test_a_request_does_not_print_its_secrets():
    assert "s3cr3t" not in repr(received(body=b"s3cr3t", Authorization="s3cr3t"))


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_known_until_it_ends_and_no_other_is(clock):
    tokens = Issued(clock)
    token = tokens.hand_out(300)
    assert tokens.knows(token)
    assert not tokens.knows("made up")
    clock.advance(300)
    assert not tokens.knows(token)


def test_a_token_is_redeemed_once(clock):
    tokens = Issued(clock)
    token = tokens.hand_out(300)
    assert [tokens.redeem(token), tokens.redeem(token), tokens.knows(token)] == [True, False, False]


def test_what_has_ended_is_not_kept(clock):
    tokens = Issued(clock)
    tokens.hand_out(300)
    clock.advance(301)
    tokens.hand_out(300)
    assert len(tokens._good_until) == 1


# ── the token endpoint ───────────────────────────────────────────────────────────────────────────


def test_a_token_reply_says_how_long_its_token_lasts_and_is_not_stored(vendor, clock):
    reply = vendor.converse(received("/token", method="POST"), vendor.endpoint("/token"))
    assert reply.headers["Cache-Control"] == "no-store"
    assert '"expires_in": 300.0' in reply.text
    assert '"scope": "a"' in reply.text
    assert vendor.token_requests == 1


@pytest.mark.parametrize(
    ("method", "accept", "status"),
    [
        ("GET", "*/*", 405),
        ("POST", "text/html", 406),
        ("POST", "text/html, application/*;q=0.5", 200),
        ("POST", "application/vnd.x+json", 200),
    ],
)
def test_a_token_request_that_the_vendor_would_not_take_is_refused(vendor, method, accept, status):
    request = received("/token", method=method, Accept=accept)
    assert vendor.converse(request, vendor.endpoint("/token")).status == status


@pytest.mark.parametrize(
    ("path", "there"),
    [("/token", True), ("/a/42/b", True), ("/a/b", False), ("/a/4/2/b", False), ("/token/", False)],
)
def test_a_star_in_an_endpoint_is_any_one_segment(vendor, path, there):
    vendor.__class__ = type("Starred", (Vendor,), {"endpoints": {"/token": ("POST", None), "/a/*/b": ()}})
    assert (vendor.endpoint(path) is not None) is there


def test_what_a_reply_leaves_out_is_not_in_it(vendor):
    assert "expires_in" not in vendor.access_token(expires_in=None).text


# ── the API ──────────────────────────────────────────────────────────────────────────────────────


def test_a_good_token_is_let_through_until_it_is_revoked(vendor):
    token = vendor.tokens.hand_out(300)
    assert vendor.judge(received(Authorization=f"Bearer {token}")) is None
    vendor.revoke()
    refused = vendor.judge(received(Authorization=f"Bearer {token}"))
    assert (refused.status, vendor.api_requests) == (401, 2)
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]


def test_who_sends_no_token_is_challenged_without_an_error(vendor):
    refused = vendor.judge(received())
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="vendor"')


def test_a_token_under_another_scheme_is_none(vendor):
    token = vendor.tokens.hand_out(300)
    assert vendor.judge(received(Authorization=f"Token {token}")).status == 401


def test_two_credentials_are_refused_even_if_both_are_good(vendor):
    token = f"Bearer {vendor.tokens.hand_out(300)}"
    headers = CIMultiDictProxy(CIMultiDict([("Authorization", token), ("Authorization", token)]))
    refused = vendor.judge(Received("GET", "/", headers))
    assert isinstance(refused, web.Response)
    assert refused.status == 400


def test_a_lifetime_can_be_shorter_than_the_vendors(clock):
    assert (Vendor(clock=clock).lifetime, Vendor(lifetime=1, clock=clock).lifetime) == (300, 1)


def test_credentials_are_the_same_only_when_they_are():
    assert same("ü", "ü")
    assert not same("ü", "u")
