"""The admin listener, opened on sockets that listen already."""

import asyncio
import contextlib
import socket

import aiohttp
import pytest

from authproxy.admin.events import COMMENT
from authproxy.app import admin as module
from authproxy.app.admin import serve_admin
from authproxy.app.application import App
from authproxy.config.read import parse

CONFIG = "routes: [{name: api, upstream: 'https://up.example', auth: {grant: none}}]"


@pytest.fixture
async def app():
    async with App(parse(CONFIG, "proxy.yaml", environ={})) as made:
        yield made


@pytest.fixture
def sock():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def test_who_connects_before_it_is_served_is_answered(app, sock):
    sock.settimeout(0)
    with socket.create_connection(sock.getsockname()) as early:
        early.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with contextlib.AsyncExitStack() as stack:
            await serve_admin(app, [sock], stack, connections=100)
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/healthz"
            async with aiohttp.ClientSession() as client, client.get(url) as response:
                assert response.status == 200
            early.settimeout(5)
            assert early.recv(1000).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(("connections", "limit"), [(1, 8), (100, 25), (10_000, 64)])
async def test_it_takes_a_part_of_the_connections_that_there_may_be(app, monkeypatch, connections, limit):
    made = []
    server = module.AdminServer

    def noted(*args, **settings):
        made.append(settings["limit"])
        return server(*args, **settings)

    monkeypatch.setattr(module, "AdminServer", noted)
    async with contextlib.AsyncExitStack() as stack:
        admin = await serve_admin(app, [], stack, connections=connections)
    assert made == [limit]
    assert admin.backend.streams.limit == limit // 2  # what stays open leaves room for `/healthz`


# ── another configuration ────────────────────────────────────────────────────────────────────────


def is_served(sock):
    """Whether whoever connects there is answered."""
    try:
        socket.create_connection(sock).close()
    except OSError:
        return False
    return True


async def test_it_moves_and_ends_while_who_is_connected_stays(app):
    first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    places = [sock.getsockname() for sock in (first, second)]
    async with contextlib.AsyncExitStack() as stack:
        admin = await serve_admin(app, [first], stack, connections=100)
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{places[0][1]}/healthz"
            async with client.get(url) as response:
                assert response.status == 200
            await admin.listen([second])
            assert [is_served(place) for place in places] == [False, True]
            async with client.get(url) as response:  # on the connection that is open
                assert response.status == 200
            admin.close()
            await asyncio.sleep(0)
            assert [is_served(place) for place in places] == [False, False]
            with pytest.raises(aiohttp.ClientError):  # which finds its connection closed, and no other
                await client.get(url)


async def test_streams_end_with_it_and_begin_again_once_it_is_back(app):
    sock, again = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    async with contextlib.AsyncExitStack() as stack:
        admin = await serve_admin(app, [sock], stack, connections=100)
        async with aiohttp.ClientSession() as client:
            url = "http://127.0.0.1:{}/api/requests/stream"
            async with client.get(url.format(sock.getsockname()[1])) as stream:
                assert stream.status == 200
                admin.close()
                async with asyncio.timeout(5):
                    assert await stream.read() == COMMENT
            await admin.listen([again])
            async with client.get(url.format(again.getsockname()[1])) as stream:
                assert stream.status == 200
