"""`CachedSource`: how often the inner source is asked, and who hears what."""

import asyncio

import pytest

from authproxy.errors import StoreError, TokenUnavailable
from authproxy.tokens import cache as cache_module
from authproxy.tokens import early_renewal
from authproxy.tokens.cache import CachedSource, token_cache
from authproxy.tokens.token import Token
from tests.support.clock import settle
from tests.support.token_sources import AnswersInTurn


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch):
    monkeypatch.setattr(early_renewal.random, "uniform", lambda low, high: low)


@pytest.fixture
def world(clock):
    """Return a maker of a `CachedSource` in front of the answers it gets."""

    def make(*answers, cache=None, **settings):
        behind = AnswersInTurn(*answers)
        cache = token_cache() if cache is None else cache
        return CachedSource(behind, cache, "key", name="up42", clock=clock, **settings), behind

    return make


@pytest.fixture
def token(clock):
    """Return a maker of tokens that are issued now."""
    return lambda value, lifetime=300: Token(value, issued_at=clock(), expires_at=clock() + lifetime)


async def together(*waits):
    return await asyncio.gather(*waits, return_exceptions=True)


# ── holding ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_is_asked_for_once_and_held(world, token):
    source, behind = world(token("a"))
    assert source.take() is None
    first = await source.token()
    assert source.take() is first
    assert await source.token() is first
    assert behind.asked == [None]


async def test_a_token_is_held_until_shortly_before_it_ends(world, token, clock):
    source, _ = world(token("a", 300), TokenUnavailable("down"))
    await source.token()
    clock.advance(294)
    assert source.take() is not None
    assert source.usable
    clock.advance(2)
    assert source.take() is None
    assert not source.usable
    await settle()


async def test_a_spent_token_goes_down_to_the_grant(world, token, clock):
    source, behind = world(token("a"), token("b"))
    expired = await source.token()
    clock.advance(400)
    assert (await source.token()).value == "b"
    assert behind.asked[1] is expired


async def test_a_token_from_the_cache_is_used_without_asking(world, token):
    source, behind = world(cache={"key": token("a")})
    assert (await source.token()).value == "a"
    assert behind.asked == []


async def test_a_token_without_an_end_is_held_until_it_is_refused(world, clock):
    source, behind = world(Token("a"), Token("b"))
    token = await source.token()
    clock.advance(10 * 365 * 86400)
    assert source.take() is token
    assert (await source.token(instead_of=token)).value == "b"
    assert len(behind.asked) == 2


# ── one renewal for all ──────────────────────────────────────────────────────────────────────────


async def test_a_thousand_first_requests_ask_once(world, token):
    source, behind = world(token("a"))
    answers = await together(*(source.token() for _ in range(1000)))
    assert {answer.value for answer in answers} == {"a"}
    assert len(behind.asked) == 1


async def test_a_storm_of_401s_renews_once(world, token):
    source, behind = world(token("a"), token("b"))
    refused = await source.token()
    answers = await together(*(source.token(instead_of=refused) for _ in range(100)))
    assert {answer.value for answer in answers} == {"b"}
    assert len(behind.asked) == 2


async def test_a_failure_is_shared_and_not_repeated_for_each(world):
    source, behind = world(TokenUnavailable("down"))
    answers = await together(*(source.token() for _ in range(100)))
    assert {str(answer) for answer in answers} == {"down"}
    assert len(behind.asked) == 1


async def test_after_a_failure_the_next_caller_asks_again(world, token):
    source, behind = world(TokenUnavailable("down"), token("a"))
    with pytest.raises(TokenUnavailable):
        await source.token()
    assert str(source.failure) == "down"
    assert (await source.token()).value == "a"
    assert source.failure is None
    assert len(behind.asked) == 2


async def test_a_waiter_who_leaves_does_not_take_the_renewal_along(world, token):
    source, behind = world(token("a"))
    behind.open.clear()
    leaves, stays = asyncio.create_task(source.token()), asyncio.create_task(source.token())
    await settle()
    leaves.cancel()
    await settle()
    behind.open.set()
    assert (await stays).value == "a"
    assert leaves.cancelled()
    assert len(behind.asked) == 1


async def test_a_renewal_that_nobody_waits_for_any_more_is_still_kept(world, token):
    source, behind = world(token("a"))
    behind.open.clear()
    waiter = asyncio.create_task(source.token())
    await settle()
    waiter.cancel()
    behind.open.set()
    await settle()
    assert source.take().value == "a"


async def test_a_failure_that_nobody_waits_for_any_more_is_noted(world):
    source, behind = world(TokenUnavailable("down"))
    behind.open.clear()
    waiter = asyncio.create_task(source.token())
    await settle()
    waiter.cancel()
    behind.open.set()
    await settle()
    assert str(source.failure) == "down"


