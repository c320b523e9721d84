"""A worker prepares, and changes only when it is told."""

import os
import signal

import pytest

from authproxy.app.application import Stopping
from authproxy.errors import AuthproxyError
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers.broker_client import BrokerClient
from authproxy.workers.channel import Channel
from authproxy.workers.reload import packed
from authproxy.workers.reload_worker import Member
from tests.unit.workers.reloads import AFTER, NEW, TLS, App


class Line:
    """A worker, and a broker that a test plays."""

    def __init__(self, socket_pair, settle):
        self._settle = settle
        here, there = socket_pair()
        self.heard = []
        self.channel = Channel(there, lambda _channel, message: self.heard.append(message))
        self.app = App()
        self.client = BrokerClient(here)
        self.member = Member(self.app, self.client, 7)

    async def say(self, what, number=8, *, sockets=(), config=AFTER):
        facts = {}
        if what == "prepare":
            facts = {"config": packed(config, OwnListeners(), TLS), "addresses": [NEW for _ in sockets]}
        self.channel.send({"reload": what, "number": number, **facts}, [sock.fileno() for sock in sockets])
        await self._settle()

    @property
    def answers(self):
        return [(each["reload"], each["number"], each.get("trouble")) for each in self.heard[1:]]


@pytest.fixture
async def line(socket_pair, settle, killed):
    made = Line(socket_pair, settle)
    await settle()
    assert made.heard == [{"reload": "here", "number": 7}]
    yield made
    for opened in made.app.opened:
        for sock in opened.sockets:
            sock.close()


async def test_a_worker_prepares_says_so_and_changes_only_when_it_is_told(line, open_socket):
    sock = open_socket()
    await line.say("prepare", sockets=[sock])
    assert line.answers == [("prepared", 8, None)]
    [opened] = line.app.opened
    assert [(address, each.getsockname()) for address, each in opened.proxy] == [(NEW, sock.getsockname())]
    assert line.app.calls == [("prepare", NEW)]
    await line.say("commit")
    assert line.app.calls[1:] == [("commit", "change 1"), "let go"]
    assert line.answers[1:] == [("committed", 8, None)]


async def test_an_abandoned_change_is_closed_and_cannot_be_committed(line, killed):
    await line.say("prepare")
    await line.say("abandon", 9)
    assert line.app.calls == [("prepare", NEW)]
    await line.say("abandon")
    assert line.app.calls[1:] == [("abandon", "change 1")]
    await line.say("commit")
    assert killed == [(os.getpid(), signal.SIGTERM)]
    assert "committed" not in [what for what, *_ in line.answers]


async def test_what_was_prepared_is_closed_when_something_else_is_prepared(line):
    await line.say("prepare", 8)
    await line.say("prepare", 9)
    assert line.app.calls[1:] == [("abandon", "change 1"), ("prepare", NEW)]
    await line.say("commit", 9)
    assert line.app.calls[3:] == [("commit", "change 2"), "let go"]


async def test_a_new_broker_has_it_go_on_with_what_it_began_with(line, killed):
    await line.say("prepare", 8)
    await line.say("commit", 7)
    assert line.app.calls[1:] == [("abandon", "change 1")]
    assert line.answers[1:] == [("committed", 7, None)]
    assert killed == []


async def test_a_new_broker_has_it_commit_what_the_one_before_had_it_prepare(line):
    await line.say("prepare", 8)
    await line.say("commit", 8)
    await line.say("commit", 8)
    assert line.app.calls[1:] == [("commit", "change 1"), "let go"]
    assert line.answers[1:] == [("committed", 8, None)] * 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AuthproxyError("no such file"), "no such file"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (RuntimeError("s3cr3t"), "something went wrong inside authproxy"),
    ],
)
async def test_what_it_cannot_prepare_is_told_closed_and_forgotten(line, open_socket, error, told):
    line.app.fails = {"prepare": error}
    await line.say("prepare", sockets=[open_socket()])
    assert line.answers == [("prepared", 8, told)]
    assert [sock.fileno() for opened in line.app.opened for sock in opened.sockets] == [-1]
    line.app.fails = {}
    await line.say("prepare", 9)
    await line.say("commit", 9)
    assert line.answers[1:] == [("prepared", 9, None), ("committed", 9, None)]


async def test_one_that_cannot_commit_ends_itself(line, killed):
    await line.say("prepare")
    line.app.fails = {"commit": RuntimeError("s3cr3t")}
    await line.say("commit")
    assert killed == [(os.getpid(), signal.SIGTERM)]
    assert line.app.calls[-1] == ("abandon", "change 1")
    assert line.answers[1:] == []


async def test_one_that_is_ending_already_is_not_hurried(line, killed):
    line.app.draining = True
    line.app.fails = {"prepare": Stopping("authproxy is stopping")}
    await line.say("prepare")
    await line.say("commit")
    assert line.answers == [("prepared", 8, "authproxy is stopping")]
    assert killed == []  # a second signal would break off what is in flight


async def test_what_came_before_it_was_ready_is_heard_then(socket_pair, settle, killed, open_socket):
    here, there = socket_pair()
    heard = []
    channel = Channel(there, lambda _channel, message: heard.append(message))
    app, client = App(), BrokerClient(here)
    message = {
        "reload": "prepare",
        "number": 8,
        "config": packed(AFTER, OwnListeners(), TLS),
        "addresses": [NEW],
    }
    channel.send(message, [open_socket().fileno()])
    await settle()
    Member(app, client, 7)
    await settle()
    assert [each["reload"] for each in heard] == ["here", "prepared"]
    [opened] = app.opened
    opened.sockets[0].close()
