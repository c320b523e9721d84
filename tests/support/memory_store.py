"""A token store in memory, for tests. `tests/contracts` holds it to what the real ones promise."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from hashlib import sha256

from authproxy.errors import StoreBusy, StoreError
from authproxy.tokens.rejection import Rejection
from authproxy.tokens.token import Token


class MemoryStore:
    """Several users of one `shelf` are as processes with one store. `trouble` breaks it for this user."""

    def __init__(self, shelf: "Shelf | None" = None, *, lock_seconds: float = 45.0) -> None:
        self.shelf = shelf or Shelf()
        self.trouble: StoreError | None = None
        self.trouble_saving: StoreError | None = None
        self.locked = 0  # how often somebody asked for the lock
        self._lock_seconds = lock_seconds

    async def load(self, key: str) -> Token | None:
        self._break()
        return self.shelf.tokens.get(key)

    async def save(self, key: str, token: Token) -> None:
        self._break()
        if self.trouble_saving is not None:
            raise self.trouble_saving
        self.shelf.tokens[key] = token

    async def load_rejection(self, key: str) -> Rejection | None:
        self._break()
        return self.shelf.rejections.get(key)

    async def save_rejection(self, key: str, rejection: Rejection) -> None:
        self._break()
        self.shelf.rejections[key] = rejection

    async def mark(self, text: str) -> str:
        self._break()
        return sha256(text.encode()).hexdigest()

    async def forget(self, key: str) -> None:
        self._break()
        self.shelf.tokens.pop(key, None)
        self.shelf.rejections.pop(key, None)

    @contextlib.asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[None]:
        self._break()
        self.locked += 1
        lock = self.shelf.locks[key]
        try:
            async with asyncio.timeout(self._lock_seconds):
                await lock.acquire()
        except TimeoutError:
            raise StoreBusy("somebody else holds it") from None
        try:
            yield
        finally:
            lock.release()

    async def close(self) -> None:
        pass

    def _break(self) -> None:
        if self.trouble is not None:
            raise self.trouble


class Shelf:
    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}
        self.rejections: dict[str, Rejection] = {}
        self.locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
