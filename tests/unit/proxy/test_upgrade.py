"""Another protocol on the connection: which are passed on, and the tunnel that follows."""

import asyncio

import pytest
from aiohttp.http import HttpVersion10, HttpVersion11

from authproxy.errors import BadReply
from authproxy.proxy import upgrade
from tests.support.client_side import Transport
from tests.support.clock import settle

from .answering import context, written
from .world import World, begun, whole

# ── another protocol ─────────────────────────────────────────────────────────────────────────────


def asking_for(protocol, **more):
    return {"Connection": "Upgrade", "Upgrade": protocol, **more}


@pytest.mark.parametrize(
    ("protocol", "passes"),
    [("websocket", True), ("WebSocket", True), ("other/1", True), ("h2c", False), ("websocket, h2c", False),
     ("TLS/1.2", False), ("HTTP/2.0", False)],
)  # fmt: skip
async def test_a_protocol_is_asked_for_unless_it_is_http_itself(protocol, passes):
    world = World(whole())
    await world.ask(**asking_for(protocol))
    assert (f"Upgrade: {protocol}" in world.upstream.heads[0]) is passes
    assert world.upstream.lent[0].may_switch is passes


@pytest.mark.parametrize("protocol", ["websocket", "other/1", "h2c"])
async def test_after_a_switch_that_did_not_come_the_connection_goes_on(protocol):
    world = World(whole())
    await world.ask(**asking_for(protocol))
    assert world.client.kept is True


async def test_a_protocol_that_is_not_listed_or_asked_for_in_http_1_0_goes_no_further():
    world = World(whole(), whole())
    await world.ask(Upgrade="websocket")
    world.client.kept = None
    await world.ask(**asking_for("websocket"), version=HttpVersion10)
    assert not any("Upgrade" in head for head in world.upstream.heads)


async def test_after_the_switch_both_sides_are_joined_and_the_connection_ends_with_them():
    world = World(begun(101, [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]))
    await world.quick(**asking_for("websocket"))
    task = asyncio.create_task(world.go_on())
    await settle()
    status, lines, _ = world.answer
    assert status == 101
    assert lines == ["Connection: Upgrade", "Upgrade: websocket"]
    tunnel = world.client.tunnel
    tunnel.feed("upstream", b"hello")
    tunnel.feed("client", b"hi")
    assert world.client.transport.written.endswith(b"\r\n\r\nhello")
    assert world.upstream.lent[0].transport.written == b"hi"
    tunnel.end("client")
    tunnel.end("upstream")
    await task
    assert world.client.kept is False
    assert world.lines == [("GET", "api", "/api/x", 101, 5, None)]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket, h2c", b""])
async def test_a_switch_to_what_was_not_asked_for_is_a_502(protocol):
    world = World(begun(101, [(b"Upgrade", protocol)]))
    await world.ask(**asking_for("websocket"))
    assert world.problem == (502, "the upstream switched to a protocol that was not asked for")
    assert world.client.tunnel is None


# ── a tunnel ─────────────────────────────────────────────────────────────────────────────────────


class Switched:
    """A reply that switches protocols."""

    status, reason, plain = 101, b"Switching", None

    def __init__(self, protocol=b"websocket"):
        self.headers = [(b"Upgrade", protocol), (b"Connection", b"Upgrade"), (b"X", b"1")]
        self.upstream = Transport()

    def join(self, pipe_to):
        return pipe_to(self.upstream)


async def test_a_switch_is_passed_on_and_both_sides_are_joined():
    asked, reply = context(Connection="Upgrade", Upgrade="websocket"), Switched()
    passing = asyncio.create_task(upgrade.tunnel(asked, asked.route, reply))
    await settle()
    assert written(asked) == (
        ["HTTP/1.1 101 Switching", "X: 1", "Connection: Upgrade", "Upgrade: websocket"], b""
    )  # fmt: skip
    assert (asked.status, asked.framed) == (101, False)
    joined = asked.request.connection.joined
    joined.feed("upstream", b"hello")
    joined.end("client")
    joined.end("upstream")
    assert await passing is False
    assert asked.sent == 5
    assert reply.upstream.closing


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket, h2c", b""])
async def test_a_switch_to_what_was_not_asked_for_is_not_passed_on(protocol):
    asked = context(Upgrade="websocket")
    with pytest.raises(BadReply, match="not asked for"):
        await upgrade.tunnel(asked, asked.route, Switched(protocol))
    assert asked.request.connection.transport.written == b""


async def test_a_client_that_is_gone_is_not_joined():
    asked = context(Upgrade="websocket")
    asked.request.connection.transport = None
    with pytest.raises(ConnectionResetError):
        await upgrade.tunnel(asked, asked.route, Switched())


@pytest.mark.parametrize(
    ("protocol", "version", "wanted"),
    [
        ("websocket", HttpVersion11, True), ("WebSocket", HttpVersion11, True),
        ("other/1", HttpVersion11, True), ("a, b", HttpVersion11, True), ("httpish", HttpVersion11, True),
        ("websocket", HttpVersion10, False), (None, HttpVersion11, False), ("h2c", HttpVersion11, False),
        ("H2C", HttpVersion11, False), ("h2c-14", HttpVersion11, False), ("h3-29", HttpVersion11, False),
        ("a, h2", HttpVersion11, False), ("TLS/1.2", HttpVersion11, False),
        ("HTTP/2.0", HttpVersion11, False),
        ("https", HttpVersion11, False), ("quic", HttpVersion11, False),
    ],
)  # fmt: skip
def test_another_protocol_may_be_wanted_but_http_itself_is_none(protocol, version, wanted):
    headers = {"Upgrade": protocol} if protocol is not None else {}
    asked = context(version=version, **headers)
    assert upgrade.wanted_protocol(asked.request) == (protocol if wanted else None)


def test_protocols_are_compared_without_case_and_blanks():
    assert upgrade.protocols(" A , b/1") == {"a", "b/1"}
    assert upgrade.protocols("") == {""}
