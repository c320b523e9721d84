"""Each way of proving which client it is, on the wire."""

import base64
import json

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from pydantic import ValidationError

from authproxy.grants.client_auth import CLIENT_AUTH, client_check
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.discovery import Server
from authproxy.grants.steps import ClientCertificate, Now

from .talk import NOW, TOKEN_URL, expired, make, pairs

CLIENT_ID, SECRET = "id:1 ü", "s&c r%t"


def basic(text):
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize(
    ("style", "headers", "parameters"),
    [
        ("client_secret_basic", basic("id%3A1+%C3%BC:s%26c+r%25t"), {}),  # form-encoded first
        ("client_secret_basic_raw", basic("id:1 ü:s&c r%t"), {}),
        ("client_secret_post", {}, {"client_id": CLIENT_ID, "client_secret": SECRET}),
        ("none", {}, {"client_id": CLIENT_ID}),
    ],
)
def test_a_client_shows_who_it_is(style, headers, parameters):
    sent_headers, sent_parameters = {}, {}
    CLIENT_AUTH[style](CLIENT_ID, SECRET, sent_headers, sent_parameters)
    assert (sent_headers, sent_parameters) == (headers, parameters)


def test_a_client_without_an_id_sends_none():
    parameters = {}
    CLIENT_AUTH["none"]("", "", {}, parameters)
    assert parameters == {}


# ── with assertions and certificates ─────────────────────────────────────────────────────────────


EC_KEY = ECKey.generate_key("P-256", {"kid": "k1"})


def client(**keys):
    keys = {"token_url": TOKEN_URL, "client_id": CLIENT_ID} | keys
    return make(ClientCredentials, **keys)


def sent(grant, server=None):
    """Return the token request of a client that signs."""
    flow = grant.flow(None)
    step = next(flow)
    if server is not None:
        step = flow.send(server)
    assert step == Now()
    return flow.send(NOW)


