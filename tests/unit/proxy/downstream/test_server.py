"""A connection for each client, up to a limit, and a drain at the end; the transports are faked."""

import asyncio

import pytest

from authproxy.errors import ConnectionLimit
from authproxy.net.tunnel import Tunnel
from authproxy.proxy.downstream import server as module
from authproxy.proxy.downstream.server import MAX_TURNED_AWAY, ProxyServer
from tests.support.client_side import Answerer, Transport
from tests.support.clock import settle
from tests.support.launch import GUARD

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"<GET /><close>"


class World:
    def __init__(self, limit):
        self.answerer = Answerer("callback")
        self.transports = []
        self.server = ProxyServer(
            self.answerer, limit=limit, keepalive=75, header_bytes=32 << 10, header_seconds=10
        )

    async def connect(self):
        connection = self.server()
        transport = Transport(connection)
        self.transports.append(transport)
        connection.connection_made(transport)
        await settle()
        return connection, transport


@pytest.fixture
async def world(monkeypatch):
    monkeypatch.setattr(module, "QUIET", 0)
    made = World(limit=2)
    yield made
    for transport in made.transports:
        transport.close()
    await settle()


# ── how many ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_client_over_the_limit_is_told_so_and_seen_off(world):
    for _ in range(2):
        _, transport = await world.connect()
        assert transport.written == b""
    _, transport = await world.connect()
    assert transport.written.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in transport.written
    assert b"2 connections open already" in transport.written
    assert transport.ended
    assert not transport.closing  # it gets to read that
    assert [type(error) for error in world.answerer.refusals] == [ConnectionLimit]


async def test_who_leaves_makes_room(world):
    _, first = await world.connect()
    await world.connect()
    first.close()
    await settle()
    _, transport = await world.connect()
    assert transport.written == b""


async def test_who_is_turned_away_takes_nobodys_place(world):
    _, first = await world.connect()
    await world.connect()
    for _ in range(3):
        await world.connect()
    first.close()
    await settle()
    _, transport = await world.connect()
    assert transport.written == b""


async def test_who_was_turned_away_and_has_left_makes_no_room_either(world):
    for _ in range(2):
        await world.connect()
    for _ in range(2):
        _, transport = await world.connect()
        assert transport.written.startswith(b"HTTP/1.1 503 ")
        transport.close()
        await settle()


async def test_only_so_many_are_seen_off_at_a_time_and_the_rest_are_just_closed(world):
    for _ in range(2):
        await world.connect()
    seen_off = [(await world.connect())[1] for _ in range(MAX_TURNED_AWAY)]
    assert not any(transport.closing for transport in seen_off)
    _, transport = await world.connect()
    assert transport.closing


# ── the end ──────────────────────────────────────────────────────────────────────────────────────


async def test_an_idle_connection_is_closed_at_once_and_what_is_in_flight_ends_first(world):
    connection, idle = await world.connect()
    connection.data_received(GET)
    await settle()
    world.answerer.answer()
    connection, busy = await world.connect()
    connection.data_received(GET)
    await settle()
    draining = asyncio.create_task(world.server.drain(60))
    await settle()
    assert (idle.closing, busy.closing, draining.done()) == (True, False, False)
    assert connection.draining
    world.answerer.answer()
    await draining
    assert busy.written == ANSWER
    assert busy.closing


async def test_a_request_that_is_on_its_way_in_is_in_flight_too(world):
    connection, transport = await world.connect()
    connection.data_received(GET[:9])
    draining = asyncio.create_task(world.server.drain(60))
    await settle()
    assert not transport.closing
    connection.data_received(GET[9:])
    await settle()
    world.answerer.answer()
    await draining
    assert transport.written == ANSWER


async def test_who_has_just_connected_gets_an_answer_if_he_asks_soon(world, monkeypatch):
    asking, transport = await world.connect()
    _, silent = await world.connect()
    monkeypatch.setattr(module, "NEW_SECONDS", 0.05)
    draining = asyncio.create_task(world.server.drain(60))
    await settle()
    assert not transport.closing
    asking.data_received(GET)
    await settle()
    world.answerer.answer()
    await draining
    assert transport.written == ANSWER
    assert (transport.closing, silent.closing) == (True, True)


async def test_who_asks_nothing_and_does_not_go_when_told_to_is_not_waited_for(world, monkeypatch):
    class Lasting(Transport):
        """TLS: it waits for the client's goodbye."""

        def close(self):
            self.closing = True

    connection = world.server()
    connection.connection_made(Lasting())
    monkeypatch.setattr(module, "NEW_SECONDS", 0.01)
    async with asyncio.timeout(GUARD):
        await world.server.drain(10 * GUARD)
    assert connection.transport.closing


