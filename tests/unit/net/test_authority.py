"""Authorities for a few names: what they sign for is accepted by who trusts the root, and nothing else is."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from authproxy.net.authority import (
    Authority,
    Permitted,
    fingerprint_of,
    imported,
    make_authority,
    permitted_by,
    unsealed,
)
from tests.support.installed import need

NOW = datetime.now(UTC).replace(microsecond=0)
YEAR, WEEK = timedelta(days=365), timedelta(days=7)
LOOPBACK = Permitted(("localhost",), (ip_network("127.0.0.0/8"), ip_network("::1/128")))
SECRET = b"a passphrase"


def authority(permitted=LOOPBACK, now=NOW):
    return make_authority("test", permitted, lifetime=YEAR, now=now)


def leaf(of, *names, now=NOW, lifetime=WEEK):
    return of.leaf(names, lifetime=lifetime, now=now, passphrase=SECRET)


def certificates(made):
    return x509.load_pem_x509_certificates(made.chain)


def is_accepted(of, tmp_path, *names, host):
    """Whether Python's TLS takes the certificate for `host`, trusting the root alone."""
    made = leaf(of, *names)
    (tmp_path / "leaf.pem").write_bytes(made.chain + made.key)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "leaf.pem", password=SECRET)
    client = ssl.create_default_context(cadata=of.root_pem.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return ends[0].version() is not None


INSIDE = ["localhost", "up42.localhost", "127.0.0.1", "127.9.8.7", "::1"]
OUTSIDE = [
    "example.com",
    "localhost.example.com",
    "notlocalhost",
    "10.0.0.1",
    "128.0.0.1",
    "::2",
    "::ffff:7f00:1",
]


@pytest.mark.parametrize("name", INSIDE)
def test_what_is_permitted_is_accepted_by_who_trusts_the_root(tmp_path, name):
    assert LOOPBACK.covers(name)
    assert is_accepted(authority(), tmp_path, *INSIDE, host=name)


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_not_permitted_is_refused_though_it_is_signed(tmp_path, name):
    assert not LOOPBACK.covers(name)
    assert not is_accepted(authority(), tmp_path, name, host=name)


def test_one_name_outside_has_all_of_a_certificate_refused(tmp_path):
    assert not is_accepted(authority(), tmp_path, "localhost", "example.com", host="localhost")


@pytest.mark.parametrize(
    ("permitted", "fine", "refused"),
    [
        (Permitted(("a.example",)), ["a.example", "b.a.example"], ["b.example", "127.0.0.1", "::1"]),
        (
            Permitted((), (ip_network("10.0.0.1"),)),
            ["10.0.0.1"],
            ["10.0.0.2", "a.example", "localhost", "::1"],
        ),
        (Permitted((), (ip_network("2001:db8::1"),)), ["2001:db8::1"], ["10.0.0.2", "a.example", "::1"]),
        (Permitted(), [], ["localhost", "a.invalid", "127.0.0.1", "::1"]),
    ],
)
def test_a_kind_of_which_nothing_is_permitted_is_excluded_whole(tmp_path, permitted, fine, refused):
    made = authority(permitted)
    for name in fine + refused:
        assert is_accepted(made, tmp_path, name, host=name) == permitted.covers(name) == (name in fine), name


@pytest.mark.parametrize(
    "permitted",
    [
        LOOPBACK,
        Permitted(("a.example",)),
        Permitted((), (ip_network("10.0.0.1"), ip_network("::1"))),
        Permitted(),
    ],
)
def test_what_is_permitted_is_read_again_and_no_name_is_empty_over_which_java_stumbles(permitted):
    found = authority(permitted).issuer
    assert permitted_by(found) == permitted
    constraints = found.extensions.get_extension_for_class(x509.NameConstraints).value
    subtrees = [*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())]
    assert all(each.value for each in subtrees)


