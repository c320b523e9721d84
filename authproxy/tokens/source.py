"""`TokenSource`, and the cup that holds a token in memory.

    many callers:          token(instead_of=A)   token(instead_of=A)   token()
                                    └─────────────────────┼───────────────┘
                              one renewal task, one answer for all of them
                                                          │
                                              source behind, asked once

A renewal is shared, not queued for: everyone who waits gets its token, or its failure. A caller that
goes away does not take the renewal with it.
"""

import asyncio
import random
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from math import inf
from typing import Protocol

from cachetools import LRUCache

from authproxy import logs
from authproxy.errors import AuthproxyError
from authproxy.tokens.token import Token

Clock = Callable[[], float]
TokenCache = MutableMapping[str, Token]

REFRESH_BEFORE = 60.0  # `refresh_before: auto` is this many seconds…
REFRESH_SHARE = 0.2  # …or this share of the lifetime, if that is less
JITTER = 0.1  # how much of that it may start earlier, so that replicas do not renew in step
RETRY_SHARE = 0.1  # a failed early renewal is tried again after this share of what is left
SETTLE_SECONDS = 10.0  # how long the end of the process waits for a renewal under way
CACHE_SIZE = 4096  # tokens; the least recently used goes first


class TokenSource(Protocol):
    """Anything that can hand out a usable token."""

    async def token(self, *, instead_of: Token | None = None) -> Token:
        """Return a usable token, other than `instead_of`, the one that will not do.

        Raises `TokenError` when none can be had. A source that has nothing else to offer (a static
        token) may return an equal one.
        """
        ...


class HeldSource(TokenSource, Protocol):
    """A source that also knows, without waiting, what it holds."""

    def held(self) -> Token | None:
        """Return the token that is usable right now, or None."""
        ...


def token_cache() -> TokenCache:
    """Return the in-memory cache, shared by all credentials of a process.

    Entries outlive their access token: the refresh token in them is still good.
    """
    return LRUCache(CACHE_SIZE)


class CachedSource:
    """Holds one credential's token; renews it early, and once for all who wait.

    `refresh_before` is in seconds; None means `auto`.
    """

    def __init__(
        self,
        source: TokenSource,
        cache: TokenCache,
        key: str,
        *,
        name: str,
        refresh_before: float | None = None,
        clock: Clock = time.time,
    ) -> None:
        self.name = name
        self._source = source
        self._cache = cache
        self._key = key
        self._refresh_before = refresh_before
        self._clock = clock
        self._renew_at = inf
        self._refused: Token | None = None
        self.failure: AuthproxyError | None = None  # why the last renewal failed; None once one succeeds
        self._renewal: asyncio.Task[Token] | None = None

    def held(self) -> Token | None:
        token = self._cache.get(self._key)
        if token is None or token is self._refused:
            return None
        now = self._clock()
        if now >= token.usable_until:
            return None
        if now >= self._renew_at and self._renewal is None:
            self._renew()  # behind the caller's back: the old token serves meanwhile
        return token

    @property
    def usable(self) -> bool:
        """Whether a usable token is held; asking does not renew it."""
        token = self._cache.get(self._key)
        return token is not None and token is not self._refused and self._clock() < token.usable_until

    @property
    def expires_at(self) -> float | None:
        """When the token that is held ends, in epoch seconds; None when nobody said, or none is held."""
        token = self._cache.get(self._key)
        return token.expires_at if token is not None and token.expires_at < inf else None

    async def token(self, *, instead_of: Token | None = None) -> Token:
        token = self.held()
        if token is not None:
            if token != instead_of:
                return token
            self._refused = token
        under_way = self._renewal
        token = await asyncio.shield(under_way or self._renew())
        if under_way is not None and token == instead_of:
            # That renewal began before our own refusal and brought what was refused: ask once more. The
            # next one, whoever starts it, begins after our refusal, so its answer is final.
            token = await asyncio.shield(self._renewal or self._renew())
        return token

    def adopt(self, token: Token) -> None:
        """Hold a token that was earned elsewhere, by a person's login."""
        self._keep(token)

    async def settle(self) -> None:
        """Wait for the renewal under way, if there is one: broken off, it may lose a refresh token."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal], timeout=SETTLE_SECONDS)

    def _renew(self) -> asyncio.Task[Token]:
        self._renewal = asyncio.create_task(self._ask(), name=f"renew {self.name}")
        self._renewal.add_done_callback(self._renewed)
        return self._renewal

    async def _ask(self) -> Token:
        spent = self._cache.get(self._key)
        token = await self._source.token(instead_of=spent)
        self._keep(token)
        return token

    def _keep(self, token: Token) -> None:
        self._cache[self._key] = token
        self._refused = self.failure = None
        self._renew_at = self._early(token)

    def _renewed(self, task: asyncio.Task[Token]) -> None:
        """Clear the way for the next renewal; remember why this one failed."""
        self._renewal = None
        if task.cancelled() or (failure := task.exception()) is None:
            return
        if (token := self._cache.get(self._key)) is not None:
            now = self._clock()
            self._renew_at = now + max(1.0, (token.usable_until - now) * RETRY_SHARE)
        if isinstance(failure, AuthproxyError):
            self.failure = failure
        else:
            logs.error("token renewal failed", route=self.name, cause=type(failure).__name__)

    def _early(self, token: Token) -> float:
        before = self._refresh_before
        if before is None:
            before = min(REFRESH_BEFORE, token.lifetime * REFRESH_SHARE)
        # A margin of more than half the lifetime would renew on nearly every request.
        before = min(before, token.lifetime / 2)
        return token.expires_at - before * (1 + random.uniform(0, JITTER))  # noqa: S311 - spreads load only

    def __repr__(self) -> str:
        token = self._cache.get(self._key)
        if token is None or token is self._refused:
            return f"<CachedSource {self.name} empty>"
        if token.expires_at == inf:
            return f"<CachedSource {self.name} held until refused>"
        return (
            f"<CachedSource {self.name} held until {datetime.fromtimestamp(token.expires_at, UTC):%H:%M:%SZ}>"
        )
