"""What only a server can get wrong: being away, being slow, forgetting."""

import asyncio
import itertools
import logging
import random
import socket
import sys
import time
from math import inf

import pytest
from redis.asyncio import Redis

from authproxy.errors import StoreError
from authproxy.tokens.backoff import BackoffSource
from authproxy.tokens.shared import SharedSource
from authproxy.tokens.source import Innermost
from authproxy.tokens.stores.redis import KEEP_SECONDS, RedisStore
from authproxy.tokens.token import Token
from tests.contracts.conftest import PASSPHRASE
from tests.contracts.rotation import RotatingSource, rotating_endpoint
from tests.support.launch import GUARD
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

SECRETS = ["an-access-token", "a-refresh-token", "the-credential", PASSPHRASE]
TOKEN = Token(SECRETS[0], refresh_token=SECRETS[1])
KEY = SECRETS[2]

numbers = itertools.count()


@pytest.fixture
def prefix():
    return f"redis-{next(numbers)}:"


@pytest.fixture
async def open_store(prefix):
    made = []

    def make(url, **options):
        made.append(RedisStore(url, PASSPHRASE, prefix=prefix, **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()


class Endpoint(Innermost):
    """Issues tokens one after the other, each good for ten minutes."""

    def __init__(self):
        self.asked = []

    async def token(self, *, instead_of=None):
        self.asked.append(instead_of.refresh_token if instead_of else None)
        number, now = len(self.asked), time.time()
        return Token(f"t{number}", issued_at=now, expires_at=now + 600, refresh_token=f"r{number}")


def short_nap(_seconds):
    return asyncio.sleep(0.02)


def shared(store, source):
    return SharedSource(BackoffSource(source), store, KEY, name="up42", sleep=short_nap)


async def until(true):
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


# ── what is in it ────────────────────────────────────────────────────────────────────────────────


async def test_nothing_of_a_token_is_in_redis_in_plain_text(redis_server, open_store):
    redis_server.start()
    store = open_store(redis_server.url)
    await store.save(KEY, TOKEN)
    async with store.lock(KEY):
        await store._client.save()
    raw = (redis_server.directory / "dump.rdb").read_bytes()
    assert store._prefix.encode() in raw
    assert not [each for each in SECRETS if each.encode() in raw]


async def test_every_name_has_the_prefix(lasting_redis, open_store, prefix):
    store = open_store(lasting_redis.url)
    before = set(await store._client.keys())
    await store.save(KEY, TOKEN)
    async with store.lock(KEY):
        made = set(await store._client.keys()) - before
    assert len(made) == 2
    assert all(each.startswith(prefix.encode()) for each in made)


async def test_two_prefixes_are_two_stores(lasting_redis, open_store):
    await open_store(lasting_redis.url).save(KEY, TOKEN)
    other = RedisStore(lasting_redis.url, PASSPHRASE, prefix="another:")
    assert await other.load(KEY) is None
    await other.close()


async def test_an_entry_outlives_its_access_token_when_it_holds_a_refresh_token(lasting_redis, open_store):
    now = 1_700_000_000.0
    store = open_store(lasting_redis.url, clock=lambda: now)

    async def kept(token):
        await store.save(KEY, token)
        return await store._client.ttl(store._prefix + (await store._open()).name(KEY))

    assert await kept(Token("t", issued_at=now, expires_at=now + 300)) == pytest.approx(360, abs=2)
    assert await kept(Token("t", issued_at=now, expires_at=now - 300)) == pytest.approx(60, abs=2)
    lasting = pytest.approx(KEEP_SECONDS, abs=2)
    assert await kept(Token("t", issued_at=now, expires_at=now + 300, refresh_token="r")) == lasting
    assert await kept(Token("t", issued_at=now, expires_at=inf)) == lasting


@pytest.mark.parametrize("garbage", [b"", b"garbage", bytes(500)])
async def test_garbage_is_as_good_as_nothing(lasting_redis, open_store, caplog, garbage):
    store = open_store(lasting_redis.url)
    await store._client.set(store._prefix + (await store._open()).name(KEY), garbage)
    assert await store.load(KEY) is None
    assert await store.load(KEY) is None
    assert [each.getMessage() for each in caplog.records] == ["stored token unreadable"]
    await store.save(KEY, TOKEN)
    assert await store.load(KEY) == TOKEN


async def test_a_value_of_another_kind_in_its_place_is_an_error_not_a_crash(lasting_redis, open_store):
    store = open_store(lasting_redis.url)
    await store._client.lpush(store._prefix + (await store._open()).name(KEY), b"a list")
    with pytest.raises(StoreError, match="cannot be used"):
        await store.load(KEY)


# ── away ─────────────────────────────────────────────────────────────────────────────────────────


async def all_fail(store, match):
    async def lock():
        async with store.lock(KEY):
            pytest.fail("there is no lock")

    for attempt in (lambda: store.load(KEY), lambda: store.save(KEY, TOKEN), lambda: store.forget(KEY), lock):
        with pytest.raises(StoreError, match=match) as caught:
            await attempt()
        assert RedisServer.password not in f"{caught.value} {caught.value.hint}"


async def test_a_redis_that_is_not_there_is_an_error_at_once(open_store):
    store = open_store(f"redis://:{RedisServer.password}@127.0.0.1:{free_port()}/0")
    await store._open()
    async with asyncio.timeout(1):
        await all_fail(store, "cannot be used")


async def test_a_redis_that_does_not_answer_is_an_error_soon(open_store):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = open_store(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        await store._open()
        with pytest.raises(StoreError, match="did not answer in time"):
            async with asyncio.timeout(4):
                await store.load(KEY)


async def test_a_wrong_password_is_named_as_such(lasting_redis, open_store):
    store = open_store(lasting_redis.url.replace(RedisServer.password, "wrong"))
    await all_fail(store, "denied access")


async def test_no_password_is_named_as_such(lasting_redis, open_store):
    store = open_store(f"redis://127.0.0.1:{lasting_redis.port}/0")
    await all_fail(store, "denied access")


async def test_a_restart_is_not_noticed(redis_server, open_store):
    redis_server.start()
    store = open_store(redis_server.url)
    await store.save(KEY, TOKEN)
    redis_server.stop()
    redis_server.start()
    assert await store.load(KEY) is None
    await store.save(KEY, TOKEN)


async def test_down_at_the_start_it_goes_on_alone_and_is_there_when_redis_comes(
    redis_server, open_store, caplog
):
    caplog.set_level(logging.INFO)
    store, endpoint = open_store(redis_server.url), Endpoint()
    source = shared(store, endpoint)
    token = await source.token()
    assert (
        source.store_trouble
        == f"Redis at redis://127.0.0.1:{redis_server.port}/0 cannot be used: Connection refused"
    )
    assert await source.token() == token
    redis_server.start()
    await until(lambda: source.store_trouble is None)
    assert await store.load(KEY) == token
    assert endpoint.asked == [None]
    events = [each.getMessage() for each in caplog.records if "token store" in each.getMessage()]
    assert events == ["token store unavailable", "token store available again"]
    await source.close()


async def test_going_down_midway_it_goes_on_alone_and_both_meet_again(redis_server, open_store):
    redis_server.start()
    store, endpoint = open_store(redis_server.url), Endpoint()
    source = shared(store, endpoint)
    first = await source.token()
    redis_server.stop()
    second = await source.token(instead_of=first)
    assert endpoint.asked == [None, "r1"]
    assert source.store_trouble
    redis_server.start()
    await until(lambda: source.store_trouble is None)
    replica = shared(open_store(redis_server.url), endpoint)
    assert await replica.token() == second
    third = await replica.token(instead_of=second)
    assert await source.token(instead_of=second) == third
    assert endpoint.asked == [None, "r1", "r2"]
    await source.close()


async def test_redis_lost_during_a_renewal_costs_one_renewal_not_two(redis_server, open_store):
    redis_server.start()
    endpoint = Endpoint()

    class Stopping(Endpoint):
        async def token(self, *, instead_of=None):
            redis_server.stop()
            return await endpoint.token(instead_of=instead_of)

    source = shared(open_store(redis_server.url), Stopping())
    assert await source.token() == Token("t1")
    assert endpoint.asked == [None]
    assert source.store_trouble
    await source.close()


# ── the lease ────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_endpoint_slower_than_the_lease_lets_no_second_one_in(lasting_redis, open_store):
    async with rotating_endpoint(lifetime=600, slowness=3) as endpoint:
        stores = [open_store(lasting_redis.url, lease_seconds=1) for _ in range(3)]
        await stores[0].save(KEY, endpoint.first())
        replicas = [shared(store, RotatingSource(endpoint.port)) for store in stores]
        tokens = await asyncio.gather(*(each.token() for each in replicas))
        assert set(tokens) == {Token("access-1")}
        assert (endpoint.renewals, endpoint.reused) == (1, 0)


async def test_the_lock_of_a_dead_holder_ends_with_its_lease(lasting_redis, open_store):
    store = open_store(lasting_redis.url, lease_seconds=0.3)
    name = f"{store._prefix}{(await store._open()).name(KEY)}:lock"
    assert await store._take(name, "somebody who dies now")
    begun = time.monotonic()
    async with asyncio.timeout(GUARD), store.lock(KEY):
        assert time.monotonic() - begun > 0.2


async def test_a_lock_that_redis_forgot_is_taken_again_by_its_holder(redis_server, open_store):
    redis_server.start()
    store = open_store(redis_server.url, lease_seconds=1)
    other = open_store(redis_server.url, lock_seconds=0.3)
    async with store.lock(KEY):
        redis_server.stop()
        redis_server.start()
        async with asyncio.timeout(GUARD), Redis.from_url(redis_server.url) as onlooker:
            while not await onlooker.keys("*:lock"):
                await asyncio.sleep(0.02)
        with pytest.raises(StoreError):
            async with other.lock(KEY):
                pytest.fail("two hold the lock")


async def test_a_holder_that_lost_its_lock_does_not_release_the_next_ones(lasting_redis, open_store, caplog):
    store = open_store(lasting_redis.url, lease_seconds=0.15)
    name = f"{store._prefix}{(await store._open()).name(KEY)}:lock"
    async with store.lock(KEY):
        await store._client.set(name, "another")
        await until(lambda: "token lock lost" in caplog.text)
    assert await store._client.get(name) == b"another"


async def test_one_who_waits_for_the_lock_can_be_cancelled_at_any_moment(lasting_redis, open_store):
    async def wait(store):
        async with store.lock(KEY):
            pytest.fail("two hold the lock")

    store, other = open_store(lasting_redis.url), open_store(lasting_redis.url)
    async with store.lock(KEY):
        for _ in range(200):
            waiting = asyncio.create_task(wait(other))
            await asyncio.sleep(random.uniform(0, 0.004))
            waiting.cancel()
            async with asyncio.timeout(5):
                await asyncio.wait([waiting])
            assert waiting.cancelled()
    async with asyncio.timeout(2), other.lock(KEY):
        pass


async def test_leaving_a_lock_without_redis_is_no_error(redis_server, open_store):
    redis_server.start()
    async with open_store(redis_server.url).lock(KEY):
        redis_server.stop()


# ── setting up ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "redis://:secret@host:port/0"])
def test_a_url_that_is_none_is_refused_without_repeating_its_secret(url):
    with pytest.raises(StoreError, match="is not a Redis URL") as caught:
        RedisStore(url, PASSPHRASE)
    assert "secret" not in str(caught.value)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    for name in [each for each in sys.modules if each.partition(".")[0] == "redis"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(StoreError) as caught:
        RedisStore("redis://localhost", PASSPHRASE)
    assert caught.value.hint == "pip install 'authproxy[redis]'"


async def test_it_reads_well_without_its_password(open_store):
    assert repr(open_store("redis://me:secret@localhost:7/0")) == "<RedisStore redis://localhost:7/0>"