def test_openssl_says_the_same_of_the_root_alone(tmp_path):
    need("openssl")
    made = authority()
    (tmp_path / "ca.pem").write_bytes(made.root_pem)
    for name in INSIDE + OUTSIDE:
        (tmp_path / "leaf.pem").write_bytes(leaf(made, name).chain)
        verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem"]
        done = subprocess.run(
            [*verify, "-untrusted", "leaf.pem", "leaf.pem"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == (name in INSIDE), done.stdout + done.stderr
        assert ("subtree violation" in done.stderr) == (name in OUTSIDE)


def test_the_root_without_its_constraints_changes_nothing_as_the_issuer_has_them(tmp_path):
    made = authority()
    constraints = made.issuer.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert permitted_by(made.issuer) == permitted_by(made.root) == LOOPBACK
    assert permitted_by(certificates(leaf(made, "localhost"))[0]) == Permitted()


def test_the_issuer_signs_for_servers_and_for_no_other_authority():
    made = authority()
    extensions = made.issuer.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert made.root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 1


def test_the_roots_key_is_nowhere():
    made = authority()
    assert made.key.public_key() == made.issuer.public_key() != made.root.public_key()
    assert made.sealed(SECRET).count(b"PRIVATE KEY-----\n") == 2, "where the issuer's begins, and its end"
    assert set(Authority.__slots__) == {"root", "issuer", "key", "between"}
    assert made.between == ()


def test_nothing_secret_is_shown():
    made = authority()
    signed = leaf(made, "localhost")
    assert "PrivateKey" not in repr(made)
    assert "PRIVATE" not in repr(signed)
    assert SECRET.decode() not in repr(signed)


def test_what_was_sealed_is_unsealed_with_the_passphrase_alone():
    made = authority()
    found = unsealed(made.sealed(SECRET), SECRET)
    assert (found.root, found.issuer) == (made.root, made.issuer)
    assert certificates(leaf(found, "localhost"))[1] == made.issuer
    with pytest.raises(ValueError):  # noqa: PT011 - whatever OpenSSL says
        unsealed(made.sealed(SECRET), b"another")


@pytest.mark.parametrize("spoil", [
    lambda text: b"", lambda text: text[:-200], lambda text: text[200:],
    lambda text: text.partition(b"-----BEGIN ENC")[0],
    lambda text: authority().root_pem + text[text.find(b"-----END CERT") + 26:],
])  # fmt: skip
def test_what_is_not_whole_is_a_value_error(spoil):
    made = authority()
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        unsealed(spoil(made.sealed(SECRET)), SECRET)


def test_a_key_of_another_authority_is_refused():
    made, other = authority(), authority()
    mixed = made.root_pem + made.sealed(SECRET).partition(made.root_pem)[2]
    begin = b"-----BEGIN ENCRYPTED"
    mixed = mixed.partition(begin)[0] + begin + other.sealed(SECRET).partition(begin)[2]
    with pytest.raises(ValueError, match="second certificate"):
        unsealed(mixed, SECRET)


def test_a_leaf_is_valid_from_a_little_before_and_ends_with_its_issuer_at_the_latest():
    made = authority()
    signed = leaf(made, "localhost")
    assert (signed.not_before, signed.not_after) == (NOW - timedelta(hours=1), NOW + WEEK)
    late = leaf(made, "localhost", now=NOW + YEAR - timedelta(days=1))
    assert late.not_after == made.issuer.not_valid_after_utc
    early = leaf(made, "localhost", now=NOW - YEAR)
    assert early.not_before == made.issuer.not_valid_before_utc, "for when the clock will have been set"
    assert early.not_after == early.not_before + WEEK


def test_authorities_have_names_of_their_own_and_leaves_new_keys():
    one, other = authority(), authority()
    assert one.root.subject != other.root.subject
    assert one.fingerprint == fingerprint_of(one.root) != other.fingerprint
    first, second = (certificates(leaf(one, "localhost"))[0] for _ in range(2))
    assert first.public_key() != second.public_key()
    assert first.serial_number != second.serial_number


def test_what_was_exported_is_imported_whole():
    made = authority()
    found = imported(made.exported())
    assert found.certificates == made.certificates
    assert certificates(leaf(found, "localhost"))[1] == made.issuer
    higher = Authority(made.root, made.issuer, made.key, (authority().root,))
    assert imported(higher.exported()).between == higher.between


def test_a_leaf_names_its_issuers_key_as_the_issuer_does():
    made = authority()
    [signed, issuer] = certificates(leaf(made, "localhost"))
    of = signed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert of.key_identifier == own.key_identifier
