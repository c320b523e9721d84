"""A worker's side: what it asks the broker, what it hears, and for how long it waits."""

import asyncio
from dataclasses import asdict

import pytest

from authproxy.errors import (
    BadTokenReply,
    CredentialRejected,
    LoginRequired,
    TokenError,
    TokenTimeout,
    TokenUnavailable,
)
from authproxy.observe.standing import Refusal
from authproxy.tokens.token import Token
from authproxy.workers import broker_client as client_module
from authproxy.workers.broker_client import BrokerClient, BrokerSource, to_message
from tests.support.worker_app import WorkerApp
from tests.unit.workers.listener import Listener

NO = Refusal(401, "401 a token", "a token renewed 2 s ago, repeated once", None, 70.0, lasts=True)


# ── questions ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def line(socket_pair):
    """Return a worker's client and what stands in for the broker."""
    here, there = socket_pair()
    return BrokerClient(here), Listener(there)


async def asking(client, settle, question):
    task = asyncio.create_task(client.ask(question))
    await settle()
    return task


async def test_each_question_gets_its_own_answer_in_whatever_order_they_come(line, settle):
    client, broker = line
    first = await asking(client, settle, {"key": "a"})
    second = await asking(client, settle, {"key": "b"})
    for question in reversed(broker.heard):
        broker.channel.send({"id": question["id"], "for": question["key"]})
    assert (await first)["for"] == "a"
    assert (await second)["for"] == "b"


async def test_an_answer_to_a_predecessors_question_is_not_taken_for_ours(line, settle):
    client, broker = line
    task = await asking(client, settle, {"key": "a"})
    number = broker.heard[0]["id"]
    broker.channel.send({"id": number - 1, "for": "somebody else"})
    await settle()
    assert not task.done()
    broker.channel.send({"id": number, "for": "us"})
    assert (await task)["for"] == "us"


async def test_a_second_answer_to_one_question_is_no_trouble(line, settle):
    client, broker = line
    task = await asking(client, settle, {"key": "a"})
    number = broker.heard[0]["id"]
    broker.channel.send({"id": number, "for": "first"})
    broker.channel.send({"id": number, "for": "second"})
    assert (await task)["for"] == "first"
    await settle()
    broker.channel.send({"id": number, "for": "third"})
    await settle()


async def test_a_new_broker_is_asked_again_what_is_still_unanswered(line, settle):
    client, broker = line
    answered = await asking(client, settle, {"key": "a"})
    open_ = await asking(client, settle, {"key": "b"})
    broker.channel.send({"id": broker.heard[0]["id"]})
    await answered
    asked = list(broker.heard)
    broker.channel.send({"again": True})
    await settle()
    assert broker.heard == [*asked, asked[1]]
    broker.channel.send({"id": asked[1]["id"], "for": "b"})
    assert (await open_)["for"] == "b"


async def test_a_broker_that_does_not_answer_in_time_is_not_waited_for(line, settle, monkeypatch):
    client, broker = line
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0)
    with pytest.raises(TokenTimeout, match="did not answer in time"):
        await client.ask({"key": "a"})
    await settle()
    asked = list(broker.heard)
    broker.channel.send({"again": True})
    await settle()
    assert broker.heard == asked  # nobody waits for it any more


async def test_who_gives_up_waiting_leaves_no_question_behind(line, settle):
    client, broker = line
    task = await asking(client, settle, {"key": "a"})
    task.cancel()
    await settle()
    broker.channel.send({"again": True})
    await settle()
    assert len(broker.heard) == 1


# ── what the broker says of its own accord ───────────────────────────────────────────────────────


@pytest.fixture
async def app(line, settle):
    """The application that serves in the worker; what it said at its beginning was heard already."""
    client, broker = line
    app = WorkerApp("up42", counts={"requests": 3}, twice=lambda about: about * 2)
    client.attach(app)
    await settle()
    assert broker.heard == [{"here": True}]
    broker.heard.clear()
    return app


async def test_who_does_not_serve_yet_goes_by_nothing_it_hears(line, settle):
    _, broker = line
    for told in ({"question": "counts", "about": None, "number": 1}, {"watch": 50}, {"forgotten": "k"}):
        broker.channel.send(told)
    await settle()
    assert broker.heard == []


async def test_a_worker_answers_what_it_is_asked_and_says_who_it_is(line, app, settle):
    _, broker = line
    broker.channel.send({"question": "counts", "about": None, "number": 7})
    broker.channel.send({"question": "twice", "about": "ab", "number": 8})
    await settle()
    assert [(each["answer"], each["number"]) for each in broker.heard] == [({"requests": 3}, 7), ("abab", 8)]
    assert broker.heard[0]["who"] == broker.heard[1]["who"]


async def test_a_question_that_fails_is_answered_with_nothing(line, app, settle, caplog):
    _, broker = line
    broker.channel.send({"question": "unheard of", "about": "s3cr3t", "number": 7})
    await settle()
    assert [each["answer"] for each in broker.heard] == [None]
    assert [record.getMessage() for record in caplog.records] == ["a question of the admin API failed"]


