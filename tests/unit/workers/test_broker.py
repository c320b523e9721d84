"""The broker: each question is answered, what one worker learns the others hear, and all are asked."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from authproxy.errors import LoginRequired, TokenError, TokenUnavailable
from authproxy.observe.standing import Refusal
from authproxy.tokens.token import Token
from authproxy.workers import broker as broker_module
from authproxy.workers.broker import Broker
from authproxy.workers.broker_client import BrokerClient, BrokerSource
from tests.support.token_sources import OneAnswer
from tests.support.worker_app import WorkerApp

NO = Refusal(401, "401 a token", "a token renewed 2 s ago, repeated once", None, 70.0, lasts=True)
A, B = (Token(value, expires_at=400.0, issued_at=100.0, refresh_token="r3fr3sh") for value in "ab")


class World:
    """A broker with two workers and two credentials."""

    def __init__(self, socket_pair):
        self.sources = {"up": OneAnswer(A), "other": OneAnswer(Token("o"))}
        self.published = {}
        self.pairs = [socket_pair() for _ in range(2)]
        self.workers = [BrokerClient(there) for _, there in self.pairs]
        self.apps = [WorkerApp("up", "other") for _ in self.workers]
        for worker, app in zip(self.workers, self.apps, strict=True):
            worker.attach(app)
        self.broker = self.new_broker()
        self.app = WorkerApp("up", "other")
        self.broker.attach(self.app)

    @property
    def told(self):
        """What each worker has heard."""
        return [(number, *told) for number, app in enumerate(self.apps) for told in app.told]

    def new_broker(self):
        config = SimpleNamespace(routes=[SimpleNamespace(key=key) for key in self.sources])
        stacks = SimpleNamespace(
            stack=lambda route: SimpleNamespace(outer=self.sources[route.key]), published=self.published
        )
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
    [(worker, what, key, refused, token)] = world.told
    assert (worker, what, key, refused) == (1, "replaced", "up", A)
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


async def test_a_token_that_a_person_had_renewed_or_forgotten_is_so_in_all_workers(world, settle):
    world.broker.replaced("up", A, B)
    world.broker.forgotten("up")
    await settle()
    assert world.told == [
        (number, *what) for number in (0, 1) for what in [("replaced", "up", A, B), ("forgotten", "up")]
    ]


async def test_what_an_issuer_publishes_is_known_to_all_workers_and_to_those_that_come_later(world, settle):
    world.published["https://id.example"] = ("https://id.example/token",)
    world.broker.published("https://id.example", ("https://id.example/token",))
    await settle()
    known = ("learn", "https://id.example", ("https://id.example/token",))
    assert world.told == [(0, *known), (1, *known)]
    there = world.pairs[1][1]
    asyncio.get_running_loop().remove_reader(there)
    later = WorkerApp("up", "other")
    BrokerClient(there).attach(later)
    await settle()
    assert later.told == [known]


# ── what all workers are asked ───────────────────────────────────────────────────────────────────


async def test_every_worker_is_asked_and_those_with_an_answer_give_theirs(world):
    world.apps[0].answers["request"] = {"id": "1"}
    world.apps[1].answers["request"] = None
    assert await world.broker.ask_all("request", "1") == [{"id": "1"}]
    assert world.app.others is world.broker


async def test_questions_that_are_asked_at_once_get_their_own_answers(world):
    for app in world.apps:
        app.answers["echo"] = lambda about: about
    answers = await asyncio.gather(*(world.broker.ask_all("echo", number) for number in range(5)))
    assert answers == [[number] * 2 for number in range(5)]
    assert not world.broker._asked


async def test_a_worker_that_does_not_answer_in_time_is_not_waited_for(world, monkeypatch):
    monkeypatch.setattr(broker_module, "WORKER_SECONDS", 0.3)
    world.apps[0].answers["request"] = {"id": "1"}
    asyncio.get_running_loop().remove_reader(world.pairs[1][1])
    assert await world.broker.ask_all("request", "1") == [{"id": "1"}]


async def test_an_answer_to_a_predecessors_question_is_nobodys(world, settle):
    world.workers[0]._channel.send({"answer": "late", "number": 1, "who": 1})
    await settle()
    assert world.broker._asked == {}


async def test_what_every_worker_has_counted_is_returned(world):
    for number, app in enumerate(world.apps):
        app.answers["counts"] = {"requests": number}
    assert sorted(await world.broker.counts(), key=str) == [{"requests": 0}, {"requests": 1}]


async def test_counts_are_asked_for_anew_each_time(world):
    now = iter(range(100))
    for app in world.apps:
        app.answers["counts"] = lambda _: {"requests": next(now)}
    first, second = await world.broker.counts(), await world.broker.counts()
    assert {each["requests"] for each in first} == {0, 1}
    assert {each["requests"] for each in second} == {2, 3}


async def test_a_worker_that_does_not_answer_in_time_has_its_last_count(world, monkeypatch):
    for number, app in enumerate(world.apps):
        app.answers["counts"] = {"requests": number}
    await world.broker.counts()
    world.apps[1].answers["counts"] = None  # it says nothing
    monkeypatch.setattr(broker_module, "WORKER_SECONDS", 0.3)
    assert {each["requests"] for each in await world.broker.counts()} == {0, 1}


async def test_what_a_dead_worker_has_counted_still_counts(world):
    for app in world.apps:
        app.answers["counts"] = {"requests": 5}
    await world.broker.counts()
    there = world.pairs[1][1]
    asyncio.get_running_loop().remove_reader(there)
    BrokerClient(there).attach(WorkerApp(counts={"requests": 1}))
    assert sorted(each["requests"] for each in await world.broker.counts()) == [1, 5, 5]


# ── what workers say of their own accord ─────────────────────────────────────────────────────────


async def test_finished_requests_are_told_while_somebody_watches_also_by_a_worker_that_comes_later(
    world, settle
):
    seen = []
    world.app.observing.seen = lambda *what: seen.append(what)
    world.broker.watch(50)
    await settle()
    assert world.told == [(0, "watch", 50), (1, "watch", 50)]
    world.apps[0].observing.seen([{"id": "1"}], 0)
    await settle()
    assert seen == [([{"id": "1"}], 0)]
    there = world.pairs[1][1]
    asyncio.get_running_loop().remove_reader(there)
    later = WorkerApp()
    BrokerClient(there).attach(later)
    await settle()
    assert later.told == [("watch", 50)]


async def test_a_route_that_one_worker_finds_refused_is_refused_in_all_and_told_once(world, settle, caplog):
    caplog.set_level("INFO", "authproxy")
    changed = []
    world.app.observed.standings.changed = lambda: changed.append(True)
    for app in world.apps:
        app.observed.standings.of("up", "key").note(NO)  # both at once
    await settle()
    assert world.app.refused == {"up": NO.sent}
    assert [app.refused for app in world.apps] == [{"up": NO.sent}] * 2
    world.apps[1].observed.standings.of("up", "key").recover()
    await settle()
    assert [app.refused for app in (world.app, *world.apps)] == [{}] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "refused by the upstream",
        "the upstream accepts the route's credential again",
    ]
    assert len(changed) == 2


async def test_a_worker_that_comes_later_hears_which_routes_are_refused(world, settle):
    world.apps[0].observed.standings.of("up", "key").note(NO)
    await settle()
    there = world.pairs[1][1]
    asyncio.get_running_loop().remove_reader(there)
    later = WorkerApp("up")
    BrokerClient(there).attach(later)
    await settle()
    assert later.refused == {"up": NO.sent}
