"""The way to a server, and what is tried where it ends."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme

from authproxy.app.doctor.network import Target, answers_plain_http, is_reachable, reach, speaks_tls
from authproxy.app.doctor.steps import Steps
from authproxy.net.dial import Origin
from authproxy.net.http_proxy import HTTPProxy

from .test_steps import Told


@asynccontextmanager
async def server(*, tls=None):
    async def answer(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


@pytest.fixture
def certified():
    """A context with a certificate, and one that trusts it."""
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)
    return theirs, ours


async def walked(target):
    steps = Steps(Told())
    reached = await reach(target, steps)
    assert reached is steps.ok
    return {step.name: step.verdict for step in steps.taken}


async def test_a_plain_server_is_reached():
    async with server() as port:
        assert list(await walked(Target(Origin("127.0.0.1", port), prefix="token "))) == [
            "token dns",
            "token tcp",
        ]


async def test_a_secure_server_shows_its_certificate(certified):
    theirs, ours = certified
    async with server(tls=theirs) as port:
        verdicts = await walked(Target(Origin("127.0.0.1", port, ours)))
    assert list(verdicts) == ["dns", "tcp", "tls"]
    assert verdicts["tls"].detail.startswith("TLSv1.")
    assert "signed by" in verdicts["tls"].detail


async def test_an_unknown_authority_is_named(certified):
    async with server(tls=certified[0]) as port:
        verdict = (await walked(Target(Origin("127.0.0.1", port, ssl.create_default_context()))))["tls"]
    assert "not trusted here" in verdict.cause
    assert "tls.ca_file" in verdict.next


async def test_the_first_failure_ends_the_walk(unused_tcp_port):
    verdicts = await walked(
        Target(Origin("127.0.0.1", unused_tcp_port, ssl.create_default_context()), "token_url")
    )
    assert list(verdicts) == ["dns", "tcp"]
    assert "check `token_url`" in verdicts["tcp"].next


async def test_the_way_around_a_dead_proxy_is_proposed(unused_tcp_port):
    async with server() as port:
        proxy = HTTPProxy("127.0.0.1", unused_tcp_port)
        verdict = (await walked(Target(Origin("127.0.0.1", port), proxy=proxy)))["tcp"]
    assert "can be reached directly" in verdict.next


async def test_probes_tell_one_protocol_from_the_other(certified, unused_tcp_port):
    theirs, ours = certified
    async with server() as plain, server(tls=theirs) as secure:
        assert await answers_plain_http(Target(Origin("127.0.0.1", plain, ours)))
        assert not await answers_plain_http(Target(Origin("127.0.0.1", secure, ours)))
        assert await speaks_tls(Target(Origin("127.0.0.1", secure)))
        assert not await speaks_tls(Target(Origin("127.0.0.1", unused_tcp_port)))
        assert await is_reachable(Target(Origin("127.0.0.1", plain)))
        assert not await is_reachable(Target(Origin("127.0.0.1", unused_tcp_port)))
