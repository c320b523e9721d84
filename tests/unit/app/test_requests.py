"""What one process answers of its last requests."""

from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from authproxy.app import requests as module
from authproxy.app.requests import LocalRequests, error_of
from authproxy.errors import ConnectionLimit, NotReplayable
from authproxy.observe.recent import Filter, Recent
from authproxy.proxy.downstream import replay as replay_module
from tests.support.records import record


class World:
    def __init__(self):
        self.recent = Recent(10)
        self.config = SimpleNamespace(access=None)
        self.server = object()
        self.local = LocalRequests(self.recent, lambda: self.config, lambda: self.server)
        self.sent = []

    def ask(self, question, about=None):
        return self.local.questions[question](about)


@pytest.fixture
def world(monkeypatch):
    made = World()
    monkeypatch.setattr(replay_module, "replay", lambda *what: made.sent.append(what))
    return made


def test_those_that_fit_are_told_and_one_with_its_headers(world):
    world.recent.add(record(route="a"))
    world.recent.add(record(at=1.7e9 + 1, route="b"))
    [found] = world.ask("requests", Filter(route="a").data())
    assert found["route"] == "a"
    assert world.ask("request", found["id"])["request_headers"] == [["Host", "localhost"]]
    assert world.ask("request", "0" * 22) is None
    assert world.ask("latencies") == {"a": [0.1], "b": [0.1]}


def test_the_access_key_is_masked_also_where_no_route_was_found(world):
    world.config.access = SimpleNamespace(header="X-Door", tokens=[SecretStr("k")])
    kept = record(route=None, head=b"X-Door: s3cr3t\r\n")
    world.recent.add(kept)
    assert world.ask("request", kept.id)["request_headers"] == [["X-Door", "••••"]]


def test_one_is_sent_again_under_an_id_that_is_told(world):
    kept = record()
    world.recent.add(kept)
    answer = world.ask("replay", kept.id)
    [(server, again, data, known)] = world.sent
    assert (server, again, known) == (world.server, kept, answer["id"])
    assert data.startswith(b"GET /v2/x HTTP/1.1\r\n")
    assert answer["id"] != kept.id
    assert error_of(answer) is None


def test_what_cannot_be_sent_again_is_told(world, monkeypatch):
    kept = record(head=b"Cookie: a\r\n")
    world.recent.add(kept)
    error = error_of(world.ask("replay", kept.id))
    assert isinstance(error, NotReplayable)
    assert "Cookie" in error.detail

    def full(*_):
        raise ConnectionLimit("full", retry_after=1)

    monkeypatch.setattr(replay_module, "replay", full)
    world.recent.add(record(at=1.7e9 + 1))
    [newest] = world.ask("requests", Filter(limit=1).data())
    error = error_of(world.ask("replay", newest["id"]))
    assert isinstance(error, ConnectionLimit)
    assert error.retry_after == 1


def test_what_is_not_remembered_or_cannot_be_served_is_nobodys(world):
    assert world.ask("replay", "0" * 22) is None
    kept = record()
    world.recent.add(kept)
    world.server = None
    assert world.ask("replay", kept.id) is None
    assert module.KINDS
