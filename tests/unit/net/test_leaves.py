"""Leaves on demand: who is shown what, and until when. The handshakes happen in memory."""

import gc
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509

from authproxy.net import leaves as module
from authproxy.net.authority import Permitted, make_authority
from authproxy.net.leaves import Leaves, NotPermitted, certified_name, sni_of
from tests.support.clock import Clock
from tests.support.handshake import shake_hands, strict

DAY = 86400.0
PERMITTED = Permitted(("api.example", "a_b.example"), (ip_network("192.0.2.1"), ip_network("2001:db8::1")))
HOSTS = ["api.example", "a_b.example", "192.0.2.1", "2001:db8::1"]


def made(clock, permitted=PERMITTED, days=365):
    now = datetime.fromtimestamp(clock(), UTC)
    return make_authority("test", permitted, lifetime=timedelta(days=days), now=now)


def now():
    return Clock(datetime.now(UTC).timestamp())


@pytest.fixture
def clock():
    return now()


@pytest.fixture
def authority(clock):
    return made(clock)


@pytest.fixture
def leaves(authority, clock):
    return Leaves([authority], clock=clock)


def shown(context):
    """Return the certificate that a client gets which trusts anybody."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    end, _ = shake_hands(client, context, None)
    return x509.load_der_x509_certificate(end.getpeercert(binary_form=True))


@pytest.mark.parametrize("host", HOSTS)
def test_who_trusts_the_root_takes_the_leaf_for_its_host_and_for_no_other(leaves, authority, host):
    client = strict(authority.root_pem)
    end, _ = shake_hands(client, leaves.context(host), host)
    assert end.version() in {"TLSv1.2", "TLSv1.3"}
    for other in (*(each for each in HOSTS if each != host), "www.api.example", "example"):
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            shake_hands(client, leaves.context(host), other)


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("API.Example", "api.example"),
        ("api.example.", "api.example"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
    ],
)
def test_a_host_has_one_leaf_however_it_is_spelled(spelled, name):
    assert certified_name(spelled) == name
    clock = now()
    leaves = Leaves(
        [made(clock, Permitted((".".join(name.split(".")[-2:]),), PERMITTED.networks))], clock=clock
    )
    assert leaves.context(spelled) is leaves.context(name)


@pytest.mark.parametrize(
    "host",
    [
        "*.api.example", "*", "", ".", "api..example", ".api.example", "api.example..", "-a.api.example",
        "bücher.example", "api.example\0", "api.example\n", "a b", "api.example:443",
        f"{'a' * 64}.api.example",
        f"{'a.' * 125}api.example", "other.example", "notapi.example", "example", "192.0.2.2", "2001:db8::2",
        "::ffff:192.0.2.1",
    ],
)  # fmt: skip
def test_for_what_is_not_permitted_nothing_is_made(leaves, host):
    with pytest.raises(NotPermitted):
        leaves.context(host)
    assert repr(leaves) == "<Leaves of 1 authorities: 0 made>"


def test_only_http_1_1_and_no_old_tls_is_spoken(leaves, authority):
    client = strict(authority.root_pem)
    client.set_alpn_protocols(["h2", "http/1.1"])
    end, _ = shake_hands(client, leaves.context("api.example"), "api.example")
    assert end.selected_alpn_protocol() == "http/1.1"
    assert leaves.context("api.example").minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("api.example", "api.example"), ("API.example", "API.example"), ("other.example", "other.example"),
        ("192.0.2.1", None), (None, None),
    ],
)  # fmt: skip
def test_what_the_client_has_named_is_known_and_never_in_the_way(leaves, named, found):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    _, server = shake_hands(client, leaves.context("api.example"), named)
    assert server.version() is not None
    assert sni_of(server) == found


def test_a_resumed_session_names_what_it_names_itself(leaves):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # where the session is known after the handshake
    context = leaves.context("api.example")
    first, _ = shake_hands(client, context, "api.example")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    again = client.wrap_bio(to_client, to_server, server_hostname="api.example", session=first.session)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for end in (again, server) * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert again.session_reused
    assert sni_of(server) == "api.example"


def test_what_a_client_has_named_is_forgotten_with_its_connection(leaves):
    gc.collect()
    before = len(module._named)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    ends = shake_hands(client, leaves.context("api.example"), "api.example")
    assert len(module._named) == before + 1
    del ends
    gc.collect()
    assert len(module._named) == before


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_leaf_lasts_for_a_week_and_is_another_one_well_before_its_end(leaves, clock):
    first = leaves.context("api.example")
    begin, end = shown(first).not_valid_before_utc, shown(first).not_valid_after_utc
    start = datetime.fromtimestamp(clock(), UTC).replace(microsecond=0)
    assert (begin, end) == (start - timedelta(hours=1), start + timedelta(days=7))
    clock.advance(4 * DAY - 2)
    assert leaves.context("api.example") is first
    clock.advance(4)
    assert shown(leaves.context("api.example")).not_valid_after_utc > end


def test_a_clock_that_is_set_back_makes_one_that_is_valid_by_it(authority, clock):
    leaves = Leaves([authority], clock=clock)
    clock.advance(5 * DAY)
    late = leaves.context("api.example")
    clock.advance(-4 * DAY)
    assert leaves.context("api.example") is not late
    assert shown(leaves.context("api.example")).not_valid_before_utc.timestamp() <= clock()


def test_the_authority_that_lasts_signs_and_the_first_one_as_long_as_it_does(clock):
    old, new = made(clock, days=30), made(clock, days=365)
    leaves = Leaves([old, new], clock=clock)
    assert shown(leaves.context("api.example")).issuer == old.issuer.subject, "clients know it for longer"
    clock.advance(24 * DAY)
    assert shown(leaves.context("api.example")).issuer == new.issuer.subject
    alone = Leaves([old], clock=clock)
    assert shown(alone.context("api.example")).not_valid_after_utc == old.issuer.not_valid_after_utc


def test_an_authority_at_its_end_does_not_make_a_leaf_for_each_connection(clock):
    leaves = Leaves([made(clock, days=1)], clock=clock)
    clock.advance(DAY - 1)
    assert leaves.context("api.example") is leaves.context("api.example")


def test_of_two_authorities_each_signs_for_its_own(clock):
    one, other = made(clock), made(clock, Permitted(("b.example",)))
    leaves = Leaves([one, other], clock=clock)
    assert shown(leaves.context("b.example")).issuer == other.issuer.subject
    assert shown(leaves.context("api.example")).issuer == one.issuer.subject
    client = strict(one.root_pem)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, leaves.context("b.example"), "b.example")
    shake_hands(strict(one.root_pem + other.root_pem), leaves.context("b.example"), "b.example")


def test_contexts_are_kept_while_they_are_asked_for_and_only_so_many(authority, clock):
    leaves = Leaves([authority], clock=clock, contexts=2)
    kept = leaves.context("a.api.example")
    for number in range(5):
        leaves.context(f"b{number}.api.example")
        assert leaves.context("a.api.example") is kept
    assert repr(leaves) == "<Leaves of 1 authorities: 2 made>"


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_reaches_tls_sealed_and_its_file_is_gone_at_once(leaves, monkeypatch):
    seen = []
    real = module.passed_as_file

    def noted(content):
        seen.append(content)
        return real(content)

    monkeypatch.setattr(module, "passed_as_file", noted)
    leaves.context("api.example")
    [content] = seen
    assert content.count(b"PRIVATE KEY-----\n") == content.count(b"ENCRYPTED PRIVATE KEY-----\n") == 2
