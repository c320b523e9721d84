"""The steps of a reload, and what is undone when one fails. The application and the others are fakes."""

import asyncio
from types import SimpleNamespace

import pytest

from authproxy.app import reload as module
from authproxy.app.application import Stopping
from authproxy.app.listeners import Listeners
from authproxy.app.reload import Nobody, Reloader
from authproxy.app.sockets import ListenError
from authproxy.app.tls import TLSContexts
from authproxy.config.read import parse
from authproxy.errors import AuthproxyError, ConfigError, Fault
from authproxy.net.own_listeners import OwnListeners
from tests.support.clock import settle

ROUTE = "\nroutes: [{name: a, upstream: 'https://a.example', auth: {grant: none}}]"
BEFORE = parse("listen: '127.0.0.1:1'\nadmin: {listen: '127.0.0.1:8'}" + ROUTE, "proxy.yaml")
AFTER = parse(
    "\nlisten: ['127.0.0.1:2', 'unix:/run/new']\nadmin: {listen: '127.0.0.1:9'}" + ROUTE, "proxy.yaml"
)
TLS = TLSContexts(None, {})


class World:
    """Notes each step in `steps`; the one named in `fails` raises its error."""

    def __init__(self):
        self.steps = []
        self.fails = {}
        self.config = BEFORE
        self.site = SimpleNamespace(tls=TLS)
        self.own = OwnListeners()
        self.served = [("127.0.0.1:1", "old")]
        self.shown = {"127.0.0.1:1": "http://127.0.0.1:1"}
        self.loaded_at = 500.0
        self.config_fault = None
        self.reload_hook = self.renew_hook = None
        self.opened = Listeners([("127.0.0.1:2", Socket())], ("127.0.0.1:9", [Socket()]))
        self.given = {}
        self.to_read = [AFTER]

    def step(self, name):
        self.steps.append(name)
        if name in self.fails:
            raise self.fails[name]

    def read(self):
        self.step("read")
        return self.to_read.pop(0)

    # of the application

    async def prepare(self, config, opened, tls, own):
        self.given["app"] = (config, opened, tls)
        self.step("prepare")
        return "change"

    def abandon(self, change):
        assert change == "change"
        self.step("abandon")

    async def commit(self, change):
        assert change == "change"
        self.step("commit")
        self.config, self.served = AFTER, [("127.0.0.1:2", "new")]

    def let_go(self):
        self.step("let go")


class Socket:
    family = None
    closed = False

    def close(self):
        self.closed = True

    def getsockname(self):
        return "127.0.0.1", 4001


class Others:
    def __init__(self, world):
        self._world = world

    def own_share(self, opened):
        return Listeners([], opened.admin)

    async def prepare(self, config, opened, own, tls):
        self._world.given["others"] = (config, opened)
        self._world.step("others prepare")

    async def commit(self):
        self._world.step("others commit")


async def in_this_thread(call, *args):
    return call(*args)


@pytest.fixture
def world(monkeypatch):
    made = World()

    def open_listeners(config, *, share, before):
        made.given["open"] = (config, share, before)
        made.step("open")
        return made.opened

    monkeypatch.setattr(module, "open_listeners", open_listeners)
    monkeypatch.setattr(module, "tls_contexts", lambda config, before: made.step("tls") or TLS)
    monkeypatch.setattr(module, "check_stores", lambda config: made.step("stores"))

    def unlink(listeners, names):
        if listeners is made.listeners:  # else it is what was opened in vain
            made.steps.append(("unlink", sorted(names)))

    monkeypatch.setattr(Listeners, "unlink", unlink)
    monkeypatch.setattr(module.asyncio, "to_thread", in_this_thread)
    monkeypatch.setattr(module.time, "time", lambda: 1000.0 + len(made.steps))
    made.listeners = Listeners([("127.0.0.1:1", "old")], ("127.0.0.1:8", ["old"]))
    made.reloader = Reloader(made, made.listeners, made.read, share=True, others=Others(made))
    return made


