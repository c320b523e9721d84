"""Logins under way: who comes back reaches the login that waits, and nobody else reaches any."""

import asyncio
from types import SimpleNamespace

import pytest

from authproxy.app import logins as module
from authproxy.app.logins import MAX_LOGINS, Logins
from authproxy.errors import CredentialRejected
from authproxy.tokens.token import Token
from tests.support.clock import settle

A = Token("s3cr3t")
SHOW = SimpleNamespace(url="https://id.example/authorize")


class Runner:
    """Stands in for the runner: shows something, waits for a callback, and has an outcome."""

    def __init__(self, outcome=A, *, before=None, state="state-1"):
        self.outcome = outcome
        self.before = before
        self.states = iter([state, *(f"state-{number}" for number in range(2, 999))])
        self.heard = []
        self.open = asyncio.Event()
        self.open.set()

    async def run(self, flow, login, *, transport):
        self.heard.append((flow, transport))
        if self.before is not None:
            raise self.before
        await login.show(SHOW)
        self.heard.append(await login.callback(next(self.states)))
        await self.open.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class World:
    def __init__(self, *outcome, **runner):
        self.runner = Runner(*outcome, **runner)
        self.logins = Logins(self.runner)
        self.adopted = []

    async def start(self, route="api", **settings):
        grant = SimpleNamespace(login=lambda uri: f"flow to {uri}", advice=lambda _token: "no refresh token")

        async def adopt(token):
            self.adopted.append((route, token))

        shown = await self.logins.start(route, grant, "http://localhost/callback", adopt, **settings)
        await asyncio.sleep(0)
        return shown


async def test_a_login_is_shown_comes_back_and_its_token_is_adopted(caplog):
    caplog.set_level("INFO", "authproxy")
    world = World()
    assert await world.start(transport="setting") is SHOW
    query = {"state": "state-1", "code": "c0de"}
    assert await world.logins.came_back(query) == ("api", "no refresh token")
    assert world.adopted == [("api", A)]
    assert world.runner.heard == [("flow to http://localhost/callback", "setting"), query]
    assert [record.getMessage() for record in caplog.records] == ["logged in"]
    assert not {"s3cr3t", "c0de"} & set(str(caplog.records[0].facts).split("'"))


@pytest.mark.parametrize("query", [{}, {"state": ""}, {"state": "state-2"}, {"code": "c"}])
async def test_a_callback_that_nobody_waits_for_reaches_no_login(query):
    world = World()
    await world.start()
    assert await world.logins.came_back(query) is None
    assert len(world.runner.heard) == 1
    assert await world.logins.came_back({"state": "state-1"}) is not None  # it waits still
    await world.logins.close()


async def test_a_login_that_is_not_yet_waiting_is_not_reached_by_a_callback_without_a_state():
    world = World(state=None)
    await world.start()
    assert await world.logins.came_back({}) is None
    await world.logins.close()


async def test_a_callback_counts_once():
    world = World()
    await world.start()
    world.runner.open.clear()
    first = asyncio.create_task(world.logins.came_back({"state": "state-1"}))
    await settle()
    assert await world.logins.came_back({"state": "state-1"}) is None  # while its code is exchanged
    world.runner.open.set()
    assert await first is not None
    assert await world.logins.came_back({"state": "state-1"}) is None  # and afterwards
    assert len(world.adopted) == 1


async def test_each_comes_back_to_its_own_login():
    world = World()
    await world.start("one")
    await world.start("two")
    assert (await world.logins.came_back({"state": "state-2"}))[0] == "two"
    assert (await world.logins.came_back({"state": "state-1"}))[0] == "one"


async def test_a_login_that_fails_before_there_is_anything_to_show_says_so(caplog):
    world = World(before=CredentialRejected("no such client", hint="register it"))
    with pytest.raises(CredentialRejected, match="no such client"):
        await world.start()
    await settle()
    assert [record.getMessage() for record in caplog.records] == ["login failed"]
    assert caplog.records[0].facts == {"route": "api", "cause": "no such client", "hint": "register it"}


async def test_who_comes_back_to_a_login_that_fails_hears_why(caplog):
    world = World(CredentialRejected("access denied"))
    await world.start()
    with pytest.raises(CredentialRejected, match="access denied"):
        await world.logins.came_back({"state": "state-1"})
    await settle()
    assert world.adopted == []
    assert len(caplog.records) == 1


async def test_a_fault_of_our_own_is_logged_without_its_text(caplog):
    world = World(before=RuntimeError("s3cr3t"))
    with pytest.raises(RuntimeError):
        await world.start()
    await settle()
    assert caplog.records[0].facts == {"route": "api", "cause": "RuntimeError"}


async def test_a_browser_that_does_not_wait_for_the_answer_does_not_break_the_login_off():
    world = World()
    await world.start()
    world.runner.open.clear()
    browser = asyncio.create_task(world.logins.came_back({"state": "state-1"}))
    await settle()
    browser.cancel()
    await settle()
    world.runner.open.set()
    await settle()
    assert world.adopted == [("api", A)]


async def test_a_person_who_never_comes_back_is_not_waited_for_for_ever(monkeypatch, caplog):
    monkeypatch.setattr(module, "LOGIN_SECONDS", 0)
    world = World()
    await world.start()
    await settle()
    assert await world.logins.came_back({"state": "state-1"}) is None
    assert caplog.records[0].facts["cause"] == "the login was not completed in time"


async def test_the_oldest_gives_way_when_there_are_too_many():
    world = World()
    for _ in range(MAX_LOGINS + 1):
        await world.start()
    await settle()
    assert await world.logins.came_back({"state": "state-1"}) is None
    assert await world.logins.came_back({"state": "state-2"}) is not None
    assert await world.logins.came_back({"state": f"state-{MAX_LOGINS + 1}"}) is not None
    await world.logins.close()


async def test_at_the_end_all_are_broken_off(caplog):
    world = World()
    await world.start()
    await world.logins.close()
    await settle()
    assert await world.logins.came_back({"state": "state-1"}) is None
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "login api"]
    assert caplog.records == []
