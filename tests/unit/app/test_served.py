"""Listeners that are begun and ended one by one; nobody who has connected is broken off."""

import asyncio
import socket
import ssl

import pytest

from authproxy.app import served as module
from authproxy.app.served import ServedListener
from authproxy.app.sockets import BACKLOG
from tests.support.clock import settle


class Greets(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()


@pytest.fixture
def sock():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


async def greeting(client):
    client.settimeout(0)
    return await asyncio.get_running_loop().sock_recv(client, 100)


def joined(sock):
    """Return a client who has connected, whether or not anybody has accepted it."""
    return socket.create_connection(sock.getsockname())


async def test_nobody_is_accepted_before_it_has_begun_and_then_who_waits_is_first(sock):
    listener = await ServedListener.create("a", sock, Greets)
    with joined(sock) as client:
        await settle()
        client.settimeout(0)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        await listener.begin()
        assert await greeting(client) == b"hello"
    listener.close()


async def test_who_has_connected_but_was_not_accepted_yet_is_served_at_the_end(sock):
    listener = await ServedListener.create("a", sock, Greets)
    clients = [joined(sock) for _ in range(3)]
    place = sock.getsockname()
    listener.end()
    assert [await greeting(client) for client in clients] == [b"hello"] * 3
    for client in clients:
        client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)


async def test_a_client_that_never_ends_its_handshake_holds_up_nobody(sock, monkeypatch):
    loop, forever = asyncio.get_running_loop(), asyncio.Event()
    joining = []

    async def connect_accepted_socket(protocols, accepted, **settings):
        joining.append((accepted, settings))
        await forever.wait()

    monkeypatch.setattr(loop, "connect_accepted_socket", connect_accepted_socket)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listener = await ServedListener.create("a", sock, Greets, tls=context, handshake_seconds=7)
    with joined(sock), joined(sock):
        listener.end()
        await settle()
        assert [settings for _, settings in joining] == [{"ssl": context, "ssl_handshake_timeout": 7}] * 2
        assert len(module._joining) == 2
        forever.set()
        await settle()
        assert not module._joining
    for accepted, _ in joining:
        accepted.close()


async def test_who_has_gone_before_it_was_accepted_is_no_fault(sock, monkeypatch, caplog):
    async def gone(*_args, **_settings):
        raise ConnectionResetError

    monkeypatch.setattr(asyncio.get_running_loop(), "connect_accepted_socket", gone)
    listener = await ServedListener.create("a", sock, Greets)
    with joined(sock):
        listener.end()
        await settle()
    assert caplog.records == []


async def test_one_that_is_closed_before_it_has_begun_gives_its_socket_back(sock):
    listener = await ServedListener.create("a", sock, Greets)
    listener.close()
    await settle()
    assert sock.fileno() == -1


async def test_a_socket_that_was_only_bound_listens_once_it_has_begun_with_room_for_many(monkeypatch):
    asked = {}

    class Loop:
        async def create_server(self, protocols, **settings):
            asked.update(settings)

    monkeypatch.setattr(module.asyncio, "get_running_loop", Loop)
    await ServedListener.create("a", None, Greets, handshake_seconds=7)
    assert (asked["backlog"], asked["start_serving"]) == (BACKLOG, False)
    assert asked["ssl_handshake_timeout"] is None  # which asyncio takes only with TLS
