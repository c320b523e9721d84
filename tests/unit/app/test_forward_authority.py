"""The authority of forward mode: for which hosts it is, how it grows, and what clients are told."""

import os
import ssl
import subprocess
import time
from datetime import timedelta

import pytest
from cryptography import x509

from authproxy.app import forward_authority as module
from authproxy.app import runtime_files
from authproxy.app.forward_authority import ANOTHER, MAX_HOSTS, ForwardAuthority, forward_hosts
from authproxy.config.read import parse
from authproxy.errors import ConfigError, StoreError
from authproxy.net.authority import permitted_by
from authproxy.net.leaves import NotPermitted
from tests.support.clock import Clock
from tests.support.handshake import shake_hands, strict
from tests.support.installed import need
from tests.support.signers import CA, NOW, SIGNS, Signer

DAY = 86400.0
ONE = "https://a.example/base"


def config(*upstreams, top="forward: true", file="proxy.yaml"):
    lines = [
        f"- {{name: r{number}, path: /r{number}, upstream: '{url}', auth: {{grant: none}}}}"
        for number, url in enumerate(upstreams)
    ]
    return parse("\n".join([top, "routes:", *lines]), str(file), environ={})


@pytest.fixture
def clock():
    return Clock(time.time())


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made))
    monkeypatch.setattr(module, "configured_roots", lambda: Signer("somebody").pem)
    return made


def made(*upstreams, clock, **settings):
    return ForwardAuthority.of(config(*upstreams), clock=clock, **settings)


def permits(authority):
    found = [permitted_by(each.issuer) for each in authority.authorities]
    return [[*each.names, *map(str, each.networks)] for each in found]


def test_it_is_for_the_hosts_of_https_upstreams_and_no_others(clock):
    urls = [
        "https://B.example", "https://a.example:8443/x", "https://a.example./y", "http://plain.example",
        "https://192.0.2.1", "https://[2001:DB8::1]", "https://xn--bcher-kva.example",
    ]  # fmt: skip
    hosts = ["192.0.2.1", "2001:db8::1", "a.example", "b.example", "xn--bcher-kva.example"]
    assert forward_hosts(config(*urls)) == hosts
    authority = made(*urls, clock=clock)
    assert permits(authority) == [[*hosts[2:], "192.0.2.1/32", "2001:db8::1/128"]]
    for host in hosts:
        shake_hands(strict(authority.root_pem), authority.leaves.context(host), host)
    for host in ("plain.example", "example", "192.0.2.2", "localhost"):
        with pytest.raises(NotPermitted):
            authority.leaves.context(host)


def test_a_host_that_no_certificate_can_name_is_none_of_them():
    assert forward_hosts(config(ONE, f"https://{'a' * 64}.example")) == ["a.example"]


def test_many_hosts_are_shared_out_among_as_few_authorities_as_will_do(clock):
    urls = [f"https://h{number}.example" for number in range(MAX_HOSTS + 1)]
    authority = made(*urls, clock=clock)
    assert sorted(map(len, permits(authority))) == [1, MAX_HOSTS]
    assert authority.root_pem.count(b"BEGIN CERTIFICATE") == 2


def test_without_any_https_upstream_there_is_none_to_trust(clock):
    authority = made("http://a.example", clock=clock)
    assert (authority.authorities, authority.root_pem) == ((), b"")


# ── other hosts ──────────────────────────────────────────────────────────────────────────────────


def test_the_same_hosts_have_the_same_authority_and_leaves(clock):
    before = made(ONE, "https://b.example", clock=clock)
    context = before.leaves.context("a.example")
    for urls in ([ONE, "https://b.example"], ["https://b.example:8443"], []):
        after = ForwardAuthority.of(config(*urls or [ONE]), before=before, clock=clock)
        assert after.authorities == before.authorities
        assert after.leaves.context("a.example") is context
        assert after.files is before.files


