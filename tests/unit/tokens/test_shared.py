"""Who renews, with which refresh token, and what happens when the store does not answer."""

import asyncio
import logging

import pytest

from authproxy.errors import CredentialRejected, StoreError, TokenUnavailable
from authproxy.tokens.backoff import BackoffSource
from authproxy.tokens.cache import CachedSource, token_cache
from authproxy.tokens.shared import MEND_SECONDS, SharedSource
from authproxy.tokens.source import Innermost
from authproxy.tokens.token import Token
from tests.support.memory_store import MemoryStore, Shelf

KEY = "credential"
LIFETIME = 100.0


class Endpoint(Innermost):
    """Issues t1, t2, … with refresh tokens r1, r2, …, and notes what it was asked with."""

    def __init__(self, clock):
        self.clock = clock
        self.asked: list[str | None] = []
        self.failure = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def token(self, *, instead_of=None):
        self.asked.append(instead_of.refresh_token if instead_of else None)
        number = len(self.asked)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return token(number, self.clock.now)


def token(number, now, *, lifetime=LIFETIME):
    return Token(f"t{number}", issued_at=now, expires_at=now + lifetime, refresh_token=f"r{number}")


class Naps:
    """A sleep that ends when it is told to."""

    def __init__(self):
        self.wanted: list[float] = []
        self._wake = asyncio.Event()

    async def __call__(self, seconds):
        self.wanted.append(seconds)
        self._wake.clear()
        await self._wake.wait()

    async def end(self):
        for _ in range(3):
            await asyncio.sleep(0)
        self._wake.set()
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
def endpoint(clock):
    return Endpoint(clock)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def naps():
    return Naps()


@pytest.fixture
async def process(endpoint, clock, naps):
    """Return a maker of sources; each is as one process."""
    made = []

    def make(store, source=None):
        backoff = BackoffSource(source or endpoint, clock=clock, jitter=lambda: 0)
        shared = SharedSource(backoff, store, KEY, name="up42", clock=clock, sleep=naps)
        made.append(shared)
        return shared

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def events(caplog):
    caplog.set_level(logging.DEBUG, "authproxy")
    return lambda: [record.getMessage() for record in caplog.records if "store" in record.getMessage()]


# ── together ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_token_is_earned_and_saved(process, store, endpoint):
    earned = await process(store).token()
    assert (earned, endpoint.asked) == (Token("t1"), [None])
    kept = store.shelf.tokens[KEY]
    assert (kept, kept.refresh_token) == (earned, "r1")


async def test_a_stored_token_is_used_without_a_lock(process, store, endpoint, clock):
    store.shelf.tokens[KEY] = token(7, clock.now)
    assert await process(store).token() == Token("t7")
    assert (endpoint.asked, store.locked) == ([], 0)


async def test_the_renewal_of_another_process_is_picked_up(process, endpoint):
    shelf = Shelf()
    one, other = process(MemoryStore(shelf)), process(MemoryStore(shelf))
    first = await one.token()
    assert await other.token() == first
    second = await one.token(instead_of=first)
    assert await other.token(instead_of=first) == second
    assert endpoint.asked == [None, "r1"]


async def test_processes_that_renew_at_once_ask_once(process, endpoint):
    shelf = Shelf()
    processes = [process(MemoryStore(shelf)) for _ in range(8)]
    first = await processes[0].token()
    endpoint.gate.clear()
    waiting = [asyncio.create_task(each.token(instead_of=first)) for each in processes]
    for _ in range(20):
        await asyncio.sleep(0)
    endpoint.gate.set()
    assert set(await asyncio.gather(*waiting)) == {Token("t2")}
    assert endpoint.asked == [None, "r1"]


async def test_a_refused_token_that_is_still_the_stored_one_is_renewed(process, store, endpoint, clock):
    refused = store.shelf.tokens[KEY] = token(7, clock.now)
    assert await process(store).token(instead_of=refused) == Token("t1")
    assert endpoint.asked == ["r7"]


