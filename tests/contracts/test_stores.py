"""What every token store promises, in memory, in a file and in a real Redis."""

import asyncio
import contextlib
import json
import sys
from math import inf

import pytest

from authproxy.errors import StoreBusy
from authproxy.tokens.backoff import BackoffSource
from authproxy.tokens.shared import SharedSource
from authproxy.tokens.token import Token
from tests.contracts.conftest import PASSPHRASE
from tests.contracts.rotation import RotatingSource, rotating_endpoint
from tests.contracts.worker import KEY

NOW = 1_700_000_000.25
LATER = 4_000_000_000.0


def same(one, other):
    """Tell whether two tokens are the same in everything, not just in the header they make."""
    fields = ("value", "issued_at", "expires_at", "refresh_token", "usable_until")
    return all(getattr(one, each) == getattr(other, each) for each in fields)


# ── keeping ──────────────────────────────────────────────────────────────────────────────────────


async def test_an_empty_store_holds_nothing(make_store):
    assert await make_store().load("nobody's") is None


@pytest.mark.parametrize(
    "token",
    [
        Token("plain"),
        Token("for ever", issued_at=NOW, expires_at=inf),
        Token("with a refresh token", issued_at=NOW, expires_at=LATER, refresh_token="refresh"),
        Token("expired, but not its refresh token", issued_at=1.0, expires_at=2.0, refresh_token="refresh"),
        Token(' odd " \\ characters ~', refresh_token="é … \u2028 😀"),
        Token("long" * 5000, issued_at=NOW, expires_at=LATER),
    ],
    ids=lambda token: token.value[:12],
)
async def test_what_is_saved_is_what_another_process_loads(make_store, token):
    await make_store().save("key", token)
    assert same(await make_store().load("key"), token)


async def test_the_last_one_saved_is_the_one_kept(make_store):
    store = make_store()
    for number in range(5):
        await store.save("key", Token(f"t{number}"))
    assert await make_store().load("key") == Token("t4")


async def test_credentials_are_kept_apart(make_store):
    store = make_store()
    await asyncio.gather(*(store.save(f"key {number}", Token(f"t{number}")) for number in range(20)))
    other = make_store()
    found = [await other.load(f"key {number}") for number in range(20)]
    assert found == [Token(f"t{number}") for number in range(20)]


async def test_processes_that_save_at_once_lose_nothing(make_store):
    stores = [make_store() for _ in range(4)]
    jobs = [store.save(f"{index}-{n}", Token("t")) for index, store in enumerate(stores) for n in range(10)]
    await asyncio.gather(*jobs)
    reader = make_store()
    assert all([await reader.load(f"{index}-{n}") for index in range(4) for n in range(10)])


async def test_what_is_forgotten_is_gone_for_everyone(make_store):
    store, other = make_store(), make_store()
    await store.save("key", Token("t"))
    await store.save("another", Token("u"))
    await other.forget("key")
    await other.forget("never there")
    assert await store.load("key") is None
    assert await store.load("another") == Token("u")


# ── the lock ─────────────────────────────────────────────────────────────────────────────────────


async def test_one_at_a_time_holds_the_lock(make_store):
    inside, most, turns = 0, 0, 0

    async def visit(store):
        nonlocal inside, most, turns
        for _ in range(5):
            async with store.lock("key"):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.002)
                inside -= 1
                turns += 1

    await asyncio.gather(*(visit(make_store()) for _ in range(4)))
    assert (most, turns) == (1, 20)


async def test_the_locks_of_two_credentials_do_not_meet(make_store):
    async with make_store().lock("one"), asyncio.timeout(2), make_store().lock("other"):
        pass


async def test_the_store_is_free_for_all_while_a_lock_is_held(make_store):
    store, other = make_store(), make_store()
    async with store.lock("key"), asyncio.timeout(5):
        await store.save("key", Token("t"))
        assert await other.load("key") == Token("t")
        await other.save("another", Token("u"))


