"""The keys of the grants as a file has them: what goes together, and the faults when it does not."""

import json
from textwrap import indent

import pytest
from joserfc.jwk import ECKey

from authproxy.grants.authorization_code import AuthorizationCode

IN_THE_CLEAR = (
    "would carry the credential over plain http to another machine; use https, or set `insecure: true`"
)
TOKEN_TYPES = "access_token, id_token, jwt, refresh_token, saml1, saml2"
KEY = json.dumps(ECKey.generate_key("P-256").as_dict(private=True))
OAUTH = "token_url: https://id.example/token\nclient_id: id\n"


def auth(grant, keys):
    return f"upstream: https://x\nauth:\n  grant: {grant}\n{indent(keys, '  ')}"


@pytest.mark.parametrize(
    ("grant", "keys", "fault"),
    [
        ("client_credentials", "client_id: id", "auth: needs token_url, or issuer to discover it from"),
        (
            "client_credentials",
            OAUTH + "issuer: https://id.example",
            "auth: takes token_url or issuer, not both",
        ),
        (
            "client_credentials",
            "issuer: http://id.example",
            f"auth.issuer: {IN_THE_CLEAR}",
        ),
        ("client_credentials", "issuer: https://x?y", "auth.issuer: should not contain a query (?)"),
        (
            "client_credentials",
            OAUTH + "client_auth: private_key_jwt\nkey: hunter2",
            "auth.key: should be a private key in PEM, or a JWK (RFC 7517)",
        ),
        (
            "client_credentials",
            OAUTH + f"client_auth: private_key_jwt\nalgorithm: RS256\nkey: '{KEY}'",
            "auth: this key signs with ES256",
        ),
        (
            "client_credentials",
            OAUTH + "client_auth: private_key_jwt",
            "auth: client_auth private_key_jwt needs client_id and key",
        ),
        (
            "client_credentials",
            OAUTH + "client_auth: tls_client_auth\ncert_file: /none.pem",
            "auth.cert_file: the file cannot be read: No such file or directory",
        ),
        ("authorization_code", OAUTH, "auth: needs authorization_url, or issuer to discover it from"),
        (
            "authorization_code",
            "issuer: https://id.example\nclient_id: id\nsilent: true",
            "auth: silent needs redirect_uri, the one that the client is registered with",
        ),
        (
            "authorization_code",
            OAUTH + "authorization_url: http://id.example/a",
            f"auth.authorization_url: {IN_THE_CLEAR}",
        ),
        ("device_code", OAUTH, "auth: needs device_authorization_url, or issuer to discover it from"),
        ("jwt_bearer", OAUTH, "auth: needs either key, to sign the assertion with, or assertion"),
        (
            "token_exchange",
            OAUTH,
            (
                "auth.subject_token: is required (the token to exchange; with `${file:…}` it is read again "
                "when it is refused)"
            ),
        ),
        (
            "token_exchange",
            OAUTH + "subject_token: a\nsubject_token_type: hunter2",
            f"auth.subject_token_type: should be {TOKEN_TYPES}, or a URI",
        ),
    ],
)
def test_a_fault_names_the_key(reader, grant, keys, fault):
    assert reader.route_fault(auth(grant, keys)) == fault


def test_a_key_may_come_from_a_file(reader):
    (reader.directory / "key.json").write_text(KEY)
    keys = OAUTH + "client_auth: private_key_jwt\nkey: ${file:key.json}"
    route = reader.route(auth("client_credentials", keys))
    assert route.auth["key"] == "••••"
    assert route.reread is not None


def test_a_public_client_needs_nothing_but_its_issuer(reader):
    config = reader.config(
        reader.with_route(auth("authorization_code", "issuer: https://id.example\nclient_id: id"))
    )
    assert isinstance(config.routes[0].grant, AuthorizationCode)
