"""The stores that are held to one contract, and a real Redis."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from authproxy.tokens.stores import TokenStore
from authproxy.tokens.stores.file import FileStore
from authproxy.tokens.stores.redis import RedisStore
from tests.support.installed import need
from tests.support.memory_store import MemoryStore, Shelf
from tests.support.redis_server import RedisServer

PASSPHRASE = "a passphrase for the store"
MakeStore = Callable[..., TokenStore]


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
