"""Each kind of TLS context. Handshakes, as a configuration asks for them, are in app/test_tls.py."""

import ssl

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from authproxy.net.tls import UNUSABLE, listener_context, upstream_context


@pytest.fixture
def here(tmp_path):
    """Return a directory with a certificate, its key, that key under a passphrase, and another key."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("a.example")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.issue_cert("b.example").private_key_pem.write_to_path(tmp_path / "other.pem")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    (tmp_path / "sealed.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"s3cr3t"),
        )
    )
    return tmp_path


def test_an_upstream_must_prove_who_it_is_unless_that_does_not_matter(here):
    strict, lax = upstream_context(ca_file=str(here / "ca.pem")), upstream_context(verify=False)
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)
    assert [each["subject"] for each in strict.get_ca_certs()]


def test_clients_are_asked_for_no_certificate_and_token_endpoints_must_show_theirs(here):
    pair = str(here / "cert.pem"), str(here / "key.pem")
    assert listener_context(*pair).verify_mode == ssl.CERT_NONE
    context = upstream_context(cert_file=pair[0], key_file=pair[1])
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("key", ["other.pem", "nowhere.pem", "cert.pem"])
def test_a_key_that_does_not_belong_to_the_certificate_is_refused_by_all(here, key):
    cert_file, key_file = str(here / "cert.pem"), str(here / key)
    for make in (
        lambda: listener_context(cert_file, key_file),
        lambda: upstream_context(cert_file=cert_file, key_file=key_file),
    ):
        with pytest.raises(UNUSABLE):
            make()


def test_a_key_under_a_passphrase_asks_nobody_for_it_while_serving(here):
    with pytest.raises(UNUSABLE):
        upstream_context(cert_file=str(here / "cert.pem"), key_file=str(here / "sealed.pem"))
