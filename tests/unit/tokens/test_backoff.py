"""`BackoffSource`: when the source behind is asked again, and what callers hear until then."""

import logging

import pytest

from authproxy.errors import (
    BadTokenReply,
    CredentialRejected,
    StoreError,
    TokenTimeout,
    TokenUnavailable,
    TooManyTries,
)
from authproxy.tokens.backoff import BackoffSource
from authproxy.tokens.rejection import RememberedRejection
from authproxy.tokens.token import Token
from tests.support.clock import Clock
from tests.support.memory_store import MemoryStore, Shelf
from tests.support.token_sources import AnswersInTurn


class Secret:
    """Tells whether the credential's secret has changed, and counts how often it was asked."""

    def __init__(self):
        self.changed = False
        self.asked = 0

    async def __call__(self):
        self.asked += 1
        return self.changed


@pytest.fixture
def secret():
    return Secret()


@pytest.fixture
def world(clock, secret):
    def make(*answers, jitter=0.0):
        behind = AnswersInTurn(*answers)
        return BackoffSource(behind, name="up42", changed=secret, clock=clock, jitter=lambda: jitter), behind

    return make


async def failure_of(source):
    with pytest.raises((TokenUnavailable, CredentialRejected, BadTokenReply, TokenTimeout)) as caught:
        await source.token()
    return caught.value


async def test_a_token_passes_through(world):
    old, new = Token("a"), Token("b")
    source, behind = world(new)
    assert await source.token(instead_of=old) is new
    assert behind.asked == [old]
    assert repr(source) == "<BackoffSource ready>"


