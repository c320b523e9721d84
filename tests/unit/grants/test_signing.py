"""Keys that sign, and what they sign."""

import json
from contextlib import nullcontext

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, RSAKey

from authproxy.grants.signing import choose_algorithm, kind_of, read_key, secret_key, sign

from .talk import NOW

RSA = rsa.generate_private_key(65537, 2048)


def pem(key, encryption=None, form=PrivateFormat.PKCS8):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


def jwk(key, **more):
    return json.dumps(key.as_dict(private=True) | more)


@pytest.mark.parametrize(
    ("text", "kind", "algorithm"),
    [
        (pem(RSA), "RSA", "RS256"),
        (pem(RSA, form=PrivateFormat.TraditionalOpenSSL), "RSA", "RS256"),
        (f"\n{pem(RSA)}\n\n", "RSA", "RS256"),
        (pem(RSA).replace("\n", "\\n"), "RSA", "RS256"),  # as it often stands in an environment variable
        (pem(ec.generate_private_key(ec.SECP256R1())), "P-256", "ES256"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "P-384", "ES384"),
        (pem(ec.generate_private_key(ec.SECP521R1())), "P-521", "ES512"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "Ed25519", "EdDSA"),
        (jwk(ECKey.generate_key("P-256")), "P-256", "ES256"),
        (jwk(RSAKey.import_key(pem(RSA)), alg="PS256"), "RSA", "PS256"),
        (jwk(OctKey.generate_key(256)), "oct", "HS256"),
    ],
    ids=lambda value: value if len(value) < 10 else "",  # a key is another one in each process
)
def test_a_key_signs_with_what_suits_it(text, kind, algorithm):
    key = read_key(text)
    assert kind_of(key) == kind
    assert choose_algorithm(key, None) == algorithm
    signed = sign({"iss": "me"}, key, now=NOW, key_id="k1", algorithm=None)
    with pytest.warns(SecurityWarning) if algorithm == "EdDSA" else nullcontext():
        token = jwt.decode(signed, key, algorithms=[algorithm])
    assert token.header == {"alg": algorithm, "kid": "k1", "typ": "JWT"}
    assert token.claims["iss"] == "me"


def test_a_public_key_cannot_sign():
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in (public, json.dumps(ECKey.generate_key("P-256").as_dict(private=False))):
        with pytest.raises(ValueError, match="private key, not the public one"):
            read_key(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("s3cr3t", "should be a private key in PEM, or a JWK"),
        ('["s3cr3t"]', "should be a private key in PEM, or a JWK"),
        ('{"kty": "s3cr3t"}', "should be a private key in PEM, or a JWK"),
        ('{"kty": "RSA", "n": "s3cr3t"}', "should be a private key in PEM, or a JWK"),
        ('{"kty": "oct", "k": ""}', "should be a private key in PEM, or a JWK"),
        ("-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----", "should be a private key in PEM"),
        (pem(RSA, BestAvailableEncryption(b"x")), "should not be encrypted"),
        (pem(x25519.X25519PrivateKey.generate()), "cannot sign"),
        ("", "should be a private key in PEM, or a JWK"),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(text, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        read_key(text)
    assert "s3cr3t" not in str(caught.value)


def test_an_algorithm_must_suit_the_key():
    with pytest.raises(ValueError, match="this key signs with RS256 or"):
        choose_algorithm(read_key(pem(RSA)), "ES256")
    assert choose_algorithm(read_key(pem(RSA)), "PS512") == "PS512"


def test_an_assertion_is_short_lived_and_never_the_same():
    key = secret_key("a client's secret")
    one, other = (
        jwt.decode(sign({"sub": "me"}, key, now=NOW + 0.9, key_id=None, algorithm=None), key).claims
        for _ in range(2)
    )
    assert (one["iat"], one["exp"]) == (NOW - 10, NOW + 230)
    assert one["jti"] != other["jti"]
    assert len(one["jti"]) > 20


def test_the_id_in_a_jwk_is_told():
    key = read_key(jwk(ECKey.generate_key("P-256"), kid="its own"))
    for given, told in ((None, "its own"), ("mine", "mine")):
        signed = sign({}, key, now=NOW, key_id=given, algorithm=None)
        assert jwt.decode(signed, key).header["kid"] == told


def test_the_json_file_of_a_google_service_account_is_a_key_with_its_id():
    document = {"type": "service_account", "private_key_id": "g1", "private_key": pem(RSA)}
    signed = sign({"iss": "me"}, read_key(json.dumps(document)), now=NOW, key_id=None, algorithm=None)
    token = jwt.decode(signed, read_key(pem(RSA)))
    assert token.header == {"alg": "RS256", "kid": "g1", "typ": "JWT"}


def test_a_google_file_whose_key_is_none_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="should be a private key in PEM") as caught:
        read_key(json.dumps({"private_key": "s3cr3t"}))
    assert "s3cr3t" not in str(caught.value)


def test_a_short_secret_is_the_servers_business():
    assert sign({}, secret_key("x"), now=NOW, key_id=None, algorithm=None)


def test_an_empty_secret_is_no_key():
    with pytest.raises(ValueError, match="client_secret"):
        secret_key("")