async def test_a_renewal_uses_the_stored_refresh_token_not_the_callers(process, store, endpoint, clock):
    old = token(6, clock.now)
    store.shelf.tokens[KEY] = token(7, clock.now)
    clock.advance(LIFETIME)
    await process(store).token(instead_of=old)
    assert endpoint.asked == ["r7"]


async def test_without_a_stored_token_the_callers_own_is_used(process, store, endpoint, clock):
    await process(store).token(instead_of=token(6, clock.now))
    assert endpoint.asked == ["r6"]


@pytest.mark.parametrize("seconds", [LIFETIME - 4, LIFETIME, LIFETIME + 1])
async def test_a_stored_token_about_to_expire_is_not_handed_out(process, store, endpoint, clock, seconds):
    store.shelf.tokens[KEY] = token(7, clock.now)
    clock.advance(seconds)
    assert await process(store).token() == Token("t1")
    assert endpoint.asked == ["r7"]


async def test_a_token_is_saved_before_it_is_handed_out(process, endpoint):
    class SlowStore(MemoryStore):
        async def save(self, key, token):
            await asyncio.sleep(0)
            assert not renewal.done()
            await super().save(key, token)

    store = SlowStore()
    renewal = asyncio.create_task(process(store).token())
    assert await renewal == store.shelf.tokens[KEY]


async def test_a_login_elsewhere_ends_a_rejection(process, store, endpoint, clock):
    endpoint.failure = CredentialRejected("login needed")
    source = process(store)
    with pytest.raises(CredentialRejected):
        await source.token()
    store.shelf.tokens[KEY] = token(7, clock.now)
    assert await source.token() == Token("t7")
    assert len(endpoint.asked) == 1


async def test_a_login_is_saved_for_everyone(process, endpoint, clock):
    shelf = Shelf()
    dead = shelf.tokens[KEY] = token(6, clock.now)
    login = token(7, clock.now)
    await process(MemoryStore(shelf)).adopt(login)
    assert shelf.tokens[KEY] is login
    assert await process(MemoryStore(shelf)).token(instead_of=dead) == login
    assert endpoint.asked == []


async def test_a_login_while_another_process_renews_outlasts_that_renewal(process, endpoint, clock):
    shelf = Shelf()
    dead = shelf.tokens[KEY] = token(6, clock.now)
    source = process(MemoryStore(shelf))
    async with shelf.locks[KEY]:
        adopting = asyncio.create_task(source.adopt(token(7, clock.now)))
        await asyncio.sleep(0)
        shelf.tokens[KEY] = token(8, clock.now)
        assert await source.token(instead_of=dead) == Token("t8")
    await adopting
    assert shelf.tokens[KEY] == Token("t7")
    assert await source.token() == Token("t7")


async def test_a_login_without_the_store_is_used_and_saved_later(process, store, endpoint, clock, naps):
    source = process(store)
    store.trouble = StoreError("it is down")
    await source.adopt(token(7, clock.now))
    assert await source.token() == Token("t7")
    store.trouble = None
    await naps.end()
    assert store.shelf.tokens[KEY] == Token("t7")
    assert endpoint.asked == []


async def test_while_held_back_nobody_waits_for_the_lock(process, store, endpoint):
    endpoint.failure = CredentialRejected("wrong password")
    source = process(store)
    with pytest.raises(CredentialRejected):
        await source.token()
    async with store.shelf.locks[KEY]:
        with pytest.raises(TokenUnavailable, match="wrong password"):
            await source.token()
    assert (len(endpoint.asked), store.locked) == (1, 1)


async def test_a_changed_secret_is_tried_at_once(store, endpoint, clock):
    changes = [True]

    async def changed():
        return bool(changes and changes.pop())

    backoff = BackoffSource(endpoint, changed=changed, clock=clock, jitter=lambda: 0)
    source = SharedSource(backoff, store, KEY, name="up42", clock=clock)
    endpoint.failure = CredentialRejected("wrong password")
    with pytest.raises(CredentialRejected):
        await source.token()
    endpoint.failure = None
    assert await source.token() == Token("t2")


