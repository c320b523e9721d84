"""A system for a proxy with several workers, and a look at its processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.support.aiohttp_server import served


class System:
    """A token endpoint, and an API that lets only its last token through."""

    def __init__(self) -> None:
        self.issued = 0
        self.valid = ""
        self.url = ""
        self.pad = ""
        self.refuses_nobody = False

    async def token(self, _request: web.Request) -> web.Response:
        self.issued += 1
        self.valid = f"token-{self.issued}{self.pad}"
        await asyncio.sleep(0.1)  # long enough for everybody to want it
        return web.json_response({"access_token": self.valid, "expires_in": 600})

    async def api(self, request: web.Request) -> web.Response:
        right = self.refuses_nobody or request.headers.get("Authorization") == f"Bearer {self.valid}"
        return web.Response(status=200 if right else 401)

    def config(self) -> dict[str, object]:
        auth = {
            "grant": "client_credentials",
            "token_url": f"{self.url}/token",
            "client_id": "a",
            "client_secret": "b",
        }
        return {"workers": 3, "routes": [{"name": "api", "upstream": self.url, "auth": auth}]}


@asynccontextmanager
async def system(method: str = "GET") -> AsyncIterator[System]:
    running = System()
    routes = web.post("/token", running.token), web.route(method, "/{path:.*}", running.api)
    async with served(*routes) as running.url:
        yield running


async def statuses(url: str, count: int) -> list[int]:
    """Ask `count` times at once, on a connection each, so that every worker gets some."""

    async def ask(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{url}/x") as response:
            return response.status

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        return await asyncio.gather(*[ask(session) for _ in range(count)])


def children(pid: int) -> list[int]:
    """Return the broker's process id and the workers', in the order of their start."""
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()))


async def until(wanted: int, pid: int) -> list[int]:
    async with asyncio.timeout(20):
        while len(found := children(pid)) != wanted:
            await asyncio.sleep(0.05)
    return found
