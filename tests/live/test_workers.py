"""Several processes: one listener, one token, nobody missed when one of them dies."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp

from tests.support.async_command import running_proxy
from tests.support.workers import children, statuses, system, until


async def test_all_workers_share_one_token_request() -> None:
    async with system() as api, running_proxy(api.config()) as proxy:
        assert await statuses(proxy.url, 120) == [200] * 120
        assert api.issued == 1


async def test_a_refusal_in_every_worker_costs_one_renewal() -> None:
    async with system() as api, running_proxy(api.config()) as proxy:
        await statuses(proxy.url, 60)
        api.valid = "revoked"
        assert await statuses(proxy.url, 90) == [200] * 90
        assert api.issued == 2


async def test_questions_that_a_stopped_keeper_cannot_take_are_answered_once_it_goes_on() -> None:
    async with system() as api:
        routes = [
            {
                "name": f"r{number}",
                "path": f"/{number}",
                "upstream": api.url,
                "auth": {
                    "grant": "client_credentials",
                    "token_url": f"{api.url}/token",
                    "client_id": f"{number}",
                },
            }
            for number in range(900)
        ]
        api.refuses_nobody = True
        async with running_proxy({"workers": 2, "routes": routes}) as proxy:
            broker = children(proxy.pid)[0]
            os.kill(broker, signal.SIGSTOP)
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            async with aiohttp.ClientSession(connector=connector) as session:

                async def ask(number: int) -> int:
                    async with session.get(f"{proxy.url}/{number}") as response:
                        return response.status

                asked = asyncio.gather(*[ask(number) for number in range(900)])
                await asyncio.sleep(0.5)  # all of them wait for the broker by now, most for room on the line
                os.kill(broker, signal.SIGCONT)
                async with asyncio.timeout(50):
                    assert await asked == [200] * 900
        assert api.issued == 900


async def test_a_token_larger_than_a_datagram_reaches_the_workers() -> None:
    async with system() as api:
        api.pad = "x" * 300_000
        async with running_proxy(api.config()) as proxy:
            async with asyncio.timeout(20):
                seen = await statuses(proxy.url, 12)
        assert set(seen) == {400}, "what the API says to so long a header; that it answers is what counts"
        assert api.issued == 1


async def test_requests_are_served_by_more_than_one_process() -> None:
    async with system() as api, running_proxy(api.config(), "--log-format", "json") as proxy:
        await statuses(proxy.url, 60)
        times = {pid: _cpu(pid) for pid in children(proxy.pid)[1:]}
        await statuses(proxy.url, 300)
        busy = [pid for pid, before in times.items() if _cpu(pid) > before]
        assert len(busy) > 1


def _cpu(pid: int) -> int:
    """Return the number of times that the process gave up the processor."""
    text = Path(f"/proc/{pid}/status").read_text("ascii")
    lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return int(lines["voluntary_ctxt_switches"])


async def test_a_worker_that_is_killed_is_replaced() -> None:
    async with system() as api, running_proxy(api.config()) as proxy:
        await statuses(proxy.url, 30)
        victim = children(proxy.pid)[1]
        os.kill(victim, signal.SIGKILL)
        async with asyncio.timeout(20):
            while victim in children(proxy.pid) or len(children(proxy.pid)) < 4:
                await asyncio.sleep(0.05)
        assert await statuses(proxy.url, 60) == [200] * 60
        assert api.issued == 1


async def test_the_death_of_the_keeper_goes_unnoticed() -> None:
    async with system() as api, running_proxy(api.config()) as proxy:
        await statuses(proxy.url, 30)
        broker = children(proxy.pid)[0]
        os.kill(broker, signal.SIGKILL)
        assert await statuses(proxy.url, 60) == [200] * 60  # from what the workers hold
        async with asyncio.timeout(20):
            while broker in children(proxy.pid) or len(children(proxy.pid)) < 4:
                await asyncio.sleep(0.05)
        api.valid = "revoked"
        assert await statuses(proxy.url, 60) == [200] * 60
        assert api.issued == 2


async def test_sigterm_ends_every_process() -> None:
    async with system() as api, running_proxy(api.config()) as proxy:
        await statuses(proxy.url, 10)
        family = children(proxy.pid)
        assert len(family) == 4
        assert await proxy.stop() == 0
        assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


async def test_workers_do_not_outlive_a_killed_supervisor() -> None:
    async with system() as api, running_proxy(api.config()) as proxy:
        family = await until(4, proxy.pid)
        os.kill(proxy.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while any(_alive(pid) for pid in family):
                await asyncio.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_the_admin_listener_speaks_for_all_workers() -> None:
    async with system() as api, running_proxy(api.config()) as proxy:
        await statuses(proxy.url, 30)
        admin = proxy.admin_url
        async with aiohttp.ClientSession() as session, session.get(f"{admin}/readyz") as response:
            assert response.status == 200


async def test_a_token_that_one_worker_was_refused_is_replaced_in_all() -> None:
    async with system("POST") as api:
        config = api.config()
        config["routes"][0]["retry"] = {"max_body": 0}  # type: ignore[index]
        async with running_proxy(config) as proxy:
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            async with aiohttp.ClientSession(connector=connector) as session:
                for _ in range(30):  # until every worker has the token
                    await session.post(f"{proxy.url}/x", data=b"1")
                api.valid, seen = "revoked", []
                for _ in range(20):
                    async with session.post(f"{proxy.url}/x", data=b"too long to be repeated") as response:
                        seen.append(response.status)
            assert seen == [401] + [200] * 19, "one worker was refused, and told the others"
            assert api.issued == 2


async def test_a_new_broker_hands_out_no_stored_token_that_a_worker_was_refused(tmp_path: Path) -> None:
    async with system() as api:
        store = {"type": "file", "path": str(tmp_path / "tokens"), "key": "a passphrase of some length"}
        async with running_proxy({**api.config(), "token_store": store}) as proxy:
            assert set(await statuses(proxy.url, 20)) == {200}
            broker = children(proxy.pid)[0]
            os.kill(broker, signal.SIGKILL)
            async with asyncio.timeout(20):
                while broker in (now := children(proxy.pid)) or len(now) < 3:
                    await asyncio.sleep(0.05)
            api.valid = "revoked"
            assert set(await statuses(proxy.url, 20)) == {200}
            assert api.issued == 2