async def test_under_a_cache_it_is_asked_once_by_all_who_wait(process, store, endpoint, clock):
    cached = CachedSource(process(store), token_cache(), KEY, name="up42", clock=clock)
    endpoint.gate.clear()
    waiting = [asyncio.create_task(cached.token()) for _ in range(100)]
    while not endpoint.asked:
        await asyncio.sleep(0)
    waiting.pop().cancel()
    endpoint.gate.set()
    await cached.settle()
    assert set(await asyncio.gather(*waiting)) == {store.shelf.tokens[KEY]}
    assert (endpoint.asked, store.locked) == ([None], 1)


async def test_a_failed_renewal_lets_the_lock_go_and_keeps_what_is_stored(process, endpoint, clock):
    shelf = Shelf()
    worn = shelf.tokens[KEY] = token(7, clock.now)
    endpoint.failure = TokenUnavailable("down")
    with pytest.raises(TokenUnavailable):
        await process(MemoryStore(shelf)).token(instead_of=worn)
    assert shelf.tokens[KEY] is worn
    endpoint.failure = None
    assert await process(MemoryStore(shelf)).token(instead_of=worn) == Token("t2")


async def test_a_lock_that_is_not_let_go_is_a_503_and_nothing_is_asked(process, endpoint):
    store = MemoryStore(lock_seconds=0)
    async with store.shelf.locks[KEY]:
        with pytest.raises(TokenUnavailable) as caught:
            await process(store).token()
    assert caught.value.retry_after
    assert endpoint.asked == []


async def test_a_cancelled_renewal_lets_the_lock_go(process, store, endpoint):
    endpoint.gate.clear()
    source = process(store)
    renewal = asyncio.create_task(source.token())
    while not endpoint.asked:
        await asyncio.sleep(0)
    renewal.cancel()
    await asyncio.gather(renewal, return_exceptions=True)
    endpoint.gate.set()
    assert await source.token()


# ── alone ────────────────────────────────────────────────────────────────────────────────────────


async def test_without_the_store_it_goes_on_by_itself_and_says_so_once(process, store, endpoint, events):
    source = process(store)
    first = await source.token()
    store.trouble = StoreError("it is down")
    second = await source.token(instead_of=first)
    third = await source.token(instead_of=second)
    assert (second, third) == (Token("t2"), Token("t3"))
    assert endpoint.asked == [None, "r1", "r2"]
    assert events() == ["token store unavailable"]
    assert source.store_trouble == "it is down"
    assert repr(source) == "<SharedSource up42 alone>"


async def test_a_store_that_is_down_from_the_start_stops_nobody(process, store, endpoint):
    store.trouble = StoreError("it is down")
    source = process(store)
    assert await source.token() == Token("t1")
    assert await source.token() == Token("t1")
    assert endpoint.asked == [None]


async def test_patience_holds_without_the_store_too(process, store, endpoint):
    store.trouble = StoreError("it is down")
    endpoint.failure = CredentialRejected("wrong password")
    source = process(store)
    with pytest.raises(CredentialRejected):
        await source.token()
    with pytest.raises(TokenUnavailable):
        await source.token()
    assert len(endpoint.asked) == 1


async def test_what_was_earned_alone_is_saved_when_the_store_is_back(process, store, endpoint, naps, events):
    source = process(store)
    first = await source.token()
    store.trouble = StoreError("it is down")
    second = await source.token(instead_of=first)
    await naps.end()
    assert source.store_trouble == "it is down"
    store.trouble = None
    await naps.end()
    kept = store.shelf.tokens[KEY]
    assert (kept, kept.refresh_token) == (second, "r2")
    assert source.store_trouble is None
    assert events() == ["token store unavailable", "token store available again"]
    assert naps.wanted == [MEND_SECONDS, MEND_SECONDS]


