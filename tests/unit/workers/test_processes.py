"""What each process does: which work is given to whom, and what a child lets go of. Nothing is forked."""

import os
import socket

import pytest

from authproxy.app.listeners import Listeners
from authproxy.app.tls import TLSContexts
from authproxy.config.read import parse
from authproxy.workers import processes as module
from authproxy.workers.processes import Processes, close_all_but

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


@pytest.fixture
def started(monkeypatch, listener):
    """Return the children that a supervisor would start for two workers, and the work that each does."""
    children, served = [], []

    class Supervisor:
        def __init__(self, given, sockets):
            children.extend(given)
            self.sockets = sockets

        def run(self, ready):
            ready()
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
    listeners = Listeners([(ADDRESS, listener)], ("127.0.0.1:1", [listener]))
    made = Processes(
        parse(TEXT, "proxy.yaml"), listeners, TLSContexts(None, {}), count=2, retry_rejected=True
    )
    said = []
    assert made.run(lambda: said.append("ready")) == 7
    assert said == ["ready"]
    closed = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", closed.append)
        yield children, served
    assert set(closed) <= {made._above}
    for descriptor in (made._alive, made._above):
        os.close(descriptor)
    for sock in (*(end for line in made._lines for end in line), *made._sockets[1:]):
        sock.close()


def test_one_child_has_the_tokens_and_the_others_ask_it(started):
    children, served = started
    assert [child.name for child in children] == ["broker", "worker 1", "worker 2"]
    assert [child.work() for child in children] == [0, 0, 0]
    (broker, settings), *workers = served
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