@pytest.mark.parametrize(
    ("keys", "key", "header"),
    [
        (
            {"client_auth": "client_secret_jwt", "client_secret": SECRET},
            OctKey.import_key("a secret that is long enough"),
            {"alg": "HS256", "typ": "JWT"},
        ),
        (
            {"client_auth": "client_secret_jwt", "client_secret": SECRET, "algorithm": "HS512"},
            OctKey.import_key("a secret that is long enough"),
            {"alg": "HS512", "typ": "JWT"},
        ),
        (
            {"client_auth": "private_key_jwt", "key": json.dumps(EC_KEY.as_dict(private=True))},
            EC_KEY,
            {"alg": "ES256", "typ": "JWT", "kid": "k1"},
        ),
    ],
)
def test_a_signed_assertion_says_who_the_client_is(keys, key, header):
    if "client_secret" in keys:
        keys = keys | {"client_secret": "a secret that is long enough"}
    ask = sent(client(**keys))
    form = dict(pairs(ask))
    assertion = form.pop("client_assertion")
    assert form == {
        "grant_type": "client_credentials",
        "client_id": CLIENT_ID,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert "Authorization" not in ask.headers
    token = jwt.decode(assertion, key, algorithms=[header["alg"]])
    assert token.header == header
    assert token.claims.pop("jti")
    assert token.claims == {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": TOKEN_URL,
        "iat": int(NOW) - 10,
        "exp": int(NOW) + 230,
    }


def test_an_assertion_is_for_the_issuer_when_there_is_one_or_for_whom_the_configuration_says():
    key = json.dumps(EC_KEY.as_dict(private=True))
    signs = {"client_auth": "private_key_jwt", "key": key}
    found = Server(issuer="https://id.example", token_url=TOKEN_URL)
    with_issuer = client(**signs, token_url=None, issuer="https://id.example")
    for ask, audience in (
        (sent(with_issuer, found), "https://id.example"),
        (sent(client(**signs, audience_claim="urn:x")), "urn:x"),
    ):
        assertion = dict(pairs(ask))["client_assertion"]
        assert jwt.decode(assertion, EC_KEY).claims["aud"] == audience


def test_a_refresh_is_signed_too():
    flow = client(client_auth="private_key_jwt", key=json.dumps(EC_KEY.as_dict(private=True))).flow(
        expired("r")
    )
    assert next(flow) == Now()
    assert dict(pairs(flow.send(NOW)))["grant_type"] == "refresh_token"


@pytest.fixture
def certificate(tmp_path):
    for name in ("client.pem", "client.key"):
        (tmp_path / name).write_text("PEM")
    return ClientCertificate(str(tmp_path / "client.pem"), str(tmp_path / "client.key"))


def test_a_certificate_goes_with_the_connection(certificate):
    keys = {"cert_file": certificate.cert_file, "key_file": certificate.key_file}
    ask = next(client(client_auth="tls_client_auth", **keys).flow(None))
    assert ask.client_certificate == certificate
    assert pairs(ask) == [("grant_type", "client_credentials"), ("client_id", CLIENT_ID)]
    assert "Authorization" not in ask.headers


def test_a_server_may_want_certificates_at_an_endpoint_of_their_own(certificate):
    grant = client(
        client_auth="tls_client_auth",
        cert_file=certificate.cert_file,
        token_url=None,
        issuer="https://id.example",
    )
    flow = grant.flow(None)
    next(flow)
    found = Server(
        issuer="https://id.example", token_url=TOKEN_URL, token_url_with_certificate="https://mtls.example/t"
    )
    assert flow.send(found).url == "https://mtls.example/t"


KEY = json.dumps(EC_KEY.as_dict(private=True))
SHARED_KEY = '{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"}'


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"client_auth": "private_key_jwt"}, "private_key_jwt needs client_id and key"),
        ({"client_auth": "private_key_jwt", "key": "s3cr3t"}, "should be a private key in PEM"),
        ({"client_auth": "private_key_jwt", "key": SHARED_KEY}, "not a shared one"),
        ({"client_auth": "private_key_jwt", "key": KEY, "algorithm": "RS256"}, "signs with ES256"),
        ({"client_auth": "private_key_jwt", "key": KEY, "algorithm": "none"}, "Input should be"),
        ({"client_auth": "client_secret_jwt"}, "needs client_id and client_secret"),
        ({"client_auth": "client_secret_jwt", "client_secret": ""}, "client_secret"),
        (
            {"client_auth": "client_secret_jwt", "client_secret": "s3cr3t", "algorithm": "ES256"},
            "signs with HS256",
        ),
        ({"client_auth": "client_secret_jwt", "client_secret": "s3cr3t", "key": KEY}, "key is for"),
        ({"key": KEY}, "key is for client_auth: private_key_jwt"),
        ({"client_secret": "s3cr3t", "algorithm": "HS256"}, "algorithm is for"),
        ({"client_auth": "tls_client_auth"}, "needs client_id and cert_file"),
        ({"client_auth": "tls_client_auth", "cert_file": "/nonexistent"}, "cannot be read"),
        ({"cert_file": __file__}, "are for client_auth: tls_client_auth"),
        (
            {"client_auth": "tls_client_auth", "cert_file": __file__, "token_url": "http://127.0.0.1/t"},
            "needs a token_url with https",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_and_not_repeated(keys, complaint):
    with pytest.raises(ValidationError, match=complaint) as caught:
        client(**keys)
    message = str([each["msg"] for each in caught.value.errors()])
    assert "s3cr3t" not in message


def test_a_key_does_not_print():
    grant = client(client_auth="private_key_jwt", key=KEY)
    assert EC_KEY.as_dict(private=True)["d"] not in repr(grant)
    assert KEY in grant.secrets()


@pytest.mark.parametrize(
    ("style", "says"),
    [
        ("client_secret_basic", "check `client_id` and `client_secret` (are they swapped?), and"),
        ("private_key_jwt", "check `client_id` and `key`, and"),
        ("none", "check `client_id`, and whether the server takes `client_auth: none`"),
    ],
)
def test_what_to_check_is_what_the_style_sends(style, says):
    assert client_check(style).startswith(says)
