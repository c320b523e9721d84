"""The file store by itself: what it writes, and makes of what it finds. `tests/contracts` has the rest."""

import asyncio
import itertools
import json
import threading
from pathlib import Path

import pytest

from authproxy.capabilities import Capability
from authproxy.errors import StoreBusy, StoreError
from authproxy.tokens.rejection import Rejection
from authproxy.tokens.stores import file as file_module
from authproxy.tokens.stores.cipher import Cipher
from authproxy.tokens.stores.file import FORMAT, FileStore, _in_thread, default_path, rejections_path
from authproxy.tokens.token import Token

REJECTION = Rejection(
    detail="wrong password",
    hint=None,
    error="invalid_grant",
    in_good_order=False,
    failures=2,
    at=1e9,
    next_try_at=2e9,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "tokens"


@pytest.fixture
def open_store(path):
    """Return a maker of stores with a key of their own, as by another process each time."""
    return lambda **options: FileStore(path, keyring=lambda: None, **options)


def entries(path):
    return json.loads(path.read_bytes())["entries"]


def put(path, content):
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)


def test_where_files_cannot_be_locked_there_is_no_store_and_nothing_is_remembered(monkeypatch, path):
    monkeypatch.setattr(file_module, "FILE_LOCKS", Capability(present=False, lack="no locks here"))
    with pytest.raises(StoreError, match="cannot be kept in a file: no locks here") as caught:
        FileStore(path)
    assert "type: memory" in caught.value.hint
    assert rejections_path() is None


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_touched_before_the_first_use(open_store, path):
    open_store()
    assert not path.parent.exists()


async def test_a_token_and_a_rejection_are_found_by_the_next_process(open_store):
    await open_store().save("a", Token("t", refresh_token="r"))
    await open_store().save_rejection("b", REJECTION)
    store = open_store()
    assert (await store.load("a")).refresh_token == "r"
    assert await store.load_rejection("b") == REJECTION


async def test_a_token_is_no_rejection_and_a_rejection_no_token(open_store):
    store = open_store()
    await store.save("a", Token("t"))
    await store.save_rejection("b", REJECTION)
    assert (await store.load_rejection("a"), await store.load("b")) == (None, None)


async def test_an_entry_says_when_and_by_which_key_it_was_saved_and_no_more(open_store, path):
    store = open_store(clock=lambda: 17.5)
    await store.save("credential", Token("s3cr3t"))
    ((name, entry),) = entries(path).items()
    assert name == await store.mark("credential")
    assert set(entry) == {"sealed", "saved", "by"}
    assert (entry["saved"], entry["by"]) == (17.5, (await store.mark(""))[:8])
    assert json.loads(path.read_bytes())["format"] == FORMAT


async def test_a_mark_is_the_same_for_all_processes_and_tells_nothing(open_store, tmp_path):
    assert await open_store().mark("s3cr3t") == await open_store().mark("s3cr3t")
    elsewhere = FileStore(tmp_path / "other", keyring=lambda: None)
    assert await elsewhere.mark("s3cr3t") != await open_store().mark("s3cr3t")


async def test_forgetting_takes_one_entry_and_writes_only_if_there_was_one(open_store, path):
    store = open_store()
    await store.save("a", Token("t"))
    await store.save("b", Token("u"))
    await store.forget("a")
    assert (await store.load("a"), await store.load("b")) == (None, Token("u"))
    before = path.stat().st_ino
    await store.forget("a")
    assert path.stat().st_ino == before


async def test_the_entries_that_were_saved_longest_ago_make_room(open_store, path, monkeypatch):
    monkeypatch.setattr(file_module, "MAX_ENTRIES", 2)
    store = open_store(clock=itertools.count().__next__)
    for key in ("a", "b", "a", "c"):
        await store.save(key, Token(key))
    assert [await store.load(key) for key in "abc"] == [Token("a"), None, Token("c")]
    assert len(entries(path)) == 2


async def test_an_entry_without_a_time_goes_before_all_others(open_store, path, monkeypatch):
    store = open_store(clock=lambda: 5.0)
    await store.save("a", Token("a"))
    await store.save("b", Token("b"))
    document = json.loads(path.read_bytes())
    document["entries"][await store.mark("b")]["saved"] = "yesterday"
    put(path, json.dumps(document).encode())
    monkeypatch.setattr(file_module, "MAX_ENTRIES", 2)
    await store.save("c", Token("c"))
    assert [await store.load(key) for key in "abc"] == [Token("a"), None, Token("c")]


# ── what is found ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("found", [b"", b"garbage", b"[1]", b'{"format": "another"}', b"[" * 100_000])
async def test_what_is_no_store_is_moved_aside_and_said_so(open_store, path, found, caplog):
    put(path, found)
    assert await open_store().load("a") is None
    assert path.with_name("tokens.garbage").read_bytes() == found
    assert [each.getMessage() for each in caplog.records] == ["token store unreadable"]


