"""The broker: each question is answered, what one worker learns the others hear, and all counts are there."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from authproxy.errors import LoginRequired, TokenError, TokenUnavailable
from authproxy.tokens.token import Token
from authproxy.workers import broker as broker_module
from authproxy.workers.broker import Broker
from authproxy.workers.broker_client import BrokerClient, BrokerSource
from tests.support.token_sources import OneAnswer

A, B = (Token(value, expires_at=400.0, issued_at=100.0, refresh_token="r3fr3sh") for value in "ab")


class World:
    """A broker with two workers and two credentials."""

    def __init__(self, socket_pair):
        self.sources = {"up": OneAnswer(A), "other": OneAnswer(Token("o"))}
        self.pairs = [socket_pair() for _ in range(2)]
        self.workers = [BrokerClient(there) for _, there in self.pairs]
        self.told = []
        for number, worker in enumerate(self.workers):
            worker.replaced = lambda *what, number=number: self.told.append((number, *what))
        self.broker = self.new_broker()

    def new_broker(self):
        config = SimpleNamespace(routes=[SimpleNamespace(key=key) for key in self.sources])
        stacks = SimpleNamespace(stack=lambda route: SimpleNamespace(outer=self.sources[route.key]))
        return Broker(config, stacks, [here for here, _ in self.pairs])

    async def ask(self, *, worker=0, key="up", instead_of=None):
        return await BrokerSource(self.workers[worker], key).token(instead_of=instead_of)


@pytest.fixture
async def world(socket_pair):
    made = World(socket_pair)
    made.broker.start()
    return made


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_worker_gets_the_token_of_the_credential_it_asks_for(world):
    token = await world.ask()
    assert (token, token.expires_at, token.issued_at) == (A, 400.0, 100.0)
    assert (await world.ask(worker=1, key="other")).value == "o"
    assert world.sources["up"].asked == [None]


async def test_the_refresh_token_stays_with_the_broker(world, read_raw):
    task = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    asyncio.get_running_loop().remove_reader(world.pairs[0][1])
    heard = []
    while not any(b'"token"' in each for each in heard):
        heard += read_raw(world.pairs[0][1])
        await asyncio.sleep(0)
    assert not any(b"r3fr3sh" in each for each in heard)
    task.cancel()


async def test_the_refused_token_is_told_to_the_source(world):
    world.sources["up"].answer = B
    assert await world.ask(instead_of=A) == B
    assert world.sources["up"].asked == [A]


async def test_one_slow_credential_does_not_hold_up_another(world):
    world.sources["up"].open.clear()
    slow = asyncio.create_task(world.ask())
    assert (await world.ask(key="other")).value == "o"
    assert not slow.done()
    world.sources["up"].open.set()
    assert await slow == A


async def test_a_failure_is_told_to_the_worker_that_asked(world):
    world.sources["up"].answer = LoginRequired("nobody has logged in", hint="log in")
    with pytest.raises(LoginRequired, match="nobody has logged in") as caught:
        await world.ask()
    assert caught.value.hint == "log in"


async def test_a_fault_of_our_own_is_answered_too_and_its_text_is_told_nobody(world, caplog):
    world.sources["up"].answer = RuntimeError("s3cr3t")
    with pytest.raises(TokenUnavailable) as caught:
        await world.ask()
    assert "went wrong inside" in caught.value.detail
    assert "s3cr3t" not in caught.value.detail
    assert [record.getMessage() for record in caplog.records] == ["token renewal failed"]


async def test_a_credential_of_the_configuration_before_is_known_and_one_of_before_that_is_not(world, caplog):
    config = SimpleNamespace(routes=[SimpleNamespace(key="other")])
    world.broker.serve(config)
    assert await world.ask() == A
    world.broker.serve(config)
    with pytest.raises(TokenUnavailable, match="has no such credential any more"):
        await world.ask()
    assert caplog.records == []  # nothing is wrong with that


# ── what the others hear ─────────────────────────────────────────────────────────────────────────


async def test_the_other_workers_hear_of_the_token_that_replaces_a_refused_one(world, settle):
    world.sources["up"].answer = B
    await world.ask(worker=0, instead_of=A)
    await settle()
    [(worker, key, refused, token)] = world.told
    assert (worker, key, refused) == (1, "up", A)
    assert (token, token.expires_at) == (B, 400.0)


@pytest.mark.parametrize(
    ("answer", "refused"), [(A, None), (A, A), (TokenUnavailable("down"), A)], ids=["first", "same", "none"]
)
async def test_the_others_are_told_nothing_when_nothing_was_replaced(world, settle, answer, refused):
    world.sources["up"].answer = answer
    with contextlib.suppress(TokenError):
        await world.ask(instead_of=refused)
    await settle()
    assert world.told == []


async def test_a_broker_in_the_place_of_a_dead_one_has_the_workers_ask_again(world, settle):
    world.sources["up"].open.clear()
    task = asyncio.create_task(world.ask())
    await settle()
    for here, _ in world.pairs:
        asyncio.get_running_loop().remove_reader(here)  # the first one is gone, and what it was asked too
    world.sources["up"] = OneAnswer(B)
    successor = world.new_broker()
    await settle()
    assert not task.done()
    successor.start()
    assert await task == B


# ── counts ───────────────────────────────────────────────────────────────────────────────────────


async def test_what_every_worker_has_counted_is_returned(world):
    for number, worker in enumerate(world.workers):
        worker.counts = lambda number=number: {"requests": number}
    assert sorted(await world.broker.counts(), key=str) == [{"requests": 0}, {"requests": 1}]


async def test_counts_are_asked_for_anew_each_time(world):
    now = iter(range(100))
    for worker in world.workers:
        worker.counts = lambda: {"requests": next(now)}
    first, second = await world.broker.counts(), await world.broker.counts()
    assert {each["requests"] for each in first} == {0, 1}
    assert {each["requests"] for each in second} == {2, 3}


async def test_a_worker_that_does_not_answer_in_time_has_its_last_count(world, monkeypatch):
    for number, worker in enumerate(world.workers):
        worker.counts = lambda number=number: {"requests": number}
    await world.broker.counts()
    world.workers[1].counts = None  # it says nothing
    monkeypatch.setattr(broker_module, "COUNT_SECONDS", 0)
    assert {each["requests"] for each in await world.broker.counts()} == {0, 1}


async def test_what_a_dead_worker_has_counted_still_counts(world):
    for worker in world.workers:
        worker.counts = lambda: {"requests": 5}
    await world.broker.counts()
    there = world.pairs[1][1]
    asyncio.get_running_loop().remove_reader(there)
    successor = BrokerClient(there)
    successor.counts = lambda: {"requests": 1}
    assert sorted(each["requests"] for each in await world.broker.counts()) == [1, 5, 5]