def closed(world):
    return [sock.closed for sock in world.opened.sockets]


# ── in order ─────────────────────────────────────────────────────────────────────────────────────


async def test_all_prepare_before_anybody_changes_and_what_is_old_goes_last(world, caplog):
    caplog.set_level("INFO")
    assert await world.reloader.reload() == []
    assert world.steps == [
        "read", "tls", "stores", "open", "prepare", "others prepare", "commit", "others commit", "let go",
        ("unlink", ["127.0.0.1:1", "127.0.0.1:8"]),
    ]  # fmt: skip
    assert closed(world) == [False, False]
    assert [record.getMessage() for record in caplog.records] == ["listening", "configuration reloaded"]


async def test_each_gets_what_it_is_to_serve(world):
    await world.reloader.reload()
    config, share, before = world.given["open"]
    assert (config, share, before.names) == (AFTER, True, {"127.0.0.1:1"})
    assert before.listeners is world.listeners
    assert world.given["others"] == (AFTER, world.opened)
    config, opened, tls = world.given["app"]
    assert (config, opened.proxy, opened.admin, tls) == (AFTER, [], world.opened.admin, TLS)


async def test_it_knows_afterwards_what_is_listened_on_and_since_when(world):
    began = world.loaded_at
    await world.reloader.reload()
    assert world.listeners.proxy == [("127.0.0.1:2", "new")]
    assert world.listeners.admin == world.opened.admin
    assert world.shown["127.0.0.1:2"] == "http://127.0.0.1:4001"
    assert world.loaded_at > began


@pytest.mark.parametrize(
    ("text", "stays"), [("admin: {listen: '127.0.0.1:8'}", True), ("admin: false", False)]
)
async def test_an_admin_listener_that_does_not_move_stays_known_as_long_as_there_is_one(world, text, stays):
    world.opened = Listeners([])
    world.to_read = [parse(text + ROUTE, "proxy.yaml")]
    await world.reloader.reload()
    assert (world.listeners.admin is not None) is stays


async def test_alone_everything_is_ones_own(world):
    alone = Nobody()
    assert alone.own_share(world.opened) is world.opened
    await alone.prepare(AFTER, world.opened, world.own, TLS)
    await alone.commit()


async def test_what_needs_another_start_is_said(world, caplog):
    world.to_read = [parse("workers: 4" + ROUTE, "proxy.yaml")]
    await world.reloader.reload()
    assert [record.getMessage() for record in caplog.records] == [
        "`workers` takes effect when authproxy is started again"
    ]


# ── faults ───────────────────────────────────────────────────────────────────────────────────────

FAULT = Fault("proxy.yaml", 3, 7, "listen", "should be HOST:PORT")


@pytest.mark.parametrize(
    ("step", "error", "fault", "undone"),
    [
        ("read", ConfigError([FAULT]), FAULT, None),
        ("tls", ConfigError([FAULT]), FAULT, None),
        ("stores", ConfigError([FAULT]), FAULT, None),
        ("open", ListenError("cannot listen on X: in use"),
         Fault("proxy.yaml", 2, 9, "listen", "cannot listen on X: in use"), None),
        ("prepare", AuthproxyError("no"), Fault("proxy.yaml", 0, 0, "", "no"), []),
        ("prepare", OSError(24, "Too many open files"),
         Fault("proxy.yaml", 0, 0, "", "Too many open files"), []),
        ("prepare", OSError(), Fault("proxy.yaml", 0, 0, "", "cannot be put to work"), []),
        ("others prepare", AuthproxyError("one has died"), Fault("proxy.yaml", 0, 0, "", "one has died"),
         ["abandon"]),
        ("commit", Stopping("authproxy is stopping"),
         Fault("proxy.yaml", 0, 0, "", "authproxy is stopping"), ["abandon"]),
    ],
)  # fmt: skip
async def test_a_fault_at_any_step_undoes_those_before_it_and_is_told(
    world, caplog, step, error, fault, undone
):
    world.fails = {step: error}
    began = world.loaded_at
    assert await world.reloader.reload() == [fault] == world.reloader.faults
    assert world.steps[-1 - len(undone or []) :] == [step, *(undone or [])]
    assert closed(world) == [undone is not None] * 2
    assert world.loaded_at == began
    assert world.config_fault == fault
    assert world.shown == {"127.0.0.1:1": "http://127.0.0.1:1"}
    assert world.listeners.proxy == [("127.0.0.1:1", "old")]
    first, last = caplog.records
    assert first.facts["place"] == fault.place
    assert fault.message in first.facts["cause"]
    assert last.getMessage() == "configuration not reloaded: the old one goes on"


