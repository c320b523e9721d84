"""A reload in several processes, all in this one: who says what to whom, and what a dead one leaves."""

import asyncio
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from authproxy.app.application import Stopping
from authproxy.app.listeners import ListenError, Listeners
from authproxy.app.tls import TLSContexts
from authproxy.config.read import parse
from authproxy.errors import AuthproxyError
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers import reload as module
from authproxy.workers.broker import Broker
from authproxy.workers.broker_client import BrokerClient
from authproxy.workers.channel import Channel
from authproxy.workers.reload import (
    Group,
    Member,
    NotPrepared,
    State,
    Taker,
    packed,
    shared_out,
    unpacked,
    with_addresses,
    without_sources,
)

ROUTE = "\nroutes: [{name: a, upstream: 'https://a.example', auth: {grant: none}}]"
TLS = TLSContexts(None, {})
OLD, NEW = "127.0.0.1:0", "localhost:0"
BEFORE, AFTER = (parse(f"listen: '{each}'{ROUTE}", "proxy.yaml") for each in (OLD, NEW))


def listener():
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


@pytest.fixture
def files():
    """Return a counter of this process's open files."""
    return lambda: len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def open_socket():
    """Return a maker of listening sockets, which are closed at the end."""
    made = []

    def make():
        made.append(listener())
        return made[-1]

    yield make
    for sock in made:
        sock.close()


class App:
    """Notes what it is told; the step named in `fails` raises its error."""

    def __init__(self):
        self.calls = []
        self.fails = {}
        self.draining = False
        self.site = SimpleNamespace(tls=TLS)
        self.config = BEFORE
        self.opened = []

    def step(self, name, value=None):
        self.calls.append((name, value) if value is not None else name)
        if name in self.fails:
            raise self.fails[name]

    async def prepare(self, config, opened, tls, own):
        assert tls is TLS
        self.opened.append(opened)
        self.step("prepare", config.listen[0])
        return f"change {sum(each[0] == 'prepare' for each in self.calls)}"

    async def commit(self, change):
        self.step("commit", change)

    def abandon(self, change):
        self.step("abandon", change)

    def let_go(self):
        self.step("let go")


async def in_this_thread(call, *args):
    return call(*args)


