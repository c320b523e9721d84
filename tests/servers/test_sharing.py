"""Several proxies, one login: a refresh token that rotates, and whose reuse ends its whole family.

Each refresh revokes the access token that everybody uses, so the others are refused, look into the store, and
go on with what they find there.
"""

from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.servers.test_oauth_toolkit import PERSON, keep_asking, route
from tests.support.async_command import running_proxy
from tests.support.installed import need
from tests.support.redis_server import RedisServer

KEY = "a passphrase for all of them"
RENEWALS = 3  # at the least, before it counts


@pytest.fixture
def redis(tmp_path: Path):
    need("redis-server", "redis")
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


async def share(django, client, config: dict, count: int) -> None:
    """Let eight clients ask `count` proxies, and see that nobody noticed anything."""
    config |= {"routes": [route(django, "password", name="api", **PERSON)]}
    await django.start_anew()

    async def refreshed_often() -> bool:
        return len(await django.refresh_tokens()) > RENEWALS

    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(running_proxy(config, "--no-admin")) for _ in range(count)]
        urls = [f"{proxy.url}/api/resource/" for proxy in proxies]
        assert set(await keep_asking(urls, client, until=refreshed_often)) == {200}
    asked = await django.token_requests()
    assert {each.status for each in asked} == {200}
    kinds = Counter(each.form["grant_type"] for each in asked)
    assert kinds == {"password": 1, "refresh_token": len(asked) - 1}, "one login for all of them"
    used = [each.form["refresh_token"] for each in asked if "refresh_token" in each.form]
    assert len(set(used)) == len(used), "each refresh token was used once"
    good = [each["family"] for each in await django.refresh_tokens() if each["good"]]
    assert len(good) == 1, "the family is alive"


async def test_two_processes_share_a_login_through_a_file(hasty_django, client, tmp_path):
    store = {"type": "file", "path": str(tmp_path / "tokens"), "key": KEY}
    await share(hasty_django, client, {"token_store": store}, 2)


async def test_three_replicas_share_a_login_through_redis(hasty_django, client, redis):
    store = {"type": "redis", "url": redis.url, "key": KEY}
    await share(hasty_django, client, {"token_store": store}, 3)


async def test_three_workers_share_a_login_through_their_keeper(hasty_django, client):
    await share(hasty_django, client, {"workers": 3}, 1)


async def test_a_login_outlives_the_proxy_in_a_file(django, client, tmp_path):
    store = {"type": "file", "path": str(tmp_path / "tokens"), "key": KEY}
    config = {"token_store": store, "routes": [route(django, "password", name="api", **PERSON)]}
    for _ in range(2):
        async with running_proxy(config, "--no-admin") as proxy:
            assert (await client.get(f"{proxy.url}/api/resource/")).status == 200
    assert len(await django.token_requests()) == 1


async def test_without_redis_each_goes_on_by_itself_and_says_so(django, client, redis):
    store = {"type": "redis", "url": redis.url, "key": KEY}
    config = {"token_store": store, "routes": [route(django, "password", name="api", **PERSON)]}
    async with running_proxy(config, "--no-admin") as proxy:
        assert (await client.get(f"{proxy.url}/api/resource/")).status == 200
        redis.stop()
        await django.revoke_access_tokens()
        assert (await client.get(f"{proxy.url}/api/resource/")).status == 200
        await proxy.stop()
        assert proxy.log().count("token store unavailable") == 1
        assert KEY not in proxy.log()
        assert redis.password not in proxy.log()
