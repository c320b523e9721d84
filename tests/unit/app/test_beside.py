"""Serving beside a program: in which order what is begun and ended, whatever ends it."""

import signal
from types import SimpleNamespace

import pytest

from authproxy.app import beside as module
from authproxy.app.beside import serve_beside
from authproxy.app.child import NotStarted


class World:
    """What happened, in order."""

    def __init__(self):
        self.happened = []
        self.told = []

    def notes(self, what, result=None):
        def noted(*_args, **_settings):
            self.happened.append(what)
            return result

        return noted

    def awaits(self, what):
        async def noted(*_args, **_settings):
            self.happened.append(what)

        return noted


class Child:
    def __init__(self, world, end):
        self._world, self._end = world, end
        self.signalled = []

    async def ended(self):
        self._world.happened.append("ended")
        end, self._end = self._end, 143
        if isinstance(end, BaseException):
            raise end
        return end

    def signal(self, number):
        self.signalled.append(number)


@pytest.fixture
def world(monkeypatch):
    made = World()

    class App:
        obtains_tokens = False
        observing = SimpleNamespace(tell=made.told.append)
        forward_authority = None
        route_tokens = SimpleNamespace(prefetch=made.notes("prefetch"))
        start, drain, warn = made.awaits("listens"), made.awaits("drained"), made.notes("warned")

        def __init__(self, config, *, own, tls, retry_rejected):
            self.given = (config, own, tls, retry_rejected)

        async def __aenter__(self):
            return self

        __aexit__ = made.awaits("closed")

    monkeypatch.setattr(module, "App", App)
    monkeypatch.setattr(module, "own_listeners", lambda config, listeners: None)
    monkeypatch.setattr(module, "collect_less", lambda: None)
    monkeypatch.setattr(module.gc, "freeze", lambda: None)
    monkeypatch.setattr(module, "load_meanwhile", made.awaits("loads"))
    return made


async def served(start, **options):
    return await serve_beside(None, SimpleNamespace(proxy=[]), None, start, **options)


async def test_it_listens_before_the_program_starts_and_drains_after_its_end(world):
    def start(_authority):
        world.happened.append("starts")
        return Child(world, 42)

    assert await served(start) == 42
    happened = [each for each in world.happened if each not in {"loads", "warned", "prefetch"}]
    assert happened == ["listens", "starts", "ended", "drained", "closed"]


async def test_who_watches_is_told_of_all_that_comes_and_when_nothing_more_does(world):
    watcher = SimpleNamespace(ended=world.notes("nothing more comes"))
    assert await served(lambda authority: Child(world, 0), watcher=watcher) == 0
    assert world.told == [watcher]
    assert world.happened[-2:] == ["closed", "nothing more comes"]
    await served(lambda authority: Child(world, 0))
    assert world.told == [watcher]


async def test_a_program_that_does_not_start_is_told_and_nothing_is_left_open(world):
    def start(_authority):
        raise NotStarted(FileNotFoundError(2, "No such file"), "program")

    with pytest.raises(NotStarted):
        await served(start)
    assert world.happened[-1] == "closed"


async def test_a_program_is_not_left_alone_with_a_proxy_that_has_failed(world, caplog):
    child = Child(world, MemoryError())
    with pytest.raises(MemoryError):
        await served(lambda authority: child)
    assert child.signalled == [signal.SIGTERM]
    assert world.happened.count("ended") == 2  # it was waited for
    assert "the proxy has failed" in caplog.text
