"""A connection at the forward listener: what comes first in a tunnel, and going on elsewhere."""

import asyncio

import pytest

from authproxy.proxy.downstream.connection import State
from authproxy.proxy.downstream.server import Entrance, ProxyServer
from authproxy.proxy.forward.connection import ForwardConnection, ForwardEntrance
from tests.support.client_side import HEADER_BYTES, HEADER_SECONDS, KEEPALIVE, Answerer, Transport
from tests.support.clock import settle

CONNECT = b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n"
HELLO = b"\x16\x03\x01"
GET = b"GET /x HTTP/1.1\r\nHost: api.example\r\n\r\n"


class Forwarding(Answerer):
    """Has a CONNECT go on at `inside`, with what came first; or says that it cannot."""

    def __init__(self, inside):
        super().__init__("in a task")
        self.inside = inside
        self.first = []
        self.transport = None
        self.goes_on = True
        self.failure = None
        self.left = 0

    def silent(self):
        self.left += 1

    async def finish(self, request):
        connection = request.connection
        self.first.append(await connection.first_bytes())
        if self.failure is not None:
            connection.lost()
            raise self.failure
        if not self.goes_on:
            connection.lost()
            return False
        data = b"" if self.first[-1] == HELLO else self.first[-1]
        connection.enter(self.inside, self.transport or connection.transport, data, self.silent)
        return True


class World:
    def __init__(self):
        self.inside = Answerer()
        self.answerer = Forwarding(None)
        self.server = ProxyServer(
            self.answerer,
            limit=2,
            keepalive=KEEPALIVE,
            header_bytes=HEADER_BYTES,
            header_seconds=HEADER_SECONDS,
        )
        self.answerer.inside = Entrance(self.server, self.inside)
        self.entrance = ForwardEntrance(self.server, self.answerer)
        self.connection = self.entrance()
        self.transport = Transport(self.connection)
        self.connection.connection_made(self.transport)

    async def receive(self, data):
        self.connection.data_received(data)
        await settle()


@pytest.fixture
async def world():
    made = World()
    yield made
    made.connection.connection_lost(None)


async def test_what_comes_after_connect_is_answered_inside(world):
    assert type(world.connection) is ForwardConnection
    await world.receive(CONNECT)
    assert world.inside.asked == []
    await world.receive(GET[:5])
    await world.receive(GET[5:])
    await world.receive(GET)
    assert world.inside.asked == ["GET /x", "GET /x"]
    assert world.transport.written == b"<GET /x><GET /x>"
    assert world.server.connections == {world.connection}


async def test_what_came_with_the_connect_is_not_lost(world):
    await world.receive(CONNECT + GET[:3])
    await world.receive(GET[3:])
    assert world.answerer.first == [GET[:3]]
    assert world.inside.asked == ["GET /x"]


async def test_it_goes_on_over_another_transport(world):
    other = world.answerer.transport = Transport()
    await world.receive(CONNECT + GET)
    assert (other.written, world.transport.written) == (b"<GET /x>", b"")


async def test_within_it_is_as_one_that_has_just_connected(world):
    await world.receive(CONNECT + b"G")
    assert world.connection.in_flight
    assert not world.connection._answered_any
    assert world.connection._state is State.HEAD
    assert world.connection._deadline - world.connection._loop.time() <= HEADER_SECONDS


@pytest.mark.parametrize("gone", ["the forward proxy's listener", "the host", "all of us"])
async def test_which_answer_is_the_last_is_said_by_where_it_is_now(world, gone):
    await world.receive(CONNECT)
    await world.receive(GET)
    if gone == "the host":
        world.answerer.inside.close()
    elif gone == "all of us":
        world.server.wind_down(lambda _: True)
    else:
        world.entrance.close()
    await world.receive(GET)
    await world.receive(GET)
    assert world.inside.asked == ["GET /x"] * (3 if "listener" in gone else 2)


@pytest.mark.parametrize("gone", ["the forward proxy's listener", "the host"])
async def test_a_listener_that_goes_before_its_tunnel_is_there_says_nothing_of_it(world, gone):
    (world.entrance if "listener" in gone else world.answerer.inside).close()
    await world.receive(CONNECT)
    for _ in range(2):
        await world.receive(GET)
    assert world.inside.asked == ["GET /x"] * (2 if "listener" in gone else 1)


async def test_a_connection_of_which_its_transport_told_somebody_else_is_gone(world):
    world.answerer.goes_on = False
    await world.receive(CONNECT + b"\x16")
    assert world.server.connections == set()
    assert world.connection.transport is None


async def test_it_is_gone_when_that_ends_in_an_error_too(world):
    world.answerer.failure = asyncio.CancelledError()
    await world.receive(CONNECT + b"\x16")
    assert world.server.connections == set()


@pytest.mark.parametrize(
    ("sent", "closes", "left"),
    [(b"", False, 1), (b"G", False, 0), (GET, False, 0), (b"", True, 0)],
    ids=["nothing", "some of a head", "a request", "it is we who close"],
)
async def test_a_client_that_goes_without_a_request_is_told_of(world, sent, closes, left):
    await world.receive(CONNECT + HELLO)
    if sent:
        await world.receive(sent)
    if closes:
        world.connection.force_close()
    world.connection.connection_lost(None)
    assert world.answerer.left == left


async def test_a_client_that_goes_away_is_not_waited_for(world):
    await world.receive(CONNECT)
    world.connection.connection_lost(None)
    await settle()
    assert world.answerer.first == []
    assert world.server.connections == set()
