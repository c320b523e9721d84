"""A tunnel between two faked transports: what passes, who waits, and how it ends."""

import asyncio
import socket

import pytest

from authproxy.net import tunnel as tunnel_module
from authproxy.net.tunnel import Tunnel
from tests.support.clock import settle


class Transport:
    def __init__(self, *, half_closes=True):
        self.written = b""
        self.said = []
        self.reading = True
        self.half_closes = half_closes

    def write(self, data):
        assert "eof" not in self.said, "after its end nothing more can be said"
        self.written += data

    def write_eof(self):
        self.said.append("eof")

    def can_write_eof(self):
        return self.half_closes

    def close(self):
        self.said.append("close")

    def abort(self):
        self.said.append("abort")

    def is_closing(self):
        return not {"close", "abort"}.isdisjoint(self.said)

    def get_extra_info(self, name):
        assert name == "socket"
        return self

    def setsockopt(self, _level, option, _value):
        assert option == socket.SO_LINGER
        self.said.append("with a reset")

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_write_buffer_size(self):
        return 0


class World:
    def __init__(self, *, idle_seconds=60.0, **client):
        self.client, self.upstream = Transport(**client), Transport()
        self.tunnel = Tunnel(self.client, self.upstream, idle_seconds)

    def end(self, side):
        return {"client": self.client, "upstream": self.upstream}[side]


OTHER = {"client": "upstream", "upstream": "client"}
both_ways = pytest.mark.parametrize("side", ["client", "upstream"])


async def test_bytes_pass_both_ways_and_those_for_the_client_are_counted():
    world = World()
    world.tunnel.feed("client", b"hi")
    world.tunnel.feed("upstream", b"hello")
    assert (world.client.written, world.upstream.written) == (b"hello", b"hi")
    assert world.tunnel.moved == 5


@both_ways
async def test_one_half_may_end_while_the_other_goes_on(side):
    world = World()
    world.tunnel.end(side)
    assert world.end(OTHER[side]).said == ["eof"]
    waiting = asyncio.create_task(world.tunnel.closed())
    await settle()
    assert not waiting.done()
    world.tunnel.feed(OTHER[side], b"more")
    assert world.end(side).written == b"more"
    world.tunnel.end(OTHER[side])
    await waiting
    assert world.end(side).said == ["eof"]


async def test_where_no_half_can_be_ended_the_end_of_one_is_the_end_of_both():
    world = World(half_closes=False)
    world.tunnel.end("upstream")
    waiting = asyncio.create_task(world.tunnel.closed())
    await settle()
    assert world.upstream.said == ["eof"]
    world.tunnel.end("client")
    await waiting


@both_ways
async def test_who_does_not_take_what_it_is_sent_stops_the_other(side):
    world = World()
    world.tunnel.pause(side)
    assert (world.end(OTHER[side]).reading, world.end(side).reading) == (False, True)
    world.tunnel.resume(side)
    assert world.end(OTHER[side]).reading


@both_ways
async def test_one_that_has_ended_or_is_gone_is_neither_stopped_nor_woken(side):
    for gone in (lambda world: world.tunnel.end(OTHER[side]), lambda world: world.end(OTHER[side]).close()):
        world = World()
        gone(world)
        world.tunnel.pause(side)
        assert world.end(OTHER[side]).reading
        world.end(OTHER[side]).reading = False
        world.tunnel.resume(side)
        assert not world.end(OTHER[side]).reading


@both_ways
async def test_what_comes_after_the_end_is_dropped(side):
    world = World()
    world.tunnel.close()
    waiting = asyncio.create_task(world.tunnel.closed())
    await settle()
    world.tunnel.feed(side, b"late")
    assert world.end(OTHER[side]).written == b""
    assert world.tunnel.moved == 0
    world.tunnel.end(side)
    world.tunnel.end(OTHER[side])
    await waiting


async def test_when_it_is_ended_from_here_both_sides_are_told_and_may_end_their_halves():
    world = World()
    waiting = asyncio.create_task(world.tunnel.closed())
    await settle()
    world.tunnel.close()
    await settle()
    assert world.client.said == world.upstream.said == ["eof"]
    assert not waiting.done()
    world.tunnel.end("client")
    world.tunnel.end("upstream")
    await waiting


@both_ways
async def test_who_breaks_off_takes_the_other_along_by_a_reset(side):
    world = World()
    with world.tunnel as tunnel:
        world.end(side).abort()  # it is gone
        tunnel.cut(side)
        await asyncio.wait_for(tunnel.closed(), 1)
    assert world.end(OTHER[side]).said[:2] == ["with a reset", "close"]
    assert tunnel.cut_by == side


@both_ways
async def test_who_had_ended_its_half_broke_nothing_off(side):
    world = World()
    world.tunnel.end(side)
    world.end(side).abort()
    world.tunnel.cut(side)
    world.tunnel.end(OTHER[side])
    await asyncio.wait_for(world.tunnel.closed(), 1)
    assert world.end(OTHER[side]).said == ["eof"]
    assert world.tunnel.cut_by is None


async def test_within_tls_who_is_cut_off_is_told_no_goodbye():
    world = World(half_closes=False)
    world.tunnel.cut("upstream")
    await asyncio.wait_for(world.tunnel.closed(), 1)
    assert world.client.said[:2] == ["with a reset", "abort"]


async def test_a_client_that_breaks_off_before_anybody_looks_resets_the_upstream():
    world = World()
    with world.tunnel:
        world.tunnel.cut("client")  # and its task is cancelled
    assert world.upstream.said == ["with a reset", "close"]


async def test_a_side_that_never_ends_its_half_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(tunnel_module, "QUIET", 0)
    world = World()
    world.tunnel.close()
    await world.tunnel.closed()
    assert repr(world.tunnel) == "<Tunnel closed 0 bytes to the client>"


async def test_a_tunnel_that_is_silent_for_too_long_is_over(monkeypatch):
    monkeypatch.setattr(tunnel_module, "QUIET", 0)
    world = World(idle_seconds=0)
    await world.tunnel.closed()
    assert world.client.said == world.upstream.said == ["eof"]


@both_ways
async def test_each_word_begins_the_silence_anew(side, monkeypatch):
    waits = []

    async def wait(_futures, **settings):
        waits.append(settings["timeout"])
        if len(waits) == 1:
            clock.now = 59
            world.tunnel.feed(side, b"x")
        else:
            world.tunnel.close()

    class Clock:
        now = 0.0

        def time(self):
            return self.now

    clock = Clock()
    world = World()
    world.tunnel._loop, world.tunnel._last = clock, 0.0
    monkeypatch.setattr(tunnel_module.asyncio, "wait", wait)
    await world.tunnel.closed()
    assert waits[:2] == [60, 60]


async def test_the_upstreams_side_is_closed_at_the_end_of_the_block():
    world = World()
    with world.tunnel:
        assert repr(world.tunnel) == "<Tunnel open 0 bytes to the client>"
        assert world.upstream.said == []
    assert world.upstream.said == ["close"]
    assert world.client.said == []  # that one is the server's


async def test_what_went_each_way_is_counted():
    world = World()
    world.tunnel.feed("client", b"four")
    world.tunnel.feed("upstream", b"to")
    assert (world.tunnel.taken, world.tunnel.moved) == (4, 2)