@pytest.mark.parametrize("version", [0, 2, None, "1"])
async def test_a_store_of_another_version_is_neither_read_nor_written(open_store, path, version):
    found = json.dumps({"format": FORMAT, "version": version, "entries": {}}).encode()
    put(path, found)
    store = open_store()
    for attempt in (store.load("a"), store.save("a", Token("t")), store.forget("a")):
        with pytest.raises(StoreError, match="was written by another version"):
            await attempt
    assert path.read_bytes() == found


@pytest.mark.parametrize("damage", [{}, {"sealed": None}, {"sealed": "!"}, {"sealed": "AAAA"}])
async def test_a_damaged_entry_is_as_good_as_none_and_told_of_once(open_store, path, damage, caplog):
    store = open_store()
    await store.save("a", Token("t"))
    await store.save("b", Token("u"))
    document = json.loads(path.read_bytes())
    document["entries"][await store.mark("a")] = damage
    put(path, json.dumps(document).encode())
    assert [await store.load("a") for _ in range(3)] == [None] * 3
    assert await store.load("b") == Token("u")
    assert [each.getMessage() for each in caplog.records] == ["stored token unreadable"]


async def test_an_entry_in_anothers_place_is_not_taken_for_it(open_store, path):
    store = open_store()
    await store.save("a", Token("a's"))
    document = json.loads(path.read_bytes())
    document["entries"][await store.mark("b")] = document["entries"][await store.mark("a")]
    put(path, json.dumps(document).encode())
    assert await store.load("b") is None


async def test_a_store_sealed_with_another_key_is_told_of_and_kept(open_store, path, caplog):
    await open_store().save("a", Token("t"))
    key = path.with_name("tokens.key").read_bytes()
    path.with_name("tokens.key").unlink()
    other = open_store()
    assert await other.load("a") is None
    assert await other.load("a") is None
    assert [each.getMessage() for each in caplog.records] == ["token store sealed with another key"]
    await other.save("a", Token("other"))
    put(path.with_name("tokens.key"), key)
    assert await open_store().load("a") == Token("t")


async def test_a_key_that_is_replaced_under_a_running_process_is_noticed(open_store, path):
    store = open_store()
    before = await store.mark("a")
    path.with_name("tokens.key").unlink()
    assert await store.mark("a") != before


async def test_a_passphrase_leaves_no_key_behind(path, monkeypatch):
    monkeypatch.setattr(Cipher, "from_passphrase", lambda text: Cipher(text.encode().ljust(32)))
    await FileStore(path, "open sesame").save("a", Token("t"))
    assert await FileStore(path, "open sesame").load("a") == Token("t")
    assert await FileStore(path, "another").load("a") is None
    assert not path.with_name("tokens.key").exists()


# ── locks ────────────────────────────────────────────────────────────────────────────────────────


async def test_who_waits_too_long_for_a_lock_is_told_so(open_store):
    async with open_store().lock("a"):
        with pytest.raises(StoreBusy, match="another process has been renewing this token for 0 s"):
            async with open_store(lock_seconds=0).lock("a"):
                pytest.fail("two hold the lock")
        async with open_store(lock_seconds=0).lock("b"):
            pass
    async with open_store(lock_seconds=0).lock("a"):
        pass


async def test_a_lock_is_polled_less_and_less_often_up_to_a_bound(open_store, monkeypatch):
    naps = []
    monkeypatch.setattr(file_module.random, "uniform", lambda _low, high: high)
    holder = open_store().lock("a")
    await holder.__aenter__()

    async def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 7:
            await holder.__aexit__(None, None, None)

    monkeypatch.setattr(file_module.asyncio, "sleep", sleep)
    async with open_store().lock("a"):
        pass
    assert naps == [0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.1]


async def test_lock_files_stay_so_that_two_never_lock_two_files_of_a_name(open_store, path):
    store = open_store()
    async with store.lock("a"):
        pass
    name = await store.mark("a")
    assert (path.with_name("tokens.locks") / name).exists()


async def test_who_is_cancelled_goes_only_when_the_write_is_done():
    begun, may_end, done = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        may_end.wait(10)
        done.append(True)

    waiting = asyncio.create_task(_in_thread(work))
    await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == [True]


# ── places ───────────────────────────────────────────────────────────────────────────────────────


def test_tokens_and_rejections_are_where_the_users_state_is(monkeypatch):
    monkeypatch.setattr(file_module, "state_directory", lambda: Path("/state/authproxy"))
    assert default_path() == Path("/state/authproxy/tokens")
    assert rejections_path() == Path("/state/authproxy/rejections")


def test_without_a_home_tokens_have_no_place_and_rejections_are_not_kept(monkeypatch):
    monkeypatch.setattr(file_module, "state_directory", lambda: None)
    with pytest.raises(StoreError, match="tokens cannot be stored") as caught:
        default_path()
    assert "XDG_STATE_HOME" in caught.value.hint
    assert rejections_path() is None


def test_it_is_named_by_its_file(path):
    assert repr(FileStore(path, "s3cr3t")) == f"<FileStore {path}>"
