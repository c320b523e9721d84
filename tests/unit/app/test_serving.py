"""From the start to the end: what is begun, in which order, and what a signal does."""

import asyncio
import os
import signal
from types import SimpleNamespace

import pytest

from authproxy.app import serving
from authproxy.app.listeners import Listeners
from authproxy.app.serving import GARBAGE_THRESHOLDS, attend, collect_less, run_loop
from tests.support.clock import settle


class App:
    """Notes what is asked of it; drains when a test lets it."""

    def __init__(self, config, inner_source, own, *, tls, retry_rejected):
        self.given = (config, inner_source, own, tls, retry_rejected)
        self.calls = []
        self.obtains_tokens = inner_source is None
        self.sources = SimpleNamespace(in_a_hurry=False)
        self.route_tokens = SimpleNamespace(prefetch=lambda: self.calls.append("prefetch"))
        self.drained = asyncio.Event()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.calls.append(f"closed{', in a hurry' if self.sources.in_a_hurry else ''}")

    async def start(self, sockets):
        self.calls.append(("start", sockets))

    def admin_opens_at(self, address, sockets):
        self.calls.append(("admin opens", address, sockets))

    async def start_admin(self, sockets):
        self.calls.append(("admin", sockets))

    def warn(self):
        self.calls.append("warn")

    async def keep_certificate(self):
        self.calls.append("certificate")

    def keep_authority(self):
        self.calls.append("authority")

    async def drain(self):
        self.calls.append("drain")
        await self.drained.wait()


class World:
    def __init__(self, handlers):
        self.handlers = handlers
        self.ready = []

    def make_app(self, *given, **settings):
        self.app = App(*given, **settings)
        return self.app

    async def begin(self, listeners=None, **settings):
        listeners = listeners or Listeners([("a", "socket")])
        work = attend("config", listeners, "tls", ready=self.ready.append, own="own", **settings)
        self.task = asyncio.create_task(work)
        await settle()

    async def signal(self, number=signal.SIGTERM):
        self.handlers[number](number)
        await settle()


class Reloader:
    def __init__(self):
        self.reloads = 0
        self.files = {}
        self.fails = None
        self.ended = asyncio.Event()
        self.ended.set()

    async def reload(self):
        self.reloads += 1
        await self.ended.wait()
        if self.fails is not None:
            raise self.fails


async def at_once(work, **settings):
    work(**settings)


@pytest.fixture
async def world(monkeypatch):
    handlers = {}
    monkeypatch.setattr(serving, "collect_less", lambda: None)
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: None)
    monkeypatch.setattr(serving.asyncio, "to_thread", at_once)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(
        loop,
        "add_signal_handler",
        lambda number, call, *args: handlers.__setitem__(number, lambda _: call(*args)),
    )
    made = World(handlers)
    monkeypatch.setattr(serving, "App", made.make_app)
    monkeypatch.setattr(serving, "gc", SimpleNamespace(freeze=lambda: made.app.calls.append("set apart")))
    return made


async def test_it_is_ready_once_everything_is_open(world):
    await world.begin(Listeners([("a", "socket")], ("b", ["admin's"])), retry_rejected=True)
    assert world.app.given == ("config", None, "own", "tls", True)
    assert world.app.calls == [
        ("admin opens", "b", ["admin's"]), ("start", [("a", "socket")]), "warn", "prefetch", "certificate",
        "authority", "set apart", ("admin", ["admin's"]),
    ]  # fmt: skip
    assert world.ready == [world.app]
    assert not world.task.done()
    world.app.drained.set()
    await world.signal()
    await world.task


async def test_the_service_manager_hears_that_it_lives_and_then_that_it_stops(world):
    told = []
    notify = SimpleNamespace(watch=lambda: told.append("watch"), stopping=lambda: told.append("stopping"))
    await world.begin(notify=notify)
    assert (told, world.ready) == (["watch"], [world.app])
    await world.signal()
    assert told == ["watch", "stopping"]
    assert world.app.calls[-1] == "drain"
    world.app.drained.set()
    await world.task


