"""Servers that nobody here wrote, started as processes of their own and ended by their id."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from tests.support.installed import need

ROOT = Path(__file__).parents[2]


# ── a client ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str
    document: dict | list | None


class Client:
    """Asks, and reads each response to its end."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, url: str, **options) -> Reply:
        return await self.ask("GET", url, **options)

    async def post(self, url: str, **options) -> Reply:
        return await self.ask("POST", url, **options)

    async def ask(self, method: str, url: str, **options) -> Reply:
        async with self._session.request(method, url, **options) as response:
            text = await response.text()
            document = await response.json(content_type=None) if "json" in response.content_type else None
            return Reply(response.status, response.headers, text, document)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield Client(session)


# ── Django ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request that reached the server, and the status it got."""

    method: str
    path: str
    status: int
    authorization: str | None
    form: dict[str, str]


class Django:
    """The project of `django_project` as the tests see it: its address, and what `/control/` offers."""

    token_path = "/o/token/"

    def __init__(self, url: str, client: Client) -> None:
        self.url = url
        self.token_url = url + self.token_path
        self._client = client

    async def arrived(self) -> list[Arrived]:
        return [Arrived(**each) for each in (await self._control("arrived")).document]

    async def token_requests(self) -> list[Arrived]:
        return [each for each in await self.arrived() if each.path == self.token_path]

    async def api_requests(self) -> list[Arrived]:
        return [each for each in await self.arrived() if each.path.startswith("/api/")]

    async def start_anew(self) -> None:
        await self._control("start-anew")

    async def revoke_access_tokens(self) -> None:
        await self._control("revoke")

    async def refresh_tokens(self) -> list[dict]:
        return (await self._control("refresh-tokens")).document

    async def new_key(self, username: str) -> str:
        return (await self._control(f"new-key/{username}")).text

    async def _control(self, what: str) -> Reply:
        reply = await self._client.get(f"{self.url}/control/{what}")
        assert reply.status < 300, reply.text
        return reply


@contextmanager
def running_django(directory: Path, *, access_token_seconds: int) -> Iterator[str]:
    """Serve the project on a free port; yield its address."""
    need("django", "rest_framework", "oauth2_provider")
    settings = {"SITE_DIRECTORY": str(directory), "ACCESS_TOKEN_SECONDS": str(access_token_seconds)}
    log_file = directory / "log"
    with (
        log_file.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.servers.django_project"],
            cwd=ROOT,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"Django did not start:\n{log_file.read_text()}", pytrace=False)
            yield line.removeprefix("listening on ").strip()
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def django_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_django(tmp_path_factory.mktemp("django"), access_token_seconds=600) as url:
        yield url


@pytest.fixture(scope="session")
def hasty_django_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_django(tmp_path_factory.mktemp("django"), access_token_seconds=2) as url:
        yield url


@pytest.fixture
async def django(django_url: str, client: Client) -> Django:
    """Return the Django project, nothing handed out yet; its access tokens are good for ten minutes."""
    server = Django(django_url, client)
    await server.start_anew()
    return server


@pytest.fixture
async def hasty_django(hasty_django_url: str, client: Client) -> Django:
    """Return another one, whose access tokens are good for two seconds."""
    server = Django(hasty_django_url, client)
    await server.start_anew()
    return server
