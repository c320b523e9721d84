"""What each process does: which work is given to whom, and what a child lets go of. Nothing is forked."""

import os
import select
import socket
from types import SimpleNamespace

import pytest

from authproxy.app.listeners import Listeners
from authproxy.app.notify import NOBODY, Notify
from authproxy.app.tls import TLSContexts
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers import processes as module
from authproxy.workers.channel import DATAGRAM, Pieces, receive
from authproxy.workers.processes import Processes, close_all_but, drain
from authproxy.workers.reload import packed

TEXT = "routes: [{name: a, upstream: 'https://a.example', auth: {grant: none}}]"
ADDRESS = "127.0.0.1:0"


class Socket:
    closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as sock:
        yield sock


def test_the_children_beat_for_a_service_manager_four_times_in_the_time_of_its_watchdog(
    monkeypatch, listener
):
    made = []

    def supervisor(_children, _sockets, _take, notify, beats):
        made.append((notify, beats))
        return SimpleNamespace(run=lambda *_: 0)

    monkeypatch.setattr(module, "Supervisor", supervisor)
    config, listeners = parse(TEXT, "proxy.yaml"), Listeners([(ADDRESS, listener)])
    for notify in (Notify("@somebody", 20.0), Notify("@somebody")):
        processes = Processes(config, listeners, TLSContexts(None, {}), count=1, notify=notify)
        processes.run(lambda: None)
        for descriptor in (processes._alive, processes._above):
            os.close(descriptor)
        for sock in (*processes._lines[0], processes._to_supervisor, processes._of_supervisor):
            sock.close()
    (notify, watched), (_, unwatched) = made
    assert (notify.watchdog, watched.seconds, unwatched.seconds) == (20.0, 5.0, None)


@pytest.fixture
def started(monkeypatch, listener):
    """Return the children that a supervisor would start for two workers, and the work that each does."""
    children, served = [], []

    class Supervisor:
        stopping = False

        def __init__(self, given, sockets, take, notify, beats):
            children.extend(given)
            self.sockets = sockets
            assert (notify, beats) == (NOBODY, None)

        def run(self, ready, serving):
            ready()
            serving()
            return 7

    async def attend(config, listeners, tls, *, ready, **settings):
        served.append((listeners, settings))

    def run_loop(work):
        with pytest.raises(StopIteration):
            work.send(None)

    monkeypatch.setattr(module, "Supervisor", Supervisor)
    monkeypatch.setattr(module, "attend", attend)
    monkeypatch.setattr(module, "run_loop", run_loop)
    monkeypatch.setattr(
        module, "BrokerClient", lambda _line: type("Client", (), {"inner_source": "the broker's"})
    )
    monkeypatch.setattr(module, "setpgid", lambda *_: None)
    monkeypatch.setattr(module, "close_all_but", lambda *_: None)
    monkeypatch.setattr(module, "drain", served.append)
    listeners = Listeners([(ADDRESS, listener)], ("127.0.0.1:1", [listener]))
    made = Processes(
        parse(TEXT, "proxy.yaml"), listeners, TLSContexts(None, {}), count=2, retry_rejected=True
    )
    said = []
    assert made.run(lambda: said.append("ready"), lambda: said.append("serving")) == 7
    assert said == ["ready", "serving"]
    closed = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", closed.append)
        yield children, served
    assert set(closed) <= {made._above}
    for descriptor in (made._alive, made._above):
        os.close(descriptor)
    ends = [end for line in made._lines for end in line]
    for sock in (*ends, made._to_supervisor, made._of_supervisor, *made._sockets()[1:]):
        sock.close()