# ── one other than this ──────────────────────────────────────────────────────────────────────────


async def test_a_newer_token_is_never_thrown_away(world, token):
    source, behind = world(token("a"), token("b"))
    old = await source.token()
    new = await source.token(instead_of=old)
    assert await source.token(instead_of=old) is new  # a late 401 for the old one
    assert source.take() is new
    assert len(behind.asked) == 2


async def test_a_refused_token_is_held_for_nobody_while_another_is_fetched(world, token):
    source, behind = world(token("a"), token("b"))
    refused = await source.token()
    behind.open.clear()
    waiter = asyncio.create_task(source.token(instead_of=refused))
    await settle()
    assert source.take() is None
    assert not source.usable
    assert repr(source) == "<CachedSource up42 set aside until 22:18:20Z>"
    behind.open.set()
    assert (await waiter).value == "b"


async def test_a_token_set_aside_serves_the_others_while_no_other_can_be_had(world, token):
    source, behind = world(token("a"), TokenUnavailable("down"), token("b"))
    refused = await source.token()
    behind.open.clear()
    who_was_refused = asyncio.create_task(source.token(instead_of=refused))
    another = asyncio.create_task(source.token())
    await settle()
    behind.open.set()
    with pytest.raises(TokenUnavailable):
        await who_was_refused
    assert await another is refused
    assert source.take() is refused
    assert source.usable
    assert behind.asked == [None, refused]  # its refresh token is not lost on the way


async def test_a_token_set_aside_is_replaced_in_the_background_as_soon_as_another_can_be_had(
    world, token, clock
):
    source, behind = world(token("a"), TokenUnavailable("down", retry_after=4), token("b"))
    refused = await source.token()
    with pytest.raises(TokenUnavailable):
        await source.token(instead_of=refused)
    clock.advance(3.9)
    assert await source.token() is refused
    assert len(behind.asked) == 2
    clock.advance(0.1)
    assert source.take() is refused
    await settle()
    assert source.take().value == "b"
    assert behind.asked[2] is refused


async def test_a_token_set_aside_serves_until_its_own_end_and_no_longer(world, token, clock):
    down = TokenUnavailable("down", retry_after=1000)
    source, _ = world(token("a", 300), down, down)
    refused = await source.token()
    with pytest.raises(TokenUnavailable):
        await source.token(instead_of=refused)
    clock.advance(299)
    assert source.take() is refused
    clock.advance(1)
    assert source.take() is None
    assert not source.usable
    with pytest.raises(TokenUnavailable):
        await source.token()


async def test_a_token_set_aside_whose_end_nobody_knows_serves_until_it_is_replaced(world, clock):
    source, _ = world(Token("a"), TokenUnavailable("down"), Token("b"))
    refused = await source.token()
    with pytest.raises(TokenUnavailable):
        await source.token(instead_of=refused)
    clock.advance(10 * 365 * 86400)
    assert source.take() is refused
    await settle()
    assert source.take().value == "b"


async def test_when_the_early_renewal_fails_the_old_token_serves_until_it_expires(world, token, clock):
    source, _ = world(token("a", 300), TokenUnavailable("down", retry_after=1000))
    old = await source.token()
    clock.advance(296)
    assert await source.token() is old  # the wait for another one was in vain
    clock.advance(3.9)
    assert source.take() is old
    clock.advance(0.1)
    assert source.take() is None


async def test_a_token_that_ends_at_once_is_not_fetched_for_each_request(world, token, clock):
    source, behind = world(token("a", 0.001), token("b", 0.001))
    first = await source.token()
    for _ in range(99):
        clock.advance(0.01)
        assert await source.token() is first
    assert len(behind.asked) == 1
    clock.advance(0.1)
    assert (await source.token()).value == "b"
    assert len(behind.asked) == 2


async def test_more_credentials_than_the_cache_has_room_for_by_default_do_not_push_each_other_out(clock):
    cache = token_cache(5000)
    sources = []
    for number in range(5000):
        behind = AnswersInTurn(Token(f"{number}"))
        sources.append(CachedSource(behind, cache, f"{number}", name="many", clock=clock))
    for _ in range(2):
        for source in sources:
            await source.token()  # asked a second time, the source behind would have nothing left


async def test_a_server_that_gives_the_same_token_again_is_asked_once_by_all_who_were_refused(world):
    source, behind = world(Token("a"), *(Token("a") for _ in range(50)))
    refused = await source.token()
    answers = await together(*(source.token(instead_of=refused) for _ in range(50)))
    assert set(answers) == {refused}
    assert len(behind.asked) == 2


