"""The Redis store with a client that is a fake; `tests/contracts` has a real Redis."""

import asyncio
import errno
import socket
import ssl
from math import inf

import pytest
from redis import exceptions

from authproxy.errors import StoreBusy, StoreError
from authproxy.tokens.rejection import Rejection
from authproxy.tokens.stores import redis as redis_module
from authproxy.tokens.stores.cipher import Cipher
from authproxy.tokens.stores.redis import (
    KEEP_EXPIRED_SECONDS,
    KEEP_REJECTION_SECONDS,
    KEEP_SECONDS,
    RedisStore,
)
from authproxy.tokens.token import Token

NOW = 1_700_000_000.0
URL = "redis://me:s3cr3t@redis.example:6379/0"
REJECTION = Rejection(
    detail="no", hint=None, error=None, in_good_order=False, failures=1, at=NOW, next_try_at=NOW + 60
)


class Redis:
    """What the store asks of a client; the scripts are known by what they do."""

    def __init__(self):
        self.values = {}
        self.kept = {}  # for how many milliseconds, by name
        self.taken = 0
        self.trouble = None
        self.closed = False

    async def get(self, name):
        self._fail()
        return self.values.get(name)

    async def set(self, name, value, *, px):
        self._fail()
        self.values[name], self.kept[name] = value, px

    async def delete(self, name):
        self._fail()
        self.values.pop(name, None)

    async def eval(self, script, keys, name, holder, lease=None):
        self._fail()
        assert keys == 1
        if lease is None:
            return self.values.pop(name, None) if self.values.get(name) == holder else 0
        if self.values.get(name, holder) != holder:
            return 0
        self.taken += 1
        self.values[name], self.kept[name] = holder, int(lease)
        return 1

    async def aclose(self):
        self._fail()
        self.closed = True

    def _fail(self):
        if self.trouble is not None:
            raise self.trouble


@pytest.fixture
def redis():
    return Redis()


@pytest.fixture
def open_store(redis, monkeypatch):
    monkeypatch.setattr(redis_module, "_client", lambda _url: (redis, "redis://redis.example:6379/0"))
    monkeypatch.setattr(Cipher, "from_passphrase", lambda text: Cipher(text.encode().ljust(32)))
    return lambda **options: RedisStore(URL, options.pop("key", "key"), clock=lambda: NOW, **options)


def sleep_at_once(monkeypatch, until=lambda _naps: None):
    """Have nobody sleep; return the naps that were to be taken. `until` is called at each."""
    naps, sleep = [], asyncio.sleep

    async def nap(seconds):
        naps.append(seconds)
        until(naps)
        await sleep(0)

    monkeypatch.setattr(redis_module.asyncio, "sleep", nap)
    return naps


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────


async def test_a_token_and_a_rejection_are_found_by_another_replica(open_store):
    await open_store().save("a", Token("t", refresh_token="r"))
    await open_store().save_rejection("b", REJECTION)
    assert (await open_store().load("a")).refresh_token == "r"
    assert await open_store().load_rejection("b") == REJECTION
    assert await open_store().load("never saved") is None


async def test_names_have_the_prefix_and_neither_they_nor_values_tell_anything(open_store, redis):
    store = open_store(prefix="mine:")
    await store.save("the-credential", Token("s3cr3t"))
    async with store.lock("the-credential"):
        name = f"mine:{await store.mark('the-credential')}"
        assert set(redis.values) == {name, f"{name}:lock"}
    assert b"s3cr3t" not in redis.values[name]
    assert "the-credential" not in name


async def test_forgetting_takes_the_entry_of_one_credential(open_store):
    store = open_store()
    await store.save("a", Token("t"))
    await store.save("b", Token("u"))
    await store.forget("a")
    assert (await store.load("a"), await store.load("b")) == (None, Token("u"))


