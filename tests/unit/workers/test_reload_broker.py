"""The broker leads a reload: who is told what and when, and what a dead one leaves."""

import asyncio
import os
import signal
import socket
from types import SimpleNamespace

import pytest

from authproxy.app.listeners import Listeners
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers import reload_broker as module
from authproxy.workers.broker import Broker
from authproxy.workers.channel import Channel
from authproxy.workers.reload import NotPrepared
from authproxy.workers.reload_broker import Group
from tests.unit.workers.reloads import AFTER, NEW, TLS, App


class World:
    """A broker's group, two lines to workers that a test plays, and one to the supervisor."""

    def __init__(self, socket_pair, settle):
        self.settle = settle
        self.app = App()
        self.lines = [socket_pair() for _ in range(2)]
        self.above, self.supervisor_end = socket_pair()
        self.heard = [[], []]
        self.told = []
        self.descriptors = []
        self.broker = Broker(SimpleNamespace(routes=[]), None, [here for here, _ in self.lines])
        self.broker.start()
        self.group = Group(self.broker, self.app, self.above, os.getppid(), 7)
        self.workers = [
            Channel(there, lambda _channel, message, heard=heard: self.note(message, heard))
            for (_, there), heard in zip(self.lines, self.heard, strict=True)
        ]
        self.supervisor = Channel(
            self.supervisor_end, lambda _channel, message: self.note(message, self.told)
        )

    def note(self, message, heard):
        self.descriptors += message.get("descriptors", [])
        if "reload" in message:
            heard.append(message)

    def close(self):
        for descriptor in self.descriptors:
            os.close(descriptor)

    async def begin(self, opened):
        self.reloading = asyncio.create_task(self.group.prepare(AFTER, opened, OwnListeners(), TLS))
        await self.settle()

    async def say(self, worker, what, *, trouble=None, number=None):
        number = self.heard[worker][-1]["number"] if number is None else number
        self.workers[worker].send({"reload": what, "number": number, "trouble": trouble})
        await self.settle()

    async def taken(self, **facts):
        self.supervisor.send({"reload": "taken", "number": self.told[-1]["number"], **facts})
        await self.settle()

    def said(self, worker):
        return [message["reload"] for message in self.heard[worker]]


@pytest.fixture
async def world(socket_pair, settle, killed):
    made = World(socket_pair, settle)
    await settle()
    for heard in made.heard:
        assert [(each["reload"], each["number"]) for each in heard] == [("commit", 7)]
        heard.clear()
    yield made
    made.close()


async def test_the_supervisor_is_told_once_all_workers_are_prepared_and_then_all_commit(
    world, open_socket, killed
):
    admin = open_socket()
    await world.begin(Listeners([(NEW, open_socket())], ("127.0.0.1:9", [admin])))
    assert [world.said(0), world.said(1), world.told] == [["prepare"], ["prepare"], []]
    await world.say(0, "prepared")
    assert world.told == []
    await world.say(1, "prepared")
    assert [each["reload"] for each in world.told] == ["sockets", "sockets", "state"]
    assert [each["addresses"] for each in world.told] == [[NEW], [NEW], ["127.0.0.1:9"]]
    assert killed == [(os.getppid(), signal.SIGUSR1)]
    assert not world.reloading.done()
    await world.taken()
    await world.reloading
    assert world.said(0) == ["prepare"]
    world.app.config = AFTER
    committing = asyncio.create_task(world.group.commit())
    await world.settle()
    assert world.said(0) == world.said(1) == ["prepare", "commit"]
    for worker in range(2):
        assert not committing.done()
        await world.say(worker, "committed")
    await committing
    assert world.broker._now == {route.key: route for route in AFTER.routes}


async def test_what_was_opened_stays_open_only_where_it_went(world, open_socket):
    new = open_socket()
    await world.begin(Listeners([(NEW, new)]))
    place = new.getsockname()
    for worker in range(2):
        await world.say(worker, "prepared")
    await world.taken()
    await world.reloading
    assert new.fileno() == -1
    received = [socket.socket(fileno=os.dup(each)) for each in world.descriptors]
    assert [sock.getsockname() for sock in received] == [place] * 4
    for sock in received:
        sock.close()
    assert world.group.own_share(Listeners([(NEW, new)], ("a", []))) == Listeners([], ("a", []))


