"""Which changes of files are noticed, and when; time is a test's, the files are real."""

import asyncio

import pytest

from authproxy.app import watch as module
from authproxy.app.watch import watch
from authproxy.places import stamp_of


class World:
    """A watch of `files`, which looks at them once for each `look`."""

    def __init__(self, files):
        self.files = files
        self.changes = 0
        self.slept = []
        self._go = asyncio.Queue()
        self._looked = asyncio.Queue()

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self._looked.put_nowait(None)
        await self._go.get()

    async def changed(self):
        self.changes += 1

    async def begin(self):
        self.task = asyncio.create_task(watch(lambda: self.files, self.changed))
        await self._looked.get()

    async def look(self, times=1):
        for _ in range(times):
            self._go.put_nowait(None)
            await self._looked.get()

    def read(self, *paths):
        """Take note of `paths` as they are, as a reading of the configuration does."""
        self.files = {path: stamp_of(path) for path in paths}


async def in_this_thread(call, *args):
    return call(*args)


@pytest.fixture
async def world(monkeypatch, tmp_path):
    (tmp_path / "a").write_text("a")
    made = World({})
    made.read(tmp_path / "a")
    monkeypatch.setattr(module.asyncio, "sleep", made.sleep)
    monkeypatch.setattr(module.asyncio, "to_thread", in_this_thread)
    await made.begin()
    yield made
    made.task.cancel()


def replace(path, text):
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


async def test_nothing_is_said_of_files_that_stay_as_they_are(world):
    await world.look(5)
    assert world.changes == 0
    assert set(world.slept) == {module.LOOK_SECONDS}


@pytest.mark.parametrize("how", ["written", "replaced", "removed"])
async def test_a_change_is_told_once_it_has_stayed_so_for_a_look(world, tmp_path, how):
    await world.look()
    path = tmp_path / "a"
    {
        "written": lambda: path.write_text("bb"),
        "replaced": lambda: replace(path, "a"),
        "removed": path.unlink,
    }[how]()
    await world.look()
    assert world.changes == 0
    await world.look(5)
    assert world.changes == 1


async def test_a_file_that_is_being_written_is_waited_for(world, tmp_path):
    for size in range(2, 6):
        (tmp_path / "a").write_text("a" * size)
        await world.look()
    assert world.changes == 0
    await world.look()
    assert world.changes == 1


async def test_a_link_on_the_way_to_the_file_is_part_of_its_name(world, tmp_path):
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config").write_text("same size")
    (tmp_path / "..data").symlink_to("..1")
    world.read(tmp_path / "..data" / "config")
    await world.look(2)
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    await world.look(2)
    assert world.changes == 1


async def test_what_came_of_it_a_change_is_told_once(world, tmp_path):
    """Of a faulty file nothing new is read; it is not read again and again for that."""
    replace(tmp_path / "a", "b")
    await world.look(9)
    assert world.changes == 1
    replace(tmp_path / "a", "c")
    await world.look(9)
    assert world.changes == 2


async def test_after_another_reading_its_files_are_looked_at_as_they_were_then(world, tmp_path):
    (tmp_path / "b").write_text("b")
    world.read(tmp_path / "a", tmp_path / "b")
    replace(tmp_path / "b", "changed since it was read")
    await world.look(2)
    assert world.changes == 1
    world.read(tmp_path / "a")
    replace(tmp_path / "b", "nobody's any more")
    await world.look(3)
    assert world.changes == 1


async def test_a_file_that_was_missing_is_noticed_when_it_comes(world, tmp_path):
    world.read(tmp_path / "a", tmp_path / "b")
    await world.look(2)
    assert world.changes == 0
    (tmp_path / "b").write_text("b")
    await world.look(2)
    assert world.changes == 1


async def test_one_that_comes_back_as_it_was_has_not_changed(world, tmp_path):
    (tmp_path / "a").rename(tmp_path / "away")
    await world.look()
    (tmp_path / "away").rename(tmp_path / "a")
    await world.look(3)
    assert world.changes == 0