@pytest.fixture
def killed(monkeypatch):
    """Return who was sent which signal."""
    sent = []
    monkeypatch.setattr(module.os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(module, "tls_contexts", lambda config, before: TLS)
    monkeypatch.setattr(module.asyncio, "to_thread", in_this_thread)
    monkeypatch.setattr(module.logs, "set_up", lambda *style: sent.append(("log", *style)))
    monkeypatch.setattr(
        module, "raise_file_limit", lambda config: sent.append(("files", config.limits.connections))
    )
    return sent


# ── what travels ─────────────────────────────────────────────────────────────────────────────────


def test_a_configuration_arrives_as_it_is_with_what_reads_its_secrets_again(tmp_path):
    (tmp_path / "secret").write_text("first")
    text = (
        "routes: [{name: a, upstream: 'https://a.example', auth: {grant: static, token: '${file:secret}'}}]"
    )
    config = parse(text, str(tmp_path / "proxy.yaml"))
    own = OwnListeners(["127.0.0.1:7"])
    found, there = unpacked(packed(config, own))
    assert (found, found.files, found.places) == (config, config.files, config.places)
    assert there.named("127.0.0.1", 7)
    (tmp_path / "secret").write_text("second")
    grant = asyncio.run(found.routes[0].reread())
    assert grant.token.get_secret_value() == "second"


def test_workers_have_nothing_that_reads_secrets(tmp_path):
    (tmp_path / "secret").write_text("first")
    text = (
        "routes: [{name: a, upstream: 'https://a.example', auth: {grant: static, token: '${file:secret}'}}]"
    )
    config = parse(text, str(tmp_path / "proxy.yaml"))
    assert without_sources(config).routes[0].reread is None
    assert config.routes[0].reread is not None


def test_each_worker_gets_tcp_sockets_of_its_own_and_unix_ones_in_common(open_socket):
    tcp, unix = open_socket(), object()
    shares = shared_out([(OLD, tcp), ("unix:/run/x", unix)], 3)
    assert [[address for address, _ in share] for share in shares] == [[OLD, "unix:/run/x"]] * 3
    assert [share[1][1] for share in shares] == [unix] * 3
    sockets = [share[0][1] for share in shares]
    assert sockets[0] is tcp
    assert len({sock.fileno() for sock in sockets}) == 3
    assert len({sock.getsockname() for sock in sockets}) == 1
    for sock in sockets:
        sock.close()


def test_if_one_cannot_be_opened_the_others_are_closed(open_socket, monkeypatch):
    made = []

    def another(_sock):
        if len(made) == 3:
            raise ListenError("no more")
        made.append(listener())
        return made[-1]

    monkeypatch.setattr(module, "another_socket", another)
    first = [open_socket(), open_socket()]
    with pytest.raises(ListenError):
        shared_out([(OLD, sock) for sock in first], 3)
    assert [sock.fileno() for sock in made] == [-1, -1, -1]
    assert all(sock.fileno() >= 0 for sock in first)


# ── the broker's side ────────────────────────────────────────────────────────────────────────────


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
        self.reloading = asyncio.create_task(self.group.prepare(AFTER, opened, OwnListeners()))
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
    reloading = asyncio.create_task(successor.prepare(AFTER, Listeners([]), OwnListeners()))
    await world.settle()
    assert world.heard[0][-1]["number"] != first
    reloading.cancel()


# ── a worker's side ──────────────────────────────────────────────────────────────────────────────


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
            facts = {"config": packed(config, OwnListeners()), "addresses": [NEW for _ in sockets]}
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
    message = {"reload": "prepare", "number": 8, "config": packed(AFTER, OwnListeners()), "addresses": [NEW]}
    channel.send(message, [open_socket().fileno()])
    await settle()
    Member(app, client, 7)
    await settle()
    assert [each["reload"] for each in heard] == ["here", "prepared"]
    [opened] = app.opened
    opened.sockets[0].close()


# ── the supervisor's side ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def state(open_socket):
    """Return what two workers were started with: a listener that goes, and one that stays."""
    config = replace(BEFORE, listen=(OLD, NEW))
    shares = [[(OLD, open_socket()), (NEW, open_socket())] for _ in range(2)]
    return State(config, TLS, shares, ("127.0.0.1:8", [open_socket()]), OwnListeners(), 7)


def said(what, number=8, *, config=None, sockets=(), addresses=(), **facts):
    descriptors = [os.dup(sock.fileno()) for sock in sockets]
    if config is not None:
        facts["config"] = packed(config, OwnListeners())
    message = {"reload": what, "number": number, "addresses": list(addresses), **facts}
    return message | ({"descriptors": descriptors} if descriptors else {})


AFTER_ALL = parse(
    f"listen: ['{NEW}', '[::1]:0']\nadmin: {{listen: '127.0.0.1:9'}}\nlog: {{level: error, format: json}}"
    f"\nlimits: {{connections: 50}}{ROUTE}",
    "proxy.yaml",
)


def test_the_supervisor_takes_what_is_new_and_closes_what_is_gone(state, open_socket, killed):
    taker, new, admin = Taker(state), [open_socket(), open_socket()], open_socket()
    gone, kept = ([share[at][1] for share in state.shares] for at in (0, 1))
    old_admin = state.admin[1][0]
    for number, sock in enumerate(new):
        message = said("sockets", worker=number, sockets=[sock], addresses=["[::1]:0"])
        assert taker.hear(message) is None
    assert (state.config.listen, state.number) == ((OLD, NEW), 7)
    answer = taker.hear(said("state", config=AFTER_ALL, sockets=[admin], addresses=["127.0.0.1:9"]))
    assert answer == {"reload": "taken", "number": 8}
    assert [[address for address, _ in share] for share in state.shares] == [[NEW, "[::1]:0"]] * 2
    assert [share[0][1] for share in state.shares] == kept
    assert [share[1][1].getsockname() for share in state.shares] == [sock.getsockname() for sock in new]
    assert [sock.fileno() for sock in (*gone, old_admin)] == [-1] * 3
    assert state.admin[1][0].getsockname() == admin.getsockname()
    assert (state.config, state.number) == (AFTER_ALL, 8)
    assert killed == [("log", "error", "json"), ("files", 50)]
    for sock in (*(share[1][1] for share in state.shares), state.admin[1][0]):
        sock.close()


@pytest.mark.parametrize(("admin", "stays"), [("{listen: '127.0.0.1:8'}", True), ("false", False)])
def test_an_admin_listener_stays_or_ends(state, killed, admin, stays):
    [sock] = state.admin[1]
    Taker(state).hear(said("state", config=parse(f"admin: {admin}{ROUTE}", "proxy.yaml")))
    assert (sock.fileno() >= 0) is (state.admin is not None) is stays


@pytest.mark.parametrize("why", ["it is stopping", "a certificate"])
def test_what_it_cannot_take_leaves_it_as_it_was_and_nothing_open(
    state, open_socket, killed, monkeypatch, files, why
):
    def unusable(_config, _before):
        raise AuthproxyError("the certificate or the key cannot be used")

    if why == "a certificate":
        monkeypatch.setattr(module, "tls_contexts", unusable)
    taker, new = Taker(state), open_socket()
    before, shares = files(), [list(share) for share in state.shares]
    taker.hear(said("sockets", worker=0, sockets=[new], addresses=["[::1]:0"]))
    answer = taker.hear(
        said("state", config=AFTER_ALL, sockets=[new], addresses=["127.0.0.1:9"]),
        stopping=why == "it is stopping",
    )
    assert answer["trouble"] in {"authproxy is stopping", "the certificate or the key cannot be used"}
    assert (state.shares, state.number, state.config.listen) == (shares, 7, (OLD, NEW))
    assert killed == []
    assert files() == before


def test_what_a_dead_broker_left_unsaid_is_not_mixed_with_what_the_next_one_says(
    state, open_socket, killed, files
):
    taker, new = Taker(state), open_socket()
    before = files()
    taker.hear(said("sockets", 8, worker=0, sockets=[new], addresses=["[::1]:0"]))
    taker.hear(said("sockets", 8, worker=1, sockets=[new], addresses=["[::1]:0"]))
    answer = taker.hear(said("state", 9, config=replace(AFTER_ALL, listen=(OLD, NEW))))
    assert answer == {"reload": "taken", "number": 9}
    assert [len(share) for share in state.shares] == [2, 2]
    assert files() == before


def test_sockets_come_with_their_addresses(open_socket):
    sock = open_socket()
    message = said("sockets", sockets=[sock, sock], addresses=[OLD, NEW])
    share = with_addresses(message)
    assert [address for address, _ in share] == [OLD, NEW]
    for _, each in share:
        each.close()