@pytest.mark.parametrize(
    ("failure", "delays"),
    [
        (TokenUnavailable, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
        (TokenTimeout, [1, 2, 4]),
        (BadTokenReply, [1, 2, 4]),
        (CredentialRejected, [30, 60, 120, 240, 300, 300]),
    ],
)
async def test_each_failure_is_followed_by_a_longer_pause(world, clock, failure, delays):
    source, behind = world(*(failure("no") for _ in delays))
    for count, delay in enumerate(delays, start=1):
        assert type(await failure_of(source)) is failure
        clock.advance(delay - 0.01)
        assert type(await failure_of(source)) is TokenUnavailable  # held back: nothing is sent
        assert len(behind.asked) == count
        clock.advance(0.01)


@pytest.mark.parametrize(
    ("jitter", "delay"),
    [(0.0, 1.0), (0.5, 1.1), (1.0, 1.2)],
)
async def test_replicas_do_not_come_back_in_step(world, jitter, delay):
    source, _ = world(TokenUnavailable("no"), jitter=jitter)
    assert (await failure_of(source)).retry_after == pytest.approx(delay)


async def test_jitter_does_not_lengthen_the_longest_pause(world, clock):
    source, _ = world(*(TokenUnavailable("no") for _ in range(12)), jitter=1.0)
    for _ in range(12):
        failure = await failure_of(source)
        clock.advance(failure.retry_after)
    assert failure.retry_after == 300


@pytest.mark.parametrize(("asked_for", "delay"), [(120, 120), (0, 1), (0.5, 1), (3600, 3600), (10**9, 3600)])
async def test_retry_after_is_obeyed_within_reason(world, clock, asked_for, delay):
    source, behind = world(TokenUnavailable("no", retry_after=asked_for), Token("a"))
    assert (await failure_of(source)).retry_after == delay
    clock.advance(delay - 0.01)
    await failure_of(source)
    clock.advance(0.01)
    assert (await source.token()).value == "a"
    assert len(behind.asked) == 2


async def test_who_is_held_back_hears_503_with_the_cause_and_how_long(world, clock):
    source, _ = world(CredentialRejected("the password is wrong", hint="mend it", error="invalid_grant"))
    first = await failure_of(source)
    assert (first.status, first.retry_after) == (502, 30)
    clock.advance(10)
    held_back = await failure_of(source)
    assert (held_back.status, held_back.retry_after) == (503, 20)
    assert (held_back.title, held_back.detail) == (first.title, first.detail)
    assert (held_back.hint, held_back.error) == ("mend it", "invalid_grant")
    assert held_back.rejects
    assert held_back.__cause__ is first
    assert repr(source) == "<BackoffSource failing, next try in 20 s>"


async def test_a_wrong_password_is_tried_once_however_many_ask(world):
    source, behind = world(CredentialRejected("no"))
    for _ in range(100):
        await failure_of(source)
    assert len(behind.asked) == 1


async def test_a_success_forgets_the_failures(world, clock):
    source, _ = world(TokenUnavailable("no"), TokenUnavailable("no"), Token("a"), TokenUnavailable("no"))
    for _ in range(2):
        clock.advance((await failure_of(source)).retry_after)
    await source.token()
    assert repr(source) == "<BackoffSource ready>"
    assert (await failure_of(source)).retry_after == 1


async def test_a_changed_secret_ends_the_pause_at_once(world, secret):
    source, behind = world(CredentialRejected("no"), Token("a"))
    await failure_of(source)
    secret.changed = True
    assert (await source.token()).value == "a"
    assert len(behind.asked) == 2


async def test_a_changed_secret_that_is_wrong_too_begins_anew_at_30_s(world, clock, secret):
    source, _ = world(*(CredentialRejected("no") for _ in range(3)))
    await failure_of(source)
    clock.advance(30)
    assert (await failure_of(source)).retry_after == 60
    secret.changed = True
    assert (await failure_of(source)).retry_after == 30


async def test_the_secret_is_looked_at_only_while_a_rejected_credential_is_held_back(world, clock, secret):
    source, _ = world(Token("a"), TokenUnavailable("down"), CredentialRejected("no"), Token("b"))
    await source.token()
    await failure_of(source)
    await failure_of(source)
    assert secret.asked == 0
    clock.advance(1)
    await failure_of(source)
    await failure_of(source)
    assert secret.asked == 1
    clock.advance(60)
    await source.token()
    assert secret.asked == 1


async def test_each_thing_that_happens_is_logged_once(world, clock, caplog):
    caplog.set_level(logging.INFO, "authproxy")
    source, _ = world(TokenUnavailable("down", hint="mend it"), Token("a"), Token("a"), Token("b"))
    for _ in range(100):
        await failure_of(source)
    clock.advance(1)
    await source.token()
    await source.token(instead_of=Token("a"))  # the same again is no news
    await source.token(instead_of=Token("a"))
    failed, obtained, renewed = caplog.records
    assert failed.message == "no token"
    assert failed.facts == {"route": "up42", "cause": "down", "hint": "mend it", "next_try_in": "1.0s"}
    assert (obtained.message, renewed.message) == ("token obtained", "token renewed")
    assert renewed.facts["route"] == "up42"


async def test_a_fault_of_our_own_is_no_reason_to_wait(world):
    source, behind = world(RuntimeError("oops"), Token("a"))
    with pytest.raises(RuntimeError):
        await source.token()
    assert (await source.token()).value == "a"
    assert len(behind.asked) == 2


async def test_a_token_from_elsewhere_ends_the_waiting():
    source = BackoffSource(AnswersInTurn(CredentialRejected("wrong password"), Token("new")), clock=Clock())
    with pytest.raises(CredentialRejected):
        await source.token()
    await source.adopt(Token("from elsewhere"))
    assert await source.token() == Token("new")


# ── beyond this process ──────────────────────────────────────────────────────────────────────────


class Machine:
    """Processes that remember in one place; each has a clock of its own, which the wall's follows."""

    def __init__(self, clock):
        self.shelf = Shelf()
        self.clock = clock
        self.secret = "old"

    def process(self, *answers, retry=False):
        behind = AnswersInTurn(*answers)
        memory = RememberedRejection(
            [MemoryStore(self.shelf)],
            "up42",
            lambda: self.secret,
            takes_turns=True,
            retry=retry,
            clock=self.clock,
        )
        return BackoffSource(behind, name="up42", memory=memory, clock=Clock(), jitter=lambda: 0.0), behind


@pytest.fixture
def machine(clock):
    return Machine(clock)


REJECTED = CredentialRejected("the password is wrong", hint="mend it", error="invalid_grant")


async def test_the_next_process_leaves_a_rejected_credential_alone_and_says_why(machine, clock):
    first, _ = machine.process(REJECTED)
    await failure_of(first)
    clock.advance(10)
    second, behind = machine.process(Token("a"))
    held_back = await failure_of(second)
    assert (held_back.status, held_back.retry_after, held_back.title) == (503, 20, "Credential rejected")
    assert (held_back.detail, held_back.hint) == ("the password is wrong", "mend it")
    assert held_back.error == "invalid_grant"
    assert behind.asked == []


async def test_each_process_that_is_rejected_waits_longer_than_the_one_before(machine, clock):
    for delay in (30, 60, 120, 240, 300):
        source, _ = machine.process(CredentialRejected("no"))
        assert (await failure_of(source)).retry_after == delay
        clock.advance(delay)


async def test_a_process_that_runs_heeds_what_another_one_was_told(machine):
    runs, behind = machine.process(Token("a"), Token("b"))
    await runs.token()
    other, _ = machine.process(CredentialRejected("no"))
    await failure_of(other)
    assert (await failure_of(runs)).status == 503
    assert len(behind.asked) == 1


async def test_another_secret_is_another_matter(machine):
    first, _ = machine.process(CredentialRejected("no"))
    await failure_of(first)
    machine.secret = "new"
    second, _ = machine.process(Token("a"))
    assert (await second.token()).value == "a"


async def test_a_success_is_the_end_of_what_was_remembered(machine, clock):
    first, _ = machine.process(CredentialRejected("no"))
    await failure_of(first)
    clock.advance(30)
    second, _ = machine.process(Token("a"))
    await second.token()
    third, _ = machine.process(CredentialRejected("no"))
    assert (await failure_of(third)).retry_after == 30


async def test_a_person_may_have_it_tried_once(machine):
    first, _ = machine.process(CredentialRejected("no"))
    await failure_of(first)
    second, behind = machine.process(CredentialRejected("no"), Token("a"), retry=True)
    assert (await failure_of(second)).status == 502
    assert (await failure_of(second)).status == 503
    assert len(behind.asked) == 1


async def test_a_clock_that_was_set_back_does_not_lengthen_what_is_remembered(machine, clock):
    first, _ = machine.process(CredentialRejected("no"))
    await failure_of(first)
    clock.advance(-86400)
    second, _ = machine.process()
    assert (await failure_of(second)).retry_after == 30


async def test_an_outage_is_nothing_to_remember(machine):
    first, _ = machine.process(TokenUnavailable("down"))
    await failure_of(first)
    second, _ = machine.process(Token("a"))
    assert (await second.token()).value == "a"


async def test_a_login_that_gave_no_token_is_remembered_as_what_it_was(machine):
    no_token = BadTokenReply("a login page")
    no_token.rejects = True
    first, _ = machine.process(no_token)
    assert (await failure_of(first)).retry_after == 30
    second, _ = machine.process()
    assert (await failure_of(second)).title == "No token in the reply"


async def test_without_a_place_to_remember_in_each_process_is_on_its_own(machine):
    store = MemoryStore(machine.shelf)
    store.trouble = StoreError("read-only file system")
    memory = RememberedRejection([store], "up42", lambda: "secret", takes_turns=True)
    source = BackoffSource(AnswersInTurn(CredentialRejected("no")), memory=memory, clock=Clock())
    assert (await failure_of(source)).status == 502
    assert (await failure_of(source)).status == 503


async def test_a_source_that_costs_nothing_to_ask_is_never_left_alone(clock, caplog):
    caplog.set_level(logging.INFO, "authproxy")
    behind = AnswersInTurn(*(BadTokenReply("empty") for _ in range(5)), Token("a"))
    source = BackoffSource(behind, backs_off=False, loads=True, clock=clock)
    for _ in range(5):
        assert (await failure_of(source)).detail == "empty"
    assert (await source.token()).value == "a"
    assert [record.message for record in caplog.records] == ["no token", "token loaded"]


# ── a person asks ────────────────────────────────────────────────────────────────────────────────


async def test_a_person_may_have_a_failing_endpoint_asked_at_any_time(world):
    source, behind = world(*(TokenUnavailable("down") for _ in range(4)), Token("a"))
    for _ in range(4):
        await source.allow_try()
        assert (await failure_of(source)).status == 503
    await source.allow_try()
    assert await source.token() == Token("a")
    assert len(behind.asked) == 5


async def test_a_person_may_have_a_rejected_credential_tried_once_in_a_while(world, clock):
    source, behind = world(*(CredentialRejected("no") for _ in range(9)))
    await failure_of(source)
    await source.allow_try()
    failure = await failure_of(source)
    assert (failure.status, len(behind.asked)) == (502, 2)
    with pytest.raises(TooManyTries) as caught:
        await source.allow_try()
    assert caught.value.retry_after == 30
    assert (await failure_of(source)).status == 503  # it is left alone as before, and for longer
    assert len(behind.asked) == 2
    clock.advance(30)
    await source.allow_try()
    await failure_of(source)
    assert len(behind.asked) == 3


async def test_a_changed_secret_is_a_new_credential_for_a_person_too(world, secret):
    source, _ = world(CredentialRejected("no"), CredentialRejected("no"), Token("a"))
    await failure_of(source)
    await source.allow_try()
    await failure_of(source)
    secret.changed = True
    await source.allow_try()
    assert await source.token() == Token("a")


async def test_a_rejection_that_another_process_remembers_is_passed_over_once(machine):
    first, _ = machine.process(CredentialRejected("no"))
    await failure_of(first)
    second, behind = machine.process(CredentialRejected("no"), Token("a"))
    await second.allow_try()
    assert (await failure_of(second)).status == 502
    assert len(behind.asked) == 1
    with pytest.raises(TooManyTries):
        await second.allow_try()
    third, _ = machine.process()
    assert (await failure_of(third)).status == 503, "what was passed over is still remembered"


async def test_what_is_forgotten_is_remembered_nowhere(machine):
    first, _ = machine.process(CredentialRejected("no"), Token("a"))
    await failure_of(first)
    await first.forget()
    assert machine.shelf.rejections == {}
    assert await first.token() == Token("a")