def test_a_host_that_is_added_has_an_authority_beside_the_first(clock):
    before = made(ONE, clock=clock)
    after = made(ONE, "https://b.example", clock=clock, before=before)
    assert permits(after) == [["a.example"], ["b.example"]]
    assert after.root_pem.startswith(before.root_pem)
    shake_hands(strict(before.root_pem), after.leaves.context("a.example"), "a.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(strict(before.root_pem), after.leaves.context("b.example"), "b.example")
    shake_hands(strict(after.root_pem), after.leaves.context("b.example"), "b.example")
    with pytest.raises(NotPermitted):
        before.leaves.context("b.example")


def test_what_is_below_a_permitted_name_needs_no_other(clock):
    before = made("https://example", clock=clock)
    after = made("https://example", ONE, clock=clock, before=before)
    assert after.authorities == before.authorities


def test_another_one_is_there_in_time_and_the_old_one_signs_to_its_end(clock):
    before = made(ONE, clock=clock)
    clock.advance(330 * DAY)
    assert not before.lacks(config(ONE))
    clock.advance(10 * DAY)
    assert before.lacks(config(ONE))
    after = made(ONE, clock=clock, before=before)
    assert permits(after) == [["a.example"]] * 2
    assert not after.lacks(config(ONE))
    assert after._clock is clock
    clock.advance(30 * DAY)
    last = made(ONE, clock=clock, before=after)
    assert last.authorities == after.authorities[1:], "one that has ended is nobody's"


def test_a_clock_that_was_ahead_when_it_was_made_has_another_one_made(clock):
    clock.advance(100 * DAY)
    before = made(ONE, clock=clock)
    clock.advance(-100 * DAY)
    assert before.lacks(config(ONE))
    after = made(ONE, clock=clock, before=before)
    assert permits(after) == [["a.example"]] * 2
    shake_hands(strict(after.root_pem), after.leaves.context("a.example"), "a.example")


# ── what clients are told ────────────────────────────────────────────────────────────────────────


def test_clients_find_its_roots_and_those_that_they_had(clock, base):
    authority = made(ONE, clock=clock)
    authority.stage()
    authority.publish()
    assert authority.cert_file.read_bytes() == authority.root_pem
    bundle = authority.bundle_file.read_bytes()
    assert bundle.startswith(authority.root_pem)
    assert bundle.count(b"BEGIN CERTIFICATE") == 2
    authority.close()
    assert list(base.iterdir()) == []


def test_what_grows_is_at_the_same_place_and_running_clients_are_thought_of(clock, caplog):
    caplog.set_level("INFO")
    before = made(ONE, clock=clock)
    before.stage()
    before.publish()
    at = before.bundle_file
    assert ANOTHER not in caplog.text
    after = made(ONE, "https://b.example", clock=clock, before=before)
    after.stage()
    assert at.read_bytes().count(b"BEGIN") == 2
    assert ANOTHER not in caplog.text
    after.publish()
    assert (after.bundle_file, at.read_bytes().count(b"BEGIN")) == (at, 3)
    assert caplog.text.count(ANOTHER) == 1
    after.stage()
    after.publish()
    assert caplog.text.count(ANOTHER) == 1, "where nothing is new"
    after.close()


def test_what_is_abandoned_is_not_told(clock):
    before = made(ONE, clock=clock)
    before.stage()
    before.publish()
    after = made(ONE, "https://b.example", clock=clock, before=before)
    after.stage()
    after.abandon()
    after.publish()
    assert before.cert_file.read_bytes() == before.root_pem
    before.close()


def test_where_nothing_can_be_written_it_is_said_and_only_what_is_there_has_to_be_replaced(
    clock, monkeypatch, caplog
):
    real, full = runtime_files.disk.replace_private, StoreError("No space left on device")

    def fails(*_given):
        raise full

    monkeypatch.setattr(runtime_files.disk, "replace_private", fails)
    authority = made(ONE, clock=clock)
    authority.stage()
    authority.publish()
    [record] = caplog.records
    assert record.getMessage() == module.NO_FILES
    assert "No space left" in record.facts["cause"]
    with pytest.raises(StoreError, match="No space left"):
        _ = authority.cert_file
    monkeypatch.setattr(runtime_files.disk, "replace_private", real)
    authority.stage()
    authority.publish()
    assert authority.cert_file.read_bytes() == authority.root_pem
    monkeypatch.setattr(runtime_files.disk, "replace_private", fails)
    with pytest.raises(StoreError, match="No space left"):
        made(ONE, "https://b.example", clock=clock, before=authority).stage()
    authority.close()


# ── another process ──────────────────────────────────────────────────────────────────────────────


def test_another_process_signs_for_the_same_and_keeps_what_it_has_made(clock):
    here = made(ONE, clock=clock)
    there = ForwardAuthority.imported(here.exported(), here.files)
    assert there.root_pem == here.root_pem
    shake_hands(strict(here.root_pem), there.leaves.context("a.example"), "a.example")
    context = there.leaves.context("a.example")
    again = ForwardAuthority.imported(here.exported(), here.files, before=there)
    assert again.leaves.context("a.example") is context
    grown = made(ONE, "https://b.example", clock=clock, before=here)
    later = ForwardAuthority.imported(grown.exported(), here.files, before=again)
    shake_hands(strict(grown.root_pem), later.leaves.context("b.example"), "b.example")


def test_a_process_that_was_forked_writes_no_files(clock, base, monkeypatch):
    authority = made(ONE, clock=clock)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    monkeypatch.setattr(module, "configured_roots", lambda: pytest.fail("nobody will read them"))
    authority.stage()
    authority.publish()
    assert list(base.iterdir()) == []


def test_nothing_secret_is_shown(clock):
    authority = made(ONE, clock=clock)
    assert repr(authority) == "<ForwardAuthority: 1 authorities, <RuntimeFiles None>>"
    [[key, *_]] = authority.exported()[1]
    assert key not in repr(vars(authority)).encode()


# ── one's own ────────────────────────────────────────────────────────────────────────────────────

GIVEN = "forward: {ca: {cert_file: ca.pem, key_file: key.pem}}"


@pytest.fixture
def own(tmp_path):
    """Return a maker of the authority of a configuration with files of `signer`."""

    def make(signer, *upstreams, chain=None, key=None, **settings):
        (tmp_path / "ca.pem").write_bytes(chain if chain is not None else signer.pem)
        (tmp_path / "key.pem").write_bytes(key if key is not None else signer.key_pem())
        found = config(*upstreams or [ONE], top=GIVEN, file=tmp_path / "proxy.yaml")
        return ForwardAuthority.of(found, **settings)

    return make


def test_ones_own_signs_and_its_root_is_what_clients_are_told(own):
    signer = Signer("root")
    authority = own(signer)
    assert authority.given
    assert authority.root_pem == signer.pem
    shake_hands(strict(signer.pem), authority.leaves.context("a.example"), "a.example")


def test_ones_own_that_stays_the_same_keeps_its_leaves_and_another_one_does_not(own):
    signer, other = Signer("root"), Signer("root")
    before = own(signer)
    context = before.leaves.context("a.example")
    after = own(signer, ONE, "https://b.example", before=before)
    assert after.leaves.context("a.example") is context
    changed = own(other, before=after)
    assert changed.root_pem == other.pem
    assert changed.leaves.context("a.example") is not context


def test_from_ones_own_to_an_ephemeral_one_and_back(own, clock):
    ephemeral = made(ONE, clock=clock)
    given = own(Signer("root"), before=ephemeral)
    assert len(given.authorities) == 1
    again = ForwardAuthority.of(config(ONE), before=given)
    assert not again.given
    assert again.root_pem not in {ephemeral.root_pem, given.root_pem}


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (
            {"chain": b"garbage"},
            "proxy.yaml:1:27: forward.ca.cert_file: holds no certificate that can be read",
        ),
        ({"key": b"garbage"}, "proxy.yaml:1:45: forward.ca.key_file: holds no private key that can be read"),
        (
            {"key": Signer("other").key_pem()},
            "proxy.yaml:1:45: forward.ca.key_file: is not the key of the first certificate in cert_file",
        ),
    ],
)
def test_what_will_not_do_is_told_at_its_place(own, files, fault):
    with pytest.raises(ConfigError) as caught:
        own(Signer("root"), **files)
    [said] = caught.value.faults
    assert fault in str(said)