async def test_a_worker_hears_that_a_token_was_replaced_for_another_one(line, app, settle):
    _, broker = line
    broker.channel.send(
        {"replaced": "old", "key": "up42", "token": ["new", 300.0, 100.0, [["/tenant", "geo"]]]}
    )
    await settle()
    [(what, key, refused, token)] = app.told
    assert (what, key, refused) == ("replaced", "up42", Token("old"))
    assert (token.value, token.expires_at, token.issued_at) == ("new", 300.0, 100.0)
    assert token.fields == (("/tenant", "geo"),)


async def test_a_worker_hears_that_a_token_was_forgotten_and_that_somebody_watches(line, app, settle):
    _, broker = line
    for told in ({"forgotten": "up42"}, {"watch": 50}, {"watch": 0}):
        broker.channel.send(told)
    await settle()
    assert app.told == [("forgotten", "up42"), ("watch", 50), ("watch", 0)]


async def test_a_worker_hears_what_an_issuer_publishes(line, app, settle):
    _, broker = line
    broker.channel.send({"published": "https://id.example", "urls": ["https://id.example/token"]})
    await settle()
    assert app.told == [("learn", "https://id.example", ("https://id.example/token",))]


async def test_finished_requests_are_told_to_the_broker(line, app, settle):
    _, broker = line
    app.observing.seen([{"id": "1"}], 2)
    await settle()
    assert broker.heard == [{"seen": [{"id": "1"}], "lost": 2}]


async def test_a_refused_route_is_told_to_the_broker_and_again_to_a_new_one(line, app, settle):
    _, broker = line
    standing = app.observed.standings.of("up42", "key")
    standing.note(NO)
    await settle()
    assert broker.heard == [{"stands": "up42", "refusal": asdict(NO)}]
    broker.channel.send({"again": True})
    await settle()
    assert broker.heard == [{"stands": "up42", "refusal": asdict(NO)}] * 2
    standing.recover()
    await settle()
    assert broker.heard[-1] == {"stands": "up42", "refusal": None}


async def test_what_another_worker_was_refused_a_worker_goes_by_and_tells_nobody(line, app, settle):
    _, broker = line
    broker.channel.send({"stands": "up42", "refusal": asdict(NO)})
    await settle()
    assert app.refused == {"up42": NO.sent}
    broker.channel.send({"stands": "up42", "refusal": None})
    await settle()
    assert (app.refused, broker.heard) == ({}, [])


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("refused", "told"), [(None, None), (Token("old", refresh_token="r"), "old")])
async def test_a_token_is_asked_for_by_its_credential_and_by_the_value_that_was_refused(
    line, settle, refused, told
):
    client, broker = line
    task = asyncio.create_task(BrokerSource(client, "up42").token(instead_of=refused))
    await settle()
    [question] = broker.heard
    assert question.pop("id")
    assert question == {"key": "up42", "instead_of": told}  # the refresh token is the broker's affair
    task.cancel()


async def test_a_token_keeps_its_times_on_the_way(line, settle):
    client, broker = line
    task = asyncio.create_task(BrokerSource(client, "up42").token())
    await settle()
    broker.channel.send({"id": broker.heard[0]["id"], "token": ["a", float("inf"), 1000.5, []]})
    token = await task
    assert (token.value, token.expires_at, token.issued_at) == ("a", float("inf"), 1000.5)


@pytest.mark.parametrize("kind", [CredentialRejected, BadTokenReply, TokenUnavailable, LoginRequired])
async def test_a_failure_reaches_the_worker_as_it_was(line, settle, kind):
    client, broker = line
    failure = kind("no such user", hint="mend it", error="invalid_grant", retry_after=12.5)
    failure.title, failure.rejects = "Credential rejected", True  # as backoff tells of one held back
    task = asyncio.create_task(BrokerSource(client, "up42").token())
    await settle()
    broker.channel.send({"id": broker.heard[0]["id"], "error": to_message(failure)})
    with pytest.raises(TokenError) as caught:
        await task
    heard = caught.value
    assert type(heard) is kind
    assert (heard.detail, heard.hint, heard.error) == ("no such user", "mend it", "invalid_grant")
    assert (heard.retry_after, heard.title, heard.rejects) == (12.5, "Credential rejected", True)


# ── reloads ──────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_said_about_a_reload_is_heard_in_order_however_early_it_came(line, settle):
    client, broker = line
    broker.channel.send({"reload": "prepare"})
    broker.channel.send({"reload": "abandon"})
    await settle()
    heard = []
    client.reloads(heard.append)
    broker.channel.send({"reload": "commit"})
    await settle()
    assert [message["reload"] for message in heard] == ["prepare", "abandon", "commit"]


async def test_what_a_worker_says_by_itself_waits_for_no_answer(line, settle):
    client, broker = line
    client.tell({"reload": "here"})
    await settle()
    assert broker.heard == [{"reload": "here"}]