async def test_an_admin_address_that_cannot_be_had_is_a_fault_of_that_key(world):
    error = ListenError("cannot listen on Y")
    error.key = "admin"
    world.fails = {"open": error}
    [fault] = await world.reloader.reload()
    assert (fault.key, fault.line, fault.column) == ("admin", 3, 8)


async def test_a_fault_of_our_own_is_told_without_its_text_and_the_next_reload_works(world, caplog):
    world.fails = {"prepare": RuntimeError("s3cr3t")}
    [fault] = await world.reloader.reload()
    assert "went wrong inside" in fault.message
    assert "s3cr3t" not in "".join(
        record.getMessage() + str(vars(record).get("facts")) for record in caplog.records
    )
    world.fails, world.to_read = {}, [AFTER]
    assert await world.reloader.reload() == []
    assert world.reloader.faults == []
    assert world.config_fault is None


# ── at once ──────────────────────────────────────────────────────────────────────────────────────


async def test_who_asks_while_one_is_under_way_gets_one_more_for_all(world, monkeypatch):
    go = asyncio.Event()
    world.to_read = [AFTER, AFTER]

    async def held(call, *args):
        result = call(*args)
        await go.wait()
        return result

    monkeypatch.setattr(module.asyncio, "to_thread", held)
    first = asyncio.create_task(world.reloader.reload())
    await settle()
    others = [asyncio.create_task(world.reloader.reload()) for _ in range(5)]
    await settle()
    assert world.steps == ["read"]
    go.set()
    assert await asyncio.gather(first, *others) == [[]] * 6
    assert world.steps.count("read") == 2


async def test_who_gives_up_waiting_breaks_nothing_off(world):
    asking = asyncio.create_task(world.reloader.reload())
    await asyncio.sleep(0)
    asking.cancel()
    await settle(50)
    assert world.steps[-2] == "let go"


# ── what is to be watched ────────────────────────────────────────────────────────────────────────


async def test_the_files_that_were_read_last_are_watched_even_if_nothing_comes_of_it(world):
    assert world.reloader.files is BEFORE.files
    world.fails = {"open": ListenError("in use")}
    await world.reloader.reload()
    assert world.reloader.files is AFTER.files
    error = ConfigError([FAULT])
    error.files = {"secret": None}
    world.fails, world.to_read = {"read": error}, [AFTER]
    await world.reloader.reload()
    assert world.reloader.files == {**BEFORE.files, "secret": None}


# ── what ends by itself ──────────────────────────────────────────────────────────────────────────


async def test_what_ends_is_made_anew_under_the_same_configuration(world, caplog):
    began = world.loaded_at
    assert world.renew_hook == world.reloader.renew
    await world.reloader.renew()
    assert world.steps[:6] == ["tls", "stores", "open", "prepare", "others prepare", "commit"]
    assert world.given["open"][0] is BEFORE
    assert world.loaded_at == began
    assert "configuration reloaded" not in caplog.text


async def test_what_cannot_be_made_anew_is_told_and_the_old_goes_on(world, caplog):
    world.fails = {"others prepare": AuthproxyError("one has died")}
    await world.reloader.renew()
    assert world.steps[-1] == "abandon"
    assert world.config_fault is None
    [record] = caplog.records
    assert record.getMessage() == "the forward proxy's authority cannot be renewed"
    assert record.facts == {"cause": "one has died"}