def test_hosts_that_it_does_not_permit_are_told(own):
    signer = Signer("root", extensions=(CA, SIGNS, x509.NameConstraints([x509.DNSName("example")], None)))
    own(signer)
    with pytest.raises(ConfigError) as caught:
        own(signer, ONE, "https://a.test", "https://b.test")
    [said] = caught.value.faults
    assert (said.key, said.message) == (
        "forward.ca.cert_file", "does not permit certificates for a.test, b.test (its name constraints)"
    )  # fmt: skip


@pytest.mark.parametrize("gone", ["ca.pem", "key.pem"])
def test_a_file_that_is_gone_by_then_is_told(own, tmp_path, gone):
    own(Signer("root"))
    found = config(ONE, top=GIVEN, file=tmp_path / "proxy.yaml")
    (tmp_path / gone).unlink()
    with pytest.raises(ConfigError, match=r"the file cannot be read: No such file") as caught:
        ForwardAuthority.of(found)
    assert caught.value.faults[0].key == {"ca.pem": module.CERT, "key.pem": module.KEY}[gone]


def test_what_the_configuration_has_told_at_the_start_is_told_again_a_day_later(own, caplog):
    clock = Clock(time.time())
    authority = own(Signer("root", ends=NOW + timedelta(days=20)), clock=clock)
    for days, said in ((0.5, 0), (1, 1)):
        clock.advance(days * DAY)
        assert not authority.lacks(config(ONE))
        assert caplog.text.count("(forward.ca) ends soon") == said


def test_of_ones_own_it_is_only_told_that_it_ends(own, caplog):
    clock = Clock(time.time())
    authority = own(Signer("root", ends=NOW + timedelta(days=40)), clock=clock)
    found = config(ONE)
    assert not authority.lacks(found)
    assert "ends soon" not in caplog.text
    for days, said in ((15, 1), (0.5, 1), (1, 2)):
        clock.advance(days * DAY)
        assert not authority.lacks(found)
        assert caplog.text.count("(forward.ca) ends soon") == said


def test_openssl_refuses_what_its_issuer_signs_for_another_host(clock, tmp_path):
    need("openssl")
    authority = made(ONE, clock=clock)
    (tmp_path / "ca.pem").write_bytes(authority.root_pem)
    [signer] = authority.authorities
    for host, fine in {
        "a.example": True,
        "b.example": False,
        "192.0.2.1": False,
        "2001:db8::1": False,
    }.items():
        now = module.datetime.now(module.UTC)
        leaf = signer.leaf([host], lifetime=timedelta(days=7), now=now, passphrase=b"secret")
        (tmp_path / "leaf.pem").write_bytes(leaf.chain)
        verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem"]
        done = subprocess.run(
            [*verify, "-untrusted", "leaf.pem", "leaf.pem"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is fine, done.stdout + done.stderr
        assert ("subtree violation" in done.stderr) is not fine
