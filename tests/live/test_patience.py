"""A token endpoint that fails is left alone, and one that refuses a password is asked once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from tests.support.aiohttp_server import served
from tests.support.async_command import running_proxy


class System:
    """A token endpoint that answers as it is told, and an API that lets everything through."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0
        self.reached = 0
        self.status = 200
        self.says: dict[str, object] = {"access_token": "good", "expires_in": 600}

    async def token(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(self.says, status=self.status)

    async def api(self, _request: web.Request) -> web.Response:
        self.reached += 1
        return web.Response()

    def config(self) -> dict[str, object]:
        auth = {
            "grant": "password",
            "token_url": f"{self.url}/token",
            "client_id": "a",
            "username": "u",
            "password": "p",
        }
        return {"routes": [{"name": "api", "upstream": self.url, "auth": auth}]}


@asynccontextmanager
async def system() -> AsyncIterator[System]:
    running = System()
    routes = web.post("/token", running.token), web.get("/{path:.*}", running.api)
    async with served(*routes) as running.url:
        yield running


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, "invalid_grant"), (400, "invalid_client"), (400, "unauthorized_client"), (401, None), (403, None)],
)
async def test_a_wrong_password_is_tried_once_however_often_clients_ask(
    status: int, error: str | None
) -> None:
    async with system() as api, running_proxy(api.config()) as proxy, aiohttp.ClientSession() as client:
        api.status, api.says = status, {"error": error} if error else {}
        seen: Counter[int] = Counter()
        for _ in range(30):
            async with client.get(f"{proxy.url}/x") as response:
                seen[response.status] += 1
                assert int(response.headers["Retry-After"]) > 20
        assert seen == {502: 1, 503: 29}
        assert (api.asked, api.reached) == (1, 0)


async def test_an_outage_under_load_costs_few_tries_and_ends_by_itself() -> None:
    async with system() as api, running_proxy(api.config()) as proxy, aiohttp.ClientSession() as client:
        api.status = 503
        seen: Counter[int] = Counter()

        async def ask() -> None:
            while not seen[200]:
                async with client.get(f"{proxy.url}/x") as response:
                    seen[response.status] += 1
                await asyncio.sleep(0.01)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(ask())
            await asyncio.sleep(3)
            assert not seen[200]
            assert api.asked <= 5
            tried = api.asked
            api.status = 200
        assert api.asked == tried + 1, "the next try is the one that succeeds"
        assert seen[503] > 100, "meanwhile everybody heard of it at once"
