"""Which file of a certificate and its key will not do, and why."""

import ssl

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from authproxy.net.key_pair import ANOTHER_KEY, DECRYPT_IT, NO_CERTIFICATE, NO_KEY, UnusableFile, load_pair

SEALS = {
    "pkcs8.pem": serialization.PrivateFormat.PKCS8,
    "traditional.pem": serialization.PrivateFormat.TraditionalOpenSSL,
}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Return a directory with a certificate, its key, that one sealed, another key, and garbage."""
    made = tmp_path_factory.mktemp("pairs")
    authority = trustme.CA()
    certificate = authority.issue_cert("a.example")
    chain, key = certificate.cert_chain_pems[0], certificate.private_key_pem
    chain.write_to_path(made / "cert.pem")
    key.write_to_path(made / "key.pem")
    authority.issue_cert("b.example").private_key_pem.write_to_path(made / "other.pem")
    loaded = serialization.load_pem_private_key(key.bytes(), None)
    for name, kind in SEALS.items():
        seal = serialization.BestAvailableEncryption(b"s3cr3t")
        sealed = loaded.private_bytes(serialization.Encoding.PEM, kind, seal)
        (made / name).write_bytes(sealed)
        (made / f"both-{name}").write_bytes(chain.bytes() + sealed)
    (made / "both.pem").write_bytes(chain.bytes() + key.bytes())
    (made / "garbage.pem").write_text("garbage")
    for kind in ("CERTIFICATE", "PRIVATE KEY"):
        (made / f"{kind.split()[-1]}.pem").write_text(f"-----BEGIN {kind}-----\nxx\n-----END {kind}-----\n")
    return made


def loaded(here, cert, key):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_pair(context, str(here / cert), None if key is None else str(here / key))


@pytest.mark.parametrize(("cert", "key"), [("cert.pem", "key.pem"), ("both.pem", None)])
def test_what_belongs_together_is_shown(here, cert, key):
    loaded(here, cert, key)


@pytest.mark.parametrize(
    ("cert", "key", "place", "message"),
    [
        ("cert.pem", "other.pem", "key_file", ANOTHER_KEY),
        ("cert.pem", "pkcs8.pem", "key_file", DECRYPT_IT),
        ("cert.pem", "traditional.pem", "key_file", DECRYPT_IT),
        ("both-pkcs8.pem", None, "cert_file", DECRYPT_IT),
        ("key.pem", "cert.pem", "cert_file", "holds a key: cert_file and key_file are swapped"),
        ("key.pem", "key.pem", "cert_file", NO_CERTIFICATE),
        ("garbage.pem", "key.pem", "cert_file", NO_CERTIFICATE),
        ("CERTIFICATE.pem", "key.pem", "cert_file", NO_CERTIFICATE),
        ("cert.pem", "garbage.pem", "key_file", NO_KEY),
        ("cert.pem", "KEY.pem", "key_file", NO_KEY),
        ("cert.pem", None, "cert_file", NO_KEY),
        ("nowhere.pem", "key.pem", "cert_file", "cannot be read: No such file or directory"),
        ("cert.pem", "nowhere.pem", "key_file", "cannot be read: No such file or directory"),
    ],
)
def test_what_will_not_do_is_told_by_its_file(here, cert, key, place, message):
    with pytest.raises(UnusableFile) as caught:
        loaded(here, cert, key)
    assert (caught.value.key, str(caught.value)) == (place, message)


class Context:
    """Stands in for OpenSSL: it asks a terminal where it gets no password, and refuses for `reason`."""

    def __init__(self, reason):
        self.reason = reason
        self.asked = False

    def load_cert_chain(self, _cert, _key, password=None):
        self.asked = password is None
        error = ssl.SSLError(1, "no")
        error.reason = self.reason
        raise error


def test_nobody_is_asked_for_a_passphrase(here):
    context = Context(None)
    with pytest.raises(UnusableFile, match="is encrypted"):
        load_pair(context, str(here / "cert.pem"), str(here / "pkcs8.pem"))
    assert not context.asked


def test_a_certificate_that_openssl_finds_too_weak_is_told(here):
    with pytest.raises(UnusableFile, match="too weak") as caught:
        load_pair(Context("EE_KEY_TOO_SMALL"), str(here / "cert.pem"), str(here / "key.pem"))
    assert caught.value.key == "cert_file"
