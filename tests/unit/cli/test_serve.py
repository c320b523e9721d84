"""Serving: what is said of the listeners, and what is left at the end. Nothing is served."""

import signal
from types import SimpleNamespace

import pytest

from authproxy.app.file_limits import upstream_connections
from authproxy.app.listeners import Listeners
from authproxy.cli import serve as module
from authproxy.cli.calling import URLs
from authproxy.cli.serve import announce, say_nothing, serve, status_of
from authproxy.config.read import parse

TEXT = "routes: [{name: a, upstream: 'https://a.example', auth: {grant: none}}]"


class Socket:
    """A listening socket that got a port."""

    def __init__(self, port=0):
        self._port = port
        self.closed = False

    def getsockname(self):
        return "127.0.0.1", self._port

    def close(self):
        self.closed = True


@pytest.fixture
def config():
    return parse(TEXT, "proxy.yaml")


@pytest.mark.parametrize(("tls", "scheme"), [(None, "http"), (object(), "https")])
def test_each_listener_is_told_by_its_url_and_a_name_only_once(capsys, tls, scheme):
    listeners = Listeners(
        [("localhost:0", Socket(4001)), ("localhost:0", Socket(4001)), ("unix:/run/a", Socket())],
        ("127.0.0.1:0", [Socket(4002)]),
    )
    told = []
    announce(
        SimpleNamespace(tls=tls, own_listeners={}, forward_listener=None),
        listeners,
        lambda *urls: told.append(urls),
    )
    urls = [f"{scheme}://localhost:4001", "unix:/run/a"]
    assert capsys.readouterr().out == (
        f"listening on {urls[0]}\nlistening on {urls[1]}\nadmin on http://127.0.0.1:4002\n"
    )
    assert told == [(URLs(tuple(urls)), "http://127.0.0.1:4002")]


def test_the_forward_proxy_is_told_with_what_its_clients_are_to_trust(capsys):
    config = parse("forward: {listen: '127.0.0.1:0'}\nadmin: false\n" + TEXT, "proxy.yaml")
    sockets = [(listener, Socket(4003)) for listener in config.listeners]
    tls = SimpleNamespace(forward=SimpleNamespace(bundle_file="/run/bundle.pem"))
    told = []
    announce(config, Listeners(sockets), lambda urls, _admin: told.append(urls.forward), tls)
    assert "forwarding on http://127.0.0.1:4003\n" in capsys.readouterr().out
    assert told == ["HTTPS_PROXY=http://127.0.0.1:4003, CA bundle /run/bundle.pem"]


def test_without_an_admin_listener_none_is_told(capsys):
    announce(
        SimpleNamespace(tls=None, own_listeners={}, forward_listener=None),
        Listeners([("[::1]:0", Socket(7))]),
        say_nothing,
    )
    assert capsys.readouterr().out == "listening on http://[::1]:7\n"


@pytest.mark.parametrize("fails", [False, True])
def test_the_name_of_a_unix_socket_is_taken_away_however_it_ends(config, monkeypatch, tmp_path, fails):
    path = tmp_path / "socket"
    path.touch()

    def run_loop(work):
        work.close()
        if fails:
            raise ZeroDivisionError

    monkeypatch.setattr(
        module, "open_listeners", lambda _config, **_: Listeners([(f"unix:{path}", Socket())])
    )
    monkeypatch.setattr(module, "run_loop", run_loop)
    monkeypatch.setattr(module, "raise_file_limit", lambda _wanted: None)
    if fails:
        with pytest.raises(ZeroDivisionError):
            serve(config)
    else:
        assert serve(config) == 0
    assert not path.exists()


def test_a_certificate_that_cannot_be_used_is_found_before_anything_listens(config, monkeypatch):
    def broken(_config):
        raise ZeroDivisionError

    monkeypatch.setattr(module, "tls_contexts", broken)
    monkeypatch.setattr(module, "open_listeners", lambda *_args, **_keys: pytest.fail("it listens"))
    monkeypatch.setattr(module, "raise_file_limit", lambda _wanted: None)
    with pytest.raises(ZeroDivisionError):
        serve(config)


def test_there_are_descriptors_for_clients_and_upstreams(monkeypatch):
    config = parse(
        "limits: {connections: 10}\n" + TEXT.replace("name:", "max_connections: 5, name:"), "a.yaml"
    )
    wanted = []

    def noted(config):
        wanted.append(config.limits.connections + upstream_connections(config))
        raise ZeroDivisionError

    monkeypatch.setattr(module, "raise_file_limit", noted)
    with pytest.raises(ZeroDivisionError):
        serve(config)
    assert wanted == [15]


@pytest.mark.parametrize("reads", [True, False])
def test_sighup_waits_from_the_first_for_who_can_reload(config, monkeypatch, reads):
    order = []

    def broken(_config):
        order.append("certificates")
        raise ZeroDivisionError

    monkeypatch.setattr(module, "hold_back", order.append)
    monkeypatch.setattr(module, "raise_file_limit", lambda _wanted: None)
    monkeypatch.setattr(module, "tls_contexts", broken)
    with pytest.raises(ZeroDivisionError):
        serve(config, read=(lambda: config) if reads else None)
    assert order == ([signal.SIGHUP] if reads else []) + ["certificates"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_reads_the_configuration_again_goes_to_who_serves(config, monkeypatch, workers):
    given = {}

    class Processes:
        def __init__(self, *_args, **settings):
            given.update(settings)

        def run(self, _ready, _serving):
            return 0

    def attend(_config, _listeners, _tls, *, reloader_of, watches, **_settings):
        given.update(read=reloader_of(SimpleNamespace(config=config))._read, watches=watches)

    def read():
        return config

    monkeypatch.setattr("authproxy.workers.processes.Processes", Processes)
    monkeypatch.setattr(module, "attend", attend)
    monkeypatch.setattr(module, "run_loop", lambda _work: None)
    monkeypatch.setattr(module, "hold_back", lambda _number: None)
    monkeypatch.setattr(module, "worker_count", lambda _config: workers)
    monkeypatch.setattr(module, "raise_file_limit", lambda _wanted: None)
    monkeypatch.setattr(module, "open_listeners", lambda _config, *, share, already: Listeners([]))
    serve(config, read=read, watches=True)
    assert (given["read"](), given["watches"]) == (config, True)


def test_a_routes_own_listener_is_told_with_its_name_after_those_of_all(capsys):
    text = TEXT.replace("name: a,", "name: a, path: /a, listen: '127.0.0.1:0',")
    config = parse(f"listen: '[::1]:0'\n{text}", "proxy.yaml")
    listeners = Listeners([("[::1]:0", Socket(7)), ("127.0.0.1:0 for a", Socket(8))])
    told = []
    announce(config, listeners, lambda *urls: told.append(urls))
    assert capsys.readouterr().out == "listening on http://[::1]:7\nlistening on http://127.0.0.1:8 for a\n"
    assert told == [(URLs(("http://[::1]:7",), {"a": "http://127.0.0.1:8"}), None)]
    assert status_of(config, listeners) == "serving 1 route on http://[::1]:7, http://127.0.0.1:8"