async def test_a_lock_that_is_not_let_go_is_not_waited_for_for_ever(make_store):
    async with make_store().lock("key"):
        with pytest.raises(StoreBusy):
            async with make_store(lock_seconds=0.1).lock("key"):
                pytest.fail("two hold the lock")


async def test_a_lock_is_let_go_when_its_holder_fails(make_store):
    with pytest.raises(ZeroDivisionError):
        async with make_store().lock("key"):
            raise ZeroDivisionError
    async with asyncio.timeout(2), make_store().lock("key"):
        pass


@pytest.mark.parametrize("waits", [False, True], ids=["holding", "waiting"])
async def test_a_lock_is_let_go_by_one_who_is_cancelled(make_store, waits):
    async def hold():
        async with make_store().lock("key"):
            held.set()
            await asyncio.Event().wait()

    held = asyncio.Event()
    async with make_store().lock("key") if waits else contextlib.nullcontext():
        task = asyncio.create_task(hold())
        await asyncio.sleep(0.05) if waits else await held.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    async with asyncio.timeout(2), make_store().lock("key"):
        pass


# ── whole ────────────────────────────────────────────────────────────────────────────────────────


async def test_many_sources_renew_together_and_use_each_refresh_token_once(make_store):
    async with rotating_endpoint(lifetime=2) as endpoint:
        await make_store().save(KEY, endpoint.first())
        sources = [
            SharedSource(BackoffSource(RotatingSource(endpoint.port)), make_store(), KEY, name=f"{number}")
            for number in range(6)
        ]
        for _ in range(3):
            tokens = await asyncio.gather(*(each.token() for each in sources))
            assert len(set(tokens)) == 1
            await asyncio.sleep(2)
        assert (endpoint.renewals, endpoint.reused) == (3, 0)


@pytest.fixture
def place(make_store, request, tmp_path):
    """Return what another process needs to open the store of this test."""
    store = make_store()
    if request.node.callspec.params["make_store"] == "file":
        return {"path": str(tmp_path / "tokens"), "key": PASSPHRASE}
    url = request.getfixturevalue("lasting_redis").url
    return {"url": url, "key": PASSPHRASE, "prefix": store._prefix}


@pytest.mark.parametrize("make_store", ["file", "redis"], indirect=True)
async def test_two_processes_and_400_renewals_never_lose_a_rotating_refresh_token(make_store, place):
    async with rotating_endpoint(lifetime=600) as endpoint:
        await make_store().save(KEY, endpoint.first())
        settings = json.dumps({"port": endpoint.port, "store": place, "renewals": 200})
        workers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.contracts.worker", settings),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            for _ in range(2)
        ]
        ended = await asyncio.wait_for(asyncio.gather(*(each.communicate() for each in workers)), 60)
        assert [out for out, _ in ended] == [b"done\n"] * 2, b"\n".join(err for _, err in ended).decode()
        # A worker that finds the other's new token takes it, so both together need not renew 400 times.
        assert endpoint.reused == 0
        assert endpoint.renewals >= 200
        kept = await make_store().load(KEY)
        assert kept.refresh_token == endpoint.issued[-1]


@pytest.mark.parametrize("make_store", ["file", "redis"], indirect=True)
async def test_one_hundred_kills_leave_the_store_readable_and_at_most_one_answer_lost(make_store, place):
    """A kill between the endpoint's answer and the end of the write loses that one answer, nothing else."""
    if "url" in place:
        place["lease_seconds"] = 0.05
    async with rotating_endpoint(lifetime=600, leeway=True) as endpoint:
        await make_store().save(KEY, endpoint.first())
        settings = json.dumps({"port": endpoint.port, "store": place, "kills": 100})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.contracts.killed", settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        errors = asyncio.create_task(process.stderr.read())
        rounds = 0
        while line := (await process.stdout.readline()).decode().strip():
            rounds += 1
            assert line in endpoint.issued[-2:]
            process.stdin.write(b"\n")
        assert await process.wait() == 0, (await errors).decode()
        await errors
        assert rounds == 100
        assert endpoint.reused == 0
        assert endpoint.renewals > 10  # how many depends on the machine; most rounds end in one