async def test_a_source_that_has_nothing_else_gives_the_same_again(world):
    source, behind = world(Token("a"), Token("a"))
    refused = await source.token()
    assert await source.token(instead_of=refused) == refused
    assert source.take() == refused
    assert len(behind.asked) == 2


async def test_who_joins_a_renewal_begun_before_its_own_401_is_not_handed_the_refused_token(
    world, token, clock
):
    source, behind = world(token("a"), token("a"), token("b"))
    first = await source.token()
    clock.advance(250)
    behind.open.clear()
    source.take()  # begins an early renewal, which will bring the same token
    await settle()
    waiters = [asyncio.create_task(source.token(instead_of=first)) for _ in range(10)]
    await settle()
    behind.open.set()
    assert {(await waiter).value for waiter in waiters} == {"b"}
    assert len(behind.asked) == 3


async def test_what_another_process_had_and_was_refused_is_not_asked_for_again(world, token):
    """A broker that has just begun has nothing cached: a worker's refused token may be in the store."""
    refused, fresh = token("refused"), token("fresh")
    source, behind = world(fresh)
    assert await source.token(instead_of=refused) is fresh
    assert behind.asked == [refused]


async def test_who_joins_a_renewal_without_a_refusal_takes_what_it_brings(world, token):
    source, behind = world(token("a"), token("a"))
    refused = await source.token()
    behind.open.clear()
    refuses = asyncio.create_task(source.token(instead_of=refused))
    await settle()
    joins = asyncio.create_task(source.token())
    await settle()
    behind.open.set()
    assert (await joins).value == (await refuses).value == "a"
    assert len(behind.asked) == 2


# ── early renewal ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lifetime", "refresh_before", "renews_after"),
    [
        (3600, None, 3540),  # auto: 60 s before…
        (100, None, 80),  # …or 20 % of the lifetime
        (3600, 600, 3000),
        (300, 600, 150),  # a margin longer than the life must not renew on every request
        (3600, 0, None),
    ],
)
async def test_a_token_is_renewed_early_and_serves_meanwhile(
    world, token, clock, lifetime, refresh_before, renews_after
):
    source, behind = world(token("a", lifetime), Token("b"), refresh_before=refresh_before)
    await source.token()
    clock.advance((renews_after or lifetime - 5) - 1)
    assert source.take().value == "a"
    await settle()
    assert len(behind.asked) == 1
    if renews_after is None:
        return
    clock.advance(1)
    assert source.take().value == "a"  # at once, whatever the renewal does
    await settle()
    assert source.take().value == "b"
    assert len(behind.asked) == 2


async def test_traffic_during_an_early_renewal_neither_waits_nor_begins_another(world, token, clock):
    source, behind = world(token("a"), token("b"))
    await source.token()
    clock.advance(250)
    behind.open.clear()
    for _ in range(100):
        assert source.take().value == "a"
        assert (await source.token()).value == "a"
        await settle()
    assert len(behind.asked) == 2
    behind.open.set()
    await settle()


async def test_a_failing_early_renewal_leaves_the_old_token(world, token, clock):
    source, behind = world(token("a"), TokenUnavailable("down"), token("b"))
    await source.token()
    clock.advance(250)
    source.take()
    await settle()
    assert source.take().value == "a"
    assert str(source.failure) == "down"
    await settle()
    assert len(behind.asked) == 2  # not tried again at once…
    clock.advance(10)
    source.take()
    await settle()
    assert source.take().value == "b"  # …but before the old one ends


async def test_an_unexpected_error_does_not_stop_later_renewals(world, token, caplog):
    source, _ = world(RuntimeError("s3cr3t"), token("a"))
    with pytest.raises(RuntimeError):
        await source.token()
    assert (await source.token()).value == "a"
    assert "s3cr3t" not in caplog.text


async def test_asking_whether_a_token_is_usable_does_not_renew_it(world, token, clock):
    source, behind = world(token("a"))
    await source.token()
    clock.advance(250)
    assert source.usable
    await settle()
    assert len(behind.asked) == 1


# ── what it says ─────────────────────────────────────────────────────────────────────────────────


async def test_its_repr_tells_the_state_and_no_secret(world, clock):
    source, _ = world(Token("s3cr3t", issued_at=clock(), expires_at=clock() + 300), Token("s3cr3t-2"))
    assert repr(source) == "<CachedSource up42 empty>"
    await source.token()
    assert repr(source) == "<CachedSource up42 held until 22:18:20Z>"
    await source.token(instead_of=source.take())
    assert repr(source) == "<CachedSource up42 held until refused>"


