"""The far side of a blind tunnel: what it said early, how it ends, and how long it may take to be there."""

import asyncio

import pytest

from authproxy.errors import ConnectTimeout
from authproxy.net.tunnel import Tunnel
from authproxy.proxy.forward.tunnel import FarEnd, opened
from tests.support.client_side import Transport


@pytest.fixture
def ends():
    """Return the client's transport, the far one, and what is at its end."""
    far = FarEnd(b"from the proxy's answer, ")
    transport = Transport(far)
    far.connection_made(transport)
    return Transport(), transport, far


async def test_what_it_says_before_there_is_a_tunnel_goes_first(ends):
    client, transport, far = ends
    assert not transport.reading
    far.data_received(b"hello")
    far.join(Tunnel(client, transport, 60))
    far.data_received(b", and on")
    assert client.written == b"from the proxy's answer, hello, and on"
    assert transport.reading


async def test_its_end_is_the_tunnels(ends):
    client, transport, far = ends
    tunnel = Tunnel(client, transport, 60)
    far.join(tunnel)
    assert far.eof_received()  # the other half may go on
    assert client.ended
    tunnel.feed("client", b"the rest")
    assert transport.written == b"the rest"
    transport.closing = True
    far.connection_lost(None)
    tunnel.end("client")
    await asyncio.wait_for(tunnel.closed(), 1)


async def test_one_that_ended_before_there_was_a_tunnel_says_so_in_it(ends):
    client, transport, far = ends
    far.eof_received()
    far.join(Tunnel(client, transport, 60))
    assert client.ended


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("ended", [True, False])
async def test_it_may_break_off_but_not_behind_its_end(ends, joined, ended):
    client, transport, far = ends
    tunnel = Tunnel(client, transport, 60)
    if joined:
        far.join(tunnel)
    if ended:
        far.eof_received()
    far.connection_lost(ConnectionResetError())
    if not joined:
        far.join(tunnel)
    assert tunnel.cut_by == (None if ended else "upstream")


async def test_who_takes_nothing_stops_the_other(ends):
    client, transport, far = ends
    far.pause_writing()  # there is nobody yet
    far.resume_writing()
    far.join(Tunnel(client, transport, 60))
    far.pause_writing()
    assert not client.reading
    far.resume_writing()
    assert client.reading


class Hanging:
    place = "far.example:443"
    early = b""

    async def dial(self, _protocol):
        await asyncio.sleep(60)

    def hint(self, more):
        return f"check, {more}"


async def test_it_has_a_time_to_be_there():
    with pytest.raises(ConnectTimeout) as failed:
        await opened(Hanging(), 0.001)
    assert "defaults.timeouts.connect" in failed.value.hint
