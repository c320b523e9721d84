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


async def test_who_wants_fewer_is_told_of_a_burst_whole_and_then_of_so_many_a_second(feed, time, told):
    feed = Feed(lambda requests, lost: told.append((len(requests), lost)), rate=20)
    for _ in range(200):
        feed.take(record())
    time.advance(1)
    assert told == [(BATCH, 0), (BATCH, 0), (BATCH, 0), (200 - 3 * BATCH, 0)]
    told.clear()
    seconds, each = 30, 4
    for _ in range(int(seconds / module.DELAY)):
        for _ in range(each):
            feed.take(record())
        time.advance(module.DELAY)
    given = sum(count for count, _ in told)
    assert 20 * seconds - 20 <= given <= 20 * seconds + 20
    assert given + sum(lost for _, lost in told) == each * seconds / module.DELAY
    assert max(count for count, _ in told[1:]) <= 20 * module.BUSY_DELAY + 1, "none waits for long"


async def test_a_rate_that_is_another_one_holds_from_then_on(time, told):
    feed = Feed(lambda requests, lost: told.append((len(requests), lost)), rate=1)
    for _ in range(100):
        feed.take(record())
    time.advance(1)
    assert sum(count for count, _ in told) == 10
    told.clear()
    feed.rate = module.MAX_RATE
    feed.take(record())
    time.advance(1)
    for _ in range(BATCH):
        feed.take(record())
    time.advance(1)
    assert sum(count for count, _ in told) >= BATCH


async def test_a_closed_one_tells_nothing_more(feed, time, told):
    feed.take(record())
    feed.close()
    time.advance(60)
    assert told == []