def test_the_cache_lets_the_least_used_go():
    cache = token_cache()
    for number in range(cache_module.CACHE_SIZE + 1):
        cache[str(number)] = Token("a")
    assert len(cache) == cache_module.CACHE_SIZE
    assert "0" not in cache


# ── what is told of it ───────────────────────────────────────────────────────────────────────────


async def test_how_who_has_to_wait_comes_by_a_token(world, token):
    source, behind = world(token("a"), token("b"))
    assert source.origin() == "fetched"
    behind.open.clear()
    first = asyncio.create_task(source.token())
    await settle()
    assert (source.origin(), source.renewing) == ("waited", True)
    behind.open.set()
    held = await first
    assert (source.origin(), source.renewing, source.cached) == ("renewed", False, held)


async def test_its_times_are_told(world, token, clock):
    source, _ = world(token("a", 300))
    assert (source.renewed_at, source.ended_at, source.since) == (None, None, clock.now)
    began = clock.now
    await source.token()
    assert (source.renewed_at, source.kept_at, source.expires_at) == (began, began, began + 300)
    clock.advance(299)
    assert source.ended_at == began + 295  # from then on a request waits for another one


async def test_a_token_of_which_nobody_knows_the_age_came_when_it_came_here(world, clock):
    source, _ = world(Token("a"))
    await source.token()
    assert source.renewed_at == clock.now


async def test_a_trouble_keeps_its_beginning_while_all_is_left_alone(world, clock):
    source, _ = world(*(TokenUnavailable("down", retry_after=after) for after in (10, 7, 20)))
    began = clock.now
    moments = []
    for seconds in (3, 7, 0):
        with pytest.raises(TokenUnavailable):
            await source.token()
        moments.append(
            (source.trouble.at - began, source.trouble.since - began, source.trouble.next_try_at - began)
        )
        clock.advance(seconds)
    assert moments == [(0, 0, 10), (0, 0, 10), (10, 0, 30)]  # the second was not tried


async def test_each_change_is_told(world, token):
    source, _ = world(token("a"), TokenUnavailable("down"), token("b"))
    states = []
    source.changed = lambda: states.append((source.renewing, source.usable, source.failure is not None))
    await source.token()
    await settle()
    assert states == [(True, False, False), (True, True, False), (False, True, False)]
    states.clear()
    with pytest.raises(TokenUnavailable):
        await source.renew()
    await settle()
    assert states == [(True, True, False), (False, True, True)]
    source.drop()
    assert states[-1] == (False, False, False)


# ── a person asks ────────────────────────────────────────────────────────────────────────────────


async def test_a_person_has_a_good_token_renewed(world, token):
    old, new = token("a"), token("b")
    source, behind = world(old, new)
    await source.token()
    assert await source.renew() is new
    assert source.take() is new
    assert behind.asked == [None, old]


async def test_who_asks_while_a_renewal_is_under_way_shares_it(world, token):
    source, behind = world(token("a"))
    behind.open.clear()
    waits = [asyncio.create_task(each) for each in (source.token(), source.renew(), source.renew())]
    await settle()
    behind.open.set()
    assert len({id(each) for each in await together(*waits)}) == 1
    assert len(behind.asked) == 1


async def test_a_renewal_that_fails_leaves_the_good_token(world, token):
    source, _ = world(token("a"), TokenUnavailable("down"))
    held = await source.token()
    with pytest.raises(TokenUnavailable):
        await source.renew()
    assert source.take() is held
    assert source.trouble.error.detail == "down"


async def test_what_is_forgotten_is_asked_for_anew(world, token):
    source, behind = world(token("a"), TokenUnavailable("down"), token("b"))
    await source.token()
    assert source.take() is not None  # and again, without another look
    with pytest.raises(TokenUnavailable):
        await source.renew()
    await source.forget()
    assert (source.take(), source.usable, source.trouble, source.expires_at) == (None, False, None, None)
    assert (await source.token()).value == "b"
    assert behind.asked[-1] is None  # the forgotten one, and its refresh token, are not spent any more


async def test_what_is_under_way_does_not_bring_back_what_was_forgotten(world, token):
    source, behind = world(token("a"), token("b"))
    behind.open.clear()
    waits = asyncio.create_task(source.token())
    await settle()
    forgotten = asyncio.create_task(source.forget())
    await settle()
    assert not forgotten.done()
    behind.open.set()
    await together(waits, forgotten)
    assert source.take() is None


async def test_a_stored_copy_that_cannot_be_forgotten_is_told_and_the_cached_one_is_gone(world, token):
    source, behind = world(token("a"))
    await source.token()

    async def fails():
        raise StoreError("down")

    behind.forget = fails
    with pytest.raises(StoreError):
        await source.forget()
    assert source.take() is None
