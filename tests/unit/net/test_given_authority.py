"""An authority of the user's own: what it may be, and what is said of one that will not do."""

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from authproxy.net.given_authority import UnusableCertificate, UnusableKey, read_authority
from authproxy.net.leaves import Leaves
from tests.support.handshake import shake_hands, strict
from tests.support.signers import CA, DAY, NOW, SIGNS, Signer, usage


def rsa_key():
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("make_key", [rsa_key, lambda: ec.generate_private_key(ec.SECP384R1())])
@pytest.mark.parametrize(
    "kind", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_clients_that_trust_its_root_take_what_it_signs(make_key, kind):
    root = Signer("root", key=make_key())
    found = read_authority(root.pem, root.key_pem(kind), NOW)
    shake_hands(strict(root.pem), Leaves([found]).context("a.example"), "a.example")
    assert found.root_pem == root.pem


def test_what_leads_to_the_root_goes_with_the_leaf():
    root = Signer("root", key=rsa_key())
    upper = Signer("upper", root)
    issuer = Signer("issuer", upper)
    for chain in (issuer.pem + upper.pem, issuer.pem + upper.pem + root.pem):
        found = read_authority(chain, issuer.key_pem(), NOW)
        end, _ = shake_hands(strict(root.pem), Leaves([found]).context("a.example"), "a.example")
        assert end.version() is not None
    signed = found.leaf(["a.example"], lifetime=DAY, now=NOW, passphrase=b"secret")
    assert len(x509.load_pem_x509_certificates(signed.chain)) == 3, "the root is the client's"


def test_an_issuer_alone_goes_with_its_leaves_too():
    root = Signer("root")
    issuer = Signer("issuer", root)
    found = read_authority(issuer.pem, issuer.key_pem(), NOW)
    shake_hands(strict(root.pem), Leaves([found]).context("a.example"), "a.example")


def test_certificate_and_key_may_be_in_one_file_among_other_things():
    root = Signer("root")
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    traditional = root.key_pem(serialization.PrivateFormat.TraditionalOpenSSL)
    both = b"words\n" + root.pem + parameters + traditional
    assert read_authority(both, both, NOW).issuer == root.certificate


PATHLEN_0 = x509.BasicConstraints(ca=True, path_length=0)
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
ANY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])


@pytest.mark.parametrize("extensions", [(CA,), (PATHLEN_0, SIGNS), (CA, SIGNS, ANY), (CA, SIGNS, SERVERS)])
def test_what_may_sign_for_servers_will_do(extensions):
    root = Signer("root", extensions=extensions)
    assert read_authority(root.pem, root.key_pem(), NOW).issuer == root.certificate


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"extensions": ()}, "its certificate is not an authority's (basicConstraints has no CA:TRUE)"),
        (
            {"extensions": (x509.BasicConstraints(ca=False, path_length=None),)},
            "its certificate is not an auth",
        ),
        (
            {"extensions": (CA, usage(digital_signature=True))},
            "its certificate may not sign others (keyUsage has no keyCertSign)",
        ),
        (
            {"extensions": (CA, SIGNS, CLIENTS)},
            "its certificate may not sign for servers (extendedKeyUsage has no serverAuth)",
        ),
        ({"ends": NOW}, "its certificate has expired, at {ends}"),
        ({"begins": NOW + DAY / 2}, "its certificate is not valid before "),
    ],
)
def test_a_certificate_that_cannot_sign_is_told(settings, fault):
    root = Signer("root", **settings)
    with pytest.raises(UnusableCertificate) as caught:
        read_authority(root.pem, root.key_pem(), NOW)
    assert str(caught.value).startswith(fault.format(ends=f"{NOW:%Y-%m-%dT%H:%M:%S}"))


def test_those_above_it_are_looked_at_as_well():
    root = Signer("root", extensions=(PATHLEN_0, SIGNS))
    issuer = Signer("issuer", root)
    read_authority(issuer.pem, issuer.key_pem(), NOW)
    with pytest.raises(UnusableCertificate, match=r"certificate 2 permits fewer .* \(pathlen\)"):
        read_authority(issuer.pem + root.pem, issuer.key_pem(), NOW)
    old = Signer("old", ends=NOW - DAY / 2)
    with pytest.raises(UnusableCertificate, match="certificate 2 has expired"):
        read_authority((below := Signer("below", old)).pem + old.pem, below.key_pem(), NOW)


def test_certificates_have_to_be_in_order():
    root = Signer("root")
    issuer = Signer("issuer", root)
    with pytest.raises(UnusableKey, match="is not the key of the first certificate in cert_file"):
        read_authority(root.pem + root.pem, issuer.key_pem(), NOW)
    for wrong in (Signer("other"), Signer("root")):
        with pytest.raises(
            UnusableCertificate, match="certificate 2 should be that of who signed certificate 1"
        ):
            read_authority(issuer.pem + wrong.pem, issuer.key_pem(), NOW)


@pytest.mark.parametrize(
    "content", [b"", b"words", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_is_told(content):
    with pytest.raises(UnusableCertificate, match="holds no certificate that can be read; it should be PEM"):
        read_authority(content, Signer("root").key_pem(), NOW)


def test_a_key_that_will_not_do_is_told_and_never_shown():
    root = Signer("root")
    odd = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content, fault in {
        b"": "holds no private key",
        root.pem: "holds no private key",
        root.key_pem()[:-40]: "holds no private key",
        root.key_pem(passphrase=b"secret"): "is encrypted, and nobody can be asked",
        root.key_pem(serialization.PrivateFormat.TraditionalOpenSSL, b"secret"): "is encrypted",
        odd: "should hold a key of RSA or of an elliptic curve",
        Signer("root").key_pem(): "is not the key of the first certificate in cert_file",
    }.items():
        with pytest.raises(UnusableKey) as caught:
            read_authority(root.pem, content, NOW)
        assert str(caught.value).startswith(fault)
        assert "BEGIN" not in str(caught.value)


def test_what_its_constraints_forbid_is_never_made():
    permitted = x509.NameConstraints([x509.DNSName("example")], None)
    root = Signer("root", extensions=(CA, SIGNS, permitted))
    leaves = Leaves([read_authority(root.pem, root.key_pem(), NOW)])
    shake_hands(strict(root.pem), leaves.context("a.example"), "a.example")
    with pytest.raises(ValueError, match=r"no authority may sign for a\.test"):
        leaves.context("a.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(strict(Signer("root").pem), leaves.context("a.example"), "a.example")
