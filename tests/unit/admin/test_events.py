"""The live stream: what each reader is told, what is lost and counted, and when it ends."""

import asyncio
import json

import pytest

from authproxy.admin import events as module
from authproxy.admin.events import COMMENT, MAX_QUEUED, Stream, Streams, event
from authproxy.errors import TooManyStreams
from authproxy.observe.feed import MAX_RATE
from tests.support.clock import settle


class Reader:
    """Takes what a stream says while it is allowed to."""

    def __init__(self, stream):
        self.said = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.task = asyncio.create_task(self._read(stream))

    async def _read(self, stream):
        async for piece in stream.pieces():
            self.said.append(piece)
            await self.reads.wait()

    @property
    def events(self):
        told = b"".join(self.said).decode().split("\n\n")
        found = []
        for each in told:
            if each.startswith("event: "):
                name, data = each.split("\n")
                found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        return found


@pytest.fixture
def streams():
    made = Streams()
    made.limit = 3
    return made


def test_an_event_is_one_line_of_data():
    assert event("request", {"path": "/a\nb"}) == b'event: request\ndata: {"path": "/a\\nb"}\n\n'


async def test_every_reader_is_told_in_order(streams):
    with streams.open() as one, streams.open() as other:
        readers = [Reader(one), Reader(other)]
        await settle()
        for number in range(3):
            streams.publish("request", number)
        await settle()
        for reader in readers:
            assert reader.said[0] == COMMENT
            assert reader.events == [("request", number) for number in range(3)]
            reader.task.cancel()


async def test_after_a_silence_comes_a_comment(streams, monkeypatch):
    monkeypatch.setattr(module, "COMMENT_SECONDS", 0)
    with streams.open() as stream:
        reader = Reader(stream)
        while len(reader.said) < 3:
            await asyncio.sleep(0)
        reader.task.cancel()
        assert set(reader.said) == {COMMENT}


async def test_a_comment_that_is_due_comes_also_while_there_is_news(streams, monkeypatch):
    monkeypatch.setattr(module, "COMMENT_SECONDS", 0)
    with streams.open() as stream:
        pieces = stream.pieces()
        await anext(pieces)
        streams.publish("request", 1)
        assert [await anext(pieces), await anext(pieces)] == [COMMENT, event("request", 1)]
        await pieces.aclose()


async def test_a_reader_that_is_slow_loses_events_and_is_told_how_many_where_they_are_missing(streams):
    with streams.open() as slow, streams.open() as quick:
        readers = Reader(slow), Reader(quick)
        await settle()
        readers[0].reads.clear()
        large = "x" * 1000
        for number in range(1000):
            streams.publish("request", [number, large])
            await settle()
        assert slow._size <= MAX_QUEUED
        readers[0].reads.set()
        await settle()
        streams.publish("request", ["last", large])
        await settle()
        told = readers[0].events
        [lost] = [data["count"] for name, data in told if name == "lost"]
        numbers = [data[0] for name, data in told if name == "request"]
        assert numbers[-1] == "last"
        assert len(numbers) - 1 + lost == 1000
        assert told[-2][0] == "lost"
        assert [data[0] for _, data in readers[1].events] == [*range(1000), "last"]
        for reader in readers:
            reader.task.cancel()


async def test_what_was_lost_before_is_counted_too(streams):
    with streams.open() as stream:
        reader = Reader(stream)
        await settle()
        streams.lose(3)
        await settle()
        streams.publish("request", 1)
        await settle()
        assert reader.events == [("lost", {"count": 3}), ("request", 1)]
        reader.task.cancel()


async def test_there_are_only_so_many_and_one_that_goes_makes_room(streams):
    with streams.open(), streams.open():
        with streams.open(), pytest.raises(TooManyStreams) as caught, streams.open():
            pass
        assert caught.value.retry_after is not None
        with streams.open():
            pass


async def test_who_has_to_know_hears_of_the_first_and_of_the_last():
    heard = []
    streams = Streams(heard.append)
    with streams.open():
        assert heard == [MAX_RATE]
        with streams.open():
            pass
        assert heard == [MAX_RATE]
        assert streams
    assert heard == [MAX_RATE, 0]
    assert not streams


async def test_as_much_is_told_as_the_one_wants_who_wants_most():
    heard = []
    streams = Streams(heard.append)
    streams.limit = 3
    with streams.open(50):
        with streams.open(200), streams.open(100):
            pass
        with streams.open(10):
            pass
    assert heard == [50, 200, 50, 0]


async def test_at_the_end_what_is_queued_is_told_and_nobody_else_let_in(streams):
    with streams.open() as stream:
        reader = Reader(stream)
        await settle()
        streams.publish("request", 1)
        streams.close()
        await settle()
        assert reader.task.done()
        assert reader.events == [("request", 1)]
    with pytest.raises(TooManyStreams), streams.open():
        pass


async def test_nothing_is_made_for_nobody(streams):
    streams.publish("request", object())  # which is no JSON
    assert Stream()._size == 0
