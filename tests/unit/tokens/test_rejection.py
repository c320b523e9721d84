"""Rejected credentials, remembered in a store: under which name, by whom, and what goes on without one."""

import asyncio

import pytest

from authproxy.errors import BadTokenReply, CredentialRejected, StoreError
from authproxy.tokens import rejection as rejection_module
from authproxy.tokens.rejection import MARK_DIGITS, Rejection, RememberedRejection
from tests.support.clock import settle
from tests.support.memory_store import MemoryStore, Shelf


def rejection(**changes):
    facts = {
        "detail": "wrong password",
        "hint": "mend it",
        "error": "invalid_grant",
        "in_good_order": False,
        "failures": 2,
        "at": 1000.0,
        "next_try_at": 1060.0,
    }
    return Rejection(**facts | changes)


def memory(*stores, secret="s3cr3t", identity="up42", **settings):
    return RememberedRejection(stores, identity, lambda: secret, **settings)


def broken():
    store = MemoryStore()
    store.trouble = StoreError("the disk is full", hint="make room")
    return store


# ── one rejection ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("now", "left"), [(1000, 60), (1010, 50), (1060, 0), (1100, -40), (100, 60)])
def test_it_is_over_when_its_time_has_gone_by_and_a_clock_set_back_does_not_lengthen_it(now, left):
    assert rejection().seconds_left(now) == left


@pytest.mark.parametrize(("in_good_order", "kind"), [(False, CredentialRejected), (True, BadTokenReply)])
def test_it_is_told_as_it_was_told_first(in_good_order, kind):
    failure = rejection(in_good_order=in_good_order).as_error()
    assert type(failure) is kind
    assert (failure.detail, failure.hint, failure.error) == ("wrong password", "mend it", "invalid_grant")
    assert failure.rejects  # either way another try may lock the account


# ── remembering ──────────────────────────────────────────────────────────────────────────────────


async def test_what_one_process_remembers_the_next_one_recalls_until_it_is_forgotten():
    shelf = Shelf()
    first, second = memory(MemoryStore(shelf)), memory(MemoryStore(shelf))
    assert await second.recall() is None
    await first.remember(rejection())
    assert await second.recall() == rejection()
    await second.forget()
    assert await first.recall() is None


@pytest.mark.parametrize("other", [{"identity": "other"}, {"secret": "another one"}])
async def test_another_credential_or_another_secret_is_another_matter(other):
    shelf = Shelf()
    await memory(MemoryStore(shelf)).remember(rejection())
    assert await memory(MemoryStore(shelf), **other).recall() is None


async def test_the_secret_is_looked_at_each_time():
    secrets = ["old"]
    kept = RememberedRejection([MemoryStore()], "up42", lambda: secrets[-1])
    await kept.remember(rejection())
    secrets.append("new")
    assert await kept.recall() is None
    secrets.pop()
    assert await kept.recall() == rejection()


async def test_the_name_of_an_entry_tells_too_little_to_guess_the_secret_from():
    store = MemoryStore()
    await memory(store).remember(rejection())
    [name] = store.shelf.rejections
    whole = await store.mark("s3cr3t")
    assert name == f"rejected up42 {whole[:MARK_DIGITS]}"
    assert MARK_DIGITS == 4
    assert "s3cr3t" not in name


async def test_a_person_may_have_it_tried_once_more_and_only_once():
    store = MemoryStore()
    await memory(store).remember(rejection())
    retried = memory(store, retry=True)
    assert await retried.recall() is None
    await retried.remember(rejection(failures=3))
    assert (await retried.recall()).failures == 3


# ── without a store ──────────────────────────────────────────────────────────────────────────────


async def test_the_next_store_is_used_when_the_first_cannot_be():
    second = MemoryStore()
    kept = memory(broken(), second)
    await kept.remember(rejection())
    assert await kept.recall() == rejection()
    assert len(second.shelf.rejections) == 1
    await kept.forget()
    assert not second.shelf.rejections


async def test_the_first_store_that_can_be_used_has_the_word_even_when_it_has_nothing(caplog):
    second = MemoryStore()
    await memory(second).remember(rejection())
    assert await memory(MemoryStore(), second).recall() is None
    assert caplog.records == []


async def test_without_any_store_it_goes_on_and_says_so_once(caplog):
    kept = memory(broken(), broken())
    await kept.remember(rejection())
    assert await kept.recall() is None
    await kept.forget()
    [record] = caplog.records
    assert record.getMessage() == "cannot remember rejected credentials"
    assert record.facts == {"cause": "the disk is full", "hint": "make room"}


# ── one after the other ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("takes_turns", [True, False])
async def test_processes_try_one_after_the_other_where_no_other_lock_sees_to_that(takes_turns):
    shelf = Shelf()
    order = []

    async def turn(name, store):
        async with memory(store, takes_turns=takes_turns).turn():
            order.append(f"{name} begins")
            await settle()
            order.append(f"{name} ends")

    await asyncio.gather(turn("a", MemoryStore(shelf)), turn("b", MemoryStore(shelf)))
    one_by_one = ["a begins", "a ends", "b begins", "b ends"]
    assert (order == one_by_one) is takes_turns


async def test_a_turn_is_given_back_after_a_failure_too():
    store = MemoryStore()
    kept = memory(store, takes_turns=True)
    with pytest.raises(CredentialRejected):
        async with kept.turn():
            raise CredentialRejected("wrong")
    async with kept.turn():
        assert store.locked == 2


async def test_a_process_that_does_not_let_go_is_not_waited_for_for_long(monkeypatch):
    shelf = Shelf()
    async with MemoryStore(shelf).lock(f"rejected up42 {(await MemoryStore().mark('s3cr3t'))[:4]}"):
        monkeypatch.setattr(rejection_module, "TURN_SECONDS", 0)
        waiting = memory(MemoryStore(shelf), takes_turns=True)
        async with waiting.turn():
            pass  # it takes its turn all the same


async def test_a_store_that_cannot_be_used_holds_nobody_up():
    async with memory(broken(), takes_turns=True).turn():
        pass


async def test_a_fault_of_the_store_while_somebody_tries_is_not_taken_for_one_of_the_try():
    with pytest.raises(StoreError, match="of the token store"):
        async with memory(MemoryStore(), takes_turns=True).turn():
            raise StoreError("of the token store")


def test_it_keeps_the_title_that_it_had():
    assert rejection(title="Account locked").as_error().title == "Account locked"
    assert rejection().as_error().title == "Credential rejected"