async def test_recovery_is_noticed_when_nothing_was_earned_meanwhile(process, store, clock, naps):
    source = process(store)
    await source.token()
    store.trouble = StoreError("it is down")
    await source.token()
    store.trouble = None
    await naps.end()
    assert source.store_trouble is None


async def test_a_renewal_before_the_store_is_mended_uses_the_newest_refresh_token(process, store, endpoint):
    source = process(store)
    first = await source.token()
    store.trouble = StoreError("it is down")
    second = await source.token(instead_of=first)
    store.trouble = None
    assert await source.token(instead_of=second) == Token("t3")
    assert endpoint.asked == [None, "r1", "r2"]
    assert store.shelf.tokens[KEY] == Token("t3")
    assert source.store_trouble is None


async def test_the_stale_token_of_a_store_that_is_back_is_not_handed_out(process, store):
    source = process(store)
    first = await source.token()
    store.trouble = StoreError("it is down")
    second = await source.token(instead_of=first)
    store.trouble = None
    assert await source.token() == second


async def test_a_store_that_comes_back_empty_gets_what_was_earned_meanwhile(process, store, endpoint, naps):
    source = process(store)
    first = await source.token()
    store.trouble = StoreError("it is down")
    second = await source.token(instead_of=first)
    store.trouble = None
    store.shelf.tokens.clear()
    await naps.end()
    assert store.shelf.tokens[KEY] == second
    assert await source.token() == second


async def test_what_another_process_put_there_meanwhile_wins(process, store, endpoint, clock, naps):
    source = process(store)
    first = await source.token()
    store.trouble = StoreError("it is down")
    second = await source.token(instead_of=first)
    store.trouble = None
    store.shelf.tokens[KEY] = token(7, clock.now)
    await naps.end()
    assert store.shelf.tokens[KEY] == Token("t7")
    assert await source.token(instead_of=second) == Token("t7")


async def test_a_token_that_cannot_be_saved_is_used_all_the_same(process, store, endpoint, naps, events):
    store.trouble_saving = StoreError("the disk is full")
    source = process(store)
    first = await source.token()
    assert await source.token() == first
    assert source.store_trouble == "the disk is full"
    await naps.end()
    store.trouble_saving = None
    await naps.end()
    assert store.shelf.tokens[KEY] == first
    assert endpoint.asked == [None]
    assert events() == ["token store unavailable", "token store available again"]


async def test_an_expired_token_is_not_handed_out_without_the_store_either(process, store, endpoint, clock):
    source = process(store)
    await source.token()
    store.trouble = StoreError("it is down")
    clock.advance(LIFETIME)
    assert await source.token() == Token("t2")
    assert endpoint.asked == [None, "r1"]


async def test_a_new_outage_is_said_again(process, store, naps, events):
    source = process(store)
    expired = await source.token()
    for _ in range(2):
        store.trouble = StoreError("it is down")
        expired = await source.token(instead_of=expired)
        store.trouble = None
        await naps.end()
    assert events() == ["token store unavailable", "token store available again"] * 2


async def test_it_reads_well(process, store):
    assert repr(process(store)) == "<SharedSource up42 shared>"


# ── forgetting ───────────────────────────────────────────────────────────────────────────────────


async def test_what_is_forgotten_is_gone_from_the_store_too(process, store, endpoint):
    source = process(store)
    await source.token()
    await source.forget()
    assert store.shelf.tokens == {}
    assert await source.token() == Token("t2")
    assert endpoint.asked == [None, None], "no refresh token is left to spend"


async def test_a_store_that_cannot_forget_is_told_and_the_own_copy_is_gone(process, store, endpoint):
    source = process(store)
    await source.token()
    store.trouble = StoreError("down")
    with pytest.raises(StoreError):
        await source.forget()
    assert await source.token() == Token("t2")
