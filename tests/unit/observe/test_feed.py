"""Finished requests for those who watch: in batches, bounded, and none is lost silently."""

import pytest

from authproxy.observe import feed as module
from authproxy.observe.feed import BATCH, MAX_WAITING, Feed
from tests.support.client_side import Time
from tests.support.records import record


@pytest.fixture
async def time(monkeypatch):
    made = Time()
    made.call_later = lambda delay, callback: made.call_at(made.time() + delay, callback)
    monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: made)
    return made


@pytest.fixture
def told():
    return []


@pytest.fixture
def feed(time, told):
    return Feed(lambda requests, lost: told.append(([each["path"] for each in requests], lost)))


async def test_what_comes_together_is_told_together_and_soon(feed, time, told):
    for number in range(3):
        feed.take(record(path=f"/{number}"))
    assert told == []
    time.advance(module.DELAY)
    assert told == [(["/0", "/1", "/2"], 0)]
    time.advance(60)
    assert len(told) == 1


async def test_of_many_only_some_are_told_at_a_time(feed, time, told):
    for number in range(2 * BATCH + 1):
        feed.take(record(path=f"/{number}"))
    for _ in range(5):
        time.advance(module.DELAY)
    assert [len(paths) for paths, _ in told] == [BATCH, BATCH, 1]
    assert told[1][0][0] == f"/{BATCH}"


async def test_of_too_many_the_rest_is_lost_and_counted(feed, time, told):
    for _ in range(MAX_WAITING + 7):
        feed.take(record())
    for _ in range(20):
        time.advance(module.DELAY)
    assert sum(len(paths) for paths, _ in told) == MAX_WAITING
    assert sum(lost for _, lost in told) == 7


async def test_a_closed_one_tells_nothing_more(feed, time, told):
    feed.take(record())
    feed.close()
    time.advance(60)
    assert told == []