@pytest.mark.parametrize(
    ("token", "seconds"),
    [
        (Token("t", issued_at=NOW, expires_at=NOW + 300), 300 + KEEP_EXPIRED_SECONDS),
        (Token("t", issued_at=NOW - 600, expires_at=NOW - 300), KEEP_EXPIRED_SECONDS),
        (Token("t", issued_at=NOW, expires_at=NOW + 1e9), KEEP_SECONDS),
        (Token("t", issued_at=NOW, expires_at=inf), KEEP_SECONDS),
        (Token("t", issued_at=NOW, expires_at=NOW + 300, refresh_token="r"), KEEP_SECONDS),
    ],
)
async def test_an_entry_is_kept_for_as_long_as_it_may_be_of_use(open_store, redis, token, seconds):
    await open_store().save("a", token)
    assert list(redis.kept.values()) == [seconds * 1000]


async def test_a_rejection_is_kept_for_a_day(open_store, redis):
    await open_store().save_rejection("a", REJECTION)
    assert list(redis.kept.values()) == [KEEP_REJECTION_SECONDS * 1000]


async def test_what_another_key_sealed_is_as_good_as_none_and_told_of_once(open_store, redis, caplog):
    store = open_store()
    await store.save("a", Token("t"))
    (name,) = redis.values
    redis.values[name] = bytes(100)
    assert [await store.load("a") for _ in range(3)] == [None] * 3
    assert [each.getMessage() for each in caplog.records] == ["stored token unreadable"]


# ── the lock ─────────────────────────────────────────────────────────────────────────────────────


async def test_one_replica_at_a_time_holds_the_lock(open_store, redis, monkeypatch):
    other = open_store(lock_seconds=-1)
    async with open_store(lease_seconds=15).lock("a"):
        assert list(redis.kept.values()) == [15_000]
        with pytest.raises(StoreBusy, match="another replica has been renewing"):
            async with other.lock("a"):
                pytest.fail("two hold the lock")
    async with other.lock("a"):
        pass
    assert not redis.values


async def test_a_lock_is_asked_for_less_and_less_often_up_to_a_bound(open_store, redis, monkeypatch):
    store = open_store()
    name = f"authproxy:{await store.mark('a')}:lock"
    redis.values[name] = "another"
    monkeypatch.setattr(redis_module.random, "uniform", lambda _low, high: high)
    naps = sleep_at_once(monkeypatch, lambda naps: len(naps) == 6 and redis.values.pop(name))
    async with store.lock("a"):
        assert naps[:6] == [0.02, 0.04, 0.08, 0.16, 0.2, 0.2]


async def test_a_lease_is_extended_while_its_holder_lives_and_not_after(open_store, redis, monkeypatch):
    naps = sleep_at_once(monkeypatch)
    async with open_store(lease_seconds=15).lock("a"):
        while redis.taken < 4:
            await asyncio.wait([asyncio.create_task(redis.get("x"))])
    assert set(naps) == {5.0}
    taken = redis.taken
    for _ in range(20):
        await asyncio.wait([asyncio.create_task(redis.get("x"))])
    assert redis.taken == taken
    assert not redis.values


async def test_a_holder_that_lost_its_lock_says_so_and_leaves_the_next(
    open_store, redis, monkeypatch, caplog
):
    store = open_store()
    name = f"authproxy:{await store.mark('a')}:lock"
    sleep_at_once(monkeypatch)
    async with store.lock("a"):
        redis.values[name] = "another"
        while not caplog.records:
            await asyncio.wait([asyncio.create_task(redis.get("x"))])
        for _ in range(20):
            await asyncio.wait([asyncio.create_task(redis.get("x"))])
    assert redis.values[name] == "another"
    assert [each.getMessage() for each in caplog.records] == ["token lock lost"]


async def test_leaving_a_lock_without_redis_is_no_error(open_store, redis):
    async with open_store().lock("a"):
        redis.trouble = exceptions.ConnectionError("s3cr3t")


