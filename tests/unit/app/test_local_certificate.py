"""The certificate of `tls: auto`: for which names it is, and that there is always a valid one."""

import asyncio
import contextlib
import ssl
from datetime import timedelta

import pytest
from cryptography import x509

from authproxy.app import local_certificate
from authproxy.app.local_authority import Lifetimes, LocalAuthority
from authproxy.app.local_certificate import ALWAYS, LocalCertificate, certified_names
from authproxy.config.read import parse
from authproxy.errors import StoreError
from tests.support.clock import Clock

DAY = timedelta(days=1).total_seconds()
ROUTES = "routes: [{name: a, upstream: 'https://a.example', auth: {grant: none}, host: %s}]"


def names(top, host="a.localhost"):
    return certified_names(parse(f"{top}\n{ROUTES % host}", "proxy.yaml", environ={}))[len(ALWAYS) :]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def kept(tmp_path, clock):
    return LocalAuthority(tmp_path / "authority", keyring=lambda: None, clock=clock)


def shown(context):
    """Return the certificate that a client gets, and the one that has signed it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server), context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return x509.load_der_x509_certificate(ends[0].getpeercert(binary_form=True))


@pytest.mark.parametrize(
    ("top", "found"),
    [
        ("", ("a.localhost",)),
        (
            "listen: ['127.0.0.2:1', 'x.localhost:2', '127.0.0.1:3', '[::1]:4']",
            ("127.0.0.2", "x.localhost", "a.localhost"),
        ),
        ("allowed_hosts: [B.localhost, '*', other.example]", ("a.localhost", "b.localhost")),
        (
            "listen: [0.0.0.0:1, '[::]:2', '192.0.2.1:3', 'here.example:4']\nallow_remote: true",
            ("a.localhost",),
        ),
    ],
)
def test_it_is_for_every_name_of_this_machine_that_the_configuration_has(top, found):
    assert names(top) == found


def test_a_host_that_is_no_name_of_this_machine_is_left_out():
    assert names("", "api.example") == ()


def test_of_very_many_names_only_so_many_are_taken(monkeypatch):
    monkeypatch.setattr(local_certificate, "MAX_NAMES", 5)
    assert names("allowed_hosts: [b.localhost, c.localhost]") == ("a.localhost", "b.localhost")


async def test_the_leaf_is_renewed_on_the_same_context(kept, clock, caplog):
    caplog.set_level("INFO")
    made = LocalCertificate(kept, ALWAYS)
    first = shown(made.context)
    clock.advance(3.9 * DAY)
    await made.look()
    assert shown(made.context) == first
    clock.advance(0.2 * DAY)
    assert made.is_due
    await made.look()
    second = shown(made.context)
    assert second != first
    assert second.not_valid_after_utc - first.not_valid_after_utc == timedelta(days=4.1)
    second.verify_directly_issued_by(made.authority.issuer)
    assert caplog.records[-1].getMessage() == "local certificate renewed"
    assert caplog.records[-1].facts["until"].startswith("2023-11-26T")


async def test_who_is_connected_goes_on_while_new_ones_get_the_new_leaf(kept, clock):
    """Over sockets: a connection from before the renewal still answers after it."""
    made = LocalCertificate(kept, ALWAYS)

    async def echo(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=made.context)
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE  # the clock is a made-up one

    async def open_one():
        return await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=trust)

    def certificate_of(writer):
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    old_reader, old = await open_one()
    clock.advance(5 * DAY)
    await made.look()
    _, new = await open_one()
    assert certificate_of(new) != certificate_of(old)
    old.write(b"still here\n")
    assert await old_reader.readline() == b"still here\n"
    for each in (old, new):
        each.close()
    server.close()


async def test_an_authority_that_another_process_has_made_is_taken_up(kept, clock, tmp_path):
    made = LocalCertificate(kept, ALWAYS)
    other = LocalAuthority(kept.directory, keyring=lambda: None, clock=clock)
    followed = other.get(lasts=timedelta(days=400))
    await made.look()
    assert made.authority.root == followed.root
    shown(made.context).verify_directly_issued_by(followed.issuer)


async def test_while_none_can_be_had_the_one_that_there_is_goes_on(kept, clock, monkeypatch, caplog):
    made = LocalCertificate(kept, ALWAYS)
    first = shown(made.context)
    clock.advance(5 * DAY)

    def get():
        raise StoreError("the keyring is locked")

    monkeypatch.setattr(kept, "get", get)
    await made.look()
    assert shown(made.context) == first
    assert caplog.records[-1].getMessage() == "the local certificate cannot be renewed"
    assert caplog.records[-1].facts["cause"] == "the keyring is locked"
    monkeypatch.undo()
    await made.look()
    assert shown(made.context) != first


def test_the_end_of_the_authority_is_told_once_a_day(kept, clock, caplog):
    made = LocalCertificate(kept, ALWAYS)
    made.tell_of_its_end()
    assert not caplog.records
    clock.advance(330 * DAY)
    for _ in range(3):
        made.tell_of_its_end()
        clock.advance(DAY / 2)
    assert [each.getMessage() for each in caplog.records] == [
        "the local authority will soon be followed by another one"
    ] * 2
    assert caplog.records[0].facts["hint"] == "authproxy trust --install"


def test_lifetimes_can_be_others(tmp_path, clock):
    lifetimes = Lifetimes(leaf=timedelta(seconds=10), renewed=timedelta(seconds=5))
    kept = LocalAuthority(tmp_path / "a", lifetimes=lifetimes, keyring=lambda: None, clock=clock)
    made = LocalCertificate(kept, ALWAYS)
    assert not made.is_due
    clock.advance(6)
    assert made.is_due


def test_the_leafs_key_is_never_in_a_file_in_the_clear(kept, monkeypatch):
    passed = []
    real = local_certificate.passed_as_file

    def watched(content):
        passed.append(content)
        return real(content)

    monkeypatch.setattr(local_certificate, "passed_as_file", watched)
    LocalCertificate(kept, ALWAYS)
    [content] = passed
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in content
    assert b"BEGIN PRIVATE KEY" not in content
    assert b"BEGIN EC PRIVATE KEY" not in content