async def test_a_worker_that_cannot_has_all_go_on_as_before(world, open_socket):
    new = open_socket()
    await world.begin(Listeners([(NEW, new)]))
    await world.say(0, "prepared")
    await world.say(1, "prepared", trouble="no descriptors left")
    with pytest.raises(NotPrepared, match="no descriptors left"):
        await world.reloading
    await world.settle()
    assert world.said(0) == world.said(1) == ["prepare", "abandon"]
    assert world.told == []
    assert new.fileno() == -1


async def test_a_supervisor_that_cannot_has_all_go_on_as_before(world):
    await world.begin(Listeners([]))
    for worker in range(2):
        await world.say(worker, "prepared")
    await world.taken(trouble="authproxy is stopping")
    with pytest.raises(NotPrepared, match="authproxy is stopping"):
        await world.reloading
    await world.settle()
    assert world.said(0)[-1] == world.said(1)[-1] == "abandon"


async def test_a_worker_that_does_not_answer_has_all_go_on_as_before(world, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0)
    await world.begin(Listeners([]))
    with pytest.raises(NotPrepared, match="did not answer in time"):
        await world.reloading
    await world.settle()
    assert world.said(0) == ["prepare", "abandon"]


async def test_a_broker_that_does_not_hear_whether_it_was_taken_leaves_it_to_its_successor(
    world, killed, monkeypatch
):
    await world.begin(Listeners([]))
    await world.say(0, "prepared")
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0)
    await world.say(1, "prepared")
    with pytest.raises(NotPrepared):
        await world.reloading
    await world.settle()
    assert killed[-1] == (os.getpid(), signal.SIGTERM)
    assert world.said(0) == ["prepare"]  # to abandon it might be as wrong as to commit it


async def test_nobody_else_is_signalled_once_the_supervisor_is_gone(world, killed):
    world.group._above = 1 << 30
    await world.begin(Listeners([]))
    for worker in range(2):
        await world.say(worker, "prepared")
    with pytest.raises(NotPrepared):
        await world.reloading
    assert killed == []


@pytest.mark.parametrize("what", ["prepared", "committed"])
async def test_an_answer_to_something_else_is_none(world, what):
    await world.begin(Listeners([]))
    await world.say(0, "prepared")
    number = world.heard[1][-1]["number"]
    await world.say(1, what, number=number - 1 if what == "prepared" else number, trouble="old")
    assert not world.reloading.done()
    assert world.told == []
    world.reloading.cancel()


async def test_a_worker_in_the_place_of_one_that_died_over_it_is_asked_too(world, open_socket):
    await world.begin(Listeners([(NEW, open_socket())]))
    await world.say(0, "prepared")
    await world.say(1, "here", number=7)
    assert world.said(1) == ["prepare", "prepare"]
    assert world.heard[1][0]["number"] == world.heard[1][1]["number"]
    assert len(world.heard[1][1]["descriptors"]) == 1
    await world.say(1, "prepared")
    await world.taken()
    await world.reloading


async def test_one_that_has_answered_already_is_not_asked_again(world):
    await world.begin(Listeners([]))
    await world.say(0, "prepared")
    await world.say(0, "here", number=7)
    assert world.said(0) == ["prepare"]
    world.reloading.cancel()


@pytest.mark.parametrize("began_with", ["the new one", "the old one"])
async def test_a_worker_that_begins_with_the_new_configuration_has_committed_it(world, began_with):
    committing = asyncio.create_task(world.group.commit())
    await world.settle()
    await world.say(0, "committed")
    number = world.heard[1][-1]["number"]
    await world.say(1, "here", number=number if began_with == "the new one" else number - 1)
    assert committing.done() is (began_with == "the new one")
    committing.cancel()


async def test_one_that_does_not_commit_is_named_in_the_log_and_holds_up_nobody_for_ever(
    world, monkeypatch, caplog
):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0)
    await world.group.commit()
    assert caplog.records[0].getMessage() == "a worker has not taken the new configuration yet"


async def test_no_two_brokers_use_the_same_number(world, socket_pair, monkeypatch):
    await world.begin(Listeners([]))
    first = world.heard[0][-1]["number"]
    world.reloading.cancel()
    await world.settle()
    successor = Group(world.broker, world.app, socket_pair()[0], os.getppid(), 7)
    reloading = asyncio.create_task(successor.prepare(AFTER, Listeners([]), OwnListeners(), TLS))
    await world.settle()
    assert world.heard[0][-1]["number"] != first
    reloading.cancel()
