"""`/metrics`: what was counted, in the Prometheus text format, for one process and for several."""

import asyncio
import os
import signal

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.async_command import running_proxy
from tests.support.wire import UNAUTHORIZED, Message, Upstream, Wire, ask, request
from tests.support.workers import children, statuses, system


async def scraped(admin: str) -> dict[tuple[str, ...], float]:
    """Return every sample: its name and the values of its labels, in the order of their names."""
    async with aiohttp.ClientSession() as session, session.get(f"{admin}/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        text = await response.text()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("workers", [1, 3])
async def test_requests_tokens_and_retries_are_counted_for_all_processes_together(workers: int) -> None:
    async with (
        system() as api,
        running_proxy(api.config() | {"workers": workers}) as proxy,
    ):
        admin = proxy.admin_url
        await statuses(proxy.url, 30)
        api.valid = "revoked"
        await statuses(proxy.url, 12)
        async with aiohttp.ClientSession() as session:
            for method in ("POST", "PROPFIND"):
                async with session.request(method, f"{proxy.url}/x"):
                    pass
            async with session.get(f"{proxy.url}/x", headers={"Host": "evil.example"}):
                pass
        async with asyncio.timeout(20):  # a request is counted a moment after its answer is out
            while (found := await scraped(admin)).get(
                ("authproxy_requests_total", "GET", "api", "200")
            ) != 42:
                await asyncio.sleep(0.05)
    assert found["authproxy_requests_total", "POST", "api", "405"] == 1
    assert found["authproxy_requests_total", "other", "api", "405"] == 1
    assert found["authproxy_request_duration_seconds_count", "api"] == 44
    assert found["authproxy_request_duration_seconds_bucket", "+Inf", "api"] == 44
    assert found["authproxy_request_duration_seconds_sum", "api"] > 0
    assert found["authproxy_token_requests_total", "success", "api"] == 2
    assert 1 <= found["authproxy_retries_total", "accepted", "api"] <= 12
    assert found["authproxy_refused_total", "forbidden"] == 1
    assert found["authproxy_token_expiry_timestamp_seconds", "api"] > 1_700_000_000
    assert ("authproxy_upstream_connections", "api", "idle") in found


async def test_a_repetition_that_gets_no_answer_is_not_counted_as_accepted() -> None:
    def refuse_and_hang_up(_request: Message, _wire: Wire) -> bytes | None:
        return UNAUTHORIZED if len(upstream.requests) % 2 else None

    with Upstream(refuse_and_hang_up) as upstream:
        auth = {"grant": "command", "command": ["date", "+%s%N"]}
        config = {"routes": [{"name": "api", "upstream": upstream.url, "auth": auth}]}
        async with running_proxy(config) as proxy:
            admin = proxy.admin_url
            assert (await asyncio.to_thread(ask, proxy.url, request("POST"))).status == 502
            async with asyncio.timeout(20):
                while ("authproxy_requests_total", "POST", "api", "502") not in (
                    found := await scraped(admin)
                ):
                    await asyncio.sleep(0.05)
    assert len(upstream.requests) == 2
    assert ("authproxy_retries_total", "accepted", "api") not in found


async def test_what_a_dead_worker_had_counted_is_not_lost() -> None:
    async with system() as api, running_proxy(api.config()) as proxy:
        admin = proxy.admin_url
        await statuses(proxy.url, 30)
        key = ("authproxy_requests_total", "GET", "api", "200")
        async with asyncio.timeout(20):
            while (await scraped(admin)).get(key) != 30:
                await asyncio.sleep(0.05)
        victim = children(proxy.pid)[1]
        os.kill(victim, signal.SIGKILL)
        async with asyncio.timeout(20):
            while victim in children(proxy.pid) or len(children(proxy.pid)) < 4:
                await asyncio.sleep(0.05)
        assert (await scraped(admin))[key] == 30