async def test_who_is_cancelled_while_it_takes_the_lock_lets_go_of_it(open_store, redis, monkeypatch):
    asked, take = asyncio.Event(), redis.eval

    async def slow(*args):
        taken = await take(*args)
        asked.set()
        if len(args) == 5:
            await answer.wait()
        return taken

    answer = asyncio.Event()
    monkeypatch.setattr(redis, "eval", slow)
    waiting = asyncio.create_task(open_store().lock("a").__aenter__())
    await asked.wait()
    waiting.cancel()
    answer.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not redis.values


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────


def caused_by(cause):
    """Return what the client makes of the system's error."""
    error = exceptions.ConnectionError("s3cr3t")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (exceptions.AuthenticationError("s3cr3t"), "denied access"),
        (exceptions.NoPermissionError("s3cr3t"), "denied access"),
        (exceptions.TimeoutError("s3cr3t"), "did not answer in time"),
        (TimeoutError("s3cr3t"), "did not answer in time"),
        (exceptions.ConnectionError("s3cr3t"), "cannot be used: ConnectionError"),
        (exceptions.ResponseError("s3cr3t"), "cannot be used: ResponseError"),
        (OSError("s3cr3t"), "cannot be used: cannot connect"),
        (
            caused_by(ConnectionRefusedError(errno.ECONNREFUSED, "s3cr3t")),
            "cannot be used: Connection refused",
        ),
        (caused_by(OSError("Multiple exceptions: s3cr3t")), "cannot be used: cannot connect"),
        (caused_by(socket.gaierror(-2, "s3cr3t")), "cannot be used: its host name does not resolve"),
        (caused_by(ssl.SSLError(1, "s3cr3t")), "cannot be used: no TLS with it"),
    ],
)
async def test_what_fails_is_told_in_our_own_words(open_store, redis, trouble, says):
    store = open_store()
    redis.trouble = trouble
    for attempt in (store.load("a"), store.save("a", Token("t")), store.forget("a")):
        with pytest.raises(StoreError) as caught:
            await attempt
        assert caught.value.detail == f"Redis at redis://redis.example:6379/0 {says}"
    await store.close()


async def test_a_redis_that_hangs_is_given_up(open_store, redis, monkeypatch):
    monkeypatch.setattr(redis_module, "WHOLE_SECONDS", 0)
    given_up = asyncio.Event()

    async def hang(_name):
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    monkeypatch.setattr(redis, "get", hang)
    with pytest.raises(StoreError, match="did not answer in time"):
        await open_store().load("a")
    await given_up.wait()


async def test_who_is_cancelled_goes_only_when_redis_has_answered(open_store, redis, monkeypatch):
    store, asked, answer = open_store(), asyncio.Event(), asyncio.Event()
    await store.mark("a")

    async def slow(_name):
        asked.set()
        await answer.wait()

    monkeypatch.setattr(redis, "get", slow)
    waiting = asyncio.create_task(store.load("a"))
    await asked.wait()
    waiting.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    answer.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_closing_closes_the_client(open_store, redis):
    await open_store().close()
    assert redis.closed


async def test_it_is_named_without_its_password():
    store = RedisStore(URL, "key")
    assert repr(store) == "<RedisStore redis://redis.example:6379/0>"
    await store.close()


@pytest.mark.parametrize(("query", "password"), [("", ""), ("?ssl_password=given", "given")])
async def test_nobody_is_asked_for_the_passphrase_of_a_clients_key(query, password):
    store = RedisStore(f"rediss://redis.example{query}", "key")
    assert store._client.connection_pool.connection_kwargs["ssl_password"] == password
    await store.close()


async def test_a_client_asks_once_more_and_waits_no_longer_than_requests_can():
    store = RedisStore(URL, "key")
    options = store._client.connection_pool.connection_kwargs
    assert (options["socket_connect_timeout"], options["socket_timeout"]) == (1, 2)
    assert options["retry"].get_retries() == 1
    await store.close()
