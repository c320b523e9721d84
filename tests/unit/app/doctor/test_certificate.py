"""What a certificate says, and what is wrong with it."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authproxy.app.doctor.certificate import explain, read_certificate, utc_now
from authproxy.net.failures import Failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def facts(*names, days=60):
    authority = trustme.CA(organization_name="Somebody", organization_unit_name="Somebody's unit")
    leaf = authority.issue_cert(
        *names, not_before=NOW - timedelta(days=30), not_after=NOW + timedelta(days=days)
    )
    return read_certificate(ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode()))


def test_a_certificate_is_read():
    found = facts("a.example", "127.0.0.1")
    assert found.names == ("a.example", "127.0.0.1")
    assert found.issuer == '"Somebody"'
    assert 'signed by "Somebody", valid until 2026-03-02 (60 days left)' in found.summary(NOW)


def signed(name: str, *extensions: tuple[str, str]) -> bytes:
    """Return a certificate, in DER, with these extensions, each an OID and its value in hexadecimal."""
    key, named = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
    )
    builder = x509.CertificateBuilder(named, named, key.public_key(), 5, NOW, NOW + timedelta(days=9))
    for oid, value in extensions:
        unread = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), bytes.fromhex(value))
        builder = builder.add_extension(unread, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


SAN = "2.5.29.17"
VERSION = bytes.fromhex("a0030201")
WEIRD = {
    "an EDI party": signed("a", (SAN, "3006a304a0023000")),
    "half an address": signed("a", (SAN, "3003870101")),
    "version 10": signed("a").replace(VERSION + b"\2", VERSION + b"\x09", 1),
    "names twice": signed("a", (SAN, "3003820178"), ("2.5.29.99", "3003820178")).replace(
        bytes.fromhex("0603551d63"), bytes.fromhex("0603551d11")
    ),
}


@pytest.mark.parametrize("what", WEIRD)
def test_a_certificate_that_nobody_can_read_is_none(what):
    assert read_certificate(WEIRD[what]) is None


def test_a_name_in_it_is_one_short_line():
    found = read_certificate(signed("a\x1b[2J\nb\x9bc"))
    assert found.subject == '"a [2J b c"'


@pytest.mark.parametrize(
    ("days", "says"), [(1, "(1 day left: renew it soon)"), (-2, "expired on 2025-12-30")]
)
def test_its_end_is_told(days, says):
    assert says in facts("a.example", days=days).summary(NOW)


@pytest.mark.parametrize("der", [None, b"", b"garbage"])
def test_what_is_no_certificate_is_none(der):
    assert read_certificate(der) is None


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Failure.AUTHORITY, 'signed by "Somebody", an authority that is not trusted here'),
        (Failure.EXPIRED, "expired on"),
        (
            Failure.NOT_YET_VALID,
            "valid from 2025-12-02 00:00 UTC on, and this machine's clock says 2026-01-01",
        ),
        (Failure.OTHER_NAME, "is for a.example, not for b.example"),
        (Failure.HANDSHAKE, "no TLS with b.example: handshake failed"),
    ],
)
def test_a_fault_is_explained(fault, says):
    assert says in explain(fault, "b.example", facts("a.example"), NOW)


def test_without_a_certificate_the_fault_alone_is_told():
    assert (
        explain(Failure.EXPIRED, "a.example", None, NOW)
        == "no TLS with a.example: its certificate has expired"
    )


def test_of_many_names_a_few_are_told():
    names = [f"n{number}.example" for number in range(9)]
    assert "n3.example, 5 more" in explain(Failure.OTHER_NAME, "b.example", facts(*names), NOW)


def test_now_has_a_zone():
    assert utc_now().tzinfo is UTC
