"""What only a file can get wrong."""

import asyncio
import itertools
import json
import logging
import os
import stat

import pytest

from authproxy.errors import StoreError
from authproxy.tokens.stores import disk
from authproxy.tokens.stores import file as file_module
from authproxy.tokens.stores.file import FileStore, default_path
from authproxy.tokens.token import Token
from tests.contracts.conftest import PASSPHRASE

SECRETS = ["an-access-token", "a-refresh-token", "the-credential", PASSPHRASE]
TOKEN = Token(SECRETS[0], refresh_token=SECRETS[1])
KEY = SECRETS[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "tokens"


@pytest.fixture
def open_store(path):
    return lambda key=PASSPHRASE, **options: FileStore(path, key, keyring=lambda: None, **options)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def everything_below(path):
    return [each for each in path.rglob("*") if each.is_file()]


# ── whose it is ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
async def test_all_of_it_is_its_owners_alone_whatever_the_umask(open_store, path, mask):
    before = os.umask(mask)
    try:
        store = open_store(None)
        await store.save(KEY, TOKEN)
        async with store.lock(KEY):
            pass
    finally:
        os.umask(before)
    assert {mode(each) & 0o077 for each in [path.parent, *path.parent.rglob("*")]} == {0}
    assert {each.name for each in path.parent.iterdir()} == {"tokens", "tokens.key", "tokens.locks"}


@pytest.mark.parametrize("key", [PASSPHRASE, None])
async def test_nothing_of_a_token_is_on_the_disk_in_plain_text(open_store, path, key):
    store = open_store(key)
    await store.save(KEY, TOKEN)
    async with store.lock(KEY):
        pass
    raw = b"".join(str(each).encode() + each.read_bytes() for each in everything_below(path.parent))
    assert len(raw) > 100
    assert not [each for each in SECRETS if each.encode() in raw]


async def test_a_file_that_others_can_read_is_refused_and_left_alone(open_store, path):
    await open_store().save(KEY, TOKEN)
    before = path.read_bytes()
    path.chmod(0o644)
    store = open_store()
    for attempt in (store.load(KEY), store.save(KEY, TOKEN), store.forget(KEY)):
        with pytest.raises(StoreError, match="open to others") as caught:
            await attempt
        assert caught.value.hint == f"chmod 600 {path}"
    assert path.read_bytes() == before


@pytest.mark.parametrize("target", ["tokens", "nowhere"])
async def test_a_symbolic_link_is_refused(tmp_path, open_store, path, target):
    await open_store().save(KEY, TOKEN)
    link = tmp_path / "link"
    link.symlink_to(path.with_name(target))
    store = FileStore(link, PASSPHRASE)
    for attempt in (store.load(KEY), store.save(KEY, TOKEN)):
        with pytest.raises(StoreError, match="symbolic link"):
            await attempt
    assert link.is_symlink()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
async def test_what_is_no_file_is_refused_at_once(open_store, path, make):
    path.parent.mkdir()
    make(path)
    async with asyncio.timeout(5):
        with pytest.raises(StoreError, match="not a regular file"):
            await open_store().load(KEY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_file_of_another_user_is_refused(open_store, path):
    await open_store().save(KEY, TOKEN)
    os.chown(path, 1, 1)
    with pytest.raises(StoreError, match="another user"):
        await open_store().load(KEY)


async def test_a_directory_where_anyone_may_replace_files_is_refused(open_store, path):
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(StoreError, match="anyone may replace"):
        await open_store().save(KEY, TOKEN)
    path.parent.chmod(0o1777)
    await open_store().save(KEY, TOKEN)


async def test_locks_in_a_directory_of_others_are_refused(open_store, path):
    path.parent.mkdir()
    locks = path.with_name("tokens.locks")
    locks.mkdir()
    locks.chmod(0o777)
    with pytest.raises(StoreError, match="directory of our own"):
        await open_store().load(KEY)


async def test_a_lock_file_that_is_a_link_is_refused(open_store, path, tmp_path):
    store = open_store()
    await store.save(KEY, TOKEN)
    (path.with_name("tokens.locks") / store._open().name(KEY)).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        async with store.lock(KEY):
            pass
    assert not (tmp_path / "elsewhere").exists()


async def test_a_place_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        await FileStore(tmp_path / "file" / "tokens", PASSPHRASE).load(KEY)


# ── garbage ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00" * 4096,
        b"garbage",
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe\xfd",
        b'{"format": "authproxy tokens", "version": 1}',
        b'{"format": "authproxy tokens", "version": 1, "entries": []}',
    ],
    ids=range(8),
)
async def test_garbage_in_its_place_is_set_aside(open_store, path, garbage, caplog):
    path.parent.mkdir()
    path.write_bytes(garbage)
    path.chmod(0o600)
    store = open_store()
    assert await store.load(KEY) is None
    assert await store.load(KEY) is None
    await store.save(KEY, TOKEN)
    assert await open_store().load(KEY) == TOKEN
    assert path.with_name("tokens.garbage").read_bytes() == garbage
    assert [each.getMessage() for each in caplog.records] == ["token store unreadable"]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"sealed": 3},
        {"sealed": "not base64"},
        {"sealed": "AAAA"},
        "text",
        None,
        [],
        {"sealed": "Aa" * 90},
    ],
    ids=range(8),
)
async def test_a_damaged_entry_costs_no_other(open_store, path, entry, caplog):
    store = open_store()
    await store.save(KEY, TOKEN)
    await store.save("another", Token("u"))
    document = json.loads(path.read_bytes())
    document["entries"][store._open().name(KEY)] = entry
    path.write_text(json.dumps(document))
    assert await store.load(KEY) is None
    assert await store.load("another") == Token("u")
    await store.load(KEY)
    assert len(caplog.records) <= 1
    await store.save(KEY, TOKEN)
    assert await store.load(KEY) == TOKEN


