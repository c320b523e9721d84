"""A worker's side: what it asks the broker, what it hears, and for how long it waits."""

import asyncio

import pytest

from authproxy.errors import (
    BadTokenReply,
    CredentialRejected,
    LoginRequired,
    TokenError,
    TokenTimeout,
    TokenUnavailable,
)
from authproxy.tokens.token import Token
from authproxy.workers import broker_client as client_module
from authproxy.workers.broker_client import BrokerClient, BrokerSource, to_message
from authproxy.workers.channel import DATAGRAM, Channel

LONG = {"value": "x" * DATAGRAM * 3}


class Listener:
    """One end of a line, which notes what it hears."""

    def __init__(self, sock):
        self.heard = []
        self.channel = Channel(sock, self._hear)

    def _hear(self, channel, message):
        assert channel is self.channel
        self.heard.append(message)


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


async def test_a_worker_tells_what_it_has_counted_and_who_it_is(line, settle):
    client, broker = line
    broker.channel.send({"count": True})
    await settle()
    assert broker.heard == []  # it has not begun to serve
    client.counts = lambda: {"requests": 3}
    for _ in range(2):
        broker.channel.send({"count": True})
    await settle()
    assert [each["counts"] for each in broker.heard] == [{"requests": 3}] * 2
    assert broker.heard[0]["who"] == broker.heard[1]["who"]


async def test_a_worker_hears_that_a_token_was_replaced_for_another_one(line, settle):
    client, broker = line
    news = {"replaced": "old", "key": "up42", "token": ["new", 300.0, 100.0]}
    broker.channel.send(news)  # nobody wants to know yet
    await settle()
    told = []
    client.replaced = lambda *what: told.append(what)
    broker.channel.send(news)
    await settle()
    [(key, refused, token)] = told
    assert (key, refused) == ("up42", Token("old"))
    assert (token.value, token.expires_at, token.issued_at) == ("new", 300.0, 100.0)


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
    broker.channel.send({"id": broker.heard[0]["id"], "token": ["a", float("inf"), 1000.5]})
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
