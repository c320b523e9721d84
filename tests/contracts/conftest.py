"""The stores that are held to one contract, and a real Redis, ended by its process id."""

import contextlib
import itertools
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from authproxy.tokens.stores import TokenStore
from authproxy.tokens.stores.file import FileStore
from authproxy.tokens.stores.redis import RedisStore
from tests.servers.conftest import need
from tests.stores import MemoryStore, Shelf

PASSPHRASE = "a passphrase for the store"
MakeStore = Callable[..., TokenStore]


class RedisServer:
    """A Redis of our own on a free port of the loopback, with a password, keeping nothing on disk."""

    password = "of-the-redis"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--requirepass": self.password,
            "--save": "",
            "--appendonly": "no",
            "--rdbcompression": "no",
            "--dir": str(self.directory),
        }
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [shutil.which("redis-server"), *(word for each in options.items() for word in each)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"Redis did not start:\n{(self.directory / 'log').read_text()}", pytrace=False)

    def stop(self) -> None:
        """End it at once, as a crash would: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@pytest.fixture(scope="session")
def lasting_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    need("redis-server", "redis")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a Redis that is not running yet and may be stopped."""
    need("redis-server", "redis")
    server = RedisServer(tmp_path)
    yield server
    server.stop()


_numbers = itertools.count()


@pytest.fixture(params=["memory", "file", "redis"])
async def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeStore]:
    """Return a maker of stores; all that one test makes are the same store, as several processes see it."""
    made: list[TokenStore] = []
    if request.param == "redis":
        url = request.getfixturevalue("lasting_redis").url
        prefix = f"test-{next(_numbers)}:"
    shelf = Shelf()

    def make(**options: float) -> TokenStore:
        match request.param:
            case "memory":
                store = MemoryStore(shelf, **options)
            case "file":
                store = FileStore(tmp_path / "tokens", PASSPHRASE, **options)
            case _:
                store = RedisStore(url, PASSPHRASE, prefix=prefix, **options)
        made.append(store)
        return store

    yield make
    for each in made:
        await each.close()
