"""One task at a time, and all who wait get what it brings."""

import asyncio

import pytest

from authproxy.tokens.single_flight import SingleFlight
from tests.support.clock import settle


class Work:
    """Work that is done when a test lets it be; each run brings the next of `results`."""

    def __init__(self, *results):
        self.results = list(results)
        self.runs = 0
        self.open = asyncio.Event()

    async def __call__(self):
        self.runs += 1
        await self.open.wait()
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


async def joined(flight, times):
    waiters = [asyncio.create_task(flight.join()) for _ in range(times)]
    await settle()
    return waiters


async def test_all_who_join_get_the_result_of_one_run():
    work = Work("a")
    flight = SingleFlight(work, name="work")
    waiters = await joined(flight, 10)
    assert flight.under_way
    work.open.set()
    assert await asyncio.gather(*waiters) == ["a"] * 10
    assert work.runs == 1


async def test_all_who_join_get_the_failure_of_one_run():
    work = Work(ValueError("no"))
    waiters = await joined(SingleFlight(work, name="work"), 3)
    work.open.set()
    failures = await asyncio.gather(*waiters, return_exceptions=True)
    assert [str(each) for each in failures] == ["no"] * 3
    assert work.runs == 1


@pytest.mark.parametrize("first", ["a", ValueError("no")])
async def test_who_comes_after_the_end_has_it_done_again(first):
    work = Work(first, "b")
    work.open.set()
    flight = SingleFlight(work, name="work")
    await asyncio.gather(flight.join(), return_exceptions=True)
    assert not flight.under_way
    assert await flight.join() == "b"


async def test_a_waiter_that_goes_away_does_not_take_the_others_result_along():
    work = Work("a")
    gone, stays = await joined(SingleFlight(work, name="work"), 2)
    gone.cancel()
    await settle()
    work.open.set()
    assert await stays == "a"
    assert gone.cancelled()


async def test_it_goes_on_when_nobody_waits_any_more():
    work = Work("a")
    flight = SingleFlight(work, name="work")
    [gone] = await joined(flight, 1)
    gone.cancel()
    await settle()
    assert flight.under_way
    later = asyncio.create_task(flight.join())
    await settle()
    work.open.set()
    assert await later == "a"
    assert work.runs == 1


async def test_the_end_is_noted_before_anyone_goes_on_and_the_next_run_may_begin():
    order = []
    work = Work("a")

    def ended(task):
        order.append((task.result(), flight.under_way))

    flight = SingleFlight(work, name="work", ended=ended)

    async def wait():
        order.append(await flight.join())

    waiter = asyncio.create_task(wait())
    await settle()
    work.open.set()
    await waiter
    assert order == [("a", False), "a"]


async def test_waiting_begins_nothing_and_ends_with_the_run_or_the_time():
    work = Work("a")
    flight = SingleFlight(work, name="work")
    await flight.wait(60)
    assert work.runs == 0
    flight.begin()
    await flight.wait(0)
    assert flight.under_way  # it was not broken off
    work.open.set()
    await flight.wait(60)
    assert not flight.under_way


async def test_waiting_for_a_run_that_fails_is_no_failure():
    work = Work(ValueError("no"))
    work.open.set()
    flight = SingleFlight(work, name="work", ended=lambda task: task.exception())
    flight.begin()
    await flight.wait(60)
    assert not flight.under_way


async def test_its_task_is_named_for_who_looks_at_the_loop():
    work = Work("a")
    work.open.set()
    task = SingleFlight(work, name="renew up42").begin()
    assert task.get_name() == "renew up42"
    await task
