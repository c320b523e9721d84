"""What each process does: which work is given to whom, and what a child lets go of. Nothing is forked."""

import os
import socket
from types import SimpleNamespace

import pytest

from authproxy.app.listeners import Listeners
from authproxy.app.notify import NOBODY, Notify
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
    monkeypatch.setattr(os, "setpgid", lambda *_: None)
    monkeypatch.setattr(module, "close_all_but", lambda *_: None)
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