async def test_entries_that_were_swapped_are_not_taken_for_each_other(open_store, path):
    store = open_store()
    await store.save(KEY, TOKEN)
    await store.save("another", Token("u"))
    document = json.loads(path.read_bytes())
    one, other = document["entries"]
    document["entries"] = {one: document["entries"][other], other: document["entries"][one]}
    path.write_text(json.dumps(document))
    assert (await store.load(KEY), await store.load("another")) == (None, None)


async def test_a_store_of_a_later_version_is_left_alone(open_store, path):
    path.parent.mkdir()
    path.write_text('{"format": "authproxy tokens", "version": 2, "entries": {}}')
    path.chmod(0o600)
    with pytest.raises(StoreError, match="another version"):
        await open_store().save(KEY, TOKEN)
    assert '"version": 2' in path.read_text()


async def test_what_a_killed_write_left_behind_is_cleared_away(open_store, path):
    path.parent.mkdir()
    path.with_name("tokens.new").write_text("half a")
    await open_store().save(KEY, TOKEN)
    assert not path.with_name("tokens.new").exists()


async def test_a_write_that_fails_leaves_what_was_there(open_store, path, monkeypatch):
    store = open_store()
    await store.save(KEY, TOKEN)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        await store.save(KEY, Token("new"))
    monkeypatch.undo()
    assert await store.load(KEY) == TOKEN


async def test_credentials_that_were_not_saved_for_longest_make_room(open_store, monkeypatch):
    monkeypatch.setattr(file_module, "MAX_ENTRIES", 3)
    store = open_store(clock=itertools.count(1).__next__)
    for number in range(5):
        await store.save(f"key {number}", Token("t"))
    assert [bool(await store.load(f"key {number}")) for number in range(5)] == [False] * 2 + [True] * 3


async def test_removing_everything_under_a_running_process_begins_anew(open_store, path):
    store = open_store(None)
    await store.save(KEY, TOKEN)
    for each in everything_below(path.parent):
        each.unlink()
    path.with_name("tokens.locks").rmdir()
    assert await store.load(KEY) is None
    await store.save(KEY, TOKEN)
    async with store.lock(KEY):
        assert await open_store(None).load(KEY) == TOKEN


# ── the key ──────────────────────────────────────────────────────────────────────────────────────


async def test_processes_that_make_the_key_at_once_have_the_same_one(open_store):
    stores = [open_store(None) for _ in range(8)]
    await asyncio.gather(*(store.save(f"{n}", Token(f"t{n}")) for n, store in enumerate(stores)))
    reader = open_store(None)
    assert [await reader.load(f"{n}") for n in range(8)] == [Token(f"t{n}") for n in range(8)]


async def test_another_key_reads_nothing_says_so_and_destroys_nothing(open_store, caplog):
    await open_store("one").save(KEY, TOKEN)
    other = open_store("other")
    assert await other.load(KEY) is None
    assert [each.getMessage() for each in caplog.records] == ["token store sealed with another key"]
    await other.save(KEY, Token("other's"))
    assert await open_store("one").load(KEY) == TOKEN


async def test_nothing_secret_is_logged(open_store, path, caplog):
    caplog.set_level(logging.DEBUG)
    store = open_store()
    await store.save(KEY, TOKEN)
    path.write_bytes(path.read_bytes().replace(b"sealed", b"sealer"))
    await store.load(KEY)
    said = "".join(str(vars(each)) for each in caplog.records)
    assert said
    assert not [each for each in SECRETS if each in said]


def test_a_users_tokens_have_a_place_of_their_own():
    assert default_path().parts[-2:] == ("authproxy", "tokens")


def test_it_reads_well(open_store, path):
    assert repr(open_store()) == f"<FileStore {path}>"
