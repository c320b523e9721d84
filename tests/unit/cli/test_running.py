"""What the proxy that runs says. It is made up here."""

import json
from types import SimpleNamespace

import pytest

from authproxy.cli import running as module
from authproxy.cli.calling import URLs
from authproxy.cli.running import NOT_RUNNING, UNKNOWN, Running, ask_running, known_urls
from authproxy.config.read import parse

TEXT = "admin: {{listen: '{}'}}\nroutes: [{{name: a, upstream: 'https://a.example', auth: {{grant: none}}}}]"
STATUS = {"name": "a", "upstream": "https://a.example", "state": "valid"}


class Connection:
    """Answers as it is told; `asked` is what came."""

    def __init__(self, status=200, document=None, fault=None, body=None):
        self.status, self.fault = status, fault
        self.body = json.dumps(document).encode() if body is None else body
        self.asked = None

    def request(self, method, path, headers):
        self.asked = method, path, headers
        if self.fault is not None:
            raise self.fault

    def getresponse(self):
        return SimpleNamespace(status=self.status, read=lambda _most: self.body)

    def close(self):
        pass


@pytest.fixture
def config():
    return parse(TEXT.format("127.0.0.1:8081"), "a.yaml")


@pytest.fixture
def ask(config, monkeypatch):
    def ask(connection, config=config):
        monkeypatch.setattr(module, "_connection", lambda _address: connection)
        return ask_running(config)

    return ask


def test_each_route_has_its_status_and_the_listeners_are_where_they_are(ask, config):
    connection = Connection(document={"routes": [STATUS], "listeners": ["http://127.0.0.1:9"]})
    found = ask(connection)
    assert connection.asked == ("GET", "/api/status", {"Accept": "application/json"})
    assert found.status_of(config.routes[0]) == STATUS
    assert found.urls == URLs(("http://127.0.0.1:9",))


def test_the_key_is_sent_where_there_is_one(ask):
    text = "access: {tokens: [a-key-of-twenty-characters-or-more], header: X-Key}\n" + TEXT.format(
        "127.0.0.1:1"
    )
    connection = Connection(document={"routes": [], "listeners": []})
    ask(connection, parse(text, "a.yaml"))
    assert connection.asked[2]["X-Key"] == "a-key-of-twenty-characters-or-more"


@pytest.mark.parametrize("more", [{"upstream": "https://b.example"}, {"name": "b"}])
def test_a_route_that_another_configuration_has_is_not_loaded_and_its_listeners_are_not_ours(
    ask, config, more
):
    found = ask(Connection(document={"routes": [STATUS | more], "listeners": ["http://127.0.0.1:9"]}))
    assert found.status_of(config.routes[0]) == {"state": "not_loaded"}
    assert found.urls is None


@pytest.mark.parametrize("fault", [ConnectionRefusedError(), FileNotFoundError()])
def test_where_nobody_listens_nothing_runs(ask, fault, config):
    assert ask(Connection(fault=fault)) is NOT_RUNNING
    assert NOT_RUNNING.status_of(config.routes[0]) == {"state": "not_running"}


@pytest.mark.parametrize(
    "connection",
    [
        Connection(fault=TimeoutError()),
        Connection(status=403),
        Connection(body=b"<html>"),
        Connection(document=[]),
        Connection(document={}),
        Connection(document={"routes": [7]}),
        Connection(document={"routes": [STATUS | {"state": None}]}),
        Connection(document={"routes": [STATUS], "listeners": [7]}),
    ],
)
def test_what_is_no_answer_of_ours_says_nothing(ask, connection):
    assert ask(connection) is UNKNOWN


@pytest.mark.parametrize("listen", ["127.0.0.1:0"])
def test_a_port_that_nobody_knows_is_not_asked(ask, listen):
    assert ask(None, parse(TEXT.format(listen), "a.yaml")) is UNKNOWN
    assert ask(None, parse("admin: false\n" + TEXT.partition("\n")[2].format(), "a.yaml")) is UNKNOWN


def test_the_listeners_of_routes_are_theirs(ask, config):
    routes = [STATUS | {"listen": "127.0.0.1:7"}, STATUS | {"name": "b", "listen": "unix:/run/b"}]
    listeners = ["https://127.0.0.1:9", "https://127.0.0.1:7", "unix:/run/b"]
    found = ask(Connection(document={"routes": routes, "listeners": listeners}))
    assert found.urls == URLs(("https://127.0.0.1:9",), {"a": "https://127.0.0.1:7", "b": "unix:/run/b"})


def test_no_route_is_called_at_the_forward_proxy(ask, config):
    url, forward = "http://127.0.0.1:9", "http://127.0.0.1:8888"
    told = {"routes": [STATUS], "listeners": [url, forward], "forward": {"listener": forward}}
    assert ask(Connection(document=told)).urls == URLs((url,), forward=f"HTTPS_PROXY={forward}")
    told["forward"]["bundle_file"] = "/run/bundle.pem"
    said = f"HTTPS_PROXY={forward}, CA bundle /run/bundle.pem"
    assert ask(Connection(document=told)).urls.forward == said
    told["forward"]["bundle_file"] = "/run/\x1b[2J"  # a terminal would obey
    assert ask(Connection(document=told)).urls.forward is None


def test_what_the_proxy_that_runs_says_goes_before_the_configuration():
    config = parse(
        "listen: 127.0.0.1:0\n"
        "routes: [{name: a, listen: '127.0.0.1:9', upstream: 'https://a.example', auth: {grant: none}}]",
        "proxy.yaml",
        environ={},
    )
    told = URLs(("http://127.0.0.1:0",), {"a": "http://127.0.0.1:9"})
    assert known_urls(config, NOT_RUNNING) == told
    running = Running(urls=URLs(("http://127.0.0.1:1234",)))
    assert known_urls(config, running) == URLs(("http://127.0.0.1:1234",), told.own)
