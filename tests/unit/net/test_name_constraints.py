"""What name constraints permit, as OpenSSL finds too."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from authproxy.net import authority as module
from authproxy.net.authority import Permitted, make_authority
from authproxy.net.leaves import Leaves
from authproxy.net.name_constraints import permit
from tests.support.handshake import shake_hands, strict

NOW = datetime.now(UTC).replace(microsecond=0)


def dns(*names):
    return [x509.DNSName(each) for each in names]


def networks(*addresses):
    return [x509.IPAddress(ipaddress.ip_network(each)) for each in addresses]


@pytest.fixture
def constrained(monkeypatch):
    """Return a maker of an authority with constraints that ours would not have."""

    def make(permitted, excluded):
        said = x509.NameConstraints(permitted or None, excluded or None)
        monkeypatch.setattr(module.Permitted, "extension", lambda _: said)
        return make_authority("test", Permitted(), lifetime=timedelta(days=1), now=NOW)

    return make


def is_taken(authority, host):
    """Whether Python's TLS takes a leaf for `host` that the authority has signed."""
    leaves = Leaves([authority])
    leaves._signer = lambda _name, _now: authority
    try:
        shake_hands(strict(authority.root_pem), leaves.context(host), host)
    except ssl.SSLCertVerificationError:
        return False
    return True


@pytest.mark.parametrize(
    ("permitted", "excluded", "fine", "refused"),
    [
        (dns("a.example"), [], ["a.example", "b.a.example", "192.0.2.1"], ["b.example", "xa.example"]),
        (dns("A.Example"), [], ["a.example"], ["b.example"]),
        ([], dns("a.example"), ["b.example", "192.0.2.1"], ["a.example", "b.a.example"]),
        (dns("example"), dns("a.example"), ["b.example"], ["a.example", "b.a.example", "a.test"]),
        (networks("192.0.2.0/24"), [], ["192.0.2.9", "a.example"], ["192.0.3.1", "2001:db8::1"]),
        ([], networks("192.0.2.0/24"), ["192.0.3.1", "2001:db8::1"], ["192.0.2.9"]),
        (networks("2001:db8::/32"), [], ["2001:db8::1", "a.example"], ["2001:db9::1", "192.0.2.1"]),
        (dns("a.example") + networks("192.0.2.1"), [], ["a.example", "192.0.2.1"], ["b.example", "10.0.0.1"]),
        (dns("a.example", "b.example"), [], ["a.example", "b.example"], ["c.example"]),
        ([], networks("0.0.0.0/0", "::/0"), ["a.example"], ["192.0.2.1", "2001:db8::1"]),
        (dns(".a.example"), [], ["b.a.example"], ["a.example", "b.example"]),
    ],
)  # fmt: skip
def test_what_is_permitted_is_what_clients_take(constrained, permitted, excluded, fine, refused):
    made = constrained(permitted, excluded)
    for host in fine + refused:
        assert permit([made.issuer], host) is permit(made.certificates, host) is (host in fine), host
        assert is_taken(made, host) is (host in fine), host


def test_without_constraints_everything_is_permitted():
    made = make_authority("test", Permitted(), lifetime=timedelta(days=1), now=NOW)
    assert permit([], "a.example")
    assert not permit([made.root], "a.example")


def test_all_certificates_of_a_chain_have_to_permit_it():
    one, other = (
        make_authority("test", Permitted((name,)), lifetime=timedelta(days=1), now=NOW)
        for name in ("a.example", "example")
    )
    assert permit([other.issuer, one.root], "a.example")
    assert not permit([other.issuer, one.root], "b.example")
