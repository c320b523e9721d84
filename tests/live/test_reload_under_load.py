"""Fifty reloads, each followed by a faulty file, while requests, a stream and a WebSocket are under way."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from tests.support.aiohttp_server import served
from tests.support.async_command import RunningProxy, running_proxy, wait_until
from tests.support.descriptors import opened
from tests.support.ports import free_port
from tests.support.workers import children

RELOADS = 50
RATE = 200  # requests a second


class Systems:
    """A token endpoint, and an API of which each route is one base path: requests, a stream, a WebSocket."""

    def __init__(self) -> None:
        self.token_requests = 0
        self.url = ""

    async def token(self, _request: web.Request) -> web.Response:
        self.token_requests += 1
        return web.json_response({"access_token": "the-token-of-the-test", "expires_in": 3600})

    async def plain(self, request: web.Request) -> web.Response:
        good = request.headers.get("Authorization") == "Bearer the-token-of-the-test"
        return web.Response(status=200 if good else 401, text=request.path)

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(10**6):
            try:
                await response.write(b"data: %d\n\n" % number)
            except ConnectionError:
                break
            await asyncio.sleep(0.02)
        return response

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        echo = web.WebSocketResponse()
        await echo.prepare(request)
        async for message in echo:
            await echo.send_str(message.data)
        return echo

    def config(self, number: int, workers: int) -> dict[str, Any]:
        """Return the configuration after so many reloads: the credential is always the same one."""
        auth = {
            "grant": "client_credentials",
            "token_url": f"{self.url}/token",
            "client_id": "me",
            "client_secret": "a-secret-of-the-test",
        }
        more = [
            {"name": f"n{each}", "path": f"/n{each}", "upstream": f"{self.url}/n{each}", "auth": auth}
            for each in range(number % 3)
        ]
        keep = {
            "name": "api",
            "upstream": self.url,
            "auth": auth,
            "timeouts": {"response": f"{60 + number}s"},
        }
        limits = {"keepalive": f"{60 + number % 2}s"}
        return {"workers": workers, "log": {"access": False}, "limits": limits, "routes": [keep, *more]}


@asynccontextmanager
async def systems() -> AsyncIterator[Systems]:
    made = Systems()
    routes = [
        web.post("/token", made.token),
        web.get("/events", made.events),
        web.get("/socket", made.socket),
        web.get("/{rest:.*}", made.plain),
    ]
    async with served(*routes) as url:
        made.url = url
        yield made


class Load:
    """What clients see, until they are told to stop: everything that went wrong is in `failures`.

    Each request is made by the next one of `sessions`.
    """

    def __init__(self, sessions: list[aiohttp.ClientSession], url: str) -> None:
        self.failures: list[str] = []
        self.requests = self.events = self.echoes = 0
        self._sessions = itertools.cycle(sessions)
        self._url = url
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        work = (self._ask_all(), self._listen(), self._talk())
        self._tasks = [asyncio.create_task(each) for each in work]

    async def stop(self) -> None:
        self._stop.set()
        async with asyncio.timeout(20):
            await asyncio.gather(*self._tasks)

    async def _ask_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                group.create_task(self._ask())
                await asyncio.sleep(1 / RATE)

    async def _ask(self) -> None:
        self.requests += 1
        try:
            async with next(self._sessions).get(f"{self._url}/x") as response:
                if (response.status, await response.text()) != (200, "/x"):
                    self.failures.append(f"status {response.status}")
        except (aiohttp.ClientError, OSError) as error:
            self.failures.append(repr(error))

    async def _listen(self) -> None:
        last = -1
        async with next(self._sessions).get(f"{self._url}/events") as response:
            async for line in response.content:
                if line.startswith(b"data:"):
                    number, last = last + 1, int(line[5:])
                    self.events += 1
                    if number != last:
                        self.failures.append(f"event {last} instead of {number}")
                if self._stop.is_set():
                    return
        self.failures.append("the stream has ended")

    async def _talk(self) -> None:
        async with next(self._sessions).ws_connect(f"{self._url}/socket") as socket:
            while not self._stop.is_set():
                await socket.send_str(f"echo {self.echoes}")
                if await socket.receive_str() != f"echo {self.echoes}":
                    self.failures.append("a wrong echo")
                self.echoes += 1
                await asyncio.sleep(0.02)


def descriptors(proxy: RunningProxy) -> dict[int, int]:
    """Return how many each process of the proxy has open."""
    return {pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (proxy.pid, *children(proxy.pid))}


def listening(proxy: RunningProxy) -> set[tuple[int, str]]:
    """Return each socket that a process of the proxy listens on, as its inode."""
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    inodes = {row[9] for row in rows if row[3] == "0A"}
    found = set()
    for pid in (proxy.pid, *children(proxy.pid)):
        for link in opened(pid):
            if link.startswith("socket:[") and link[8:-1] in inodes:
                found.add((pid, link))
    return found


@pytest.mark.parametrize("workers", [1, 2])
async def test_nobody_notices_fifty_reloads(workers: int) -> None:
    async with systems() as api, running_proxy(api.config(0, workers)) as proxy:
        second = f"127.0.0.1:{free_port()}"
        fresh = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession() as session, aiohttp.ClientSession(connector=fresh) as new:
            load = Load([session, new], proxy.url)
            load.start()
            await asyncio.sleep(1)
            fewest, listened = descriptors(proxy), listening(proxy)
            for number in range(1, RELOADS + 1):
                config = {**given(proxy), **api.config(number, workers)}
                if number % 2:
                    config["listen"] = [config["listen"], second]
                await reload(proxy, yaml.safe_dump(config), "reloaded")
                await reload(proxy, "routes: [{name: api, upstream:", "not reloaded")
            await load.stop()
        assert load.failures == []
        assert load.requests > RELOADS
        assert min(load.events, load.echoes) > RELOADS
        assert api.token_requests == 1
        assert listening(proxy) == listened
        # Connections to the upstream come and go with the load; what is left over by reloads would add up.
        await wait_until(
            lambda: all(now <= fewest[pid] + RELOADS // 5 for pid, now in descriptors(proxy).items()),
            lambda: f"{fewest} became {descriptors(proxy)}",
        )


def given(proxy: RunningProxy) -> dict[str, Any]:
    """Return where the proxy listens, as its file says it."""
    assert proxy.config_file is not None
    text = Path(f"{proxy.config_file}.first")
    if not text.exists():
        text.write_bytes(proxy.config_file.read_bytes())
    config = yaml.safe_load(text.read_text())
    return {key: config[key] for key in ("listen", "admin")}


async def reload(proxy: RunningProxy, text: str, outcome: str) -> None:
    """Put `text` in the file's place, and have it read; wait for the `outcome`."""
    assert proxy.config_file is not None
    fresh = proxy.config_file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(proxy.config_file)
    event = f"configuration {outcome}"
    before = proxy.log().count(event)
    proxy.signal(signal.SIGHUP)
    await wait_until(
        lambda: proxy.log().count(event) > before, lambda: f"not {outcome}: {proxy.log()[-2000:]}"
    )