async def test_a_worker_leaves_warnings_and_tokens_to_the_broker(world):
    await world.begin(inner_source="the broker")
    assert world.app.calls == [("start", [("a", "socket")]), "set apart"]
    world.app.drained.set()
    await world.signal()
    await world.task


async def test_a_broker_has_no_routes_to_serve(world):
    await world.begin(Listeners([], ("b", ["admin's"])))
    assert world.app.calls == [
        ("admin opens", "b", ["admin's"]), "warn", "prefetch", "certificate", "authority", "set apart",
        ("admin", ["admin's"]),
    ]  # fmt: skip
    world.app.drained.set()
    await world.signal()
    await world.task


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_what_is_in_flight_end_first(world, number):
    await world.begin()
    await world.signal(number)
    assert world.app.calls[-1] == "drain"
    assert not world.task.done()
    world.app.drained.set()
    await world.task
    assert world.app.calls[-1] == "closed"


async def test_a_second_signal_ends_it_at_once(world, caplog):
    await world.begin()
    await world.signal(signal.SIGINT)
    await world.signal(signal.SIGTERM)
    await world.task
    assert world.app.calls[-1] == "closed, in a hurry"
    assert [record.getMessage() for record in caplog.records] == ["stopped at once by a second signal"]


async def test_the_end_of_the_process_above_is_a_signal_too(world):
    alive, held = os.pipe()
    try:
        await world.begin(alive=alive)
        assert not world.task.done()
        os.close(held)
        world.app.drained.set()
        await world.task
        assert world.app.calls[-2:] == ["drain", "closed"]
    finally:
        asyncio.get_running_loop().remove_reader(alive)
        os.close(alive)


def test_the_loop_runs_the_work_to_its_end():
    done = []

    async def work():
        await asyncio.sleep(0)
        done.append(type(asyncio.get_running_loop()).__module__)

    run_loop(work())
    fastest = (serving.loop_factory() or asyncio.new_event_loop)()
    fastest.close()
    assert done == [type(fastest).__module__]


def test_garbage_is_looked_for_less_often_once_what_stays_is_set_apart(monkeypatch):
    calls = []
    fake = SimpleNamespace(
        collect=lambda: calls.append("collect"),
        freeze=lambda: calls.append("freeze"),
        set_threshold=lambda *numbers: calls.append(numbers),
    )
    monkeypatch.setattr(serving, "gc", fake)
    collect_less()
    assert calls == ["collect", "freeze", GARBAGE_THRESHOLDS]


async def test_it_is_ready_before_the_rest_is_loaded_and_then_opens_the_admin_listener(world, monkeypatch):
    loading, loaded = [], asyncio.Event()

    async def slowly(work, **settings):
        loading.append((work, settings))
        await loaded.wait()

    monkeypatch.setattr(serving.asyncio, "to_thread", slowly)
    await world.begin(Listeners([("a", "socket")], ("b", ["admin's"])))
    assert world.ready == [world.app]
    assert loading == [(serving.load_the_rest, {"admin": True, "tokens": True})]
    assert ("admin", ["admin's"]) not in world.app.calls
    loaded.set()
    await settle()
    assert world.app.calls[-1] == ("admin", ["admin's"])
    world.app.drained.set()
    await world.signal()
    await world.task


@pytest.mark.parametrize("fault", [OSError(24, "too many open files"), ImportError()])
async def test_what_cannot_be_loaded_for_want_of_descriptors_is_loaded_later(
    world, monkeypatch, caplog, fault
):
    faults = [fault, None]

    async def to_thread(_work, **_settings):
        if (found := faults.pop(0)) is not None:
            raise found

    monkeypatch.setattr(serving.asyncio, "to_thread", to_thread)
    monkeypatch.setattr(serving, "LOAD_AGAIN_SECONDS", 0)
    await world.begin(Listeners([("a", "socket")], ("b", ["admin's"])))
    async with asyncio.timeout(5):
        while world.app.calls[-1] != ("admin", ["admin's"]):
            await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == ["a module cannot be loaded yet"]
    world.app.drained.set()
    await world.signal()
    await world.task