def test_one_child_has_the_tokens_and_the_others_ask_it(started):
    children, served = started
    assert [child.name for child in children] == ["broker", "worker 1", "worker 2"]
    assert [child.work() for child in children] == [0, 0, 0]
    forgotten, (broker, settings), *workers = served
    assert isinstance(forgotten, socket.socket)  # before anything is said
    assert (broker.proxy, broker.admin[0]) == ([], "127.0.0.1:1")
    assert settings["retry_rejected"]
    assert "inner_source" not in settings
    for listeners, settings in workers:
        assert listeners.admin is None
        assert len(listeners.proxy) == 1
        assert settings["inner_source"] == "the broker's"
        assert "retry_rejected" not in settings


def test_each_worker_has_a_socket_of_its_own(started):
    children, served = started
    for child in children[1:]:
        child.work()
    (one, _), (other, _) = served
    assert one.proxy[0][1] is not other.proxy[0][1]


def test_a_worker_keeps_its_own_listeners_and_no_other():
    mine, others = Socket(), Socket()
    close_all_but([(ADDRESS, mine)], [mine, others])
    assert (mine.closed, others.closed) == (False, True)


# ── another configuration ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def processes(listener, monkeypatch):
    """Return the processes, the supervisor not started, and a broker's end of its line to it."""
    monkeypatch.setattr("authproxy.logs.set_up", lambda *_style: None)
    monkeypatch.setattr("authproxy.workers.reload_supervisor.raise_file_limit", lambda _connections: None)
    made = Processes(
        parse(TEXT, "proxy.yaml"), Listeners([(ADDRESS, listener)]), TLSContexts(None, {}), count=2
    )
    made._to_supervisor.settimeout(0)
    yield made
    ends = [end for line in made._lines for end in line]
    for sock in (*ends, made._to_supervisor, made._of_supervisor, *made._sockets()):
        sock.close()
    for descriptor in (made._alive, made._above):
        os.close(descriptor)


def say(processes, *messages, pieces=None):
    pieces = pieces or Pieces()
    for message in messages:
        for piece in pieces.of(message):
            processes._to_supervisor.send(piece)


def answer(processes):
    return Pieces().take(*receive(processes._to_supervisor))


def state(number=8, text=TEXT):
    config = packed(parse(text, "proxy.yaml"), OwnListeners(), TLSContexts(None, {}))
    return {"reload": "state", "number": number, "config": config, "addresses": []}


def test_the_supervisor_takes_what_the_broker_says_and_answers(processes):
    say(processes, {"reload": "sockets", "number": 8, "worker": 0, "addresses": []}, state())
    processes._take()
    assert answer(processes) == {"reload": "taken", "number": 8}
    assert processes._state.number == 8


def test_at_the_end_it_takes_nothing(processes):
    processes._supervisor = SimpleNamespace(stopping=True)
    say(processes, state())
    processes._take()
    assert answer(processes)["trouble"] == "authproxy is stopping"
    assert processes._state.number == 0


def test_a_broker_that_dies_before_it_has_said_all_is_not_waited_for_for_ever(processes, monkeypatch, caplog):
    monkeypatch.setattr(module, "TAKE_SECONDS", 0.01)
    say(processes, {"reload": "sockets", "number": 8, "worker": 0, "addresses": []})
    processes._take()
    assert processes._state.number == 0
    assert [record.getMessage() for record in caplog.records] == [
        "the supervisor has not heard the end of a reload"
    ]


def test_what_a_dead_broker_said_and_nobody_heard_is_forgotten(processes):
    reads, writes = socket.socketpair()
    torn = list(Pieces().of({"reload": "sockets", "value": "x" * DATAGRAM}))
    message = {"reload": "sockets", "number": 7, "worker": 0, "addresses": [ADDRESS]}
    socket.send_fds(processes._to_supervisor, list(Pieces().of(message)), [writes.fileno()])
    socket.send_fds(processes._to_supervisor, torn[:1], [writes.fileno()])
    writes.close()
    drain(processes._of_supervisor)
    poll = select.poll()
    poll.register(reads, select.POLLIN)
    assert poll.poll(0), "its descriptors are closed"
    reads.close()
    say(processes, state(9))
    processes._take()
    assert answer(processes)["number"] == 9