@pytest.mark.parametrize("turns", range(module.ACCEPT_TURNS))
async def test_who_was_accepted_in_the_very_moment_is_answered_too(world, turns):
    connection = world.server()
    transport = Transport(connection)

    def make(left):
        if left:
            asyncio.get_running_loop().call_soon(make, left - 1)
        else:
            connection.connection_made(transport)

    draining = asyncio.create_task(world.server.drain(60))
    asyncio.get_running_loop().call_soon(make, turns)
    await settle()
    assert not draining.done()
    connection.data_received(GET)
    await settle()
    world.answerer.answer()
    await draining
    assert transport.written == ANSWER


async def test_a_client_that_leaves_is_not_waited_for(world):
    connection, transport = await world.connect()
    connection.data_received(GET)
    draining = asyncio.create_task(world.server.drain(60))
    await settle()
    transport.close()
    await draining


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_a_body_that_nobody_wanted_is_waited_for_and_ends_its_connection(world, framing, monkeypatch):
    monkeypatch.setattr(module, "NEW_SECONDS", 10 * GUARD)
    world.answerer.way = "at once"
    connection, transport = await world.connect()
    connection.data_received(f"POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
    drain = asyncio.create_task(world.server.drain(60))
    for _ in range(module.ACCEPT_TURNS):
        await settle()
    assert (connection.in_flight, drain.done()) == (True, False)
    connection.data_received(b"hello" if "Length" in framing else b"5\r\nhello\r\n0\r\n\r\n")
    async with asyncio.timeout(GUARD):
        await drain
    assert (transport.written, transport.closing) == (b"<POST />", True)


async def test_what_does_not_end_in_time_is_broken_off_and_said(world, caplog):
    caplog.set_level("INFO", "authproxy")
    connection, transport = await world.connect()
    connection.data_received(GET)
    await world.server.drain(0)
    assert transport.closing
    assert transport.written == b""
    assert [record.getMessage() for record in caplog.records] == ["draining", "drain ran out"]
    assert caplog.records[0].facts == {"requests": 1, "seconds": 0}
    assert caplog.records[1].facts == {"broken_off": 1}


async def test_a_drain_of_nothing_says_nothing(world, caplog):
    caplog.set_level("INFO", "authproxy")
    await world.server.drain(60)
    assert caplog.records == []


async def test_a_tunnel_that_does_not_end_in_time_is_ended_so_that_both_sides_get_what_is_under_way(
    world, monkeypatch
):
    monkeypatch.setattr("authproxy.net.tunnel.QUIET", 0.05)
    connection, transport = await world.connect()
    connection.data_received(GET)
    upstream = Transport()
    tunnel = Tunnel(transport, upstream, 60)
    connection.join(tunnel)
    draining = asyncio.create_task(world.server.drain(0))
    await tunnel.closed()
    assert (transport.ended, upstream.ended) == (True, True)
    await draining
    assert transport.closing


async def test_a_client_that_was_turned_away_is_no_request_in_flight(world):
    made = [await world.connect() for _ in range(3)]
    await world.server.drain(0.05)
    await settle()
    assert all(transport.closing for _, transport in made)


async def test_a_parser_reads_one_request_and_its_body_as_it_is(world):
    connection, _ = await world.connect()
    parser = world.server.parser_for(connection)
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    [(_, payload)], _, _ = parser.feed_data(head + b"5\r\nhello\r\n0\r\n\r\n")
    assert await payload.read() == b"hello"


# ── where clients come in ────────────────────────────────────────────────────────────────────────


async def test_a_routes_own_listener_has_its_own_answerer_and_they_share_the_limit(world):
    world.server.own["own"] = other = Answerer()
    world.answerer.way = "at once"
    own, mounted = world.server.entrance("own"), world.server.entrance("mounted")
    assert (own.answerer, mounted.answerer) == (other, world.answerer)
    connections = [own(), mounted(), own()]
    for connection in connections:
        transport = Transport(connection)
        world.transports.append(transport)
        connection.connection_made(transport)
    for connection, transport in zip(connections[:2], world.transports, strict=False):
        connection.data_received(GET)
        await settle()
        assert transport.written
    assert b"2 connections open already" in world.transports[2].written
    assert [type(error) for error in other.refusals] == [ConnectionLimit]


async def test_at_a_listener_that_is_gone_each_answer_is_the_last(world):
    entrance = world.server.entrance("mounted")
    connection = entrance()
    transport = Transport(connection)
    world.transports.append(transport)
    connection.connection_made(transport)
    world.answerer.way = "at once"
    connection.data_received(GET)
    await settle()
    assert (connection.draining, connection.leaving) == (False, False)
    entrance.close()
    connection.data_received(GET)
    await settle()
    assert (connection.draining, connection.leaving) == (True, True)
    assert transport.written.endswith(ANSWER)