@pytest.mark.parametrize("admin", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
def test_what_is_loaded_later_is_what_will_be_needed(monkeypatch, admin, tokens):
    loaded = []
    monkeypatch.setattr(serving, "import_module", loaded.append)
    serving.load_the_rest(admin=admin, tokens=tokens)
    assert loaded[0] == "authproxy.proxy.downstream.parser"
    assert ("authproxy.app.admin" in loaded) is admin
    assert ("authproxy.grants.http" in loaded) is tokens


def test_what_is_loaded_later_is_there():
    serving.load_the_rest(admin=True, tokens=True)


# ── another configuration ────────────────────────────────────────────────────────────────────────


async def test_sighup_reloads_once_everything_is_open(world, monkeypatch):
    reloader, loaded = Reloader(), asyncio.Event()

    async def slowly(_work, **_settings):
        assert signal.SIGHUP not in world.handlers
        await loaded.wait()

    monkeypatch.setattr(serving.asyncio, "to_thread", slowly)
    await world.begin(reloader_of=lambda app: reloader)
    loaded.set()
    await settle()
    for _ in range(2):
        await world.signal(signal.SIGHUP)
    assert reloader.reloads == 2
    assert not world.task.done()
    world.app.drained.set()
    await world.signal()
    await world.task


async def test_a_worker_leaves_sighup_to_the_broker(world):
    await world.begin(inner_source="the broker")
    await world.signal(signal.SIGHUP)
    assert not world.task.done()
    world.app.drained.set()
    await world.signal()
    await world.task


async def test_sighup_of_a_terminal_that_has_gone_is_the_end(world, monkeypatch):
    gone, reloader = [], Reloader()
    monkeypatch.setattr(serving, "terminal_watch", lambda: lambda: bool(gone))
    await world.begin(reloader_of=lambda app: reloader)
    gone.append(True)
    world.app.drained.set()
    await world.signal(signal.SIGHUP)
    await settle()
    assert world.task.done()
    assert reloader.reloads == 0


@pytest.mark.parametrize("watches", [True, False])
async def test_files_are_watched_if_that_is_wanted_as_the_last_reading_says(world, monkeypatch, watches):
    reloader, watched = Reloader(), []

    async def watch(files, changed):
        reloader.files = {"of another": "reading"}
        watched.append((files(), changed))

    monkeypatch.setattr(serving, "watch", watch)
    await world.begin(reloader_of=lambda app: reloader, watches=watches)
    assert watched == ([({"of another": "reading"}, reloader.reload)] if watches else [])
    world.app.drained.set()
    await world.signal()
    await world.task


async def test_once_the_end_has_begun_nothing_is_reloaded_and_nobody_waits_for_what_is(world):
    reloader = Reloader()
    reloader.ended.clear()
    await world.begin(reloader_of=lambda app: reloader)
    await world.signal(signal.SIGHUP)
    await world.signal(signal.SIGTERM)
    await world.signal(signal.SIGHUP)
    assert reloader.reloads == 1
    world.app.drained.set()
    await world.task


async def test_a_reload_that_fails_by_a_fault_of_ours_is_told_and_ends_nothing(world, caplog):
    reloader = Reloader()
    reloader.fails = RuntimeError("s3cr3t")
    await world.begin(reloader_of=lambda app: reloader)
    await world.signal(signal.SIGHUP)
    await settle()
    assert [record.getMessage() for record in caplog.records] == ["reloading failed"]
    assert not world.task.done()
    world.app.drained.set()
    await world.signal()
    await world.task
