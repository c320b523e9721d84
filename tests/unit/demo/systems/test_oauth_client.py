"""What every client's token endpoint has in common, without a socket."""

import base64

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET
from authproxy.demo.standin import Received
from authproxy.demo.systems.oauth_client import OAuthClient

FORM = "application/x-www-form-urlencoded"
SECRET = "demo%2Bsecret%2F100%25"  # as a form has it
POST = f"grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={SECRET}"


class Basic(OAuthClient):
    name = "vendor"
    token_path = "/token"
    takes_basic = True


class Post(OAuthClient):
    name = "vendor"
    token_path = "/token"
    takes_post = True


def answer(kind, body, basic=None, media_type=FORM):
    headers = CIMultiDict({"Content-Type": media_type})
    if basic:
        headers["Authorization"] = f"Basic {base64.b64encode(f'{CLIENT_ID}:{basic}'.encode()).decode()}"
    return kind().client_token(Received("POST", "/token", CIMultiDictProxy(headers), body.encode()))


@pytest.mark.parametrize(
    ("kind", "body", "basic"),
    [(Basic, "grant_type=client_credentials", SECRET), (Post, POST, None)],
)
def test_a_client_gets_a_token_where_it_says_who_it_is(kind, body, basic):
    reply = answer(kind, body, basic)
    assert reply.status == 200
    assert '"expires_in": 3600' in reply.text


@pytest.mark.parametrize(
    ("kind", "body", "basic", "status", "error"),
    [
        (Basic, POST, None, 401, "invalid_client"),
        (Post, "grant_type=client_credentials", CLIENT_SECRET, 401, "invalid_client"),
        (Basic, "grant_type=client_credentials", "wrong", 401, "invalid_client"),
        (Post, POST.replace(CLIENT_ID, "other"), None, 401, "invalid_client"),
        (Post, POST.replace("client_credentials", "password"), None, 400, "unsupported_grant_type"),
        (Basic, "", SECRET, 400, "unsupported_grant_type"),
    ],
)
def test_anything_else_gets_none(kind, body, basic, status, error):
    reply = answer(kind, body, basic)
    assert reply.status == status
    assert error in reply.text


def test_the_parameters_come_as_a_form():
    assert answer(Post, POST, media_type="application/json").status == 400
